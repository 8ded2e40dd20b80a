//! What the gateway asks of a node: run these commands, as one, wherever their keys live.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::failing;
use super::message::{Ask, Told};
use super::node::Node;
use super::numbering::Numbered;
use super::reads::Wanted;
use super::router::RouteError;
use super::tracking;
use super::wish::{Outcome, Wish};
use crate::base::{Error, GroupId, Millis, Mutant, Reply, RequestId, Result, mutant};
use crate::machine::{
    Body, Command, Condition, Decide, Decision, Failed, Mode, Refusal, Request, Response, scope_of,
};
use crate::txn::{Answer, Optimistic, Part, Plan, Txn, Work};

/// Times a read over several shards is tried without locks.
const SNAPSHOT_TRIES: usize = 3;
/// Times a transaction that was aborted for no fault of its own is started anew.
const ABORT_TRIES: usize = 3;
/// Between two looks at a transaction that is staged.
const STAGED_PAUSE: Duration = Duration::from_millis(2);
/// Between two tries to have an unknown outcome decided.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// How long an unknown outcome stays askable by its id.
const UNKNOWN_KEPT: Duration = Duration::from_secs(60);

/// How a plan's work went.
enum Ran {
    Replies(BTreeMap<u16, Vec<Reply>>),
    Conflict,
    Failed(u16, Failed),
}

/// How one shard's entry went.
enum Wrote {
    Replies(Vec<Reply>),
    Conflict,
    Failed(Failed),
}

/// Who asks under which number, and until when.
#[derive(Clone, Copy)]
struct Asked {
    id: Option<(RequestId, u64)>,
    mode: Mode,
    deadline: Instant,
}

/// The number a write goes under: the gateway's, or the client's own.
pub(super) enum Number {
    Ours(Numbered),
    Clients(RequestId, u64),
}

impl Number {
    pub(super) fn id(&self) -> RequestId {
        match self {
            Number::Ours(numbered) => numbered.id,
            Number::Clients(id, _) => *id,
        }
    }

    pub(super) fn below(&self) -> u64 {
        match self {
            Number::Ours(numbered) => numbered.below,
            Number::Clients(_, below) => *below,
        }
    }
}

impl Node {
    /// Runs a wish: on one shard through its log or its memory, on several by a snapshot read or two-phase commit.
    ///
    /// # Errors
    /// [`Error`]; all but `Unknown` prove that nothing happened.
    pub async fn execute(&self, wish: Wish) -> Result<Outcome> {
        let deadline = self.deadline_for(&wish.commands);
        let Some(mut plan) = self.plan(&wish.commands, &wish.conditions) else {
            return self.execute_optimistic(wish, deadline).await;
        };
        let asked = Asked {
            id: wish.id,
            mode: if wish.is_all_or_nothing() {
                Mode::Strict
            } else {
                Mode::Together
            },
            deadline,
        };
        let read_only = wish.commands.iter().all(|command| !command.is_write()) && !settles_number(&wish);
        if !read_only {
            Work::check_size(plan.work.values())?;
        }
        let shards = plan.work.len();
        let ran = match shards {
            0 => Ran::Replies(BTreeMap::new()),
            1 if read_only => match self.read_each(&plan.work, Wanted::REPLIES, deadline).await? {
                Some((replies, _)) => Ran::Replies(replies),
                None => Ran::Conflict,
            },
            1 => self.write_only(std::mem::take(&mut plan.work), asked).await?,
            _ => {
                let read = if read_only {
                    self.read_snapshot(&plan, deadline).await?
                } else {
                    None
                };
                match read {
                    Some(ran) => ran,
                    None => self.transact(&plan.work, asked).await?,
                }
            }
        };
        Ok(match ran {
            Ran::Conflict => Outcome::Conflict,
            Ran::Failed(_, failed) if !wish.strict && shards < 2 => Outcome::Replies(vec![failed.reply]),
            Ran::Failed(_, failed) if !wish.strict => {
                Outcome::Replies(vec![self.first_failure(&wish, failed.reply).await?])
            }
            Ran::Failed(shard, failed) => {
                let at = plan.command_at(shard, failed.at as usize);
                Outcome::Failed(at.unwrap_or_default(), failed.reply)
            }
            Ran::Replies(replies) => {
                let replies = plan.merge(&replies);
                match Optimistic::failed(&replies).filter(|_| read_only && wish.strict) {
                    Some((at, reply)) => Outcome::Failed(at, reply),
                    None => Outcome::Replies(replies),
                }
            }
        })
    }

