//! What the journal must survive: reopening, torn and damaged frames, quiet groups, any history.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::segments::FOLDER as DIR;
use super::slot::Slot;
use super::{Done, GroupLog, Journal, Record, Stretch, open_store, open_store_keeping};

fn open(dir: &Path) -> Journal {
    Journal::open(open_store(dir).expect("store opens")).expect("journal opens")
}

/// With only so many bytes of entries in memory.
pub(super) fn open_keeping(dir: &Path, bytes: usize) -> Journal {
    Journal::open(open_store_keeping(dir, bytes).expect("store opens")).expect("journal opens")
}

/// All that a log says, wherever its entries are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contents {
    pub first: u64,
    pub bytes: usize,
    pub entries: Vec<Bytes>,
    pub purged: Option<(u64, Bytes)>,
    pub metadata: [Option<Bytes>; 3],
    pub snapshot: Option<String>,
}

fn contents_of(log: &GroupLog, entries: Vec<Bytes>) -> Contents {
    let (name, meta) = log.snapshot.clone().unzip();
    Contents {
        first: if entries.is_empty() { 0 } else { log.first },
        bytes: log.bytes,
        entries,
        purged: log.purged.clone(),
        metadata: [log.vote.clone(), log.committed.clone(), meta],
        snapshot: name,
    }
}

pub(super) fn contents(journal: &Journal, group: u32) -> Contents {
    let (log, all) = journal.with(group, |log| (log.clone(), log.stretch(0, u64::MAX)));
    let entries = journal.read(group, &all).expect("reads");
    contents_of(&log, entries.expect("nobody changes it meanwhile"))
}

/// Of a log that is all in memory.
fn contents_in_memory(log: &GroupLog) -> Contents {
    let entries = log.in_memory(0, u64::MAX).expect("all in memory");
    contents_of(log, entries.cloned().collect())
}

pub(super) fn append(journal: &Journal, records: Vec<Record>) {
    let (tx, rx) = std::sync::mpsc::sync_channel(1);
    let done: Done = Box::new(move |result| tx.send(result).expect("the test waits"));
    journal.append(records, Some(done)).expect("taken");
    rx.recv().expect("answered").expect("durable");
}

pub(super) fn entries(group: u32, first: u64, count: u64, size: usize) -> Record {
    let entries = (first..first + count)
        .map(|i| Bytes::from(vec![i as u8; size]))
        .collect();
    Record::Append {
        group,
        first,
        entries,
    }
}

pub(super) fn purge(group: u32, upto: u64) -> Record {
    Record::Purge {
        group,
        upto,
        id: Bytes::from_static(b"id"),
    }
}

#[test]
fn everything_acknowledged_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = open(dir.path());
    append(
        &journal,
        vec![
            Record::Vote {
                group: 1,
                vote: Bytes::from_static(b"v1"),
            },
            entries(1, 1, 9, 10),
        ],
    );
    append(&journal, vec![entries(2, 1, 3, 200_000)]);
    append(
        &journal,
        vec![Record::Truncate { group: 1, from: 6 }, entries(1, 6, 1, 77)],
    );
    append(&journal, vec![purge(1, 2)]);
    journal
        .append(
            vec![Record::Committed {
                group: 1,
                id: Bytes::from_static(b"c"),
            }],
            None,
        )
        .expect("taken");
    let before = [1, 2].map(|group| contents(&journal, group));
    drop(journal);
    let journal = open(dir.path());
    let after = [1, 2].map(|group| contents(&journal, group));
    assert_eq!(before, after);
    let [one, _] = after;
    assert_eq!((one.first, one.entries.len(), one.bytes), (3, 4, 3 * 10 + 77));
    assert_eq!(one.metadata[1].as_deref(), Some(&b"c"[..]));
}

/// The segments' files, by age.
pub(super) fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let listed = std::fs::read_dir(dir.join(DIR)).expect("lists");
    let mut paths: Vec<_> = listed.map(|e| e.expect("lists").path()).collect();
    paths.sort();
    paths
}

pub(super) fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("reads");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("writes");
}

