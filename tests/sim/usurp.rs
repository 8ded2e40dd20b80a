//! A leader whose lease outlives its leadership, as nearly as it can be had: one voter has not heard of it for long, the
//! other forgets in the same moment that it has, and both elect another leader while the old one still counts on them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use quorate::base::GroupId;
use rand::RngExt;
use tokio::sync::watch;

use crate::client::Client;
use crate::world::{World, gateways};

/// What the writer was told of last; what holds it up, and what ends it and the reader.
#[derive(Clone)]
struct Shared {
    acknowledged: Rc<Cell<i64>>,
    held: Rc<watch::Sender<bool>>,
    stop: Rc<Cell<bool>>,
}

async fn write(mut client: Client, mut turn: usize, usurpers: [usize; 2], shared: Shared) {
    let mut n = 0;
    let mut held = shared.held.subscribe();
    while !shared.stop.get() {
        // The sender is held by this very task.
        let _ = held.wait_for(|held| !held).await;
        n += 1;
        if client.done(&["SET", "usurped", &n.to_string()]).await.is_some() {
            shared.acknowledged.set(n);
        } else {
            turn += 1;
            client.turn_to(gateways()[usurpers[turn % 2]]);
        }
    }
}

/// Asks the old leader, again and again: never may an older value come than one that was acknowledged before it asked.
async fn read(mut client: Client, shared: Shared) -> u64 {
    let mut reads = 0;
    while !shared.stop.get() {
        let acknowledged = shared.acknowledged.get();
        reads += u64::from(client.get_at_least("usurped", acknowledged).await.is_some());
        // Its pace: without one a run would do little else.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    reads
}

impl World<'_> {
    /// The whole run of such a seed, but for its end.
    pub fn usurp_a_leader(&mut self) {
        let leader = self.preferred(GroupId::Shard(0));
        let turn = self.rng.random_range(0..2);
        let usurpers = [(leader + 1) % 3, (leader + 2) % 3];
        let shared = Shared {
            acknowledged: Rc::default(),
            held: Rc::new(watch::Sender::new(false)),
            stop: Rc::default(),
        };
        let (writing, reading) = (shared.clone(), shared.clone());
        let first = gateways()[usurpers[turn]];
        self.sim.client("writer", async move {
            write(Client::new(first), turn, usurpers, writing).await;
            Ok(())
        });
        let (old, history) = (gateways()[leader], Rc::clone(&self.history));
        self.sim.client("reader", async move {
            for _ in 0..read(Client::new(old), reading).await {
                history.count("reads of a leader that is usurped");
            }
            Ok(())
        });
        self.run_for(Duration::from_secs(3));
        // Nothing is written meanwhile: the one that does not hear of it can be elected.
        shared.held.send_replace(true);
        self.run_for(Duration::from_secs(1));
        let (deaf, forgetful) = (usurpers[turn], usurpers[1 - turn]);
        self.cut_both(leader, deaf);
        let pause = self.rng.random_range(1000..2500);
        self.run_for(Duration::from_millis(pause));
        self.cut_both(leader, forgetful);
        self.reboot(forgetful);
        shared.held.send_replace(false);
        self.run_for(Duration::from_secs(3));
        shared.stop.set(true);
    }
}
