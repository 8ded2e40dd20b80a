//! Identities. All are small, `Copy`, ordered and stable on the wire and on disk.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One process. Never reused for another data directory of the same cluster.
pub type NodeId = u64;

/// One Raft group: a shard holds keys, a coordinator holds transaction decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GroupId {
    Coordinator(u16),
    Shard(u16),
}

impl GroupId {
    /// A number that is stable on disk: coordinators from 0, shards from 65536.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            GroupId::Coordinator(n) => u32::from(n),
            GroupId::Shard(n) => 0x1_0000 | u32::from(n),
        }
    }
}

impl GroupId {
    /// The group whose [`GroupId::number`] this is.
    #[must_use]
    pub fn of_number(number: u32) -> Option<GroupId> {
        let n = u16::try_from(number & 0xffff).ok()?;
        match number >> 16 {
            0 => Some(GroupId::Coordinator(n)),
            1 => Some(GroupId::Shard(n)),
            _ => None,
        }
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupId::Coordinator(n) => write!(f, "coordinator-{n}"),
            GroupId::Shard(n) => write!(f, "shard-{n}"),
        }
    }
}

/// Whoever numbers requests: a gateway (node and boot) or a client (random).
pub type SessionId = u128;

/// A gateway's session with one group. One a group, so that an id tells which group alone can have executed it: all
/// others' watermarks for the gateway say nothing of it.
#[must_use]
pub fn gateway_session(node: NodeId, group: GroupId, boot: u32) -> SessionId {
    SessionId::from(node) << 64 | SessionId::from(group.number() + 1) << 32 | SessionId::from(boot)
}

/// Whose session this is, if a gateway's: its node and the group.
#[must_use]
pub fn gateway_of(session: SessionId) -> Option<(NodeId, GroupId)> {
    let node = NodeId::try_from(session >> 64).ok().filter(|&node| node != 0)?;
    let number = u32::try_from(session >> 32 & 0xffff_ffff).ok()?.checked_sub(1)?;
    Some((node, GroupId::of_number(number)?))
}

/// Names one request for ever: the key of the reply tables, and the id of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    pub session: SessionId,
    pub seq: u64,
}

/// A transaction is named by the request that asked for it.
pub type TxnId = RequestId;

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}", self.session, self.seq)
    }
}

impl FromStr for RequestId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a transaction id: want 32 hex digits, '-', a decimal number");
        let (session, seq) = text.split_once('-').ok_or_else(bad)?;
        if session.len() != 32 {
            return Err(bad());
        }
        Ok(RequestId {
            session: u128::from_str_radix(session, 16).map_err(|_| bad())?,
            seq: seq.parse().map_err(|_| bad())?,
        })
    }
}

/// One try of a transaction by one coordinator leader. The term keeps the tries of two leaders apart, so that
/// a deposed leader's messages can never be taken for its successor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    pub txn: TxnId,
    pub term: u64,
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.txn, self.term, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_session_tells_its_node_and_group() {
        for group in [
            GroupId::Coordinator(0),
            GroupId::Coordinator(3),
            GroupId::Shard(65_535),
        ] {
            assert_eq!(gateway_of(gateway_session(7, group, u32::MAX)), Some((7, group)));
        }
        for other in [0, 9, 7 << 64 | 9, 7 << 64 | (1 << 63)] {
            assert_eq!(gateway_of(other), None, "{other:x}");
        }
    }

    #[test]
    fn request_ids_survive_their_text_form() {
        let id = RequestId {
            session: 0x00ab_cdef << 64,
            seq: 42,
        };
        assert_eq!(id.to_string().parse::<RequestId>(), Ok(id));
        for bad in [
            "",
            "1-2",
            "zz",
            "0123456789abcdef0123456789abcdef",
            "0123456789abcdef0123456789abcdef-x",
        ] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad:?} must be refused");
        }
    }
}