fn refused(dir: &Path) -> String {
    let before: Vec<_> = segments(dir)
        .iter()
        .map(std::fs::read)
        .map(Result::unwrap)
        .collect();
    let refused = Journal::open(open_store(dir).expect("store opens")).err();
    let after: Vec<_> = segments(dir)
        .iter()
        .take(before.len())
        .map(std::fs::read)
        .map(Result::unwrap)
        .collect();
    assert!(before == after, "a journal that is refused must stay as it is");
    refused.expect("must be refused").to_string()
}

/// Where each frame of a segment begins, and where the last ends.
fn frames_of(bytes: &[u8]) -> Vec<usize> {
    let mut at = vec![0];
    while let Some(length) = bytes
        .get(at[at.len() - 1]..)
        .filter(|rest| rest.starts_with(b"QJ01"))
        .and_then(|rest| rest.get(8..12))
    {
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        at.push(at[at.len() - 1] + super::segments::HEADER_BYTES + length as usize);
    }
    at
}

/// What would be a hole after a restart is one now.
#[test]
fn entries_that_leave_a_hole_are_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = open(dir.path());
    append(&journal, vec![entries(1, 1, 3, 10)]);
    let refused = |group, first| journal.append(vec![entries(group, first, 1, 10)], None).is_err();
    assert!(refused(1, 5));
    append(&journal, vec![purge(2, 7), purge(1, 9)]);
    assert!(refused(2, 9) && refused(1, 11));
    append(&journal, vec![entries(2, 8, 1, 10), entries(1, 10, 1, 10)]);
}

/// A crash in the middle of a write leaves a frame that nobody was told of.
#[test]
fn a_torn_frame_that_was_not_acknowledged_is_dropped() {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = open(dir.path());
    append(&journal, vec![entries(1, 1, 3, 10)]);
    let watermark = std::fs::read(dir.path().join("watermark")).expect("reads");
    append(&journal, vec![entries(1, 4, 1, 200_000)]);
    drop(journal);
    std::fs::write(dir.path().join("watermark"), watermark).expect("writes");
    change(&segments(dir.path())[0], |bytes| {
        let last = frames_of(bytes);
        bytes[last[2] - 100_000..last[2]].fill(0);
    });
    let journal = open(dir.path());
    assert_eq!(journal.with(1, GroupLog::end), 4);
    append(&journal, vec![entries(1, 4, 1, 5)]);
    drop(journal);
    assert_eq!(open(dir.path()).with(1, GroupLog::end), 5);
}

#[test]
fn missing_or_damaged_frames_that_were_acknowledged_are_refused() {
    let fresh = || {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = open(dir.path());
        (0..4).for_each(|i| append(&journal, vec![entries(1, 1 + i, 1, 10)]));
        (4..12).for_each(|i| append(&journal, vec![entries(1, 1 + i, 1, 1 << 20)]));
        drop(journal);
        dir
    };
    // Any frame's payload or header, in the first, a middle and the last segment.
    for (segment, frame) in [(0, 0), (0, 1), (0, 4), (1, 0), (1, 2), (2, 0)] {
        for offset in [0, 5, 9, 13, 40] {
            let dir = fresh();
            let path = &segments(dir.path())[segment];
            change(path, |bytes| {
                let at = frames_of(bytes)[frame] + offset;
                bytes[at] ^= 1;
            });
            let why = refused(dir.path());
            let said = why.contains("missing or damaged") || why.contains("were acknowledged");
            assert!(said, "segment {segment}, frame {frame}, offset {offset}: {why}");
        }
    }
    let dir = fresh();
    change(&segments(dir.path())[1], |bytes| bytes.truncate(2 << 20));
    assert!(refused(dir.path()).contains("cut off"));
    for segment in [0, 1, 2] {
        let dir = fresh();
        std::fs::remove_file(&segments(dir.path())[segment]).expect("removes");
        refused(dir.path());
        let dir = fresh();
        change(&segments(dir.path())[segment], Vec::clear);
        refused(dir.path());
    }
    let dir = fresh();
    std::fs::remove_dir_all(dir.path().join(DIR)).expect("removes");
    std::fs::create_dir(dir.path().join(DIR)).expect("makes");
    assert!(refused(dir.path()).contains("were acknowledged"));
}

