//! `CLIENT PAUSE`: the commands of this node's clients wait, all or those that may write, until a time has passed or somebody says so.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

const NONE: u8 = 0;
const WRITES: u8 = 1;
const ALL: u8 = 2;

#[derive(Debug, Default)]
pub struct Pause {
    /// Looked at by every command.
    what: AtomicU8,
    until: Mutex<Option<Instant>>,
    over: Notify,
}

impl Pause {
    /// What waits already waits as long as was said before, or longer.
    pub fn begin(&self, time: Duration, writes_only: bool) {
        let what = if writes_only { WRITES } else { ALL };
        let mut until = self.until.lock();
        let new = Instant::now().checked_add(time);
        *until = until.max(new);
        self.what.fetch_max(what, Ordering::Relaxed);
    }

    pub fn end(&self) {
        *self.until.lock() = None;
        self.what.store(NONE, Ordering::Relaxed);
        self.over.notify_waiters();
    }

    /// Whether anything is paused; one load.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.what.load(Ordering::Relaxed) != NONE
    }

    fn holds(&self, may_write: bool) -> bool {
        match self.what.load(Ordering::Relaxed) {
            NONE => false,
            WRITES => may_write,
            _ => true,
        }
    }

    /// Waits until a command that may write, or one that does not, may run.
    pub async fn pass(&self, may_write: bool) {
        loop {
            let over = self.over.notified();
            tokio::pin!(over);
            over.as_mut().enable();
            if !self.holds(may_write) {
                return;
            }
            let until = *self.until.lock();
            match until {
                Some(until) if until > Instant::now() => {
                    // Either way it is looked at anew.
                    let _ = tokio::time::timeout_at(until, over).await;
                }
                _ => self.end(),
            }
        }
    }
}
