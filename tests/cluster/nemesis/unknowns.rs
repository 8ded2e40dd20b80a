//! Outcomes that a gateway did not know. Each has an id, and `TXN STATUS <id>` must tell, at any node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use super::world::{World, lock};
use crate::wait::within;
use crate::wire::{Client, Reply};

/// Between two rounds of asking.
const ROUND: Duration = Duration::from_millis(20);
/// For one answer; a gateway that has lost its peers takes its time.
const ANSWER: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Committed,
    Aborted,
    /// Asked since this time, with the last answer.
    NotYet(u64, String),
}

#[derive(Debug, Default)]
pub struct Unknowns {
    told: Mutex<BTreeMap<String, Told>>,
}

impl Unknowns {
    pub fn ask(&self, id: String, time: u64) {
        lock(&self.told)
            .entry(id)
            .or_insert(Told::NotYet(time, "not asked yet".into()));
    }

    pub fn told(&self, id: &str) -> Option<Told> {
        lock(&self.told).get(id).cloned()
    }

    /// Those that nobody has told, with what was said last.
    pub fn open(&self) -> Vec<(String, String)> {
        let told = lock(&self.told);
        let open = told.iter().filter_map(|(id, told)| match told {
            Told::NotYet(_, last) => Some((id.clone(), last.clone())),
            _ => None,
        });
        open.collect()
    }

    /// How many were told committed and aborted.
    pub fn count(&self) -> (usize, usize) {
        let told = lock(&self.told);
        let count = |what: &Told| told.values().filter(|told| *told == what).count();
        (count(&Told::Committed), count(&Told::Aborted))
    }
}

/// Asks for all that is open, at all nodes in turn, until the load has ended.
pub fn keep_asking(world: &World) {
    let mut turn = 0;
    while !world.gate.is_stopped() {
        let open = world.unknowns.open();
        if !open.is_empty() {
            turn += 1;
            ask_once(world, world.addresses[turn % world.addresses.len()], &open);
        }
        let _ = within(ROUND, || world.gate.is_stopped().then_some(()));
    }
}

/// What the cluster knows of all that is open, for people.
pub fn inform(world: &World) -> Vec<String> {
    let ask = |id: &String| {
        let mut client = Client::open_for(world.addresses[0], ANSWER).ok()?;
        client.call(&["TXN", "INFO", id]).ok().map(|reply| show(&reply))
    };
    let open = world.unknowns.open();
    open.iter()
        .map(|(id, _)| ask(id).unwrap_or_else(|| format!("nothing on {id}")))
        .collect()
}

fn show(reply: &Reply) -> String {
    match reply {
        Reply::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        other => other.text().unwrap_or_else(|| format!("{other:?}")),
    }
}

/// A node that does not answer leaves the rest to the next.
fn ask_once(world: &World, address: SocketAddr, open: &[(String, String)]) {
    let Ok(mut client) = Client::open_for(address, ANSWER) else {
        return;
    };
    for (id, _) in open {
        let Ok(reply) = client.call(&["TXN", "STATUS", id]) else {
            return;
        };
        let said = match reply {
            Reply::Error(text) => text,
            other => other.text().unwrap_or_else(|| format!("{other:?}")),
        };
        let mut told = lock(&world.unknowns.told);
        let entry = told.get_mut(id).expect("nothing is ever removed");
        match said.as_str() {
            "committed" => *entry = Told::Committed,
            "aborted" => *entry = Told::Aborted,
            _ => {
                if let Told::NotYet(_, last) = entry {
                    *last = said;
                }
            }
        }
    }
}
