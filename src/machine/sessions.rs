//! The reply table: what each request that may be sent again was answered, so that it is executed at most once.
//!
//! A session numbers its requests and says with each one below which number all are finished; those replies go. What
//! comes after that with a finished number is a stray duplicate and is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::limits::{SESSION_IDLE_MS, SESSION_REPLIES_MAX, SESSIONS_MAX};
use crate::base::{Millis, Mutant, RequestId, SessionId, mutant};

/// How coarsely a session's last use is kept, so that a busy one does not move in the index at every request.
const TOUCH_STEP_MS: u64 = SESSION_IDLE_MS / 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Session<T> {
    below: u64,
    replies: BTreeMap<u64, T>,
    touched: Millis,
}

/// Reply tables of all sessions of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions<T> {
    sessions: BTreeMap<SessionId, Session<T>>,
    by_use: BTreeSet<(Millis, SessionId)>,
}

/// What the table knows of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Known<'a, T> {
    New,
    Seen(&'a T),
    /// Its number is below the session's finished ones.
    Finished,
    /// The session has left too many replies unacknowledged.
    Full,
}

impl<T> Default for Sessions<T> {
    fn default() -> Self {
        Sessions {
            sessions: BTreeMap::new(),
            by_use: BTreeSet::new(),
        }
    }
}

impl<T> Sessions<T> {
    /// Notes the session's use and its watermark, forgets idle sessions, and looks the request up.
    pub fn look_up(&mut self, id: RequestId, below: u64, now: Millis) -> Known<'_, T> {
        self.forget_idle(now);
        let session = self.sessions.entry(id.session).or_insert_with(|| {
            self.by_use.insert((now, id.session));
            Session {
                below: 0,
                replies: BTreeMap::new(),
                touched: now,
            }
        });
        if now >= session.touched + TOUCH_STEP_MS {
            self.by_use.remove(&(session.touched, id.session));
            self.by_use.insert((now, id.session));
            session.touched = now;
        }
        if below > session.below {
            session.below = below;
            while let Some(entry) = session.replies.first_entry() {
                if *entry.key() >= below {
                    break;
                }
                entry.remove();
            }
        }
        if let Some(reply) = session.replies.get(&id.seq) {
            return Known::Seen(reply);
        }
        if id.seq < session.below && !mutant::is(Mutant::FinishedNumbersRunAgain) {
            Known::Finished
        } else if session.replies.len() >= SESSION_REPLIES_MAX {
            Known::Full
        } else {
            Known::New
        }
    }

    /// What is known of a request, without noting anything.
    #[must_use]
    pub fn get(&self, id: RequestId) -> Option<&T> {
        self.sessions.get(&id.session)?.replies.get(&id.seq)
    }

    /// Records what a request was answered. Its session is there: `look_up` came first.
    pub fn record(&mut self, id: RequestId, reply: T) {
        if let Some(session) = self.sessions.get_mut(&id.session) {
            session.replies.insert(id.seq, reply);
        }
    }

    /// For a mutant; correct code forgets by watermark and by age only.
    pub fn forget(&mut self, id: RequestId) {
        if let Some(session) = self.sessions.get_mut(&id.session) {
            session.replies.remove(&id.seq);
        }
    }

    fn forget_idle(&mut self, now: Millis) {
        let idle = if mutant::is(Mutant::SessionsForgottenEarly) {
            20
        } else {
            SESSION_IDLE_MS + TOUCH_STEP_MS
        };
        while let Some(&(touched, session)) = self.by_use.first() {
            if touched + idle > now && self.sessions.len() < SESSIONS_MAX {
                break;
            }
            self.by_use.remove(&(touched, session));
            self.sessions.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u64) -> RequestId {
        RequestId { session: 7, seq }
    }

    #[test]
    fn replies_stay_until_acknowledged_and_strays_are_refused() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.look_up(id(1), 0, 10), Known::New);
        sessions.record(id(1), "one");
        assert_eq!(sessions.look_up(id(1), 0, 10), Known::Seen(&"one"));
        assert_eq!(sessions.look_up(id(2), 2, 10), Known::New);
        assert_eq!(sessions.look_up(id(1), 0, 10), Known::Finished);
    }

    #[test]
    fn idle_sessions_go_by_replicated_time_and_busy_ones_stay() {
        let mut sessions = Sessions::default();
        let other = RequestId { session: 8, seq: 1 };
        sessions.look_up(id(1), 0, 0);
        sessions.record(id(1), ());
        for now in (0..2 * SESSION_IDLE_MS).step_by(10_000) {
            sessions.look_up(other, 0, now);
            sessions.record(other, ());
        }
        assert_eq!(sessions.get(id(1)), None);
        assert_eq!(sessions.get(other), Some(&()));
    }
}
