//! What nodes ask each other on behalf of clients and transactions, inside the link's service messages.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::line::WaiterId;
use super::memory::MemoryAsk;
use super::pubsub::{PubSubAsk, PubSubTold};
use super::scripts::ScriptAsk;
use super::settings::Setting;
use super::tracking::{TrackAsk, TrackTold};
use super::vitals::Size;
use crate::base::{AttemptId, GroupId, Millis, NodeId, TxnId};
use crate::machine::commands::Need;
use crate::machine::{Command, Decision, Digest, Listing, Read, Request, Response, Seen};
use crate::raft::GroupError;
use crate::txn::{Answer, Txn};

/// A question to the leader of a group. Every one may be asked again without harm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ask {
    Propose(Request),
    Read(Read),
    /// To a coordinator: run this transaction.
    Begin(Box<Txn>),
    /// To a coordinator, by a participant: what became of this attempt?
    Query {
        attempt: AttemptId,
        deadline: Millis,
    },
    /// Up to which index is the log certainly committed now?
    Confirm,
    /// To any replica: what did the state come to at this log index?
    Digest(u64),
    /// What is under way here? Of one transaction also what became of it.
    Inspect(Option<TxnId>),
    /// To a coordinator: what became of this transaction? If nothing has and this leader is not at work on it, it never
    /// commits from now on. `now`: also if this leader is; and about what is staged the participants are asked.
    Settle {
        txn: TxnId,
        now: bool,
    },
    /// To a shard: say when it is this client's turn at one of these keys. It has waited so many microseconds already.
    Wait {
        waiter: WaiterId,
        keys: Vec<(Bytes, Need)>,
        waited_us: u64,
        /// It was in no line yet: a key of the wrong type is an error then, and later none.
        anew: bool,
    },
    /// To a shard: this client does not wait any more, or has tried what it was called for.
    Leave(WaiterId),
    /// To a node: about channels.
    PubSub(PubSubAsk),
    /// To a node: about scripts.
    Script(ScriptAsk),
    /// To a node: about writes of keys of which clients keep copies.
    Track(TrackAsk),
    /// To a shard: ask about what is prepared of this transaction, without waiting any longer.
    Recover(TxnId),
    /// To a node: these settings have changed.
    Settings(Vec<(Setting, u64)>),
    /// To a node: about memory.
    Memory(MemoryAsk),
    /// To a shard: how many keys are there?
    Size,
    /// How many other members have what is committed now? Answered when these are as many, or after so many milliseconds.
    Replicas {
        least: usize,
        patience_ms: u64,
    },
}

impl Ask {
    /// Has it hold no part of the message that it was decoded from.
    pub fn detach(&mut self) {
        if let Ask::Begin(txn) = self {
            let commands = txn.parts.iter_mut().flat_map(|part| &mut part.commands);
            commands.for_each(Command::detach);
        }
    }

    /// Bytes of what it carries, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Ask::Propose(request) => request.weight(),
            Ask::Begin(txn) => {
                let commands = txn.parts.iter().flat_map(|part| &part.commands);
                commands.map(Command::weight).sum()
            }
            Ask::PubSub(PubSubAsk::Publish { message, .. }) => message.len(),
            Ask::Script(ScriptAsk::Load(body)) => body.len(),
            Ask::Memory(MemoryAsk::Accesses(keys)) | Ask::Track(TrackAsk::Keys { keys, .. }) => {
                keys.iter().map(Bytes::len).sum()
            }
            _ => 0,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Told {
    Response(Response),
    Seen(Seen),
    Answer(Answer),
    /// `None`: still being worked on.
    Decision(Option<Decision>),
    Index(u64),
    /// `None`: not applied yet, or not remembered.
    Digest(Option<Digest>),
    Listing(Listing),
    Recovered,
    /// What somebody waited for may be there.
    Turn,
    Script(Option<Bytes>),
    PubSub(PubSubTold),
    Track(TrackTold),
    Left,
    Failed(Failure),
    /// Seconds since keys were asked for, and how often they are.
    Accesses(Vec<(u32, u8)>),
    /// It is so from now on.
    Set,
    Size(Size),
    Replicas(usize),
}

/// Why the node that was asked has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    NotLeader(Option<NodeId>),
    Busy,
    /// It may have happened, or happen yet.
    Unknown(String),
    Stopped(String),
}

impl From<GroupError> for Failure {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::NotLeader(leader) => Failure::NotLeader(leader),
            GroupError::Busy => Failure::Busy,
            GroupError::Unknown(why) => Failure::Unknown(why),
            GroupError::Stopped(why) => Failure::Stopped(why),
        }
    }
}

/// What goes over the link: encoded from a question that its asker keeps, decoded into one of the peer's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope<A> {
    pub group: GroupId,
    pub ask: A,
}
