//! A group that nobody uses stops ticking, so that many idle groups cost little. (CockroachDB calls it quiescence, TiKV
//! hibernation.)
//!
//! ```text
//!  follower: nothing new for a while ─▶ asleep: no election timer; whoever looks after it sees whether the leader still beats
//!  leader: unused for a second longer ─▶ asleep: beats every 3/8 to 5/8 election_max instead of every heartbeat
//!
//!  awake again   a request; a call of Raft that says anything new; no leader, or no word from it for election_max
//! ```
//!
//! openraft ticks five times a heartbeat, and every tick is a turn of its core. Nobody else has to agree, since the slow beat
//! still comes within what a leader's lease and an election wait for: a leader that stops beating loses its group
//! as soon as one that is used does, and a sleeping one takes writes at once. Only timers are switched, so no promise depends
//! on this.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Raft;
use crate::host::chance;

/// Leaders fall asleep so much later than followers: one that is awake may expect beats at the usual pace.
const LEADER_LATER: Duration = Duration::from_secs(1);

/// When to sleep and how.
#[derive(Debug, Clone, Copy)]
pub struct HibernationOptions {
    /// Without use; `None`: never.
    pub after: Option<Duration>,
    pub election_max: Duration,
}

/// Whether one replica sleeps. Held by its group, proposer and reader.
pub struct Hibernation {
    raft: Raft,
    options: HibernationOptions,
    asleep: AtomicBool,
    /// Since it was last looked at: somebody used the group or said something new.
    used: AtomicBool,
    /// Since it was last looked at: the leader beat.
    heard: AtomicBool,
    seen: Mutex<Seen>,
}

/// When things were last found to have happened.
struct Seen {
    used: Instant,
    heard: Instant,
    /// When a sleeping leader beats next.
    beats: Instant,
}

impl Hibernation {
    pub fn new(raft: Raft, options: HibernationOptions) -> Hibernation {
        let now = Instant::now();
        Hibernation {
            raft,
            options,
            asleep: AtomicBool::new(false),
            used: AtomicBool::new(true),
            heard: AtomicBool::new(true),
            seen: Mutex::new(Seen {
                used: now,
                heard: now,
                beats: now,
            }),
        }
    }

    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Acquire)
    }

    /// The leader has said that it is there.
    pub fn heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// The group is used, or has heard something new: it ticks from now on.
    pub fn wake(&self) {
        self.heard();
        self.used.store(true, Ordering::Relaxed);
        if self.is_asleep() && self.asleep.swap(false, Ordering::AcqRel) {
            self.raft.runtime_config().tick(true);
        }
    }

    fn sleep(&self) {
        self.asleep.store(true, Ordering::Release);
        self.raft.runtime_config().tick(false);
        if !self.is_asleep() {
            // Woken at that very moment.
            self.raft.runtime_config().tick(true);
        }
    }

    /// To be called several times in an `election_max`: falls asleep, beats slowly, notices silence.
    pub async fn look(&self, leads: bool, has_leader: bool) {
        let Some(after) = self.options.after else {
            return;
        };
        let beats = {
            let now = Instant::now();
            let mut seen = self.seen.lock();
            let used = self.used.swap(false, Ordering::Relaxed);
            if used {
                seen.used = now;
            }
            if self.heard.swap(false, Ordering::Relaxed) {
                seen.heard = now;
            }
            let after = if leads { after + LEADER_LATER } else { after };
            let silent = !has_leader || !leads && now - seen.heard > self.options.election_max;
            match (self.is_asleep(), silent) {
                // One that was used while it fell asleep may not have noticed.
                (true, silent) if silent || used => self.wake(),
                (false, false) if now - seen.used >= after => self.sleep(),
                _ => {}
            }
            let due = leads && self.is_asleep() && now >= seen.beats;
            if due {
                // Unevenly, so that the groups of a node do not beat all at once.
                let eighths = 3 + u32::try_from(chance() % 3).unwrap_or(0);
                seen.beats = now + self.options.election_max * eighths / 8;
            }
            due
        };
        if beats && let Err(e) = self.raft.trigger().heartbeat().await {
            // Whoever looks after the group sees that it has stopped.
            tracing::debug!("cannot beat: {e}");
        }
    }
}
