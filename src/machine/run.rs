//! Running a request's commands on one shard.

use bytes::Bytes;

use super::commands::Command;
use super::notices::Notice;
use super::overlay::{Overlay, Writes};
use super::request::{Condition, Response};
use super::shard::{Applying, Shard};
use super::strict::failed;
use crate::base::events::Events;
use crate::base::limits::{EXPIRE_KEYS_MAX, REPLIES_BYTES_MAX};
use crate::base::{Mutant, Reply, mutant};

impl Shard {
    /// Runs commands as the entry that is being applied, if the conditions hold.
    pub(super) fn run(
        &mut self,
        commands: &[Command],
        conditions: &[Condition],
        strict: bool,
        applying: &Applying,
    ) -> Response {
        if !self.hold(conditions) && !mutant::is(Mutant::ConditionsIgnoredAtRun) {
            return Response::Conflict;
        }
        let (index, time, seed) = (applying.index, self.head.time, applying.seed);
        let tells = self.keyspace.interest.notices.tells();
        if !strict {
            let mut view = Overlay::direct(&mut self.keyspace, index, time, seed);
            view.record(tells);
            let replies = replies(commands, &mut view);
            let notices = view.take_notices();
            let done = view.done();
            self.keyspace.interest.notices.tell(notices);
            if done.changed {
                self.head.last_write = index;
                self.head.removals.note_slots(done.flushed, done.removed, index);
            }
            return Response::Replies(replies);
        }
        let mut view = Overlay::new(&self.keyspace, time, seed);
        view.record(tells);
        let replies = replies(commands, &mut view);
        let notices = view.take_notices();
        let writes = view.writes;
        if let Some(failed) = failed(strict, commands, &replies) {
            return Response::Failed(failed);
        }
        self.keyspace.interest.notices.tell(notices);
        self.write(writes, index);
        Response::Replies(replies)
    }

    /// Removes expired keys, soonest first; locked ones stay until their transaction is decided.
    pub(super) fn sweep(&mut self, index: u64) {
        let free = |key: &[u8]| self.head.locks.owner(key).is_none();
        let expired = self
            .keyspace
            .expiring(self.head.time)
            .filter(|(_, key)| free(key));
        let keys: Vec<_> = expired
            .take(EXPIRE_KEYS_MAX)
            .map(|(_, key)| key.clone())
            .collect();
        self.keyspace.tally.expired.add(keys.len() as u64);
        let expired = |key: &Bytes| Notice {
            class: Events::EXPIRED,
            event: "expired",
            key: key.clone(),
        };
        if self.keyspace.interest.notices.tells() {
            let notices = keys.iter().map(expired).collect();
            self.keyspace.interest.notices.tell(notices);
        }
        let writes = Writes {
            flush: false,
            keys: keys.into_iter().map(|key| (key, None)).collect(),
        };
        self.write(writes, index);
    }
}

/// Runs commands one after the other. Their replies fit into one answer.
pub(super) fn replies(commands: &[Command], view: &mut Overlay<'_>) -> Vec<Reply> {
    let mut replies: Vec<Reply> = commands.iter().map(|command| command.run(view)).collect();
    Reply::leave_out(replies.iter_mut(), REPLIES_BYTES_MAX);
    replies
}
