//! Who should lead a group: the node whose clients write to it, if that is clear; else the one that its placement prefers.
//!
//! Where the leader's own clients write, no write takes the way to the leader and back: a third of the processor time of a
//! `SET`, measured, and the leader's node itself has no more to do, since leading costs what forwarding did. Where clients are spread over the
//! nodes, leaders are, too. (CockroachDB calls it "follow the workload".)
//!
//! Only writes count: a follower answers reads itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::base::{GroupId, NodeId};

/// Fewer writes a second are not worth an election.
const WRITES_A_SECOND_MIN: f64 = 200.0;
const WRITES_MIN: u64 = 16;
/// So many looks in a row must say the same before leadership is handed to whose clients write.
const LOOKS: u32 = 2;
/// For so many looks without load a leader that had been where the writes are stays there.
const QUIET_LOOKS: u32 = 30;
/// A leader that is this new has not seen enough.
const NEW: Duration = Duration::from_secs(1);

/// Writes that the leaders here have taken, by the node whose clients they came from. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Writers {
    by: Arc<Mutex<BTreeMap<GroupId, Writes>>>,
}

/// One group's, by node.
pub type Writes = BTreeMap<NodeId, u64>;

impl Writers {
    /// A write for `group` has come from a client of `node`.
    pub fn note(&self, group: GroupId, node: NodeId) {
        *self.by.lock().entry(group).or_default().entry(node).or_default() += 1;
    }

    /// What has come since the last time.
    #[must_use]
    pub fn take(&self) -> BTreeMap<GroupId, Writes> {
        std::mem::take(&mut self.by.lock())
    }
}

/// What the leaders here have seen since they lead.
#[derive(Debug, Default)]
pub struct Leaders {
    tenures: BTreeMap<GroupId, Tenure>,
}

#[derive(Debug)]
struct Tenure {
    since: Instant,
    looked: Instant,
    /// Where the writes came from lately, and how many looks in a row.
    sought: Option<(NodeId, u32)>,
    /// Most writes came from here.
    was_near: bool,
    quiet: u32,
}

impl Leaders {
    /// Notes who leads here; to be called more often than looks are made.
    pub fn see(&mut self, group: GroupId, leads: bool, now: Instant) {
        if !leads {
            self.tenures.remove(&group);
            return;
        }
        self.tenures.entry(group).or_insert(Tenure {
            since: now,
            looked: now,
            sought: None,
            was_near: false,
            quiet: 0,
        });
    }

    /// Who should lead a group that is led here, at `me`; `preferred` by its placement. `writes`: since the last look.
    pub fn look(
        &mut self,
        group: GroupId,
        me: NodeId,
        preferred: NodeId,
        writes: &Writes,
        now: Instant,
    ) -> NodeId {
        let Some(tenure) = self.tenures.get_mut(&group) else {
            return me;
        };
        let seconds = now.duration_since(tenure.looked).as_secs_f64();
        tenure.looked = now;
        if now.duration_since(tenure.since) < NEW {
            return me;
        }
        tenure.look(me, preferred, writes, seconds)
    }
}

impl Tenure {
    fn look(&mut self, me: NodeId, preferred: NodeId, writes: &Writes, seconds: f64) -> NodeId {
        let all: u64 = writes.values().sum();
        if all < WRITES_MIN || (all as f64) < WRITES_A_SECOND_MIN * seconds {
            self.sought = None;
            self.quiet += 1;
            let stays = self.was_near && self.quiet < QUIET_LOOKS;
            return if stays { me } else { preferred };
        }
        self.quiet = 0;
        let of = |node: &NodeId| writes.get(node).copied().unwrap_or(0);
        let most = writes.keys().copied().max_by_key(|node| (of(node), *node == me));
        if let Some(node) = most.filter(|node| *node != me && of(node) * 4 >= all * 3) {
            let before = self.sought.filter(|(sought, _)| *sought == node);
            let looks = before.map_or(0, |(_, looks)| looks) + 1;
            self.sought = Some((node, looks));
            return if looks >= LOOKS { node } else { me };
        }
        self.sought = None;
        self.was_near = of(&me) * 2 >= all;
        if self.was_near { me } else { preferred }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId::Shard(0);
    const LOOK: Duration = Duration::from_secs(2);

    /// A group that is led at node 1 and at home at node 2.
    struct Group {
        leaders: Leaders,
        now: Instant,
    }

    impl Group {
        fn new() -> Group {
            let mut group = Group {
                leaders: Leaders::default(),
                now: Instant::now(),
            };
            group.leaders.see(GROUP, true, group.now);
            group
        }

        fn look(&mut self, writes: &[(NodeId, u64)]) -> NodeId {
            self.now += LOOK;
            let writes = writes.iter().copied().collect();
            self.leaders.look(GROUP, 1, 2, &writes, self.now)
        }
    }

    #[test]
    fn a_leader_goes_where_three_quarters_of_the_writes_come_from_for_two_looks() {
        let mut group = Group::new();
        assert_eq!(group.look(&[(3, 5000)]), 1, "it may be over soon");
        assert_eq!(group.look(&[(3, 4000), (1, 1000)]), 3);
        let mut group = Group::new();
        group.look(&[(3, 5000)]);
        assert_eq!(group.look(&[(2, 5000)]), 1, "somebody else");
        assert_eq!(group.look(&[(2, 5000)]), 2);
    }

    #[test]
    fn it_is_at_home_where_nobody_writes_or_all_do() {
        assert_eq!(Group::new().look(&[]), 2);
        assert_eq!(Group::new().look(&[(1, 399)]), 2, "too few to stay for");
        assert_eq!(Group::new().look(&[(1, 1000), (2, 1000), (3, 1000)]), 2);
    }

    #[test]
    fn it_stays_where_most_writes_come_from_and_a_minute_longer() {
        let mut group = Group::new();
        assert_eq!(group.look(&[(1, 5000), (3, 4000)]), 1);
        for _ in 1..QUIET_LOOKS {
            assert_eq!(group.look(&[]), 1);
        }
        assert_eq!(group.look(&[]), 2);
        assert_eq!(group.look(&[(1, 4000), (3, 5000)]), 2, "no more than the others");
    }

    #[test]
    fn a_new_leader_waits_with_its_judgement() {
        let mut group = Group::new();
        let writes = Writes::default();
        let soon = group.now + NEW / 2;
        assert_eq!(group.leaders.look(GROUP, 1, 2, &writes, soon), 1);
        // What it hears in a short time since is a rate all the same.
        assert_eq!(
            group
                .leaders
                .look(GROUP, 1, 2, &[(1, 400)].into(), soon + NEW / 2),
            1
        );
        group.leaders.see(GROUP, false, group.now);
        assert_eq!(group.look(&[]), 1, "it leads no more: not ours to say");
    }

    #[test]
    fn writes_are_counted_by_where_they_come_from_and_once() {
        let writers = Writers::default();
        for node in [1, 2, 2] {
            writers.note(GROUP, node);
        }
        assert_eq!(writers.clone().take(), [(GROUP, [(1, 1), (2, 2)].into())].into());
        assert_eq!(writers.take(), BTreeMap::new());
    }
}
