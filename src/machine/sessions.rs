//! The reply table: what each request that may be sent again was answered, so that it is executed at most once.
//!
//! A session numbers its requests and says with each one below which number all are finished; those replies go. What
//! comes after that with a finished number is a stray duplicate and is refused. A session that has been idle for long keeps
//! no replies, but a watermark above all that it has used: however late a copy comes, it is not executed again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::limits::{SESSION_IDLE_MS, SESSION_REPLIES_MAX, SESSIONS_MAX};
use crate::base::{Ascending, Millis, Mutant, RequestId, SessionId, mutant};

/// How coarsely a session's last use is kept, so that a busy one does not move in the index at every request.
const TOUCH_STEP_MS: u64 = SESSION_IDLE_MS / 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Session<T> {
    below: u64,
    /// By their numbers.
    replies: Ascending<u64, T>,
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
                replies: Ascending::default(),
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
            session.replies.remove_below(below);
        }
        if let Some(reply) = session.replies.get(id.seq) {
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
        self.sessions.get(&id.session)?.replies.get(id.seq)
    }

    /// Whether a session that is not here may have been, and was forgotten with all that it had executed: once the
    /// table has been full it never gets much smaller.
    #[must_use]
    pub fn may_have_forgotten(&self, id: SessionId) -> bool {
        !self.sessions.contains_key(&id) && self.sessions.len() >= SESSIONS_MAX - SESSIONS_MAX / 16
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
            session.replies.remove(id.seq);
        }
    }

    fn forget_idle(&mut self, now: Millis) {
        let early = mutant::is(Mutant::SessionsForgottenEarly);
        let idle = if early {
            20
        } else {
            SESSION_IDLE_MS + TOUCH_STEP_MS
        };
        while let Some(&(touched, id)) = self.by_use.first() {
            if touched + idle > now {
                break;
            }
            self.by_use.remove(&(touched, id));
            if mutant::is(Mutant::StraysExecuted) {
                self.sessions.remove(&id);
            } else if let Some(session) = self.sessions.get_mut(&id) {
                session.close();
            }
        }
        if self.sessions.len() >= SESSIONS_MAX {
            self.make_room();
        }
    }

    /// Forgets closed sessions, the longest idle first, many at a time as it looks at all; or else the longest idle one.
    fn make_room(&mut self) {
        if self.by_use.len() == self.sessions.len() {
            if let Some((_, longest)) = self.by_use.pop_first() {
                self.sessions.remove(&longest);
            }
            return;
        }
        let closed = |(id, session): (&SessionId, &Session<T>)| {
            let key = (session.touched, *id);
            (!self.by_use.contains(&key)).then_some(key)
        };
        let mut gone: Vec<(Millis, SessionId)> = self.sessions.iter().filter_map(closed).collect();
        gone.sort_unstable();
        for (_, id) in gone.into_iter().take(SESSIONS_MAX / 16) {
            self.sessions.remove(&id);
        }
    }
}

impl<T> Session<T> {
    /// Only the watermark stays, above every number that was used.
    fn close(&mut self) {
        if let Some(last) = self.replies.last_key() {
            self.below = self.below.max(last + 1);
        }
        self.replies = Ascending::default();
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
    fn replies_are_found_in_whatever_order_their_numbers_come() {
        let mut sessions = Sessions::default();
        for seq in [5, 2, 9, 3, 8] {
            assert_eq!(sessions.look_up(id(seq), 1, 10), Known::New);
            sessions.record(id(seq), seq);
        }
        sessions.record(id(3), 30);
        let known = |sessions: &Sessions<u64>| -> Vec<Option<u64>> {
            (1..10).map(|seq| sessions.get(id(seq)).copied()).collect()
        };
        let all = [
            None,
            Some(2),
            Some(30),
            None,
            Some(5),
            None,
            None,
            Some(8),
            Some(9),
        ];
        assert_eq!(known(&sessions), all);
        assert_eq!(sessions.look_up(id(4), 4, 10), Known::New);
        sessions.forget(id(8));
        let rest = [None, None, None, None, Some(5), None, None, None, Some(9)];
        assert_eq!(known(&sessions), rest);
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

    #[test]
    fn a_stray_of_an_idle_session_is_refused_and_its_next_number_is_new() {
        let mut sessions = Sessions::default();
        let other = RequestId { session: 8, seq: 1 };
        sessions.look_up(id(5), 3, 0);
        sessions.record(id(5), ());
        let late = 2 * SESSION_IDLE_MS;
        sessions.look_up(other, 0, late);
        assert_eq!(sessions.get(id(5)), None, "its reply is forgotten");
        assert_eq!(sessions.look_up(id(5), 3, late), Known::Finished);
        assert_eq!(sessions.look_up(id(4), 3, late), Known::Finished);
        assert_eq!(sessions.look_up(id(6), 3, late), Known::New);
        sessions.record(id(6), ());
        assert_eq!(sessions.look_up(id(6), 3, late), Known::Seen(&()));
    }

    #[test]
    fn a_full_table_forgets_the_longest_idle_sessions_closed_ones_first() {
        let mut sessions: Sessions<()> = Sessions::default();
        let of = |session: usize| RequestId {
            session: session as u128,
            seq: 1,
        };
        for n in 0..SESSIONS_MAX {
            let now = if n < 3 { n as u64 } else { 2 * SESSION_IDLE_MS };
            sessions.look_up(of(n), 1, now);
        }
        assert_eq!(sessions.by_use.len(), SESSIONS_MAX - 3, "three are closed");
        sessions.look_up(of(SESSIONS_MAX), 1, 2 * SESSION_IDLE_MS);
        assert_eq!(sessions.sessions.len(), SESSIONS_MAX - 2);
        for n in SESSIONS_MAX..SESSIONS_MAX + 10 {
            sessions.look_up(of(n), 1, 2 * SESSION_IDLE_MS);
        }
        assert_eq!(
            sessions.sessions.len(),
            SESSIONS_MAX,
            "none is left that is closed"
        );
        assert_eq!(sessions.by_use.len(), SESSIONS_MAX);
    }
}
