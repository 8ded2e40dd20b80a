//! Commands that need each other's data over shards: read, run at the gateway, commit if nothing has changed
//! (`txn/optimistic.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::node::Node;
use super::notices::{self, Messages};
use super::pubsub::Kind;
use super::reads::Wanted;
use super::scripts::Running;
use super::tracking;
use super::wish::{Outcome, Wish};
use crate::base::limits::{OPTIMISTIC_TRIES_MAX, SCRIPT_MS_MAX, SCRIPT_ROUNDS_MAX};
use crate::base::{Error, Millis, Reply, Result};
use crate::host::{blocking, chance};
use crate::machine::commands::Eval;
use crate::machine::overlay::Overlay;
use crate::machine::{Command, Condition, Held, Libraries};
use crate::script::{self, Ran, Surroundings};
use crate::txn::Optimistic;

/// A script that would have to commit more than so many bytes of values commits its commands instead.
const REPLAYED_FROM_BYTES: usize = 4 << 10;

/// How a run at the gateway ended.
enum Here {
    /// With what is to be published when it is committed, and the commands that make the same changes, if that can be said.
    Ran(Optimistic, Messages, Option<Vec<Command>>),
    /// A script came upon keys that were not read.
    Needs(Vec<Bytes>),
}

/// A run of commands with scripts among them. It may take long, so it has a thread of its own.
struct Script {
    commands: Vec<Command>,
    strict: bool,
    keys: Vec<Bytes>,
    held: Vec<Held>,
    now: Millis,
    seed: u64,
    records: bool,
    stop: Arc<AtomicBool>,
    libraries: Arc<Libraries>,
}

impl Script {
    async fn run_within_time(self) -> Result<std::result::Result<Here, String>> {
        let stop = Arc::clone(&self.stop);
        let run = blocking(move || Ok(self.run()));
        tokio::pin!(run);
        let limit = Duration::from_millis(SCRIPT_MS_MAX);
        let ran = if let Ok(ran) = tokio::time::timeout(limit, &mut run).await {
            ran
        } else {
            stop.store(true, Ordering::Relaxed);
            run.await
        };
        ran.map_err(|e| Error::Stopped(format!("a script's thread: {e}")))
    }

    fn run(self) -> std::result::Result<Here, String> {
        let around = Surroundings {
            known: self.keys.iter().cloned().collect(),
            stop: self.stop,
            wrote: Mutex::new(Some(Vec::new())),
            libraries: self.libraries,
        };
        let (mut missing, mut messages) = (Vec::new(), Vec::new());
        let execute = |command: &Command, view: &mut Overlay<'_>| match command {
            Command::Eval(eval) => match script::run(eval, view, &around) {
                Ran::Replied(reply, more) => {
                    messages.extend(more);
                    reply
                }
                Ran::Needs(keys) => {
                    missing.extend(keys);
                    Reply::Nil
                }
            },
            command => {
                let reply = command.run(view);
                around.note(command, &reply);
                reply
            }
        };
        let wanted = (self.commands.as_slice(), self.strict);
        let ran = Optimistic::run(
            wanted,
            self.records,
            &self.keys,
            self.held,
            self.now,
            self.seed,
            execute,
        );
        if around.stop.load(Ordering::Relaxed) {
            return Err(format!(
                "a script was killed, or took more than {SCRIPT_MS_MAX} ms; nothing has happened"
            ));
        }
        Ok(if missing.is_empty() {
            Here::Ran(ran, messages, around.wrote.into_inner())
        } else {
            Here::Needs(missing)
        })
    }
}