    /// Runs commands, of which each touches this one shard and nothing else, in order: what most clients ask for, so it goes
    /// without a plan.
    ///
    /// # Errors
    /// As for [`Node::execute`].
    pub async fn execute_on(&self, shard: u16, commands: Vec<Command>) -> Result<Vec<Reply>> {
        let deadline = self.deadline_for(&commands);
        let (count, read_only) = (commands.len(), commands.iter().all(|command| !command.is_write()));
        let work = Work {
            commands,
            conditions: Vec::new(),
        };
        let replies = if read_only {
            let read = self.read_one(shard, work, Wanted::REPLIES, deadline).await?;
            read.map(|(replies, _)| replies)
        } else {
            let asked = Asked {
                id: None,
                mode: Mode::Each,
                deadline,
            };
            match self.write_one(shard, work, asked).await? {
                Wrote::Replies(replies) => Some(replies),
                Wrote::Conflict | Wrote::Failed(_) => None,
            }
        };
        // A client that is answered too little would wait for ever.
        let answered = replies.filter(|replies| replies.len() == count);
        let text = || format!("shard {shard} did not answer each of {count} commands");
        answered.ok_or_else(|| Error::Stopped(text()))
    }

    pub(super) fn plan(&self, commands: &[Command], conditions: &[Condition]) -> Option<Plan> {
        let ring = self.ring();
        Plan::new(commands, conditions, ring.shards(), &|key| ring.shard_of(key))
    }

    /// The versions of keys, as conditions for a later wish.
    ///
    /// # Errors
    /// No leader in time.
    pub async fn versions(&self, keys: &[Bytes]) -> Result<Vec<Condition>> {
        let deadline = Instant::now() + self.request_timeout();
        let exists = [Command::Exists { keys: keys.to_vec() }];
        let Some(plan) = self.plan(&exists, &[]) else {
            return Ok(Vec::new());
        };
        let seen = self.read_each(&plan.work, Wanted::VERSIONS, deadline).await?;
        Ok(seen
            .map(|(_, touched)| {
                let touched = touched.into_values().flatten();
                touched.map(Condition::for_commit).collect()
            })
            .unwrap_or_default())
    }

    /// Reads several shards at one moment: after all were read, none of what was read may have changed. `None`: it
    /// kept changing, so locks are needed.
    async fn read_snapshot(&self, plan: &Plan, deadline: Instant) -> Result<Option<Ran>> {
        for _ in 0..SNAPSHOT_TRIES {
            let wanted = Wanted {
                versions: true,
                ..Wanted::REPLIES
            };
            let Some((replies, touched)) = self.read_each(&plan.work, wanted, deadline).await? else {
                return Ok(Some(Ran::Conflict));
            };
            let check = |(shard, conditions)| {
                (
                    shard,
                    Work {
                        commands: Vec::new(),
                        conditions,
                    },
                )
            };
            let checks: BTreeMap<u16, Work> = touched.into_iter().map(check).collect();
            if self
                .read_each(&checks, Wanted::REPLIES, deadline)
                .await?
                .is_some()
            {
                return Ok(Some(Ran::Replies(replies)));
            }
        }
        Ok(None)
    }

    pub(super) fn number(&self, id: Option<(RequestId, u64)>, group: GroupId) -> Number {
        let number = match id {
            Some((id, below)) => Number::Clients(id, below),
            None => Number::Ours(self.numbering().begin(group)),
        };
        tracking::numbered(number.id());
        number
    }

    /// The work of the one shard that has some.
    async fn write_only(&self, mut work: BTreeMap<u16, Work>, asked: Asked) -> Result<Ran> {
        let Some((shard, work)) = work.pop_first() else {
            return Ok(Ran::Replies(BTreeMap::new()));
        };
        Ok(match self.write_one(shard, work, asked).await? {
            Wrote::Replies(replies) => Ran::Replies(BTreeMap::from([(shard, replies)])),
            Wrote::Conflict => Ran::Conflict,
            Wrote::Failed(failed) => Ran::Failed(shard, failed),
        })
    }

