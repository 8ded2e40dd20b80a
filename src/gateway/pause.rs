//! `CLIENT PAUSE`: the commands of this node's clients wait, all or those that may write, until a time has passed or somebody says so.
//!
//! Who pauses them is answered when nothing runs any more that had begun before. A connection says that it runs requests, then looks
//! whether it may; who pauses says so, then looks who runs: in one order for all (`SeqCst`), so one of the two sees the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
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
    /// A connection has ended to run requests while something is paused, or that is over.
    ended: Notify,
}

/// How often a connection has begun and ended to run requests: odd while it does.
#[derive(Debug, Default)]
pub struct Runs(AtomicU64);

impl Runs {
    /// To be said before it is looked at whether anything is paused.
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub fn end(&self, pause: &Pause) {
        self.0.fetch_add(1, Ordering::SeqCst);
        if pause.what.load(Ordering::SeqCst) != NONE {
            pause.ended.notify_waiters();
        }
    }

    fn under_way(&self) -> Option<u64> {
        let count = self.0.load(Ordering::SeqCst);
        (count % 2 == 1).then_some(count)
    }
}

impl Pause {
    /// What waits already waits as long as was said before, or longer.
    pub fn begin(&self, time: Duration, writes_only: bool) {
        let what = if writes_only { WRITES } else { ALL };
        let mut until = self.until.lock();
        self.end_past(&mut until);
        let new = Instant::now().checked_add(time);
        *until = until.max(new);
        self.what.fetch_max(what, Ordering::SeqCst);
    }

    /// Waits until what `all` ran when this was called has ended, or nothing is paused any more. What has begun since has seen the pause.
    pub async fn settled(&self, all: impl IntoIterator<Item = Arc<Runs>>) {
        let under_way = |runs: Arc<Runs>| runs.under_way().map(|count| (runs, count));
        let mut left: Vec<_> = all.into_iter().filter_map(under_way).collect();
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            left.retain(|(runs, count)| runs.under_way() == Some(*count));
            let until = *self.until.lock();
            let Some(until) = until.filter(|_| !left.is_empty()) else {
                return;
            };
            if tokio::time::timeout_at(until, ended).await.is_err() {
                return;
            }
        }
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
        self.ended.notify_waiters();
    }

    /// Whether anything is paused; one load.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.what.load(Ordering::SeqCst) != NONE
    }

    /// Whether a command that may write, or one that does not, has to wait.
    #[must_use]
    pub fn holds(&self, may_write: bool) -> bool {
        match self.what.load(Ordering::SeqCst) {
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
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_pauses_waits_for_what_runs_and_for_no_more() {
        let pause = Pause::default();
        let [ends, rests, again] = [(); 3].map(|()| Arc::new(Runs::default()));
        let all = || [&ends, &rests, &again].map(Arc::clone);
        ends.begin();
        again.begin();
        pause.begin(Duration::from_secs(9), true);
        let mut settled = Box::pin(pause.settled(all()));
        assert!(settled.as_mut().now_or_never().is_none());
        // It has seen the pause, if it begins anew.
        again.end(&pause);
        again.begin();
        rests.begin();
        assert!(settled.as_mut().now_or_never().is_none(), "one has not ended yet");
        ends.end(&pause);
        assert!(settled.now_or_never().is_some());
        let begun = Instant::now();
        pause.settled(all()).await;
        assert_eq!(
            begun.elapsed(),
            Duration::from_secs(9),
            "no longer than the pause"
        );
        pause.begin(Duration::from_secs(9), true);
        let mut ending = Box::pin(pause.settled(all()));
        assert!(ending.as_mut().now_or_never().is_none());
        let begun = Instant::now();
        pause.end();
        ending.await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "nothing is paused any more");
    }

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
