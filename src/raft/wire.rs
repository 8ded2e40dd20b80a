//! What peers say to each other, inside length-delimited frames.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::follower::ReadIndex;
use super::{SnapshotMeta, TypeConfig, Vote};
use crate::base::{GroupId, NodeId, codec};

/// Version of everything on the wire between peers; another one is refused.
pub const WIRE_VERSION: u32 = 12;

/// First frame in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    pub node: NodeId,
    /// `None` until the node has joined a cluster.
    pub cluster_id: Option<u128>,
    /// Whether the node holds any log of that cluster.
    pub formed: bool,
    /// What decides where keys live; two nodes that differ would corrupt each other.
    pub layout: String,
    /// How leaders make sure of reads, where voters have a part in it.
    pub reads: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Frame {
    Request { id: u64, body: Call },
    Response { id: u64, body: Return },
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Call {
    Append(GroupId, AppendEntriesRequest<TypeConfig>),
    Vote(GroupId, VoteRequest<TypeConfig>),
    PreVote(GroupId, VoteRequest<TypeConfig>),
    TransferLeader(GroupId, TransferLeaderRequest<TypeConfig>),
    Snapshot(GroupId, Box<SnapshotPart>),
    /// To the leader, by whose vote this is: what does a read have to see that begins now?
    ReadIndex(GroupId, Bytes),
    /// Are these the votes that you hold?
    Confirm(Vec<(GroupId, Bytes)>),
    /// A message of the floor above.
    Service(#[serde(deserialize_with = "codec::shared")] Bytes),
}

/// A piece of a snapshot; pieces of one transfer come in order.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotPart {
    pub transfer: u64,
    pub seq: u64,
    pub data: Bytes,
    /// On the last piece: what the snapshot is.
    pub last: Option<(Vote, SnapshotMeta)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Return {
    Append(AppendEntriesResponse<TypeConfig>),
    Vote(VoteResponse<TypeConfig>),
    TransferLeader(openraft::raft::TransferLeaderResponse<TypeConfig>),
    SnapshotPart,
    Snapshot(SnapshotResponse<TypeConfig>),
    ReadIndex(ReadIndex),
    Confirm(Vec<bool>),
    Service(#[serde(deserialize_with = "codec::shared")] Bytes),
    /// The node cannot answer this now.
    Refused(String),
}

/// Why a call to a peer got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It was not sent.
    #[error("node {0} is not connected")]
    NotConnected(NodeId),
    /// It was not sent: too much waits already.
    #[error("the link to node {0} is full")]
    Full(NodeId),
    /// It may have arrived.
    #[error("the link to node {0} broke")]
    Broken(NodeId),
    #[error("node {node} refused: {why}")]
    Refused { node: NodeId, why: String },
    #[error("frame of {bytes} bytes exceeds the limit of {max}")]
    TooLarge { bytes: usize, max: usize },
}

impl LinkError {
    /// Whether the call certainly did not reach the peer.
    #[must_use]
    pub fn not_sent(&self) -> bool {
        !matches!(self, LinkError::Broken(_))
    }
}
