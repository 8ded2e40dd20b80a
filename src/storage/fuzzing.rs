//! Ways in for `fuzz/`: what a disk may hold. Each ends in a value or an error.

use super::frame::entries_at;
use super::replay::Replayed;
use super::slot::Place;

/// The records of a frame of the journal, replayed as a start does for one group.
pub fn records(bytes: &[u8]) {
    if let Ok(records) = super::frame::decode(bytes) {
        let mut replayed = Replayed::default();
        let frame = Place { segment: 1, at: 0 };
        for (record, end) in records {
            let places = entries_at(&record, end).into_iter();
            replayed.take(record, places.map(|at| frame.plus(at)));
        }
        let _ = replayed.finish();
    }
}
