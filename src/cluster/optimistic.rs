//! Commands that need each other's data over shards: read, run at the gateway, commit if nothing has changed
//! (`txn/optimistic.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
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
use crate::machine::commands::Apart;
use crate::machine::overlay::Overlay;
use crate::machine::{Command, Condition};
use crate::script::{self, Ran, Surroundings};
use crate::txn::Optimistic;

/// How a run at the gateway ended.
enum Here {
    /// With what is to be published when it is committed.
    Ran(Optimistic, Messages),
    /// A script came upon keys that were not read.
    Needs(Vec<Bytes>),
}

/// A run of commands with scripts among them. It may take long, so it has a thread of its own.
struct Script {
    commands: Vec<Command>,
    strict: bool,
    keys: Vec<Bytes>,
    fetched: Reply,
    now: Millis,
    seed: u64,
    records: bool,
    stop: Arc<AtomicBool>,
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
            command => command.run(view),
        };
        let wanted = (self.commands.as_slice(), self.strict);
        let ran = Optimistic::run(
            wanted,
            self.records,
            &self.keys,
            &self.fetched,
            self.now,
            self.seed,
            execute,
        )?;
        if around.stop.load(Ordering::Relaxed) {
            return Err(format!(
                "a script was killed, or took more than {SCRIPT_MS_MAX} ms; nothing has happened"
            ));
        }
        Ok(if missing.is_empty() {
            Here::Ran(ran, messages)
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
                Here::Ran(run, messages) => (run, messages),
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
        let (looks, apart) = Optimistic::looks(&wish.commands, keys);
        let Some(plan) = self.plan(&looks, &[]) else {
            return Ok(None);
        };
        let Some((replies, touched)) = self.read_each(&plan.work, Wanted::VERSIONS, deadline).await? else {
            return Ok(None);
        };
        let mut seen = plan.merge(&replies);
        if keys.is_empty() {
            seen = vec![Reply::Array(Vec::new())];
        }
        if let (None, Some(Reply::Error(why))) = (&apart, seen.first()) {
            return Err(too_large(
                wish,
                format!("what it needs cannot be read at once: {why}"),
            ));
        }
        let here = self.run_here(wish, apart.as_ref(), keys, &seen, script).await?;
        Ok(Some((here, touched.into_values().flatten().collect())))
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

    /// What the commands come to, from what was `seen`.
    async fn run_here(
        &self,
        wish: &Wish,
        apart: Option<&Apart>,
        keys: &[Bytes],
        seen: &[Reply],
        script: Option<&Running>,
    ) -> Result<Here> {
        let unreadable = |why| Error::Invalid(format!("what it needs cannot be read: {why}"));
        let wanted = (wish.commands.as_slice(), wish.strict);
        let run = match (apart, seen, script) {
            (Some(apart), ..) => Optimistic::moves(apart, wish.strict, seen),
            (None, [fetched], None) => {
                let execute = |command: &Command, view: &mut Overlay<'_>| command.run(view);
                let records = self.notes_events();
                Optimistic::run(wanted, records, keys, fetched, self.now(), chance(), execute)
            }
            (None, [fetched], Some(running)) => {
                let script = Script {
                    commands: wish.commands.clone(),
                    strict: wish.strict,
                    keys: keys.to_vec(),
                    fetched: fetched.clone(),
                    now: self.now(),
                    seed: chance(),
                    records: self.notes_events(),
                    stop: Arc::clone(&running.stop),
                };
                let _slot = self.scripts().slot().await;
                return script.run_within_time().await?.map_err(Error::Invalid);
            }
            (None, ..) => Err("not one reply to one Fetch".to_owned()),
        };
        run.map(|run| Here::Ran(run, Vec::new())).map_err(unreadable)
    }

    /// A note that scripts run, if there are any among the commands.
    fn script(&self, wish: &Wish) -> Option<Running> {
        let is_script = |command: &Command| matches!(command, Command::Eval(_));
        wish.commands
            .iter()
            .any(is_script)
            .then(|| self.scripts().begin())
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

/// What it takes is beyond a limit. Under the client's own number, an earlier copy may have found less to read or write.
fn too_large(wish: &Wish, why: String) -> Error {
    match wish.id {
        Some((id, _)) => Error::Unknown { id, why },
        None => Error::Invalid(why),
    }
}
