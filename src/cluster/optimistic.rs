//! Commands that need each other's data over shards: read, run at the gateway, commit if nothing has changed
//! (`txn/optimistic.rs`).

use bytes::Bytes;
use tokio::time::Instant;

use super::execute::{Outcome, Wish};
use super::node::Node;
use crate::base::limits::OPTIMISTIC_TRIES_MAX;
use crate::base::{Error, Reply, Result};
use crate::host::chance;
use crate::machine::Condition;
use crate::machine::commands::Apart;
use crate::txn::Optimistic;

impl Node {
    /// Commands that need each other's data over shards (RENAME, COPY, MSETNX): read, run here, commit if unchanged.
    pub(super) async fn execute_optimistic(&self, wish: Wish, deadline: Instant) -> Result<Outcome> {
        let Some(keys) = Optimistic::keys(&wish.commands) else {
            let why = "a transaction cannot combine commands on the whole key space with those that need several \
                       shards' data at once (RENAME, COPY, SINTER, LMOVE and the like)";
            return Err(Error::Invalid(why.into()));
        };
        let (looks, apart) = Optimistic::looks(&wish.commands, &keys);
        for _ in 0..OPTIMISTIC_TRIES_MAX {
            let Some(plan) = self.plan(&looks, &[]) else { break };
            let Some((replies, touched)) = self.read_each(&plan.work, true, deadline).await? else {
                break;
            };
            let seen = plan.merge(&replies);
            // Under the client's own number, an earlier copy may have found less to read or write.
            let too_large = |why| match wish.id {
                Some((id, _)) => Error::Unknown { id, why },
                None => Error::Invalid(why),
            };
            let run = match (&apart, seen.first()) {
                (None, Some(Reply::Error(why))) => {
                    return Err(too_large(format!("what it needs cannot be read at once: {why}")));
                }
                (apart, _) => self.run_here(&wish, apart.as_ref(), &keys, &seen)?,
            };
            let touched = touched.into_values().flatten().collect();
            let conditions = Optimistic::conditions(&wish.conditions, touched);
            let fails = run.failed.is_some();
            // What was read may be of several moments; a failure that is told has to be of one.
            let failed = match run.failed {
                Some(failed) => self.hold(&conditions).await?.then_some(failed),
                None => None,
            };
            let outcome = match (failed.clone(), wish.id) {
                (Some((at, reply)), None) => return Ok(Outcome::Failed(at, reply)),
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
                        Err(Error::Invalid(why)) => return Err(too_large(why)),
                        other => other?,
                    }
                }
            };
            match (outcome, failed) {
                (Outcome::Replies(replies), _) => {
                    return Ok(Outcome::Replies(Optimistic::replies(replies)));
                }
                (Outcome::Failed(..), Some((at, reply))) => return Ok(Outcome::Failed(at, reply)),
                _ if wish.id.is_some() => {
                    return Err(Error::Aborted("its keys changed while it ran".into()));
                }
                _ if !self.hold(&wish.conditions).await? => return Ok(Outcome::Conflict),
                _ => {}
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(Error::Aborted("its keys kept changing while it ran".into()))
    }

    /// What the commands come to, from what was `seen`.
    fn run_here(
        &self,
        wish: &Wish,
        apart: Option<&Apart>,
        keys: &[Bytes],
        seen: &[Reply],
    ) -> Result<Optimistic> {
        let run = match (apart, seen) {
            (Some(apart), _) => Optimistic::moves(apart, wish.strict, seen),
            (None, [fetched]) => {
                Optimistic::run(&wish.commands, wish.strict, keys, fetched, self.now(), chance())
            }
            (None, _) => Err("not one reply to one Fetch".to_owned()),
        };
        run.map_err(|why| Error::Invalid(format!("what it needs cannot be read: {why}")))
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
