//! Which segments of the journal each group still needs, and what must be written again so that the oldest can go.

use std::collections::BTreeMap;

use super::{GroupLog, Record};

/// By group, the segments (by their first frame) that hold live entries or newest metadata.
#[derive(Debug, Default)]
pub(super) struct Needs {
    groups: BTreeMap<u32, GroupNeeds>,
}

#[derive(Debug, Default)]
struct GroupNeeds {
    /// Segment, and last index of the group's entries in it.
    entries: BTreeMap<u64, u64>,
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
        let entries = self.entries.first_key_value().map(|(&segment, _)| segment);
        [entries, self.metadata()].into_iter().flatten().min()
    }

    fn truncate(&mut self, from: u64) {
        for last in self.entries.values_mut() {
            *last = (*last).min(from.saturating_sub(1));
        }
    }

    fn add(&mut self, segment: u64, last: u64) {
        let known = self.entries.entry(segment).or_default();
        *known = last.max(*known);
    }

    fn take(&mut self, segment: u64, record: &Record) {
        match record {
            Record::Append { first, entries, .. } => {
                self.truncate(*first);
                self.add(segment, (first + entries.len() as u64).saturating_sub(1));
            }
            Record::Keep { first, entries, .. } => {
                let last = (first + entries.len() as u64).saturating_sub(1);
                self.entries.retain(|_, known| *known > last);
                if !entries.is_empty() {
                    self.add(segment, last);
                }
            }
            Record::Truncate { from, .. } => self.truncate(*from),
            Record::Purge { upto, .. } => {
                self.entries.retain(|_, last| *last > *upto);
                self.purge = Some(segment);
            }
            Record::Vote { .. } => self.vote = Some(segment),
            Record::Committed { .. } => self.committed = Some(segment),
            Record::Snapshot { .. } => self.snapshot = Some(segment),
        }
    }
}

impl Needs {
    pub fn take(&mut self, segment: u64, records: &[Record]) {
        for record in records {
            let needs = self.groups.entry(record.group()).or_default();
            needs.take(segment, record);
        }
    }

    /// The oldest segment that anybody needs.
    pub fn floor(&self) -> Option<u64> {
        self.groups.values().filter_map(GroupNeeds::oldest).min()
    }

    /// Records that, written at the journal's head, make everything before `segment` needless. `logs` must be what
    /// all records written so far add up to.
    pub fn rescue(&self, segment: u64, logs: &BTreeMap<u32, GroupLog>) -> Vec<Record> {
        let mut records = Vec::new();
        for (&group, needs) in &self.groups {
            let Some(log) = logs.get(&group) else { continue };
            if needs.metadata().is_some_and(|at| at < segment) {
                records.extend(metadata(group, log));
            }
            let last = needs.entries.range(..segment).map(|(_, &last)| last).max();
            let live = last.map_or(0, |last| (last + 1).saturating_sub(log.first));
            let live = log
                .entries
                .iter()
                .take(usize::try_from(live).unwrap_or(usize::MAX));
            if let Some(last) = last {
                let entries: Vec<_> = live.cloned().collect();
                let first = if entries.is_empty() { last + 1 } else { log.first };
                records.push(Record::Keep {
                    group,
                    first,
                    entries,
                });
            }
        }
        records
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
