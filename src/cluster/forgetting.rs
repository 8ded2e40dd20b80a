//! Lets the shards that are led here forget the votes that they keep for committed attempts: as soon as the coordinator's
//! log does not show an attempt as staged any more, nobody will inquire about it.
//!
//! One that a shard has committed was staged before that. So "not staged" means "decided", whenever it was looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::message::{Ask, Told};
use super::router::Router;
use crate::base::{AttemptId, GroupId};
use crate::machine::{Body, Read, Request, Seen, Shard};
use crate::raft::{Group, Groups};

const EVERY: Duration = Duration::from_millis(100);
/// Attempts in one question; the rest waits for the next round.
const ASK_MAX: usize = 8192;
/// How long a coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs until the runtime ends.
pub async fn run(groups: Arc<Groups>, router: Router) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let led = groups.all().into_iter().filter(Group::is_leader);
        let questions: Vec<_> = led
            .flat_map(|group| {
                let kept = group.peek(|machine| machine.as_shard().map(by_coordinator).unwrap_or_default());
                kept.into_iter()
                    .map(move |(coordinator, attempts)| (group.clone(), coordinator, attempts))
            })
            .collect();
        let router = &router;
        let forget = |(group, coordinator, attempts)| forget(router, group, coordinator, attempts);
        join_all(questions.into_iter().map(forget)).await;
    }
}

fn by_coordinator(shard: &Shard) -> BTreeMap<GroupId, Vec<AttemptId>> {
    let mut kept: BTreeMap<GroupId, Vec<AttemptId>> = BTreeMap::new();
    for (attempt, coordinator) in shard.kept() {
        let attempts = kept.entry(coordinator).or_default();
        if attempts.len() < ASK_MAX {
            attempts.push(attempt);
        }
    }
    kept
}

async fn forget(router: &Router, group: Group, coordinator: GroupId, attempts: Vec<AttemptId>) {
    let ask = Ask::Read(Read::Staged(attempts.clone()));
    let told = router.ask(coordinator, &ask, Instant::now() + PATIENCE).await;
    // Without an answer they are kept, and the next round asks again.
    let Ok(Told::Seen(Seen::Staged(staged))) = told else {
        return;
    };
    let staged: BTreeSet<AttemptId> = staged.into_iter().collect();
    let decided: Vec<AttemptId> = attempts.into_iter().filter(|a| !staged.contains(a)).collect();
    if decided.is_empty() {
        return;
    }
    if let Err(e) = group.propose(Request::anonymous(Body::Forget(decided))).await {
        tracing::debug!(group = %group.id(), "not forgotten yet: {e}");
    }
}
