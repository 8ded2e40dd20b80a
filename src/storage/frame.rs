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

/// Appends the records' bytes to `buffer`; where each of them ends there.
///
/// # Errors
/// The codec's.
pub(super) fn encode(records: &[Record], buffer: &mut Vec<u8>) -> Result<Vec<usize>, CodecError> {
    codec::encode_onto(&records.len(), buffer)?;
    let encode_one = |record| codec::encode_onto(record, buffer).map(|()| buffer.len());
    records.iter().map(encode_one).collect()
}

/// A frame's records from its payload, and where each of them ends in it.
///
/// # Errors
/// The codec's.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<(Record, usize)>, CodecError> {
    let (count, mut at): (usize, usize) = codec::decode_prefix(bytes)?;
    let mut records = Vec::new();
    for _ in 0..count {
        let (record, used) = codec::decode_front(&bytes[at..])?;
        at += used;
        records.push((record, at));
    }
    match bytes.len() - at {
        0 => Ok(records),
        left => Err(CodecError::Trailing(left)),
    }
}

/// Where the bytes of a record's entries begin, if the record ends at `end`: its entries are the last of it, each behind its length.
pub(super) fn entries_at(record: &Record, end: usize) -> Vec<usize> {
    let (Record::Append { entries, .. } | Record::Keep { entries, .. }) = record else {
        return Vec::new();
    };
    let mut end = end;
    let mut at: Vec<usize> = entries
        .iter()
        .rev()
        .map(|entry| {
            let begin = end - entry.len();
            end = begin - codec::length_bytes(entry.len());
            begin
        })
        .collect();
    at.reverse();
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_lie_where_they_are_said_to() {
        let sizes = [0, 1, 250, 251, 300, 65_535, 65_536, 70_000];
        let entries = |salt| -> Vec<Bytes> {
            let entry = |(n, &size): (usize, &usize)| Bytes::from(vec![n as u8 + salt; size]);
            sizes.iter().enumerate().map(entry).collect()
        };
        let records = [
            Record::Truncate { group: 300, from: 1 },
            Record::Append {
                group: 1,
                first: 1 << 40,
                entries: entries(1),
            },
            Record::Vote {
                group: 1,
                vote: Bytes::from_static(b"vote"),
            },
            Record::Keep {
                group: 70_000,
                first: 7,
                entries: entries(100),
            },
        ];
        let mut buffer = vec![9; 28];
        let ends = encode(&records, &mut buffer).expect("encodes");
        let decoded = decode(&buffer[28..]).expect("decodes");
        assert_eq!(decoded.iter().map(|(_, end)| end + 28).collect::<Vec<_>>(), ends);
        for (record, (read, end)) in records.iter().zip(&decoded) {
            assert_eq!(record, read);
            let (Record::Append { entries, .. } | Record::Keep { entries, .. }) = read else {
                assert!(entries_at(read, *end).is_empty());
                continue;
            };
            let found = entries_at(read, *end);
            assert_eq!(found.len(), entries.len());
            for (at, entry) in found.into_iter().zip(entries) {
                assert_eq!(&buffer[28 + at..][..entry.len()], &entry[..]);
            }
        }
    }
}
