//! What stands in a log entry, and what applying it answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::object::{EXPIRY_COST, KEY_COST};
use super::{Command, Failed, FunctionChange, Scope, Touches};
use crate::base::{AttemptId, GroupId, Millis, NodeId, Reply, RequestId, TxnId};

/// Names a request by where it stands: log index, and place in the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket {
    pub index: u64,
    pub at: u32,
}

/// Who proposed a batch, so that its replica there finds the waiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    pub node: NodeId,
    pub nonce: u64,
}

/// One log entry: requests that arrived together, with the leader's time and randomness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    pub origin: Origin,
    pub time: Millis,
    pub seed: u64,
    pub requests: Vec<Request>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Set where the request may be sent again: it is executed at most once.
    pub id: Option<RequestId>,
    /// All requests of the session with smaller numbers are finished.
    pub below: u64,
    /// Time after which a request that waits for a lock is refused instead.
    pub deadline: Millis,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// Shard: if all conditions hold, run the commands in order, as one.
    Run {
        commands: Vec<Command>,
        conditions: Vec<Condition>,
        mode: Mode,
    },
    /// Shard: first phase of a transaction over several shards.
    Prepare(Box<Prepare>),
    /// Shard: second phase.
    Finish(Finish),
    /// Shard: remove keys that have expired by the entry's time. Any group: let time pass.
    Sweep,
    /// Shard: has this attempt prepared? If not: refuse it from now on.
    Inquire { attempt: AttemptId, deadline: Millis },
    /// Coordinator: note that an attempt commits as soon as all its participants have prepared it.
    Stage(Box<Stage>),
    /// Coordinator: record a decision unless there is one.
    Decide(Box<Decide>),
    /// Coordinator: all participants have acknowledged.
    Retire(TxnId),
    /// Shard: the coordinator's log has decided these committed attempts, so nobody will inquire about them any more.
    Forget(Vec<AttemptId>),
    /// Any group: what became of the request or transaction with this id? If nothing has: refuse it from now on. It is
    /// answered `Refused(Finished)` where nobody knows any more.
    Withdraw,
    /// Any group: changes nothing; every replica notes the digest of its state behind this entry.
    Digest,
    /// Shard: remove these keys, which memory is wanted for, where they are still at these versions and not locked.
    Evict(Vec<(Bytes, u64)>),
    /// Shard: memory is full; what stands behind this in the entry and would need more is refused.
    Full,
    /// First shard: change the libraries of functions.
    Functions(Box<FunctionChange>),
}

/// What the commands of a `Run` have to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Nothing: they came one behind the other.
    Each,
    /// All are executed, or none if one fails.
    Strict,
    /// They are one transaction: an error is a reply like any other, but none is left out for want of memory.
    Together,
}

/// What must still be so for a transaction to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    Key {
        key: Bytes,
        version: u64,
    },
    /// The key is absent and was not there in between either: a version says nothing of that.
    Absent {
        key: Bytes,
        /// Of an object that has expired and was not removed yet; 0: there is none.
        expired: u64,
        /// Log index of the last removal in its slot.
        removed: u64,
    },
    /// Nothing in the shard was written since.
    Whole {
        version: u64,
    },
}

impl Condition {
    /// Bytes, roughly, for bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        32 + self.key().map_or(0, Bytes::len)
    }

    /// The key it is about, if it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Condition::Key { key, .. } | Condition::Absent { key, .. } => Some(key),
            Condition::Whole { .. } => None,
        }
    }

    /// For a commit, at which all conditions are looked at under locks: what is absent then may have come and gone.
    #[must_use]
    pub fn for_commit(self) -> Condition {
        match self {
            Condition::Absent { key, .. } => Condition::Key { key, version: 0 },
            other => other,
        }
    }
}

/// When a transaction first started: the smaller, the older. Kept across attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Age(pub Millis, pub TxnId);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    pub attempt: AttemptId,
    pub age: Age,
    pub coordinator: GroupId,
    /// In replicated time, at the participant and at the coordinator: no vote and no commit after it.
    pub deadline: Millis,
    /// Everything that commands and conditions touch.
    pub scope: Scope,
    pub conditions: Vec<Condition>,
    pub commands: Vec<Command>,
    /// Refused if one of the commands fails.
    pub strict: bool,
}

