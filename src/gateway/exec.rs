//! `EXEC`: what MULTI has queued, as one transaction.
//!
//! ```text
//!  plain    data commands ─▶ replies, errors among them; then the connection's own commands
//!  strict   own commands ─▶ data commands ─▶ messages, replies; any error ─▶ nothing has happened, one error says which
//! ```

use bytes::Bytes;
use tokio::time::Instant;

use super::burst;
use super::functions;
use super::multi::Queued;
use super::session::Session;
use super::stats::Place;
use super::tracking::{On, ToRemember};
use crate::base::{Error, Reply, RequestId};
use crate::cluster::{Outcome, Wish, on_behalf};
use crate::machine::{Command, Condition};

/// Queued commands with their names.
type Queue = Vec<(&'static str, Queued)>;

impl Session {
    pub(super) async fn exec(&mut self) -> Reply {
        let conditions = std::mem::take(&mut self.watched);
        let id = self.once.take();
        let Some(mut multi) = self.end_multi() else {
            return Reply::err("ERR EXEC without MULTI");
        };
        if multi.is_spoilt() {
            return Reply::err("EXECABORT Transaction discarded because of previous errors.");
        }
        let _room = multi.take_room();
        if multi.strict {
            return self.exec_strict(multi.queue, conditions, id).await;
        }
        let begun = Instant::now();
        let wish = Wish {
            commands: data(&multi.queue),
            conditions,
            id,
            strict: false,
        };
        let remember = remember(self.tracking.as_ref(), &multi.queue);
        let asker = self.asker(&remember).await;
        burst::note_writes(&self.node, &wish.commands, &mut self.wrote);
        let mut replies = match on_behalf(asker, self.node.execute(wish)).await {
            Ok(Outcome::Replies(replies)) => replies.into_iter(),
            Ok(Outcome::Conflict) => return Reply::NilArray,
            Ok(Outcome::Failed(_, reply)) => return reply,
            Err(error) => return failed(&error),
        };
        let places: Vec<_> = multi
            .queue
            .iter()
            .map(|(name, _)| Some(Place::named(name)))
            .collect();
        let mut all = Vec::with_capacity(multi.queue.len());
        for (name, queued) in multi.queue {
            all.push(match queued {
                Queued::Data(_) => replies.next().unwrap_or(Reply::Nil),
                Queued::Failed(reply) => reply,
                Queued::Own(request) => self.own_queued(name, &request).await,
            });
        }
        self.count_queued(&places, &all, begun);
        Reply::Array(all)
    }

    fn count_queued(&self, places: &[Option<Place>], replies: &[Reply], begun: Instant) {
        self.count(places, replies, begun.elapsed());
        for reply in replies {
            if let Reply::Error(why) = reply {
                self.shared.stats.error(why);
            }
        }
    }

    async fn own_queued(&mut self, name: &str, request: &[Bytes]) -> Reply {
        let tracked = self.tracking.is_some();
        let reply = Box::pin(self.simple(name, request.get(1..).unwrap_or_default())).await;
        if self.tracking.is_some() && !tracked {
            // It did not when the commands ran whose replies the client may keep.
            self.node.tracking().distrust(self.state.id);
        }
        reply
    }

    /// The connection's own commands come first, since they can be undone, here; the data commands cannot.
    async fn exec_strict(
        &mut self,
        queue: Queue,
        conditions: Vec<Condition>,
        id: Option<(RequestId, u64)>,
    ) -> Reply {
        let before = (self.state.clone(), self.once);
        let answer = self.try_strict(queue, conditions, id).await;
        if !matches!(answer, Reply::Array(_)) {
            (self.state, self.once) = before;
            self.watched.clear();
        }
        answer
    }

    async fn try_strict(
        &mut self,
        queue: Queue,
        conditions: Vec<Condition>,
        id: Option<(RequestId, u64)>,
    ) -> Reply {
        let mut all = Vec::with_capacity(queue.len());
        for (at, (name, queued)) in queue.iter().enumerate() {
            let reply = match queued {
                // What has been said cannot be taken back, so it is said when nothing can fail any more.
                Queued::Data(_) => None,
                Queued::Own(_) if PUBLISHES.contains(name) => None,
                Queued::Own(request) if *name == "function" && !functions::only_looks(&request[1..]) => {
                    Some(Reply::err("ERR a change of functions cannot be rolled back"))
                }
                // No copy of this request can be parsed, so none can commit.
                Queued::Failed(reply) => Some(reply.clone()),
                Queued::Own(request) => Some(self.own_queued(name, request).await),
            };
            if let Some(Reply::Error(why)) = &reply {
                return rolled_back(at, name, why);
            }
            all.push(reply);
        }
        let wish = Wish {
            commands: data(&queue),
            conditions,
            id,
            strict: true,
        };
        let remember = remember(self.tracking.as_ref(), &queue);
        let asker = self.asker(&remember).await;
        let begun = Instant::now();
        burst::note_writes(&self.node, &wish.commands, &mut self.wrote);
        let mut replies = match on_behalf(asker, self.node.execute(wish)).await {
            Ok(Outcome::Replies(replies)) => replies.into_iter(),
            Ok(Outcome::Conflict) => return Reply::NilArray,
            Ok(Outcome::Failed(place, reply)) => {
                let is_data = |(_, (_, queued)): &(usize, &(&str, Queued))| matches!(queued, Queued::Data(_));
                let failed = queue.iter().enumerate().filter(is_data).nth(place);
                let (at, name) = failed.map_or((place, "?"), |(at, (name, _))| (at, *name));
                let why = match &reply {
                    Reply::Error(why) => why,
                    _ => "ERR it failed",
                };
                return rolled_back(at, name, why);
            }
            Err(error) => return failed(&error),
        };
        let mut answers = Vec::with_capacity(all.len());
        for (reply, (name, queued)) in all.into_iter().zip(&queue) {
            answers.push(match (reply, queued) {
                (Some(reply), _) => reply,
                (None, Queued::Own(request)) => self.own_queued(name, request).await,
                (None, _) => replies.next().unwrap_or(Reply::Nil),
            });
        }
        let places: Vec<_> = queue.iter().map(|(name, _)| Some(Place::named(name))).collect();
        self.count_queued(&places, &answers, begun);
        Reply::Array(answers)
    }
}

/// Own commands whose effect cannot be undone.
pub(super) const PUBLISHES: &[&str] = &["publish", "spublish"];

fn failed(error: &Error) -> Reply {
    match error {
        Error::OutOfMemory => Reply::err(format!("EXECABORT Transaction discarded because of: {error}")),
        _ => Reply::err(error.to_string()),
    }
}

fn remember(on: Option<&On>, queue: &Queue) -> ToRemember {
    let mut remember = ToRemember::default();
    for (name, queued) in queue {
        if let Queued::Data(command) = queued {
            remember.add(on, name, command);
        }
    }
    remember
}

fn data(queue: &Queue) -> Vec<Command> {
    let data = queue.iter().filter_map(|(_, queued)| match queued {
        Queued::Data(command) => Some(command.clone()),
        Queued::Failed(_) | Queued::Own(_) => None,
    });
    data.collect()
}

fn rolled_back(at: usize, name: &str, why: &str) -> Reply {
    let place = at + 1;
    Reply::err(format!(
        "EXECABORT Transaction rolled back because of command {place} ('{name}'): {why}"
    ))
}