    /// One shard, one entry.
    async fn write_one(&self, shard: u16, work: Work, asked: Asked) -> Result<Wrote> {
        let group = GroupId::Shard(shard);
        let number = self.number(asked.id, group);
        let ask = Ask::Propose(Request {
            id: Some(number.id()).filter(|_| !mutant::is(Mutant::RequestsUnnumbered)),
            below: number.below(),
            deadline: self.now() + self.request_timeout().as_millis() as u64,
            body: Body::Run {
                commands: work.commands,
                conditions: work.conditions,
                mode: asked.mode,
            },
        });
        match self.router().ask(group, &ask, asked.deadline).await {
            Ok(Told::Response(Response::Replies(replies))) => Ok(Wrote::Replies(replies)),
            Ok(Told::Response(Response::Conflict)) => Ok(Wrote::Conflict),
            Ok(Told::Response(Response::Failed(failed))) if failed.for_memory() => Err(Error::OutOfMemory),
            Ok(Told::Response(Response::Failed(failed))) => Ok(Wrote::Failed(failed)),
            Ok(Told::Response(Response::Refused(refusal))) => Err(refused(refusal, number.id())),
            Ok(other) => Err(unexpected(&other)),
            Err(RouteError::NotDone(why)) => Err(Error::Unavailable(why)),
            Err(RouteError::Busy) => Err(busy()),
            Err(RouteError::Unknown(why)) if mutant::is(Mutant::UnknownToldAsRefused) => {
                Err(Error::Unavailable(why))
            }
            Err(RouteError::Unknown(why)) => {
                let id = number.id();
                self.settle(group, number, Body::Withdraw);
                Err(Error::Unknown { id, why })
            }
        }
    }

