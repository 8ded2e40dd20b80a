//! Log entries: openraft's around an opaque payload, and their form on disk.

use std::fmt;
use std::io;

use bytes::Bytes;
use openraft::EntryPayload;
use serde::{Deserialize, Serialize};

use super::{Entry, LogId};
use crate::base::codec;

/// An encoded [`crate::machine::Batch`]. Shared, not copied, between log, network and apply.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload(#[serde(deserialize_with = "codec::shared")] pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

type Membership = openraft::Membership<u64, openraft::impls::EmptyNode>;

#[derive(Serialize, Deserialize)]
enum Kind {
    Blank,
    Normal,
    Membership(Membership),
}

/// Header (bincode), then the payload as it is.
pub(super) fn encode(entry: &Entry) -> io::Result<Bytes> {
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (Kind::Blank, None),
        EntryPayload::Normal(payload) => (Kind::Normal, Some(&payload.0)),
        EntryPayload::Membership(membership) => (Kind::Membership(membership.clone()), None),
    };
    let mut bytes = codec::encode(&(&entry.log_id, kind)).map_err(io::Error::other)?;
    if let Some(payload) = payload {
        bytes.reserve_exact(payload.len());
        bytes.extend_from_slice(payload);
    }
    Ok(bytes.into())
}

pub(super) fn decode(bytes: &Bytes) -> io::Result<Entry> {
    let ((log_id, kind), used) = codec::decode_prefix::<(LogId, Kind)>(bytes).map_err(io::Error::other)?;
    let payload = match kind {
        Kind::Blank => EntryPayload::Blank,
        Kind::Normal => EntryPayload::Normal(Payload(bytes.slice(used..))),
        Kind::Membership(membership) => EntryPayload::Membership(membership),
    };
    Ok(Entry { log_id, payload })
}