/// A power loss may take any sectors of the newest frame, also where it began a segment that was used before.
#[test]
fn a_torn_frame_at_the_front_of_a_reused_segment_is_dropped() {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = open(dir.path());
    let rounds = 30;
    for round in 0..rounds {
        append(&journal, vec![entries(1, 1 + round, 1, 1 << 20)]);
        append(&journal, vec![purge(1, round.saturating_sub(2))]);
    }
    let newest = |dir: &Path| {
        let paths = segments(dir);
        let first = |path: &Path| {
            let bytes = std::fs::read(path).expect("reads");
            u64::from_le_bytes(bytes[12..20].try_into().expect("eight bytes"))
        };
        paths.into_iter().max_by_key(|path| first(path)).expect("some")
    };
    let (mut last, before) = (1 + rounds, newest(dir.path()));
    let mut watermark = Vec::new();
    while newest(dir.path()) == before {
        watermark = std::fs::read(dir.path().join("watermark")).expect("reads");
        append(&journal, vec![entries(1, last, 1, 1 << 20)]);
        last += 1;
    }
    let torn = newest(dir.path());
    drop(journal);
    std::fs::write(dir.path().join("watermark"), watermark).expect("writes");
    change(&torn, |bytes| bytes[4096..8192].fill(7));
    let journal = open(dir.path());
    assert_eq!(journal.with(1, GroupLog::end), last - 1);
    append(&journal, vec![entries(1, last - 1, 2, 100)]);
    drop(journal);
    assert_eq!(open(dir.path()).with(1, GroupLog::end), last + 1);
}

fn disk_use(dir: &Path) -> u64 {
    let sizes = segments(dir)
        .into_iter()
        .map(|path| std::fs::metadata(path).expect("there").len());
    sizes.sum()
}

#[test]
fn quiet_groups_do_not_pin_the_journal() {
    for in_memory in [usize::MAX, 200_000] {
        quiet_groups(in_memory);
    }
}

fn quiet_groups(in_memory: usize) {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = open_keeping(dir.path(), in_memory);
    let vote = |group, vote: &'static [u8]| Record::Vote {
        group,
        vote: Bytes::from_static(vote),
    };
    append(&journal, vec![vote(9, b"quiet"), entries(9, 1, 200, 50_000)]);
    append(&journal, vec![vote(8, b"silent")]);
    append(
        &journal,
        vec![Record::Truncate { group: 9, from: 150 }, purge(9, 20)],
    );
    let mut most = 0;
    for round in 0..300u64 {
        append(&journal, vec![entries(1, 1 + round * 10, 10, 50_000)]);
        append(&journal, vec![purge(1, round * 10 + 5)]);
        // In steps, so that the quiet log is in several segments when it is rescued.
        if round % 50 == 0 {
            let end = journal.with(9, GroupLog::end);
            append(&journal, vec![entries(9, end, 3, 10_000)]);
        }
        most = most.max(disk_use(dir.path()));
    }
    assert!(
        most < 60 << 20,
        "150 MB went through, 7 were live, {most} bytes were kept"
    );
    let before = [9, 8, 1].map(|group| contents(&journal, group));
    drop(journal);
    let journal = open(dir.path());
    let after = [9, 8, 1].map(|group| contents(&journal, group));
    assert!(before == after);
    assert_eq!((after[0].first, after[0].entries.len()), (21, 168 - 21));
}

/// Groups of all speeds, each with megabytes that are needed: rescuing must free more than it writes.
#[test]
fn groups_of_all_speeds_keep_the_journal_bounded() {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = open(dir.path());
    let mut most = 0;
    for step in 1..=2400u64 {
        for group in 0..5u32 {
            if step % (1 << (2 * group)) != 0 {
                continue;
            }
            let end = journal.with(group, |log| log.end().max(1));
            append(&journal, vec![entries(group, end, 4, 30_000)]);
            if journal.with(group, |log| log.bytes) > 8 << 20 {
                append(&journal, vec![purge(group, end - 70)]);
            }
        }
        most = most.max(disk_use(dir.path()));
    }
    let live: usize = (0..5).map(|group| journal.with(group, |log| log.bytes)).sum();
    let before: Vec<_> = (0..5).map(|group| contents(&journal, group)).collect();
    assert!(
        live < 40 << 20 && most < 128 << 20,
        "{live} bytes were live, {most} kept"
    );
    drop(journal);
    let journal = open(dir.path());
    let after: Vec<_> = (0..5).map(|group| contents(&journal, group)).collect();
    assert!(before == after);
}