impl Node {
    /// Commands that need each other's data over shards (RENAME, COPY, MSETNX): read, run here, commit if unchanged.
    pub(super) async fn execute_optimistic(&self, wish: Wish, deadline: Instant) -> Result<Outcome> {
        let Some(mut keys) = Optimistic::keys(&wish.commands) else {
            let why = "a transaction cannot combine commands on the whole key space with those that need several \
                       shards' data at once (RENAME, COPY, SINTER, LMOVE and the like)";
            return Err(Error::Invalid(why.into()));
        };
        let script = self.script(&wish);
        let (mut tries, mut rounds) = (0, 0);
        let mut turn = match keys.first().filter(|key| self.contention().is_known(key)) {
            Some(key) => Some(self.take_turn(key, deadline).await),
            None => None,
        };
        while tries < OPTIMISTIC_TRIES_MAX {
            let Some((here, touched)) = self.look_and_run(&wish, &keys, script.as_ref(), deadline).await?
            else {
                break;
            };
            let (mut run, messages) = match here {
                Here::Ran(mut run, messages, again) => {
                    if let Some(again) = again {
                        self.choose_replay(&mut run, again);
                    }
                    (run, messages)
                }
                Here::Needs(more) => {
                    rounds += 1;
                    if rounds >= SCRIPT_ROUNDS_MAX {
                        let why = "a script came upon too many keys one after another: name them as its keys";
                        return Err(Error::Invalid(why.into()));
                    }
                    tracking::remember_found(self, &more).await;
                    keys.extend(more);
                    continue;
                }
            };
            let events = notices::messages(self.settings(), std::mem::take(&mut run.notices));
            if let Some(outcome) = self.commit(&wish, run, touched).await? {
                // The next one need not wait for the messages.
                drop(turn);
                if matches!(outcome, Outcome::Replies(_)) {
                    self.router().publish_all(events).await;
                    for (channel, message) in messages {
                        self.publish(Kind::Channel, &channel, &message).await;
                    }
                }
                return Ok(outcome);
            }
            tries += 1;
            if let Some(key) = keys.first() {
                self.contention().note(key);
                if turn.is_none() {
                    turn = Some(self.take_turn(key, deadline).await);
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(Error::Aborted("its keys kept changing while it ran".into()))
    }

    /// Reads what the commands need, and runs them here. `None`: it cannot be read.
    async fn look_and_run(
        &self,
        wish: &Wish,
        keys: &[Bytes],
        script: Option<&Running>,
        deadline: Instant,
    ) -> Result<Option<(Here, Vec<Condition>)>> {
        if let Some(apart) = Optimistic::apart(&wish.commands) {
            let Some(plan) = self.plan(&apart.looks, &[]) else {
                return Ok(None);
            };
            let Some((replies, touched)) = self.read_each(&plan.work, Wanted::VERSIONS, deadline).await?
            else {
                return Ok(None);
            };
            let moves = Optimistic::moves(&apart, wish.strict, &plan.merge(&replies));
            let moves =
                moves.map_err(|why| Error::Invalid(format!("what it needs cannot be read: {why}")))?;
            let touched = touched.into_values().flatten().collect();
            return Ok(Some((Here::Ran(moves, Vec::new(), None), touched)));
        }
        let (fetched, libraries) =
            tokio::join!(self.fetch(keys, deadline), self.libraries_for(wish, deadline));
        let fetched = match fetched {
            Err(Error::Invalid(why)) => return Err(too_large(wish, why)),
            other => other?,
        };
        let script = script.zip(Some(libraries?));
        let here = self.run_here(wish, keys, fetched.held, script).await?;
        Ok(Some((here, fetched.touched)))
    }

    /// The libraries as they are now, if a function is among the commands.
    async fn libraries_for(&self, wish: &Wish, deadline: Instant) -> Result<Arc<Libraries>> {
        if evals(wish).any(|eval| eval.function.is_some()) {
            return self.libraries_by(deadline).await;
        }
        Ok(Arc::default())
    }

    /// Commits what a run has come to, if nothing that it has `touched` has changed. `None`: something has.
    async fn commit(&self, wish: &Wish, run: Optimistic, touched: Vec<Condition>) -> Result<Option<Outcome>> {
        let conditions = Optimistic::conditions(&wish.conditions, touched);
        let fails = run.failed.is_some();
        // What was read may be of several moments; a failure that is told has to be of one.
        let failed = match run.failed {
            Some(failed) => self.hold(&conditions).await?.then_some(failed),
            None => None,
        };
        let outcome = match (failed.clone(), wish.id) {
            (Some((at, reply)), None) => return Ok(Some(Outcome::Failed(at, reply))),
            (None, None) if fails => Outcome::Conflict,
            // A number is settled by its record: an earlier copy may have committed, or a later one would.
            _ => {
                let attempt = Wish {
                    commands: run.commands,
                    conditions,
                    id: wish.id,
                    strict: wish.strict,
                };
                match Box::pin(self.execute(attempt)).await {
                    Err(Error::Invalid(why)) => return Err(too_large(wish, why)),
                    other => other?,
                }
            }
        };
        match (outcome, failed) {
            (Outcome::Replies(replies), _) => Ok(Some(Outcome::Replies(Optimistic::replies(replies)))),
            (Outcome::Failed(..), Some((at, reply))) => Ok(Some(Outcome::Failed(at, reply))),
            _ if wish.id.is_some() => Err(Error::Aborted("its keys changed while it ran".into())),
            _ if !self.hold(&wish.conditions).await? => Ok(Some(Outcome::Conflict)),
            _ => Ok(None),
        }
    }

    /// Commits commands in place of values, if they are less, and each shard can run its share.
    fn choose_replay(&self, run: &mut Optimistic, again: Vec<Command>) {
        let bytes: usize = again.iter().map(Command::weight).sum();
        if run.weight() <= REPLAYED_FROM_BYTES.max(bytes) {
            return;
        }
        // As it will be planned: a command that can be taken apart when it is alone may not be beside another.
        let recall = run.commands.first().cloned();
        let all: Vec<Command> = recall.into_iter().chain(again).collect();
        if self.plan(&all, &[]).is_some() {
            run.replay(all.into_iter().skip(1));
        }
    }

    /// What the commands come to, from what was found.
    async fn run_here(
        &self,
        wish: &Wish,
        keys: &[Bytes],
        held: Vec<Held>,
        script: Option<(&Running, Arc<Libraries>)>,
    ) -> Result<Here> {
        let now = moment(self.now(), &held);
        let Some((running, libraries)) = script else {
            let wanted = (wish.commands.as_slice(), wish.strict);
            let execute = |command: &Command, view: &mut Overlay<'_>| command.run(view);
            let records = self.notes_events();
            let run = Optimistic::run(wanted, records, keys, held, now, chance(), execute);
            return Ok(Here::Ran(run, Vec::new(), None));
        };
        let script = Script {
            commands: wish.commands.clone(),
            strict: wish.strict,
            keys: keys.to_vec(),
            held,
            now,
            seed: chance(),
            records: self.notes_events(),
            stop: Arc::clone(&running.stop),
            libraries,
        };
        let _slot = self.scripts().slot().await;
        script.run_within_time().await?.map_err(Error::Invalid)
    }

    /// A note that scripts run, if there are any among the commands.
    fn script(&self, wish: &Wish) -> Option<Running> {
        evals(wish).next()?;
        Some(self.scripts().begin(evals(wish)))
    }

    /// Whether all conditions hold at one moment.
    async fn hold(&self, conditions: &[Condition]) -> Result<bool> {
        let wish = Wish {
            conditions: conditions.to_vec(),
            ..Wish::default()
        };
        Ok(Box::pin(self.execute(wish)).await? != Outcome::Conflict)
    }
}

/// The time at which commands run here: what was found there has not expired for whoever said so, however far this node's clock is
/// ahead.
fn moment(now: Millis, held: &[Held]) -> Millis {
    let soonest = held.iter().flatten().filter_map(|(_, expires)| *expires).min();
    soonest.map_or(now, |at| now.min(at.saturating_sub(1)))
}

fn evals(wish: &Wish) -> impl Iterator<Item = &Eval> {
    wish.commands.iter().filter_map(|command| match command {
        Command::Eval(eval) => Some(&**eval),
        _ => None,
    })
}

/// What it takes is beyond a limit. Under the client's own number, an earlier copy may have found less to read or write.
fn too_large(wish: &Wish, why: String) -> Error {
    match wish.id {
        Some((id, _)) => Error::Unknown { id, why },
        None => Error::Invalid(why),
    }
}
