//! What travels, and who waits for what a log answers.

use quorate::base::Millis;
use quorate::base::{AttemptId, GroupId, TxnId};
use quorate::machine::{Decide, Decision, Finish, Prepare, Prepared, Request, Response, Stage, Staged, Vote};
use quorate::txn::{Answer, Txn};

/// Number of an operation of a gateway.
pub type OpId = usize;

#[derive(Debug, Clone)]
pub enum Message {
    /// Gateway to coordinator leader, and back; `ask` tells the gateway's tries apart.
    Begin {
        op: OpId,
        ask: u32,
        txn: Box<Txn>,
    },
    Answer {
        op: OpId,
        ask: u32,
        answer: Answer,
    },
    /// Coordinator leader to its log, and back.
    Stage {
        term: u64,
        below: u64,
        stage: Box<Stage>,
    },
    Staged {
        term: u64,
        attempt: AttemptId,
        staged: Staged,
    },
    /// The log would not decide.
    Undecided {
        term: u64,
        txn: TxnId,
        staged: Staged,
    },
    /// Coordinator leader to participant, and back.
    Inquire {
        term: u64,
        shard: GroupId,
        attempt: AttemptId,
        deadline: Millis,
    },
    Inquired {
        term: u64,
        attempt: AttemptId,
        shard: GroupId,
        vote: Vote,
    },
    Prepare {
        term: u64,
        shard: GroupId,
        prepare: Box<Prepare>,
    },
    Vote {
        term: u64,
        attempt: AttemptId,
        shard: GroupId,
        vote: Vote,
    },
    Finish {
        term: u64,
        shard: GroupId,
        finish: Finish,
    },
    Told {
        term: u64,
        shard: GroupId,
        finish: Finish,
    },
    /// Anybody to the coordinator's log, and back to a leader.
    Decide {
        by: Decider,
        below: u64,
        decide: Box<Decide>,
    },
    Decided {
        term: u64,
        txn: TxnId,
        decision: Decision,
    },
    Retire {
        term: u64,
        txn: TxnId,
    },
    Retired {
        term: u64,
        txn: TxnId,
    },
    /// Participant to coordinator leader, and back.
    Query {
        shard: GroupId,
        prepared: Prepared,
    },
    Verdict {
        shard: GroupId,
        prepared: Prepared,
        decision: Decision,
    },
    /// Participant to coordinator leader, and back to its log: the votes that nobody will inquire about any more.
    StillStaged {
        shard: GroupId,
        coordinator: GroupId,
        attempts: Vec<AttemptId>,
    },
    Forget {
        shard: GroupId,
        attempts: Vec<AttemptId>,
    },
    /// Gateway to one shard's log, and back (also the log's answer to a gateway's `Decide`).
    Run {
        op: OpId,
        shard: GroupId,
        request: Box<Request>,
    },
    Response {
        op: OpId,
        response: Response,
    },
}

/// Who asks for a record.
#[derive(Debug, Clone, Copy)]
pub enum Decider {
    Leader(u64),
    /// A gateway that settles what nobody has answered for.
    Gateway(OpId),
    /// A leader on behalf of a participant that asks.
    Participant(GroupId, Prepared),
}

/// Who hears what a log answered.
#[derive(Debug, Clone)]
pub enum Waiter {
    Nobody,
    Op(OpId),
    Stage {
        term: u64,
        attempt: AttemptId,
    },
    Inquiry {
        term: u64,
        attempt: AttemptId,
        shard: GroupId,
    },
    Vote {
        term: u64,
        attempt: AttemptId,
        shard: GroupId,
    },
    Told {
        term: u64,
        shard: GroupId,
        finish: Finish,
    },
    Decide {
        by: Decider,
        txn: TxnId,
        /// It says that all participants have acknowledged the commit.
        told: bool,
    },
    Retire {
        term: u64,
        txn: TxnId,
    },
}

impl Message {
    /// Whether the network may double it by itself. What a gateway asks is doubled only by asking again.
    pub fn may_double(&self) -> bool {
        !matches!(self, Message::Begin { .. } | Message::Run { .. })
    }
}
