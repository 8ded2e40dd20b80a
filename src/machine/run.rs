//! Running a request's commands on one shard.
use super::commands::Command;
use super::eviction::out_of_memory;
use super::overlay::Overlay;
use super::request::{Condition, Mode, Response};
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
        mode: Mode,
        applying: &Applying,
    ) -> Response {
        if !self.hold(conditions) && !mutant::is(Mutant::ConditionsIgnoredAtRun) {
            return Response::Conflict;
        }
        let (index, time, seed) = (applying.index, self.head.time, applying.seed);
        if let Some(failed) = applying.left_out(commands).filter(|_| mode != Mode::Each) {
            return Response::Failed(failed);
        }
        self.note_access(commands, time);
        let tells = self.keyspace.interest.notices.tells();
        if mode != Mode::Strict {
            let mut view = Overlay::direct(&mut self.keyspace, index, time, seed);
            view.record(tells);
            let replies = replies(commands, &mut view, applying.full);
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
        let replies = replies(commands, &mut view, false);
        let notices = view.take_notices();
        let writes = view.writes;
        if let Some(failed) = failed(true, commands, &replies) {
            return Response::Failed(failed);
        }
        self.keyspace.interest.notices.tell(notices);
        self.write(writes, index);
        Response::Replies(replies)
    }
}

/// Runs commands one after the other, without those that need more memory where it is `full`. Their replies fit into one answer.
pub(super) fn replies(commands: &[Command], view: &mut Overlay<'_>, full: bool) -> Vec<Reply> {
    let run = |command: &Command| {
        if full && command.grows() {
            out_of_memory()
        } else {
            command.run(view)
        }
    };
    let mut replies: Vec<Reply> = commands.iter().map(run).collect();
    Reply::leave_out(replies.iter_mut(), REPLIES_BYTES_MAX);
    replies
}
