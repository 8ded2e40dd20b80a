//! One operation of a gateway: where it stands, what it has read, what it asks for, what it was told.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::base::{GroupId, Millis, Reply, RequestId};
use quorate::machine::keyspace::{Blob, Value};
use quorate::machine::{Command, Condition, scope_of};
use quorate::txn::{Optimistic, Part, Plan};

use super::keys::Keys;
use super::model::Expect;
use super::workload::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Reading,
    /// Snapshot read only: what was read is looked at again.
    Checking,
    /// `Begin` is out.
    Asking,
    /// `Decide(Abort)` is out.
    Settling,
    /// A single shard's `Run` is out.
    Running,
    Over(Outcome),
    /// The gateway has died or given up: nobody will hear the outcome.
    Left,
}

/// What a read has found, and what the model said of it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub value: Option<Bytes>,
    pub expires: Option<Millis>,
    pub version: u64,
    /// What says that nothing has changed since.
    pub touched: Condition,
    /// The model's; 0 for an absent key.
    pub generation: u64,
}

/// A moment of a history: all that happens at a gateway has its own.
pub type Moment = u64;

#[derive(Debug, Clone)]
pub struct Op {
    pub kind: Kind,
    pub gateway: usize,
    pub state: State,
    /// Set at launch, with `below`, `group`, `started`, `deadline`.
    pub id: Option<RequestId>,
    pub below: u64,
    pub group: GroupId,
    pub started: Millis,
    pub deadline: Millis,
    /// Tries so far; only the answer to the last one counts.
    pub asks: u32,
    /// What is read before anything is asked for.
    pub to_read: Vec<Bytes>,
    pub seen: BTreeMap<Bytes, Look>,
    /// Whether it goes on only if nothing that was read has changed: WATCH.
    pub watches: bool,
    /// Whether an error of any command undoes all of them.
    pub strict: bool,
    /// As a client has them; `plan` says how they spread over shards.
    pub commands: Vec<Command>,
    pub plan: Plan,
    pub parts: Vec<Part>,
    /// Times that it may be started anew, under a new number, when nothing has happened.
    pub retries: u32,
    /// The log has executed it: what it must be answered.
    pub expected: Option<Vec<Expect>>,
    pub told: Option<Vec<Reply>>,
    /// Log index and moment at which the read under way had begun.
    pub look_begun: Option<(u64, Moment)>,
    /// Of what it asks for, not of what it reads first.
    pub invoked: Moment,
    pub returned: Moment,
}

impl Op {
    pub fn new(kind: Kind, gateway: usize) -> Op {
        Op {
            kind,
            gateway,
            state: State::Reading,
            id: None,
            below: 0,
            group: GroupId::Shard(0),
            started: 0,
            deadline: 0,
            asks: 0,
            to_read: Vec::new(),
            seen: BTreeMap::new(),
            watches: false,
            strict: false,
            commands: Vec::new(),
            plan: Plan::default(),
            parts: Vec::new(),
            retries: 0,
            expected: None,
            told: None,
            look_begun: None,
            invoked: 0,
            returned: 0,
        }
    }

    pub fn happened(&self) -> bool {
        self.expected.is_some()
    }

    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Over(_) | State::Left)
    }

    /// All has been read and the commands are known: spreads them over shards.
    pub fn spread(&mut self, keys: &Keys, now: Millis, seed: u64) {
        let touched = |look: (&Bytes, &Look)| Condition::Key {
            key: look.0.clone(),
            version: look.1.version,
        };
        let touched: Vec<Condition> = self.seen.iter().map(touched).collect();
        let (commands, conditions) = if self.kind.is_optimistic() {
            let run = self.run_at_gateway(now, seed);
            (run.commands, Optimistic::conditions(&[], touched))
        } else {
            let conditions = if self.watches { touched } else { Vec::new() };
            (self.commands.clone(), conditions)
        };
        let plan = Plan::new(&commands, &conditions, keys.shards(), &|key| keys.shard_of(key));
        self.plan = plan.expect("commands that can be taken apart");
        let part = |(&shard, work): (&u16, &quorate::txn::Work)| Part {
            shard: GroupId::Shard(shard),
            scope: scope_of(&work.commands, &work.conditions),
            conditions: work.conditions.clone(),
            commands: work.commands.clone(),
        };
        self.parts = self.plan.work.iter().map(part).collect();
    }

    /// As `src/cluster/execute.rs` runs what needs several shards' data.
    fn run_at_gateway(&self, now: Millis, seed: u64) -> Optimistic {
        let keys: Vec<Bytes> = self.seen.keys().cloned().collect();
        let held = |look: &Look| {
            let value = look.value.as_ref()?;
            Some((Value::Str(Blob::from(&value[..])), look.expires))
        };
        Optimistic::run(
            (&self.commands, self.strict),
            false,
            &keys,
            self.seen.values().map(held).collect(),
            now,
            seed,
            quorate::machine::Command::run,
        )
    }

    /// One reply a command, from what the shards have replied.
    pub fn merge(&self, replies: &BTreeMap<u16, Vec<Reply>>) -> Vec<Reply> {
        let merged = self.plan.merge(replies);
        if self.kind.is_optimistic() {
            Optimistic::replies(merged)
        } else {
            merged
        }
    }
}
