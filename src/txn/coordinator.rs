//! One coordinator leader's transactions, in memory. What must survive it is in the coordinator group's log.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::admission::{Admission, Lane};
use super::now::Now;
use super::resolving::Resolving;
use super::telling::{Telling, remembered};
use crate::base::{AttemptId, GroupId, Millis, Mutant, Reply, TxnId, mutant};
use crate::machine::{
    Age, Command, Condition, Decide, Decision, Failed, Finish, No, Prepare, Scope, Stage, Staged, Vote,
};

/// How long an attempt that died on a lock waits before the next, doubling up to [`RETRY_MAX_MS`].
const RETRY_MIN_MS: u64 = 2;
const RETRY_MAX_MS: u64 = 64;

/// A transaction as the gateway hands it over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Txn {
    pub id: TxnId,
    /// The session's watermark at the coordinator group.
    pub below: u64,
    /// Start; kept across attempts.
    pub started: Millis,
    /// No commit after it, in replicated time.
    pub deadline: Millis,
    pub parts: Vec<Part>,
    /// Not at all if one of the commands fails.
    pub strict: bool,
}

/// One participant's share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub shard: GroupId,
    pub scope: Scope,
    pub conditions: Vec<Condition>,
    pub commands: Vec<Command>,
}

/// What the gateway is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Committed(Vec<(GroupId, Vec<Reply>)>),
    /// A condition did not hold.
    Conflict,
    /// It is strict, and a command failed at this participant.
    Failed(GroupId, Failed),
    /// Nothing happened, for another reason.
    Aborted(String),
}

/// What the driver has to do. All sends are repeated by it until they are answered or pointless.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Stage {
        stage: Box<Stage>,
        below: u64,
    },
    Prepare {
        shard: GroupId,
        prepare: Box<Prepare>,
    },
    Inquire {
        shard: GroupId,
        attempt: AttemptId,
        deadline: Millis,
    },
    Decide {
        decide: Box<Decide>,
        below: u64,
    },
    Finish {
        shard: GroupId,
        finish: Finish,
    },
    Answer {
        txn: TxnId,
        answer: Answer,
    },
    Retire {
        txn: TxnId,
    },
}

/// A participant's question about an attempt it has prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// Being worked on: ask again later.
    Pending,
    /// That attempt is over, and this transaction goes on under another.
    Abort,
    /// Not known here: the log decides.
    Unknown,
}

#[derive(Debug)]
pub(super) enum Phase {
    Queued,
    Preparing {
        votes: BTreeMap<GroupId, Vec<Reply>>,
        /// The log has the attempt: with the last vote it is committed.
        staged: bool,
    },
    /// After an attempt died; the next starts at this steady time, or about that replicated one.
    Waiting {
        until: Millis,
        about: Millis,
    },
    Deciding,
}

#[derive(Debug)]
pub(super) struct Active {
    pub(super) txn: Txn,
    pub(super) lanes: BTreeSet<Lane>,
    /// Steady time at which its deadline has passed for this leader, whatever became of replicated time.
    pub(super) ends: Millis,
    /// Number of its first attempt since it was begun here; 0 before that.
    pub(super) first: u32,
    pub(super) number: u32,
    pub(super) tries: u32,
    /// The last attempt that a participant has refused for good.
    pub(super) refused: Option<AttemptId>,
    pub(super) phase: Phase,
}

/// The transactions of one coordinator leader in one term.
#[derive(Debug)]
pub struct Coordinator {
    pub(super) group: GroupId,
    pub(super) term: u64,
    pub(super) active: BTreeMap<TxnId, Active>,
    pub(super) admission: Admission,
    pub(super) resolving: Resolving,
    /// Committed, and not told to all or not recorded yet.
    pub(super) telling: BTreeMap<TxnId, Telling>,
    /// Steady time at which commits that are not recorded yet will be.
    pub(super) recording: Millis,
    /// Attempts of this term so far. Never per transaction: one that is asked for again after it was aborted must not
    /// come under the number of an attempt whose abort is still on its way.
    pub(super) attempts: u32,
}