/// What one step of the random test does to a group.
fn random_records(rng: &mut StdRng, journal: &Journal, group: u32) -> Vec<Record> {
    let (first, end) = journal.with(group, |log| {
        let first = log.purged.as_ref().map_or(1, |(upto, _)| upto + 1);
        let end = if log.is_empty() { first } else { log.end() };
        (first, end)
    });
    let size = *[20, 3000, 90_000].choose(rng).expect("three");
    match rng.random_range(0..12) {
        0 => vec![Record::Vote {
            group,
            vote: Bytes::from(vec![rng.random(); 8]),
        }],
        1 => vec![Record::Truncate {
            group,
            from: rng.random_range(first..=end),
        }],
        2 => vec![purge(group, rng.random_range(first..=end + 2) - 1)],
        3 => vec![random_entries(rng, group, first..=end, 2, size)],
        4 => vec![
            Record::Snapshot {
                group,
                name: format!("{end}"),
                meta: Bytes::from_static(b"meta"),
            },
            purge(group, end - 1),
        ],
        _ => {
            let count = rng.random_range(1..6);
            vec![random_entries(rng, group, end..=end, count, size)]
        }
    }
}

fn random_entries(
    rng: &mut StdRng,
    group: u32,
    first: RangeInclusive<u64>,
    count: u64,
    size: usize,
) -> Record {
    Record::Append {
        group,
        first: rng.random_range(first),
        entries: (0..count)
            .map(|_| Bytes::from(vec![rng.random(); size]))
            .collect(),
    }
}

/// Any history of busy, slow and silent groups reads back as it was, however often the journal was reopened, with
/// whatever was rescued meanwhile, and whatever has gone from memory.
#[test]
fn random_histories_read_back() {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().expect("temp dir");
        let in_memory = [usize::MAX, 500_000, 0][seed as usize % 3];
        let mut journal = open_keeping(dir.path(), in_memory);
        let mut model: BTreeMap<u32, GroupLog> = BTreeMap::new();
        for step in 0..1500 {
            // Group 3 is busy and short, 1 and 2 are slow.
            let group = *[1, 2, 3, 3, 3, 3, 3, 3, 3, 3].choose(&mut rng).expect("ten");
            let mut records = random_records(&mut rng, &journal, group);
            if group == 3 && journal.with(3, |log| log.bytes) > 1 << 20 {
                records = vec![purge(3, journal.with(3, GroupLog::end) - 1)];
            }
            let log = model.entry(group).or_default();
            for record in &records {
                log.take(record.clone());
            }
            let wait = rng.random_bool(0.5);
            let done: Option<Done> = wait.then(|| Box::new(|_: io::Result<()>| ()) as Done);
            journal.append(records, done).expect("taken");
            let reopen = step == 1499 || rng.random_bool(0.01);
            if reopen {
                drop(journal);
                journal = open_keeping(dir.path(), in_memory);
            }
            if reopen || rng.random_bool(0.02) {
                for (&group, log) in &model {
                    let (expected, found) = (contents_in_memory(log), contents(&journal, group));
                    assert!(
                        expected == found,
                        "seed {seed}, step {step}, group {group}: {} entries from {}, purged {:?}, became {} from {}, {:?}",
                        expected.entries.len(),
                        expected.first,
                        expected.purged,
                        found.entries.len(),
                        found.first,
                        found.purged
                    );
                }
            }
        }
    }
}

/// Which of a stretch's entries are in memory.
pub(super) fn in_memory(stretch: &Stretch) -> Vec<bool> {
    let here = |slot: &Slot| slot.in_memory().is_some();
    stretch.slots.iter().map(here).collect()
}
