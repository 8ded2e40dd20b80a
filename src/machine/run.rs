//! Running a request's commands on one shard.

use super::commands::Command;
use super::overlay::Overlay;
use super::request::{Condition, Response};
use super::shard::{Applying, Shard};
use super::strict::failed;
use crate::base::limits::REPLIES_BYTES_MAX;
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
        if !strict {
            let mut view = Overlay::direct(&mut self.keyspace, index, time, seed);
            let replies = replies(commands, &mut view);
            let done = view.done();
            if done.changed {
                self.head.last_write = index;
                self.head.removals.note_slots(done.flushed, done.removed, index);
            }
            return Response::Replies(replies);
        }
        let mut view = Overlay::new(&self.keyspace, time, seed);
        let replies = replies(commands, &mut view);
        let writes = view.writes;
        if let Some(failed) = failed(strict, commands, &replies) {
            return Response::Failed(failed);
        }
        self.write(writes, index);
        Response::Replies(replies)
    }
}

/// Runs commands one after the other. Their replies fit into one answer.
pub(super) fn replies(commands: &[Command], view: &mut Overlay<'_>) -> Vec<Reply> {
    let mut replies: Vec<Reply> = commands.iter().map(|command| command.run(view)).collect();
    Reply::leave_out(replies.iter_mut(), REPLIES_BYTES_MAX);
    replies
}