/// A prepared, undecided transaction, as recovery sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    pub attempt: AttemptId,
    pub coordinator: GroupId,
    pub deadline: Millis,
    pub since: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    pub attempt: AttemptId,
    pub commit: bool,
    /// The attempt's, to know how long to remember it.
    pub deadline: Millis,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decide {
    pub txn: TxnId,
    pub deadline: Millis,
    pub decision: Decision,
    /// For an abort: a participant has refused this attempt for good, and with it all earlier ones of its term.
    pub refused: Option<AttemptId>,
    /// For a commit: all participants have acknowledged it already.
    pub told: bool,
}

/// An attempt that is committed as soon as all of its participants have prepared it, even if nobody knows (parallel
/// commit). Nobody may abort it who has not heard a participant refuse it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Staged {
    pub attempt: AttemptId,
    pub participants: Vec<GroupId>,
    pub deadline: Millis,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub staged: Staged,
    /// As for [`Decide`]: what may be staged instead of.
    pub refused: Option<AttemptId>,
}

/// A transaction's fate. The first one recorded is final.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Decision {
    Commit {
        attempt: AttemptId,
        participants: Vec<(GroupId, Vec<Reply>)>,
        deadline: Millis,
    },
    Abort,
}

impl Decision {
    /// Bytes of the replies that it remembers, roughly.
    fn weight(&self) -> usize {
        match self {
            Decision::Commit { participants, .. } => {
                let replies = participants.iter().flat_map(|(_, replies)| replies);
                replies.map(Reply::weight).sum()
            }
            Decision::Abort => 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Vote {
    Yes(Vec<Reply>),
    No(No),
}

/// Why a participant cannot commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum No {
    /// A condition does not hold: trying again would not help.
    Condition,
    /// An older transaction holds a lock: the same transaction may try again.
    Locked,
    /// Past the deadline, or this attempt was refused or finished before.
    Late,
    /// Too many transactions are prepared or parked.
    Full,
    /// A command of a strict transaction failed: trying again would not help.
    Failed(Failed),
}

/// Why a request was not executed. Nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// It waited for a lock until its deadline.
    Deadline,
    /// A bound of the shard was reached.
    Full,
    /// Its session has declared it finished: a stray duplicate.
    Finished,
    /// The request is not for this kind of group.
    Misdirected,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Response {
    Replies(Vec<Reply>),
    /// A condition of `Run` did not hold.
    Conflict,
    /// A command of a strict `Run` failed: nothing happened.
    Failed(Failed),
    Vote(Vote),
    Done,
    Decision(Decision),
    /// Coordinator: nothing is decided, and this is staged.
    Staged(Staged),
    Refused(Refusal),
}

fn growth(command: &Command) -> u64 {
    let keys = match command.touches() {
        Touches::Keys(keys) => keys
            .into_iter()
            .map(|key| key.len() as u64 + KEY_COST + EXPIRY_COST)
            .sum(),
        Touches::Everything | Touches::Shard(_) => 0,
    };
    command.weight() as u64 + keys
}

impl Request {
    /// A request that carries its own identity in its body.
    #[must_use]
    pub fn anonymous(body: Body) -> Request {
        Request {
            id: None,
            below: 0,
            deadline: Millis::MAX,
            body,
        }
    }

    /// Has it hold no part of the bytes that it was decoded from, so that it may stay when those go.
    pub fn detach(&mut self) {
        let commands = match &mut self.body {
            Body::Run { commands, .. } => commands,
            Body::Prepare(prepare) => &mut prepare.commands,
            _ => return,
        };
        commands.iter_mut().for_each(Command::detach);
    }

    /// Whether it may be applied as it was proposed, without being decoded from its entry: nothing of what it holds stays in the
    /// state. (Of most commands something does, and would hold the whole buffer that it came in from its client.)
    #[must_use]
    pub fn leaves_nothing(&self) -> bool {
        let copied = |command: &Command| matches!(command, Command::Set(_));
        matches!(&self.body, Body::Run { commands, conditions, .. }
            if conditions.is_empty() && commands.iter().all(copied))
    }

    /// Whether nobody waits for it but who waits for the locks that it frees.
    #[must_use]
    pub fn can_wait(&self) -> bool {
        match &self.body {
            Body::Finish(_) | Body::Retire(_) | Body::Forget(_) => true,
            Body::Decide(decide) => decide.told,
            _ => false,
        }
    }

    /// Whether it may take more memory for keys and values.
    #[must_use]
    pub fn grows(&self) -> bool {
        match &self.body {
            Body::Run { commands, .. } => commands.iter().any(Command::grows),
            Body::Prepare(prepare) => prepare.commands.iter().any(Command::grows),
            _ => false,
        }
    }

    /// Bytes that keys and values may take more because of it; rather too much than too little, except where a command makes
    /// something large of what is there (`SETRANGE`, `*STORE`).
    #[must_use]
    pub fn growth(&self) -> u64 {
        let commands = match &self.body {
            Body::Run { commands, .. } => commands,
            Body::Prepare(prepare) => &prepare.commands,
            _ => return 0,
        };
        commands
            .iter()
            .filter(|command| command.grows())
            .map(growth)
            .sum()
    }

    /// Bytes, roughly, for bounding batches.
    #[must_use]
    pub fn weight(&self) -> usize {
        let commands = |commands: &[Command]| commands.iter().map(Command::weight).sum::<usize>();
        let holding = |conditions: &[Condition]| conditions.iter().map(Condition::weight).sum::<usize>();
        64 + match &self.body {
            Body::Run {
                commands: list,
                conditions,
                ..
            } => commands(list) + holding(conditions),
            Body::Prepare(prepare) => 2 * (commands(&prepare.commands) + holding(&prepare.conditions)),
            Body::Decide(decide) => 256 + decide.decision.weight(),
            Body::Stage(_) => 256,
            Body::Forget(attempts) => attempts.len() * 32,
            Body::Evict(keys) => keys.iter().map(|(key, _)| key.len() + 16).sum(),
            Body::Functions(change) => change.weight(),
            Body::Digest
            | Body::Finish(_)
            | Body::Sweep
            | Body::Retire(_)
            | Body::Withdraw
            | Body::Full
            | Body::Inquire { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec;
    use crate::machine::commands;

    #[test]
    fn only_strings_that_are_copied_leave_nothing_of_a_request() {
        let parse = |words: &[&'static str]| {
            let args: Vec<Bytes> = words[1..].iter().map(|&word| word.into()).collect();
            let spec = commands::find(words[0].as_bytes()).expect("a command");
            commands::parse(spec, &args).expect("it can be parsed")
        };
        let run = |commands, conditions| {
            Request::anonymous(Body::Run {
                commands,
                conditions,
                mode: Mode::Each,
            })
        };
        let set = || parse(&["set", "a", "b", "ex", "5"]);
        assert!(run(vec![set(), parse(&["setnx", "a", "b"])], Vec::new()).leaves_nothing());
        let push = parse(&["rpush", "a", "b"]);
        assert!(!run(vec![set(), push], Vec::new()).leaves_nothing());
        let whole = Condition::Whole { version: 1 };
        assert!(!run(vec![set()], vec![whole]).leaves_nothing());
        assert!(!Request::anonymous(Body::Sweep).leaves_nothing());
    }

    #[test]
    fn logs_of_when_strictness_was_a_truth_value_mean_what_they_did() {
        let bytes = |mode: Mode| codec::encode(&mode).expect("it can be encoded");
        assert_eq!(
            bytes(Mode::Each),
            codec::encode(&false).expect("it can be encoded")
        );
        assert_eq!(
            bytes(Mode::Strict),
            codec::encode(&true).expect("it can be encoded")
        );
    }
}