impl Coordinator {
    #[must_use]
    pub fn new(group: GroupId, term: u64) -> Coordinator {
        Coordinator {
            group,
            term,
            active: BTreeMap::new(),
            admission: Admission::default(),
            resolving: Resolving::default(),
            telling: BTreeMap::new(),
            recording: 0,
            attempts: 0,
        }
    }

    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Transactions queued or running.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.len()
    }

    #[must_use]
    pub fn is_active(&self, txn: TxnId) -> bool {
        self.active.contains_key(&txn) || self.resolving.contains(txn)
    }

    /// A gateway asks for a transaction. One that is active already just goes on.
    pub fn begin(&mut self, txn: Txn, now: impl Into<Now>) -> Vec<Effect> {
        let now = now.into();
        if self.is_active(txn.id) {
            return Vec::new();
        }
        let id = txn.id;
        let lanes = lanes(&txn.parts);
        if mutant::is(Mutant::AttemptNamesReused) {
            self.attempts = 0;
        }
        let active = Active {
            ends: now.steady + txn.deadline.saturating_sub(now.replicated),
            txn,
            lanes: lanes.clone().unwrap_or_default(),
            first: 0,
            number: 0,
            tries: 0,
            refused: None,
            phase: Phase::Queued,
        };
        self.active.insert(id, active);
        let started = self.admission.enter(id, lanes);
        self.start_all(&started, now)
    }

    pub(super) fn start_all(&mut self, started: &[TxnId], now: Now) -> Vec<Effect> {
        started.iter().flat_map(|&txn| self.start(txn, now)).collect()
    }

    fn start(&mut self, id: TxnId, now: Now) -> Vec<Effect> {
        let (group, term) = (self.group, self.term);
        let Some(active) = self.active.get_mut(&id) else {
            return Vec::new();
        };
        if active.is_late(now) {
            return self.give_up(id, "the deadline passed before the transaction could start", now);
        }
        self.attempts += 1;
        active.number = self.attempts;
        if active.first == 0 {
            active.first = active.number;
        }
        active.tries += 1;
        active.phase = Phase::Preparing {
            votes: BTreeMap::new(),
            staged: mutant::is(Mutant::CommitWithoutRecord),
        };
        let attempt = AttemptId {
            txn: id,
            term,
            number: active.number,
        };
        let stage = Box::new(Stage {
            staged: active.staged_as(attempt),
            refused: active.refused,
        });
        let below = active.txn.below;
        let prepare = |part: &Part| Effect::Prepare {
            shard: part.shard,
            prepare: Box::new(Prepare {
                attempt,
                age: Age(active.txn.started, id),
                coordinator: group,
                deadline: active.txn.deadline,
                scope: part.scope.clone(),
                conditions: part.conditions.clone(),
                commands: part.commands.clone(),
                strict: active.txn.strict,
            }),
        };
        let prepares = active.txn.parts.iter().map(prepare);
        let stage = Some(Effect::Stage { stage, below });
        prepares
            .chain(stage.filter(|_| !mutant::is(Mutant::CommitWithoutRecord)))
            .collect()
    }

    /// The log's answer to what was staged: that, or what stands in its way.
    pub fn staged(&mut self, attempt: AttemptId, staged: &Staged, now: impl Into<Now>) -> Vec<Effect> {
        let Some(active) = self.current(attempt) else {
            return Vec::new();
        };
        let Phase::Preparing { staged: done, .. } = &mut active.phase else {
            return Vec::new();
        };
        if staged.attempt == attempt {
            *done = true;
            return self.commit_if_all_agree(attempt, now.into());
        }
        active.phase = Phase::Deciding;
        let mut effects = self.abort_attempt(attempt);
        effects.extend(self.resolving.begin(staged.clone(), BTreeMap::new()));
        effects
    }

    /// The log would not decide, since this is staged.
    pub fn undecided(&mut self, staged: &Staged) -> Vec<Effect> {
        self.resolving.begin(staged.clone(), BTreeMap::new())
    }

    /// A participant's answer to an inquiry.
    pub fn inquired(&mut self, attempt: AttemptId, shard: GroupId, vote: Vote) -> Vec<Effect> {
        self.resolving.hear(attempt, shard, vote).into_iter().collect()
    }

    /// The transaction whose attempt under way this is.
    fn current(&mut self, attempt: AttemptId) -> Option<&mut Active> {
        let term = self.term;
        let active = self.active.get_mut(&attempt.txn)?;
        let is_current = attempt.number == active.number || mutant::is(Mutant::StaleVotesCount);
        (attempt.term == term && is_current).then_some(active)
    }

    /// A participant's vote. Votes of other attempts, and second ones, change nothing.
    pub fn vote(
        &mut self,
        attempt: AttemptId,
        shard: GroupId,
        vote: Vote,
        now: impl Into<Now>,
    ) -> Vec<Effect> {
        let now = now.into();
        let Some(active) = self.current(attempt) else {
            return Vec::new();
        };
        let Phase::Preparing { votes, .. } = &mut active.phase else {
            return Vec::new();
        };
        match vote {
            Vote::Yes(replies) => {
                votes.insert(shard, replies);
                self.commit_if_all_agree(attempt, now)
            }
            Vote::No(No::Locked) if !active.is_late(now) => {
                let delay = (RETRY_MIN_MS << active.tries.min(10)).min(RETRY_MAX_MS);
                active.phase = Phase::Waiting {
                    until: now.steady + delay,
                    about: now.replicated + delay,
                };
                active.refused = Some(attempt);
                self.abort_attempt(attempt)
            }
            Vote::No(No::Late) if !mutant::is(Mutant::LateTakenForRefusal) => {
                // It may have been committed there: by a later leader, which found it staged. Only the log knows.
                active.phase = Phase::Deciding;
                let decide = Box::new(Decide {
                    txn: attempt.txn,
                    deadline: active.txn.deadline,
                    decision: Decision::Abort,
                    refused: Some(attempt),
                    told: false,
                });
                let below = active.txn.below;
                vec![Effect::Decide { decide, below }]
            }
            Vote::No(why) => {
                active.refused = Some(attempt);
                let mut effects = self.abort_attempt(attempt);
                effects.extend(match why {
                    No::Condition => self.leave_aborted(attempt.txn, Answer::Conflict, now),
                    No::Failed(failed) => self.leave_aborted(attempt.txn, Answer::Failed(shard, failed), now),
                    No::Locked | No::Late => {
                        self.give_up(attempt.txn, "its keys stayed locked too long", now)
                    }
                    No::Full => self.give_up(attempt.txn, "a shard has too many transactions under way", now),
                });
                effects
            }
        }
    }

    /// Staged, and prepared by all: that is the commit. The participants are told beside the answer, and the record of it
    /// is made behind both.
    fn commit_if_all_agree(&mut self, attempt: AttemptId, now: Now) -> Vec<Effect> {
        let Some(active) = self.active.get_mut(&attempt.txn) else {
            return Vec::new();
        };
        let Phase::Preparing { votes, staged } = &mut active.phase else {
            return Vec::new();
        };
        let all = votes.len() == active.txn.parts.len() || mutant::is(Mutant::FirstYesDecides);
        if votes.is_empty() || !all || !*staged && !mutant::is(Mutant::AnswerBeforeRecord) {
            return Vec::new();
        }
        let participants = remembered(std::mem::take(votes));
        let (deadline, below) = (active.txn.deadline, active.txn.below);
        let telling = Telling::unrecorded(attempt, participants.clone(), deadline, below);
        let mut effects = self.tell(attempt.txn, telling, now);
        effects.extend(self.leave(attempt.txn, Answer::Committed(participants), now));
        effects
    }

    /// A participant could not be reached in time. Whether it has prepared is not known, so it has to be asked: by now the
    /// attempt may be committed.
    pub fn unreachable(&mut self, attempt: AttemptId) -> Vec<Effect> {
        let Some(active) = self.current(attempt) else {
            return Vec::new();
        };
        let Phase::Preparing { votes, .. } = &mut active.phase else {
            return Vec::new();
        };
        let votes = std::mem::take(votes);
        active.phase = Phase::Deciding;
        let staged = active.staged_as(attempt);
        self.resolving.begin(staged, votes)
    }

    /// Time passes: attempts that died start again, those past their deadline end or are asked about, and commits are recorded.
    pub fn tick(&mut self, now: impl Into<Now>) -> Vec<Effect> {
        let now = now.into();
        let due: Vec<TxnId> = self
            .active
            .iter()
            .filter(|(_, active)| match active.phase {
                Phase::Waiting { until, .. } => now.steady >= until,
                Phase::Queued => active.is_late(now),
                // With all votes it is the log's word that is missing: that one is repeated until it comes.
                Phase::Preparing { ref votes, .. } => {
                    votes.len() < active.txn.parts.len() && active.is_late(now)
                }
                Phase::Deciding => false,
            })
            .map(|(&txn, _)| txn)
            .collect();
        let mut effects: Vec<Effect> = due.iter().flat_map(|&txn| self.go_on(txn, now)).collect();
        effects.extend(self.record_when_due(now));
        effects
    }

    fn go_on(&mut self, id: TxnId, now: Now) -> Vec<Effect> {
        match self.active.get(&id) {
            // A participant that leads, but reaches nobody, says nothing.
            Some(active) if matches!(active.phase, Phase::Preparing { .. }) => {
                let (term, number) = (self.term, active.number);
                self.unreachable(AttemptId {
                    txn: id,
                    term,
                    number,
                })
            }
            _ => self.start(id, now),
        }
    }

    /// What this leader can say about an attempt without its log.
    #[must_use]
    pub fn query(&self, attempt: AttemptId) -> Query {
        match self.active.get(&attempt.txn) {
            _ if self.resolving.contains(attempt.txn) => Query::Pending,
            // Another leader's attempt, or one of an earlier begin here: its commit may be in the log, or still on the
            // way to it, so only the log can rule it out.
            Some(active)
                if attempt.term != self.term || attempt.number < active.first || active.first == 0 =>
            {
                Query::Unknown
            }
            // This begin has aborted it itself.
            Some(active) if attempt.number < active.number => Query::Abort,
            Some(active) if matches!(active.phase, Phase::Waiting { .. }) => Query::Abort,
            Some(_) => Query::Pending,
            None if self.telling.contains_key(&attempt.txn) => Query::Pending,
            None if mutant::is(Mutant::RecoveryAbortsUnlogged) => Query::Abort,
            None => Query::Unknown,
        }
    }
}

/// The keys that a transaction shares with others; `None` if it touches a whole shard.
fn lanes(parts: &[Part]) -> Option<BTreeSet<Lane>> {
    let mut lanes = BTreeSet::new();
    for part in parts {
        match &part.scope {
            Scope::Keys(keys) => lanes.extend(keys.iter().map(|key| (part.shard, key.clone()))),
            Scope::All => return None,
        }
    }
    Some(lanes)
}

impl Active {
    fn is_late(&self, now: Now) -> bool {
        now.replicated > self.txn.deadline || now.steady > self.ends
    }

    fn staged_as(&self, attempt: AttemptId) -> Staged {
        Staged {
            attempt,
            participants: self.txn.parts.iter().map(|part| part.shard).collect(),
            deadline: self.txn.deadline,
        }
    }
}
