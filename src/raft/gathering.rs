//! Who was just answered mostly asks again at once: a node's groups wait a moment for them, and take them along.
//!
//! ```text
//!  without: half of the clients are in an entry, the other half come meanwhile and are in the next one, by turns
//!  with:    all are in one; a round has twice the requests, and costs as much however many it has
//! ```
//!
//! Counted are the requests at all of a node's groups, since who was answered by one group asks another next. Once a group's
//! entry is done, its next waits until there are about as many as there recently were at the most. Who comes when it has been as
//! long as the entry took ends the wait as well, and a millisecond or two in which nobody comes. Whoever comes to a group that has no
//! entry under way does not wait, so a client that is alone never does; and where waiting did not help it is tried less and less.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// The longest wait for those that may come. tokio's clock ticks in milliseconds.
const PATIENCE_MAX: Duration = Duration::from_millis(1);
/// So many make an entry that is worth its cost: then what it costs is less than what waiting for more does, a disk and
/// processors that have nothing to do.
const ENOUGH: usize = 24;
/// After how many times in vain, at the most, it is tried again.
const SKIPPED_MAX: u32 = 1 << 10;

/// All of a node's groups share one.
#[derive(Default)]
pub struct Gathering {
    state: Mutex<State>,
    over: Notify,
}

#[derive(Default)]
struct State {
    /// Requests at the node's groups: on their way into a log, or in it and not applied.
    present: usize,
    /// How many those were at the most, lately.
    most: usize,
    /// Until when those that come are waited for.
    until: Option<Instant>,
    /// How many times the next wait in vain makes skip.
    doubt: u32,
    skip: u32,
}

/// Requests that count as present until this is dropped.
pub struct Presence {
    gathering: Arc<Gathering>,
    count: usize,
}

impl Gathering {
    /// One request more is present.
    #[must_use]
    pub fn come(self: &Arc<Self>) -> Presence {
        let mut state = self.state.lock();
        state.present += 1;
        state.most = state.most.max(state.present);
        if state
            .until
            .is_some_and(|until| state.complete() || Instant::now() >= until)
        {
            self.end(&mut state);
        }
        Presence {
            gathering: Arc::clone(self),
            count: 1,
        }
    }

    #[cfg(test)]
    pub fn present(&self) -> usize {
        self.state.lock().present
    }

    /// Waits until those who were just answered are back, or it has been as long as the entry took (see the module); not at all
    /// if `waiting` are many as it is.
    pub async fn gather(&self, waiting: usize, took: Duration) {
        if waiting >= ENOUGH {
            return;
        }
        let (over, mine) = {
            let mut state = self.state.lock();
            if state.complete() {
                return;
            }
            if state.skip > 0 {
                state.skip -= 1;
                return;
            }
            let until = Instant::now() + took.min(PATIENCE_MAX);
            // Under the lock, as who ends it tells of it.
            (self.over.notified(), *state.until.get_or_insert(until))
        };
        if timeout(PATIENCE_MAX, over).await.is_err() {
            let mut state = self.state.lock();
            if state.until == Some(mine) {
                self.end(&mut state);
            }
        }
    }

    fn end(&self, state: &mut State) {
        if state.until.take().is_none() {
            return;
        }
        if state.complete() {
            state.doubt /= 2;
        } else {
            state.most = state.present;
            state.doubt = (state.doubt * 2).clamp(1, SKIPPED_MAX);
            state.skip = state.doubt;
        }
        self.over.notify_waiters();
    }
}

impl State {
    /// Nine of ten: somebody is always late.
    fn complete(&self) -> bool {
        self.present * 10 >= self.most * 9
    }
}

impl Presence {
    /// Counts for the other's as well.
    pub fn add(&mut self, mut other: Presence) {
        self.count += std::mem::take(&mut other.count);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.count > 0 {
            self.gathering.state.lock().present -= self.count;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use tokio::time::advance;

    use super::*;

    const TOOK: Duration = Duration::from_micros(600);

    fn come(gathering: &Arc<Gathering>, count: usize) -> Vec<Presence> {
        (0..count).map(|_| gathering.come()).collect()
    }

    /// Twenty were there, sixteen of whom are left.
    fn sixteen_of_twenty() -> (Arc<Gathering>, Vec<Presence>) {
        let gathering = Arc::new(Gathering::default());
        let mut present = come(&gathering, 20);
        present.truncate(16);
        (gathering, present)
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_answered_is_waited_for_but_not_the_last_of_ten() {
        let (gathering, _present) = sixteen_of_twenty();
        let (mut one, mut two) = (
            Box::pin(gathering.gather(0, TOOK)),
            Box::pin(gathering.gather(0, TOOK)),
        );
        assert!(poll!(&mut one).is_pending() && poll!(&mut two).is_pending());
        let _seventeenth = come(&gathering, 1);
        assert!(poll!(&mut one).is_pending(), "17 of 20");
        let _eighteenth = come(&gathering, 1);
        assert!(
            poll!(&mut one).is_ready() && poll!(&mut two).is_ready(),
            "18 of 20"
        );
        gathering.gather(0, TOOK).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_and_a_full_entry_do_not_wait() {
        let gathering = Arc::new(Gathering::default());
        let begin = Instant::now();
        gathering.gather(0, TOOK).await;
        drop(come(&gathering, 1));
        let mut next = Box::pin(gathering.gather(0, TOOK));
        assert!(poll!(&mut next).is_pending(), "nobody waits yet");
        let _again = come(&gathering, 1);
        assert!(poll!(&mut next).is_ready());
        let (gathering, _present) = sixteen_of_twenty();
        gathering.gather(ENOUGH, TOOK).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_as_long_as_the_entry_took_and_no_longer_and_doubts_that_it_helps() {
        let (gathering, mut present) = sixteen_of_twenty();
        let mut wait = Box::pin(gathering.gather(0, TOOK));
        assert!(poll!(&mut wait).is_pending());
        advance(TOOK).await;
        present.extend(come(&gathering, 1));
        assert!(poll!(&mut wait).is_ready(), "one came, too late");
        let begin = Instant::now();
        for in_vain in 1..=5 {
            // There were more for a moment, so it would wait.
            drop(come(&gathering, 20));
            for _ in 0..1 << (in_vain - 1) {
                gathering.gather(0, TOOK).await;
            }
            assert_eq!(begin.elapsed(), 2 * PATIENCE_MAX * (in_vain - 1), "not tried");
            // Nobody comes. tokio's clock rounds up.
            gathering.gather(0, TOOK).await;
            assert_eq!(begin.elapsed(), 2 * PATIENCE_MAX * in_vain);
        }
    }

    #[test]
    fn present_is_who_has_not_been_answered() {
        let gathering = Arc::new(Gathering::default());
        let mut all = gathering.come();
        all.add(gathering.come());
        assert_eq!(gathering.present(), 2);
        drop(all);
        assert_eq!(gathering.present(), 0);
    }
}
