//! The journal's records, and how a frame's payload holds them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base::codec::{self, CodecError};

/// One change of one group's log. Replaying all records in order gives the group's [`super::GroupLog`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Consecutive entries from `first`; entries at or past `first` that were there are gone.
    Append {
        group: u32,
        first: u64,
        entries: Vec<Bytes>,
    },
    /// Entries from `from` on are gone.
    Truncate {
        group: u32,
        from: u64,
    },
    /// Entries up to `upto` are gone; `id` is the last one's log id.
    Purge {
        group: u32,
        upto: u64,
        id: Bytes,
    },
    Vote {
        group: u32,
        vote: Bytes,
    },
    /// The commit index last known. Rides along with the next frame that something else needs.
    Committed {
        group: u32,
        id: Bytes,
    },
    /// The current snapshot: its directory's name, and metadata.
    Snapshot {
        group: u32,
        name: String,
        meta: Bytes,
    },
    /// Entries that are there already, written again so that the segment they came from can go: a replay fills in what
    /// of them it has not met.
    Keep {
        group: u32,
        first: u64,
        entries: Vec<Bytes>,
    },
}

impl Record {
    #[must_use]
    pub fn group(&self) -> u32 {
        match self {
            Record::Append { group, .. }
            | Record::Truncate { group, .. }
            | Record::Purge { group, .. }
            | Record::Vote { group, .. }
            | Record::Committed { group, .. }
            | Record::Snapshot { group, .. }
            | Record::Keep { group, .. } => *group,
        }
    }
}

/// Appends the records' bytes to `buffer`.
///
/// # Errors
/// The codec's.
pub(super) fn encode(records: &[Record], buffer: &mut Vec<u8>) -> Result<(), CodecError> {
    codec::encode_onto(&records, buffer)
}

/// A frame's records from its payload.
///
/// # Errors
/// The codec's.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Record>, CodecError> {
    codec::decode_whole(bytes)
}
