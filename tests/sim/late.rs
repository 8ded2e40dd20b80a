//! Answers that are late: everything between a leader and the others is held up, in both directions, just when its last append has
//! reached them, and arrives long after they have elected another leader and written on.
//!
//! What they had answered before must not be taken for a sign that they follow it still.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use quorate::base::GroupId;
use rand::RngExt;
use redis_protocol::resp2::types::BytesFrame as Frame;
use serde_json::Value;

use crate::client::{Client, number};
use crate::history::Shared as History;
use crate::verify::until;
use crate::world::{World, gateways};

/// Long enough for an election and some writes after it, too short for a link to count as broken.
const HELD_MS: std::ops::Range<u64> = 1200..1350;
/// Between two looks at who leads.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const ROUNDS: usize = 2;
const READ_EVERY: Duration = Duration::from_millis(20);

#[derive(Clone, Default)]
struct Shared {
    acknowledged: Rc<Cell<i64>>,
    stop: Rc<Cell<bool>>,
}

/// Counts; what was acknowledged is never gone again, in whatever order it is counted.
async fn count(mut client: Client, shared: Shared) {
    while !shared.stop.get() {
        if let Some(counted) = client.done(&["INCR", "late"]).await {
            let counted = number(&counted).unwrap_or(0);
            shared.acknowledged.set(shared.acknowledged.get().max(counted));
        }
    }
}

/// Waits until the client's node knows another leader than `old`, or all is over.
async fn another_leads(client: &mut Client, old: usize, shared: &Shared) {
    until(LOOK_EVERY, async || {
        if shared.stop.get() {
            return Some(());
        }
        let Some(Frame::BulkString(json)) = client.done(&["QUORATE", "STATUS"]).await else {
            return None;
        };
        let status: Value = serde_json::from_slice(&json).expect("a status is JSON");
        let groups = status["groups"].as_array().expect("groups");
        let group = groups.iter().find(|group| group["group"] == "shard-0");
        let leader = group.and_then(|group| group["leader"].as_u64());
        leader
            .is_some_and(|leader| leader != old as u64 + 1)
            .then_some(())
    })
    .await;
}

/// Asks the old leader once.
async fn read(mut client: Client, shared: Shared, history: History) {
    let acknowledged = shared.acknowledged.get();
    if client.get_at_least("late", acknowledged).await.is_some() {
        history.count("reads around late answers");
    }
}

impl World<'_> {
    /// The whole run of such a seed, but for its end.
    pub fn have_answers_come_late(&mut self) {
        let leader = self.preferred(GroupId::Shard(0));
        let turn = self.rng.random_range(0..2);
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        let others = [others[turn], others[1 - turn]];
        let shared = Shared::default();
        // One of them asks the leader itself, so that an append is on its way whenever it falls silent.
        for (n, node) in [leader, others[0], others[1]].into_iter().enumerate() {
            let (client, counting) = (Client::new(gateways()[node]), shared.clone());
            self.sim.client(format!("counter-{n}"), async move {
                count(client, counting).await;
                Ok(())
            });
        }
        let (asking, history) = (shared.clone(), Rc::clone(&self.history));
        self.sim.client("readers", async move {
            // Always a fresh one: what has waited for long at the old leader has gone on to others.
            while !asking.stop.get() {
                let client = Client::new(gateways()[leader]);
                tokio::task::spawn_local(read(client, asking.clone(), Rc::clone(&history)));
                tokio::time::sleep(READ_EVERY).await;
            }
            Ok(())
        });
        let pause = self.rng.random_range(1000..1100);
        self.run_for(Duration::from_millis(pause));
        for _ in 0..ROUNDS {
            for other in others {
                self.deafen(leader, other);
            }
            let pause = self.rng.random_range(20..100);
            self.run_for(Duration::from_millis(pause));
            for other in others {
                self.hold(leader, other);
            }
            // Those that ask the old leader are of no use now.
            for node in others {
                let counting = shared.clone();
                let at = self.sim.elapsed().as_millis();
                self.sim.client(format!("counter-{node}-at-{at}"), async move {
                    let mut client = Client::new(gateways()[node]);
                    // Who asks before the others have elected a leader waits for the old one.
                    another_leads(&mut client, leader, &counting).await;
                    count(client, counting).await;
                    Ok(())
                });
            }
            let held = self.rng.random_range(HELD_MS);
            self.run_for(Duration::from_millis(held));
            // What they had answered arrives, and of all that they have said since nothing.
            for other in others {
                self.let_hear(leader, other);
                let apart = self.rng.random_range(0..30);
                self.run_for(Duration::from_millis(apart));
            }
            for other in others {
                self.release(leader, other);
            }
            self.run_for(Duration::from_secs(3));
        }
        shared.stop.set(true);
    }
}
