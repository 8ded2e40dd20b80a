//! At a shard's leader: the lines of those that wait for its keys, here and at other nodes. Nothing of this is in the log: to be
//! called means only that there may be something, and who is called takes it as any command would. So a client that dies takes
//! nothing with it, and whoever waits at a leader that is gone joins the next one's line, by how long it has waited.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::line::{Line, WaiterId};
use super::message::{Failure, Told};
use crate::base::{GroupId, Millis, NodeId};
use crate::host::Clock;
use crate::machine::commands::Need;
use crate::raft::{Group, Groups};

/// Who was called and has not come back after so long does not hold up the others any more.
const CALLED_MAX: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Clone)]
pub struct Turns {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    lines: Mutex<BTreeMap<GroupId, Line<oneshot::Sender<()>>>>,
}

impl Turns {
    #[must_use]
    pub fn new(clock: Clock) -> Turns {
        let lines = Mutex::default();
        Turns {
            inner: Arc::new(Inner { clock, lines }),
        }
    }

    /// Serves whoever waits for keys of this group when they are written, as long as the group runs.
    pub async fn run(self, group: Group) {
        loop {
            group.written().await;
            let written = group.interest(|interest, _| interest.take_written());
            self.serve(&group, &written.unwrap_or_default());
        }
    }

    fn serve(&self, group: &Group, keys: &BTreeSet<Bytes>) {
        let mut lines = self.inner.lines.lock();
        if let Some(line) = lines.get_mut(&group.id()) {
            serve(line, group, keys, (self.inner.clock)());
        }
    }

    /// Waits in line, at the leader, for some of these keys.
    /// Who comes `anew` is called as well if a key is of another type: a command that is run then says so.
    pub async fn wait(
        &self,
        group: Group,
        id: WaiterId,
        keys: Vec<(Bytes, Need)>,
        waited: Duration,
        anew: bool,
    ) -> Told {
        let not_leader = || Told::Failed(Failure::NotLeader(group.leader().0));
        if !group.is_leader() {
            return not_leader();
        }
        let (call, called) = oneshot::channel();
        let now = Instant::now();
        let since = now.checked_sub(waited).unwrap_or(now);
        {
            let mut lines = self.inner.lines.lock();
            let line = lines.entry(group.id()).or_default();
            group.interest(|interest, _| keys.iter().for_each(|(key, _)| interest.want(key)));
            let time = (self.inner.clock)();
            let refused = anew
                && group.peek(|machine| {
                    let shard = machine.as_shard();
                    let refuses = |(key, need): &(Bytes, Need)| {
                        shard.is_some_and(|shard| shard.refuses(key, need, time))
                    };
                    keys.iter().any(refuses)
                });
            let changed = line.join(id, keys, since, call);
            serve(line, &group, &changed, time);
            if refused && let Some(call) = line.call_now(id, now) {
                // Who has left in this moment says so.
                let _ = call.send(());
            }
        }
        match called.await {
            Ok(()) => Told::Turn,
            // Sent away: this is not the leader any more, or the waiter has left.
            Err(_) => not_leader(),
        }
    }

    /// How many clients wait in lines here, of whichever node.
    #[must_use]
    pub fn len(&self) -> usize {
        let lines = self.inner.lines.lock();
        let waits = |line: &Line<_>| line.waiters().filter(|(_, called)| called.is_none()).count();
        lines.values().map(waits).sum()
    }

    /// A waiter goes away, served or not.
    pub fn leave(&self, group: &Group, id: WaiterId) {
        let mut lines = self.inner.lines.lock();
        if let Some(line) = lines.get_mut(&group.id()) {
            send_away(line, group, [id], (self.inner.clock)());
        }
    }

    /// Sends away whoever waits at a group that is not led here any more, whose node is gone, or who was called and did not
    /// come back.
    pub fn tidy(&self, groups: &Groups, here: impl Fn(NodeId) -> bool) {
        let now = (self.inner.clock)();
        let mut lines = self.inner.lines.lock();
        lines.retain(|&id, line| {
            let Some(group) = groups.get(id) else { return false };
            let leads = group.is_leader();
            let lost = |(id, called): (WaiterId, Option<Instant>)| {
                let late = called.is_some_and(|at| at.elapsed() > CALLED_MAX);
                (!leads || late || !here(id.node)).then_some(id)
            };
            let lost: Vec<WaiterId> = line.waiters().filter_map(lost).collect();
            send_away(line, &group, lost, now);
            !line.is_empty()
        });
    }
}

fn serve(line: &mut Line<oneshot::Sender<()>>, group: &Group, keys: &BTreeSet<Bytes>, now: Millis) {
    for key in keys {
        let called = Instant::now();
        let calls = group.peek(|machine| {
            let shard = machine.as_shard();
            line.serve(key, called, |need| {
                shard.map_or(0, |shard| shard.serves(key, need, now))
            })
        });
        for call in calls {
            // Who has left in this moment says so.
            let _ = call.send(());
        }
        if !line.wants(key) {
            group.interest(|interest, _| interest.forget(key));
        }
    }
}

fn send_away(
    line: &mut Line<oneshot::Sender<()>>,
    group: &Group,
    ids: impl IntoIterator<Item = WaiterId>,
    now: Millis,
) {
    for id in ids {
        let changed = line.leave(id);
        serve(line, group, &changed, now);
    }
}
