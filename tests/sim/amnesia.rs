//! A vote that is forgotten, as nearly as it can be had: a voter whose disk is slow elects a leader, loses power before the vote
//! is written, and comes back to the old leader, which counts on it as before.
//!
//! If it could have voted without waiting for its disk, there would be two majorities: what the old leader acknowledges now,
//! the new one does not have.
//!
//! Or a leader that forgets entries: its disk is slow, and the two others acknowledge them; it loses power and is back before
//! anybody stands for election, with the vote that made it the leader.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use quorate::base::GroupId;
use rand::RngExt;

use crate::client::Client;
use crate::history::Shared as History;
use crate::verify::until;
use crate::world::{World, gateways};

/// Longer than any of it takes.
const NEVER_SYNCED_MS: u64 = 60_000;
const READ_EVERY: Duration = Duration::from_millis(3);
const CHECK_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Default)]
struct Shared {
    /// The last number that was acknowledged, and the last that may have been written.
    acknowledged: Rc<Cell<i64>>,
    sent: Rc<Cell<i64>>,
    stop: Rc<Cell<bool>>,
}

/// Writes larger and larger numbers through one node after another.
async fn write(mut client: Client, nodes: [usize; 3], shared: Shared, history: History) {
    let mut turn = 0;
    while !shared.stop.get() {
        let n = shared.sent.get() + 1;
        shared.sent.set(n);
        if client.done(&["SET", "voted", &n.to_string()]).await.is_some() {
            shared.acknowledged.set(n);
            history.count("writes around a forgotten vote");
        } else {
            turn += 1;
            client.turn_to(gateways()[nodes[turn % 3]]);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What was acknowledged is there, or something later.
async fn check(mut client: Client, shared: Shared) {
    let acknowledged = || shared.acknowledged.get();
    let value = until(CHECK_EVERY, async || {
        client.get_at_least("voted", acknowledged()).await
    })
    .await;
    assert!(value <= shared.sent.get(), "{value} was never written");
}

/// Looks all the time for what was acknowledged.
async fn watch(mut client: Client, shared: Shared, history: History) {
    while !shared.stop.get() {
        if client
            .get_at_least("voted", shared.acknowledged.get())
            .await
            .is_some()
        {
            history.count("reads around forgotten entries");
        }
        tokio::time::sleep(READ_EVERY).await;
    }
}

impl World<'_> {
    /// The whole run of such a seed, but for its end.
    pub fn have_entries_forgotten(&mut self) {
        let leader = self.preferred(GroupId::Shard(0));
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        let (shared, history) = (Shared::default(), Rc::clone(&self.history));
        let writing = shared.clone();
        let nodes = [leader, others[0], others[1]];
        self.sim.client("writer", async move {
            write(Client::new(gateways()[leader]), nodes, writing, history).await;
            Ok(())
        });
        for node in others {
            let (client, watching) = (Client::new(gateways()[node]), shared.clone());
            let history = Rc::clone(&self.history);
            self.sim.client(format!("watcher-{node}"), async move {
                watch(client, watching, history).await;
                Ok(())
            });
        }
        self.run_for(Duration::from_secs(3));
        for _ in 0..3 {
            self.slow_disk(leader, NEVER_SYNCED_MS);
            let unsynced = self.rng.random_range(20..300);
            self.run_for(Duration::from_millis(unsynced));
            self.slow_disk(leader, 1);
            self.reboot(leader);
            // Until it leads again, which it is preferred to.
            self.run_for(Duration::from_secs(6));
        }
        shared.stop.set(true);
    }

    /// The whole run of such a seed, but for its end.
    pub fn have_a_vote_forgotten(&mut self) {
        let leader = self.preferred(GroupId::Shard(0));
        let turn = self.rng.random_range(0..2);
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        let (elected, forgetful) = (others[turn], others[1 - turn]);
        let (shared, history) = (Shared::default(), Rc::clone(&self.history));
        let writing = shared.clone();
        let first = gateways()[leader];
        self.sim.client("writer", async move {
            write(Client::new(first), [leader, forgetful, elected], writing, history).await;
            Ok(())
        });
        self.run_for(Duration::from_secs(3));
        // The voter hears of an election, and has no time to write its vote down.
        self.cut_both(leader, elected);
        self.cut_both(leader, forgetful);
        self.slow_disk(forgetful, NEVER_SYNCED_MS);
        let pause = self.rng.random_range(1000..4000);
        self.run_for(Duration::from_millis(pause));
        // It comes back to the old leader, which has heard of nothing.
        self.cut_both(elected, forgetful);
        self.slow_disk(forgetful, 1);
        self.reboot(forgetful);
        self.mend_both(leader, forgetful);
        self.run_for(Duration::from_secs(4));
        // And the one that was elected goes on.
        self.cut_both(leader, forgetful);
        self.mend_both(elected, forgetful);
        self.run_for(Duration::from_secs(3));
        shared.stop.set(true);
        self.mend_both(leader, forgetful);
        self.mend_both(leader, elected);
        let client = Client::new(gateways()[elected]);
        self.sim.client("checker", async move {
            check(client, shared).await;
            Ok(())
        });
    }
}