    /// Several shards, by two-phase commit.
    async fn transact(&self, work: &BTreeMap<u16, Work>, asked: Asked) -> Result<Ran> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.transact_once(work, asked).await? {
                Answer::Conflict => return Ok(Ran::Conflict),
                Answer::Failed(_, failed) if failed.for_memory() => return Err(Error::OutOfMemory),
                Answer::Failed(GroupId::Shard(shard), failed) => return Ok(Ran::Failed(shard, failed)),
                Answer::Failed(group, _) => {
                    return Err(Error::Stopped(format!("{group} takes part in a transaction")));
                }
                Answer::Committed(parts) => {
                    let of_shard = |(group, replies)| match group {
                        GroupId::Shard(shard) => Some((shard, replies)),
                        GroupId::Coordinator(_) => None,
                    };
                    return Ok(Ran::Replies(parts.into_iter().filter_map(of_shard).collect()));
                }
                // Under the client's own number the abort is final: the client takes a new one.
                Answer::Aborted(why)
                    if asked.id.is_some() || tries >= ABORT_TRIES || Instant::now() >= asked.deadline =>
                {
                    return Err(Error::Aborted(why));
                }
                Answer::Aborted(why) => tracing::debug!("transaction starts anew: {why}"),
            }
        }
    }

    async fn transact_once(&self, work: &BTreeMap<u16, Work>, asked: Asked) -> Result<Answer> {
        let Asked { id, mode, deadline } = asked;
        let part = |(&shard, work): (&u16, &Work)| Part {
            shard: GroupId::Shard(shard),
            scope: scope_of(&work.commands, &work.conditions),
            conditions: work.conditions.clone(),
            commands: work.commands.clone(),
        };
        let coordinator = self.coordinator_of(id.map(|(id, _)| id), work.keys().copied());
        let number = self.number(id, coordinator);
        let now = self.now();
        let txn = Txn {
            id: number.id(),
            below: number.below(),
            started: now,
            deadline: now + self.txn_timeout().as_millis() as u64,
            parts: work.iter().map(part).collect(),
            strict: mode == Mode::Strict,
        };
        let txn_deadline = txn.deadline;
        let ask = Ask::Begin(Box::new(txn));
        let limit = deadline.min(Instant::now() + self.txn_timeout());
        failing::taken();
        failing::handed_over();
        let told = self.router().ask_counting(coordinator, &ask, limit).await;
        failing::answered().await;
        match told {
            Ok((Told::Answer(answer), again)) => {
                // "No" is final only from the one leader that was ever asked: an earlier try, or the client's own
                // through another node, may have got a commit under way that made this one's conditions fail.
                if matches!(answer, Answer::Committed(_)) || !(again || id.is_some()) {
                    return Ok(answer);
                }
                let settled = self
                    .resolve(coordinator, number, txn_deadline, deadline, "asked again".into())
                    .await?;
                Ok(if matches!(settled, Answer::Committed(_)) {
                    settled
                } else {
                    answer
                })
            }
            Ok((other, _)) => Err(unexpected(&other)),
            Err(RouteError::Busy) => Err(busy()),
            Err(RouteError::NotDone(why)) => Err(Error::Unavailable(why)),
            Err(RouteError::Unknown(why)) => {
                self.resolve(coordinator, number, txn_deadline, deadline, why)
                    .await
            }
        }
    }

    /// Settles a transaction that nobody has answered for: its record, or an abort that is logged now.
    async fn resolve(
        &self,
        coordinator: GroupId,
        number: Number,
        txn_deadline: u64,
        deadline: Instant,
        why: String,
    ) -> Result<Answer> {
        let decide = Decide {
            txn: number.id(),
            deadline: txn_deadline,
            decision: Decision::Abort,
            refused: None,
            told: false,
        };
        let body = Body::Decide(Box::new(decide));
        let mut request = Request::anonymous(body.clone());
        request.below = number.below();
        let ask = Ask::Propose(request);
        loop {
            match self.router().ask(coordinator, &ask, deadline).await {
                Ok(Told::Response(Response::Decision(Decision::Commit { participants, .. }))) => {
                    return Ok(Answer::Committed(participants));
                }
                Ok(Told::Response(Response::Decision(Decision::Abort))) => return Ok(Answer::Aborted(why)),
                // Its leader is about to record the outcome, or whoever comes after that one to find it out.
                Ok(Told::Response(Response::Staged(_))) if Instant::now() + STAGED_PAUSE < deadline => {
                    tokio::time::sleep(STAGED_PAUSE).await;
                }
                _ => {
                    let id = number.id();
                    self.settle(coordinator, number, body);
                    return Err(Error::Unknown { id, why });
                }
            }
        }
    }

    /// After the client was told that the outcome is unknown: makes the group decide it, as soon as it can, so that whoever
    /// asks by id is told; and keeps the number open meanwhile.
    pub(super) fn settle(&self, group: GroupId, number: Number, body: Body) {
        let router = self.router().clone();
        tokio::spawn(async move {
            let kept = Instant::now() + UNKNOWN_KEPT;
            let ask = Ask::Propose(Request {
                id: Some(number.id()),
                below: number.below(),
                deadline: Millis::MAX,
                body,
            });
            while Instant::now() < kept
                && !matches!(router.ask(group, &ask, kept).await, Ok(Told::Response(response))
                    if !matches!(response, Response::Refused(Refusal::Full) | Response::Staged(_)))
            {
                tokio::time::sleep(SETTLE_PAUSE).await;
            }
            tokio::time::sleep_until(kept).await;
            drop(number);
        });
    }
}

/// Whether it uses the client's number up, although it writes nothing: an earlier copy of it must not write later.
fn settles_number(wish: &Wish) -> bool {
    let recalls = |command: &Command| matches!(command, Command::Recall { .. });
    wish.id.is_some() && wish.commands.iter().any(recalls)
}

pub(super) fn busy() -> Error {
    Error::Retry("too many requests wait".into())
}

pub(super) fn refused(refusal: Refusal, id: RequestId) -> Error {
    match refusal {
        Refusal::Deadline => Error::Retry("a transaction held a key too long".into()),
        Refusal::Full => Error::Retry("a shard has too much to do".into()),
        Refusal::Finished => Error::Unknown {
            id,
            why: "the request number was finished before".into(),
        },
        Refusal::Misdirected => Error::Stopped("a request reached the wrong kind of group".into()),
    }
}

pub(super) fn unexpected(told: &Told) -> Error {
    Error::Stopped(format!("unexpected answer {told:?}"))
}
