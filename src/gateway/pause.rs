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
    /// Looked at by every command. Changed only while `until` is held: nothing is paused where that is `None`.
    what: AtomicU8,
    until: Mutex<Option<Instant>>,
    over: Notify,
}

impl Pause {
    /// What waits already waits as long as was said before, or longer.
    pub fn begin(&self, time: Duration, writes_only: bool) {
        let what = if writes_only { WRITES } else { ALL };
        let mut until = self.until.lock();
        self.end_past(&mut until);
        let new = Instant::now().checked_add(time);
        *until = until.max(new);
        self.what.fetch_max(what, Ordering::Relaxed);
    }

    /// Looked at by the clock: while anything is paused, each request is looked at by itself.
    pub fn end_if_over(&self) {
        self.end_past(&mut self.until.lock());
    }

    pub fn end(&self) {
        self.end_now(&mut self.until.lock());
    }

    fn end_past(&self, until: &mut Option<Instant>) {
        if until.is_some_and(|until| until <= Instant::now()) {
            self.end_now(until);
        }
    }

    fn end_now(&self, until: &mut Option<Instant>) {
        *until = None;
        self.what.store(NONE, Ordering::Relaxed);
        self.over.notify_waiters();
    }

    /// Whether anything is paused; one load.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.what.load(Ordering::Relaxed) != NONE
    }

    /// Whether a command that may write, or one that does not, has to wait.
    #[must_use]
    pub fn holds(&self, may_write: bool) -> bool {
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
            let until = {
                let mut until = self.until.lock();
                self.end_past(&mut until);
                *until
            };
            if let Some(until) = until {
                // Either way it is looked at anew.
                let _ = tokio::time::timeout_at(until, over).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_said_of_a_pause_that_is_over_is_not_said_of_the_next() {
        let pause = Pause::default();
        pause.begin(Duration::from_millis(50), false);
        assert!(pause.holds(false));
        pause.begin(Duration::from_millis(20), true);
        tokio::time::advance(Duration::from_millis(40)).await;
        assert!(pause.holds(false), "it is as long and as much as was said first");
        tokio::time::advance(Duration::from_millis(20)).await;
        pause.begin(Duration::from_secs(3), true);
        assert!(!pause.holds(false) && pause.holds(true));
        tokio::time::advance(Duration::from_secs(4)).await;
        pause.end_if_over();
        assert!(!pause.is_on());
    }
}
