//! Ways in for `fuzz/`: what a disk may hold. Each ends in a value or an error.

use super::mirror::Replayed;

/// The records of a frame of the journal, replayed as a start does for one group.
pub fn records(bytes: &[u8]) {
    if let Ok(records) = super::frame::decode(bytes) {
        let mut replayed = Replayed::default();
        records.into_iter().for_each(|record| replayed.take(record));
        let _ = replayed.finish();
    }
}
