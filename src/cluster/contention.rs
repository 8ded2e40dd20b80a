//! Keys for which optimistic transactions have lately been in each other's way: those go one after another, in the line of the
//! key's shard, for a while. Correctness does not depend on it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::node::Node;
use super::waiting::InLine;
use crate::machine::commands::{Need, Waits};

/// How long a key counts as contended after a conflict.
const LASTS: Duration = Duration::from_secs(1);
/// Keys that are remembered; more are just not.
const KEYS_MAX: usize = 4096;

/// The contended keys, and until when they count as such.
#[derive(Debug, Default)]
pub struct Contention {
    until: Mutex<BTreeMap<Bytes, Instant>>,
}

impl Contention {
    /// Somebody was in the way of a transaction on this key.
    pub fn note(&self, key: &Bytes) {
        let mut until = self.until.lock();
        if until.len() >= KEYS_MAX {
            let now = Instant::now();
            until.retain(|_, at| *at > now);
        }
        if until.len() < KEYS_MAX {
            until.insert(Bytes::copy_from_slice(key), Instant::now() + LASTS);
        }
    }

    #[must_use]
    pub fn is_known(&self, key: &[u8]) -> bool {
        let mut until = self.until.lock();
        match until.get(key) {
            None => false,
            Some(at) if *at > Instant::now() => true,
            Some(_) => {
                until.remove(key);
                false
            }
        }
    }
}

impl Node {
    /// Waits for a turn at the key, which lasts until what this returns is dropped; without one after `deadline`.
    pub(super) async fn take_turn(&self, key: &Bytes, deadline: Instant) -> InLine {
        let mut line = self.stand_in_line(&Waits {
            keys: vec![(key.clone(), Need::Turn)],
            timeout_ms: None,
        });
        // Then it goes on as it would without any order.
        let _ = timeout_at(deadline, line.turn()).await;
        line
    }
}
