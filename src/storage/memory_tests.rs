//! Entries that are only on disk: which, how they are read, and what is said when they are not there.

use bytes::Bytes;

use super::journal_tests::{append, change, contents, entries, in_memory, open_keeping, purge, segments};
use super::{Journal, Record};

const SIZE: usize = 10_000;

fn all(journal: &Journal, group: u32) -> super::Stretch {
    journal.with(group, |log| log.stretch(0, u64::MAX))
}

fn bytes_in_memory(journal: &Journal, group: u32) -> usize {
    in_memory(&all(journal, group))
        .into_iter()
        .filter(|&here| here)
        .count()
        * SIZE
}

/// Entries may go a moment after their writer was told that they are durable: with one of the next frames.
fn until(journal: &Journal, what: impl Fn() -> bool) {
    for _ in 0..1000 {
        if what() {
            return;
        }
        append(
            journal,
            vec![Record::Vote {
                group: 77,
                vote: Bytes::from_static(b"v"),
            }],
        );
    }
    panic!("entries stay in memory");
}

#[test]
fn the_oldest_entries_of_the_longest_logs_go_from_memory_and_are_read_back() {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = open_keeping(dir.path(), 20 * SIZE);
    append(&journal, vec![entries(2, 1, 4, SIZE)]);
    for n in 0..50 {
        append(&journal, vec![entries(1, 1 + 2 * n, 2, SIZE)]);
    }
    until(&journal, || bytes_in_memory(&journal, 1) <= 20 * SIZE);
    assert_eq!(bytes_in_memory(&journal, 2), 4 * SIZE, "a short log stays");
    let here = in_memory(&all(&journal, 1));
    assert!(here.is_sorted(), "the newest are in memory: {here:?}");
    assert_eq!(
        journal.with(1, |log| (log.bytes, log.size(1))),
        (100 * SIZE, Some(SIZE))
    );
    let before = contents(&journal, 1);
    assert_eq!(before.entries[41], Bytes::from(vec![42; SIZE]));
    assert!(journal.with(1, |log| log.in_memory(1, 3).is_none()
        && log.in_memory(99, 101).is_some()));
    drop(journal);
    let journal = open_keeping(dir.path(), 20 * SIZE);
    assert!(
        bytes_in_memory(&journal, 1) <= 20 * SIZE,
        "a start reads no more into memory"
    );
    assert_eq!(contents(&journal, 1), before);
}

/// The newest entry has yet to be sent and applied.
#[test]
fn the_newest_entry_stays_however_large() {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = open_keeping(dir.path(), 0);
    append(&journal, vec![entries(1, 1, 3, SIZE)]);
    until(&journal, || in_memory(&all(&journal, 1)) == [false, false, true]);
    append(&journal, vec![Record::Truncate { group: 1, from: 3 }]);
    assert_eq!(in_memory(&all(&journal, 1)), [false, false]);
    append(&journal, vec![entries(1, 3, 1, 77)]);
    assert_eq!(contents(&journal, 1).entries[2].len(), 77);
}

#[test]
fn an_entry_that_was_changed_on_disk_is_an_error_that_says_where() {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = open_keeping(dir.path(), 0);
    append(&journal, vec![entries(1, 1, 1, SIZE)]);
    append(&journal, vec![entries(1, 2, 2, SIZE)]);
    until(&journal, || bytes_in_memory(&journal, 1) == SIZE);
    change(&segments(dir.path())[0], |bytes| bytes[SIZE / 2] ^= 1);
    let why = journal
        .read(1, &all(&journal, 1))
        .expect_err("it was changed")
        .to_string();
    assert!(
        why.contains("0001.seg does not hold the log entry of 10000 bytes"),
        "{why}"
    );
    let rest = journal.with(1, |log| log.stretch(2, 4));
    assert!(journal.read(1, &rest).expect("whole").is_some());
    change(&segments(dir.path())[0], |bytes| bytes.truncate(SIZE + 1000));
    assert!(journal.read(1, &rest).is_err());
}

/// Who has asked where entries are, and comes to read them when they are gone, asks again.
#[test]
fn entries_that_were_purged_meanwhile_are_not_found() {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = open_keeping(dir.path(), 0);
    append(&journal, vec![entries(1, 1, 3, 1 << 20)]);
    until(&journal, || in_memory(&all(&journal, 1)) == [false, false, true]);
    let old = all(&journal, 1);
    assert!(journal.read(1, &old).expect("reads").is_some());
    for n in 4..60 {
        append(&journal, vec![purge(1, n - 2), entries(1, n, 1, 1 << 20)]);
    }
    assert!(segments(dir.path()).len() < 10, "segments are used again");
    assert_eq!(journal.read(1, &old).expect("no error"), None);
    assert_eq!(contents(&journal, 1).entries.len(), 2);
}

/// An entry's place may be told after another has taken its index.
#[test]
fn a_place_is_not_taken_for_that_of_an_entry_that_came_later() {
    let dir = tempfile::tempdir().expect("temp dir");
    let journal = open_keeping(dir.path(), 0);
    for round in 0..200u64 {
        // Both in one frame, mostly: the first is gone when its place is told.
        let again = |n: u8| Record::Append {
            group: 1,
            first: 1,
            entries: vec![Bytes::from(vec![n; SIZE]), Bytes::from(vec![n + 1; SIZE])],
        };
        journal
            .append(vec![again(round as u8 % 100)], None)
            .expect("taken");
        append(&journal, vec![again(100)]);
        until(&journal, || in_memory(&all(&journal, 1)) == [false, true]);
        let found = contents(&journal, 1).entries;
        assert_eq!((found[0][0], found[1][0]), (100, 101), "round {round}");
    }
}
