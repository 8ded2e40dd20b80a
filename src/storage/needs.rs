//! Which segments of the journal each group still needs, and what must be written again so that the oldest can go.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;

use super::disk::Disk;
use super::mirror::Logs;
use super::{GroupLog, Record, slot};
use crate::base::limits::JOURNAL_FRAME_BYTES;

/// By group, the segments (by their first frame) that hold live entries or newest metadata.
#[derive(Debug, Default)]
pub(super) struct Needs {
    groups: BTreeMap<u32, GroupNeeds>,
}

#[derive(Debug, Default)]
struct GroupNeeds {
    /// The group's live entries, cut where they change segment: index of the first, index of the last, segment.
    pieces: BTreeMap<u64, (u64, u64)>,
    vote: Option<u64>,
    purge: Option<u64>,
    committed: Option<u64>,
    snapshot: Option<u64>,
}

impl GroupNeeds {
    fn metadata(&self) -> Option<u64> {
        let all = [self.vote, self.purge, self.committed, self.snapshot];
        all.into_iter().flatten().min()
    }

    fn oldest(&self) -> Option<u64> {
        let entries = self.pieces.values().map(|&(_, segment)| segment).min();
        [entries, self.metadata()].into_iter().flatten().min()
    }

    /// Cuts the piece around `index`, so that one begins there.
    fn cut(&mut self, index: u64) {
        if let Some((&first, piece)) = self.pieces.range_mut(..index).next_back()
            && piece.0 >= index
        {
            let (last, segment) = *piece;
            *piece = (index - 1, segment);
            debug_assert!(first < index);
            self.pieces.insert(index, (last, segment));
        }
    }

    /// Entries from `first` on are in `segment` now, `count` of them.
    fn put(&mut self, segment: u64, first: u64, count: usize) {
        if count == 0 {
            return;
        }
        let last = first + count as u64 - 1;
        self.cut(first);
        self.cut(last + 1);
        self.pieces.retain(|&at, _| at < first || at > last);
        match self.pieces.range_mut(..first).next_back() {
            Some((_, piece)) if *piece == (first.saturating_sub(1), segment) => piece.0 = last,
            _ => drop(self.pieces.insert(first, (last, segment))),
        }
    }

    fn truncate(&mut self, from: u64) {
        self.cut(from);
        self.pieces.split_off(&from);
    }

    fn take(&mut self, segment: u64, record: &Record) {
        match record {
            Record::Append { first, entries, .. } => {
                self.truncate(*first);
                self.put(segment, *first, entries.len());
            }
            Record::Keep { first, entries, .. } => self.put(segment, *first, entries.len()),
            Record::Truncate { from, .. } => self.truncate(*from),
            Record::Purge { upto, .. } => {
                self.cut(upto + 1);
                self.pieces = self.pieces.split_off(&(upto + 1));
                self.purge = Some(segment);
            }
            Record::Vote { .. } => self.vote = Some(segment),
            Record::Committed { .. } => self.committed = Some(segment),
            Record::Snapshot { .. } => self.snapshot = Some(segment),
        }
    }

    /// The indexes of live entries in segments before `segment`.
    fn before(&self, segment: u64) -> impl Iterator<Item = (u64, u64)> {
        let old = self.pieces.iter().filter(move |(_, (_, at))| *at < segment);
        old.map(|(&first, &(last, _))| (first, last))
    }
}

impl Needs {
    pub fn take(&mut self, segment: u64, record: &Record) {
        let needs = self.groups.entry(record.group()).or_default();
        needs.take(segment, record);
    }

    /// The oldest segment that anybody needs.
    pub fn floor(&self) -> Option<u64> {
        self.groups.values().filter_map(GroupNeeds::oldest).min()
    }

    /// Records that, written at the journal's head, make everything before `segment` needless. `logs` must be what
    /// all records written so far add up to. Entries that are only on disk are read back.
    ///
    /// # Errors
    /// The disk's; an entry that does not lie where it was written.
    pub fn rescue(&self, segment: u64, logs: &mut Logs, disk: &dyn Disk) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for (&group, needs) in &self.groups {
            let Some(log) = logs.get(group) else { continue };
            if needs.metadata().is_some_and(|at| at < segment) {
                records.extend(metadata(group, log));
            }
            for (first, last) in needs.before(segment) {
                records.extend(keep(group, logs, first..=last, disk)?);
            }
        }
        Ok(records)
    }
}

fn metadata(group: u32, log: &GroupLog) -> Vec<Record> {
    let vote = log.vote.clone().map(|vote| Record::Vote { group, vote });
    let snapshot = log.snapshot.clone();
    let snapshot = snapshot.map(|(name, meta)| Record::Snapshot { group, name, meta });
    let purge = log.purged.clone();
    let purge = purge.map(|(upto, id)| Record::Purge { group, upto, id });
    let committed = log.committed.clone();
    let committed = committed.map(|id| Record::Committed { group, id });
    [vote, snapshot, purge, committed].into_iter().flatten().collect()
}

/// The entries of a piece in records of at most half a frame, so that they fit into usual segments. What is queued may
/// have purged or truncated some of them: those go by themselves.
fn keep(group: u32, logs: &mut Logs, piece: RangeInclusive<u64>, disk: &dyn Disk) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut size = 0;
    let begin = logs.of(group).first.max(*piece.start());
    for index in begin..=*piece.end() {
        let recalled = logs.recall(group, index, |away| slot::read_one(disk, away))?;
        let Some(entry) = recalled else { break };
        size += entry.len();
        match records.last_mut() {
            Some(Record::Keep { entries, .. }) if size <= JOURNAL_FRAME_BYTES / 2 => {
                entries.push(entry);
            }
            _ => {
                size = entry.len();
                records.push(Record::Keep {
                    group,
                    first: index,
                    entries: vec![entry],
                });
            }
        }
    }
    Ok(records)
}
