//! The journal's bytes: records, framed with a checksum, cut into values that sled keeps inline.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base::codec::{self, CodecError};
use crate::base::limits::JOURNAL_PART_BYTES;

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
    /// The group's whole state anew, so that old frames can go.
    Rewrite {
        group: u32,
        log: super::GroupLog,
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
            | Record::Rewrite { group, .. } => *group,
        }
    }
}

/// Cuts a frame into sled values: `crc32(payload of this part)`, `1` on the last part else `0`, payload.
///
/// # Errors
/// The codec's.
pub(super) fn encode(records: &[Record]) -> Result<Vec<Vec<u8>>, CodecError> {
    let bytes = codec::encode(&records)?;
    let count = bytes.len().div_ceil(JOURNAL_PART_BYTES).max(1);
    let parts = (0..count).map(|i| {
        let end = bytes.len().min((i + 1) * JOURNAL_PART_BYTES);
        let payload = &bytes[i * JOURNAL_PART_BYTES..end];
        let mut part = Vec::with_capacity(payload.len() + 5);
        part.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
        part.push(u8::from(i + 1 == count));
        part.extend_from_slice(payload);
        part
    });
    Ok(parts.collect())
}

/// One part's payload and whether it is its frame's last; `None` if the checksum does not match.
pub(super) fn decode_part(part: &[u8]) -> Option<(&[u8], bool)> {
    let (head, payload) = part.split_at_checked(5)?;
    let stored = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    (crc32fast::hash(payload) == stored).then_some((payload, head[4] == 1))
}

/// A frame's records from the joined payloads of its parts.
///
/// # Errors
/// The codec's.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Record>, CodecError> {
    // Frames are ours and checksummed; their size is bounded by the queue, not by the peer frame's limit.
    let config = bincode::config::standard();
    let (records, used) = bincode::serde::decode_from_slice(bytes, config)?;
    if used == bytes.len() {
        Ok(records)
    } else {
        Err(CodecError::Trailing(bytes.len() - used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_frame_is_cut_and_joined_and_damage_is_seen() {
        let entries = vec![
            Bytes::from(vec![7u8; 3 * JOURNAL_PART_BYTES]),
            Bytes::from_static(b"x"),
        ];
        let records = vec![Record::Append {
            group: 1,
            first: 5,
            entries,
        }];
        let parts = encode(&records).expect("encodes");
        assert_eq!(parts.len(), 4);
        let mut joined = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let (payload, last) = decode_part(part).expect("intact");
            assert_eq!(last, i == 3);
            joined.extend_from_slice(payload);
        }
        assert_eq!(decode(&joined).expect("decodes"), records);
        let mut damaged = parts[1].clone();
        damaged[100] ^= 1;
        assert!(decode_part(&damaged).is_none());
        assert!(decode_part(&damaged[..3]).is_none());
    }
}
