//! P8 in production: the replicas of a group are compared at equal log indexes, every few seconds.
//!
//! ```text
//!  leader ─Digest entry─▶ log ─▶ every replica notes (index, digest) ─▶ each asks the others for theirs at that index
//!                                                                        └─ a majority has another one: it stops
//! ```
//!
//! A replica judges nobody but itself, by what all members say: one that is wrong convinces no other, and if it leads it
//! stops like any other. While too few members answer to tell who is wrong, that is logged, and the next digest tells. If
//! all answer and no majority agrees on anything, nobody knows what is right, and all stop.
//!
//! Nothing is logged while nothing changes. Not here: mending a replica. What was wrong in memory alone is right again
//! after a start; what is wrong on disk goes with the data directory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior};

use super::message::{Ask, Told};
use super::router::Router;
use crate::base::{GroupId, NodeId};
use crate::machine::{Body, Digest, Request};
use crate::raft::{Group, Groups};

pub struct Digests {
    pub me: NodeId,
    pub groups: Arc<Groups>,
    pub router: Router,
    /// How often a group that changes is compared.
    pub every: Duration,
    pub stopping: Arc<AtomicBool>,
}

/// What the other members' digests say about this replica's.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All members have the same.
    Equal,
    /// Not all have answered, and nobody differs.
    Open,
    /// A majority has this one; these members do not.
    Others(Vec<NodeId>),
    /// Some differ, and too few have answered to say who is wrong.
    Unclear(Vec<NodeId>),
    /// This replica is wrong.
    Wrong(String),
}

fn judge(mine: Digest, others: &[(NodeId, Option<Digest>)]) -> Verdict {
    let members = others.len() + 1;
    let majority = members / 2 + 1;
    let mut counts: BTreeMap<Digest, usize> = BTreeMap::from([(mine, 1)]);
    for digest in others.iter().filter_map(|(_, digest)| *digest) {
        *counts.entry(digest).or_default() += 1;
    }
    let differs = |(_, digest): &&(NodeId, Option<Digest>)| digest.is_some_and(|digest| digest != mine);
    let differing: Vec<NodeId> = others.iter().filter(differs).map(|(node, _)| *node).collect();
    let silent = others.iter().any(|(_, digest)| digest.is_none());
    let agreed = counts.iter().find(|(_, count)| **count >= majority);
    match agreed {
        Some((digest, count)) if *digest != mine => Verdict::Wrong(format!(
            "its digest is {mine}, and {count} of {members} replicas have {digest}"
        )),
        _ if differing.is_empty() && silent => Verdict::Open,
        _ if differing.is_empty() => Verdict::Equal,
        Some(_) => Verdict::Others(differing),
        None if silent => Verdict::Unclear(differing),
        None => Verdict::Wrong(format!("its digest is {mine}, and no majority agrees on any")),
    }
}

/// What is known of one group.
#[derive(Default)]
struct Watched {
    asked: Option<Instant>,
    /// Log index that needs no further comparison.
    settled: u64,
    /// Log index that was complained of.
    told: u64,
}

impl Digests {
    /// Runs until the runtime ends.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(self.every / 4);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched: BTreeMap<GroupId, Watched> = BTreeMap::new();
        while !self.stopping.load(Ordering::Relaxed) {
            tick.tick().await;
            let groups = self.groups.all();
            for group in &groups {
                self.ask_for_digests(group, watched.entry(group.id()).or_default());
            }
            let due = groups.iter().filter_map(|group| {
                let (index, mine) = group.last_digest()?;
                let watched = watched.get(&group.id())?;
                (index > watched.settled).then(|| self.compare(group, index, mine))
            });
            for (group, index, verdict) in join_all(due.collect::<Vec<_>>()).await {
                if let Some(watched) = watched.get_mut(&group.id()) {
                    self.conclude(&group, index, verdict, watched).await;
                }
            }
        }
    }

    /// At the leader: puts an entry into the log behind which all replicas note their digests.
    fn ask_for_digests(&self, group: &Group, watched: &mut Watched) {
        let recent = watched.asked.is_some_and(|at| at.elapsed() < self.every);
        if recent || !group.is_leader() || !group.changed_since_digest() {
            return;
        }
        watched.asked = Some(Instant::now());
        let group = group.clone();
        tokio::spawn(async move {
            if let Err(e) = group.propose(Request::anonymous(Body::Digest)).await {
                tracing::debug!(group = %group.id(), "no digest yet: {e}");
            }
        });
    }

    async fn compare(&self, group: &Group, index: u64, mine: Digest) -> (Group, u64, Verdict) {
        let limit = Instant::now() + self.every / 2;
        let (ask, id) = (Ask::Digest(index), group.id());
        let others = group.members().iter().filter(|&&node| node != self.me);
        let asked = others.map(|&node| {
            let ask = &ask;
            async move {
                let told = self.router.ask_member(node, id, ask, limit).await;
                (
                    node,
                    if let Some(Told::Digest(digest)) = told {
                        digest
                    } else {
                        None
                    },
                )
            }
        });
        (group.clone(), index, judge(mine, &join_all(asked).await))
    }

    async fn conclude(&self, group: &Group, index: u64, verdict: Verdict, watched: &mut Watched) {
        let id = group.id();
        let first = std::mem::replace(&mut watched.told, index) != index;
        match verdict {
            Verdict::Open => watched.told = 0,
            Verdict::Equal => watched.settled = index,
            Verdict::Others(nodes) => {
                watched.settled = index;
                tracing::error!(group = %id, index, "the replicas on nodes {nodes:?} differ from the majority's");
            }
            Verdict::Unclear(nodes) if first => {
                tracing::error!(group = %id, index, "the replicas on nodes {nodes:?} differ from this one, and too few answer to say which is wrong");
            }
            Verdict::Unclear(_) => {}
            Verdict::Wrong(why) => {
                watched.settled = index;
                let why = format!("this replica differs from the others at index {index}: {why}");
                tracing::error!(group = %id, index, "{why}");
                group.fail(why).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(keys: u64) -> Digest {
        Digest { keys, rest: 7 }
    }

    fn judged(mine: u64, others: &[Option<u64>]) -> Verdict {
        let others = (2..).zip(others).map(|(node, keys)| (node, keys.map(digest)));
        judge(digest(mine), &others.collect::<Vec<_>>())
    }

    #[test]
    fn the_minority_is_wrong_whoever_it_is() {
        assert_eq!(judged(1, &[Some(1), Some(1)]), Verdict::Equal);
        assert_eq!(judged(1, &[Some(1), Some(2)]), Verdict::Others(vec![3]));
        assert!(matches!(judged(1, &[Some(2), Some(2)]), Verdict::Wrong(_)));
        assert!(matches!(judged(1, &[Some(2), Some(3)]), Verdict::Wrong(_)));
        assert!(matches!(judged(1, &[Some(2)]), Verdict::Wrong(_)));
        assert!(matches!(
            judged(1, &[Some(2), Some(2), Some(1), Some(2)]),
            Verdict::Wrong(_)
        ));
    }

    #[test]
    fn silence_accuses_nobody() {
        assert_eq!(judged(1, &[None, None]), Verdict::Open);
        assert_eq!(judged(1, &[Some(1), None]), Verdict::Open);
        assert_eq!(judged(1, &[Some(2), None]), Verdict::Unclear(vec![2]));
        assert_eq!(judged(1, &[]), Verdict::Equal);
        let five = [Some(2), Some(2), None, None];
        assert_eq!(judged(1, &five), Verdict::Unclear(vec![2, 3]));
    }
}
