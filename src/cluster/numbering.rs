//! The gateway's request numbers: every write it forwards gets one, and each group hears which are finished.
//!
//! A number whose outcome is unknown stays open for long, and holds up the watermark of its session: so a session that has
//! left too much behind it is not gone on with. The next one begins, and the old one's numbers stay what they are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::limits::SESSION_NUMBERS_MAX;
use crate::base::{GroupId, NodeId, RequestId, SessionId, gateway_session};
use crate::host::chance;

/// Numbers of one process. Clones share them.
#[derive(Debug, Clone)]
pub struct Numbering {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    node: NodeId,
    next: u64,
    sessions: BTreeMap<GroupId, Session>,
}

/// The one that is gone on with at a group.
#[derive(Debug)]
struct Session {
    id: SessionId,
    /// In order, from the oldest that is open.
    numbers: VecDeque<Given>,
    given: usize,
}

#[derive(Debug)]
struct Given {
    seq: u64,
    /// How many had been given in this session before it.
    before: usize,
    open: bool,
}

/// A number in use. Dropping it tells the group, with some later request, that nobody will ask again.
#[derive(Debug)]
pub struct Numbered {
    pub id: RequestId,
    pub below: u64,
    group: GroupId,
    numbering: Numbering,
}

impl Numbering {
    #[must_use]
    pub fn new(node: NodeId) -> Numbering {
        Numbering {
            inner: Arc::new(Mutex::new(Inner {
                node,
                next: 1,
                sessions: BTreeMap::new(),
            })),
        }
    }

    /// The next number, for a request to `group`.
    #[must_use]
    pub fn begin(&self, group: GroupId) -> Numbered {
        let mut inner = self.inner.lock();
        let (node, seq) = (inner.node, inner.next);
        inner.next += 1;
        let new = || Session {
            // Chance tells it from sessions of earlier lives of this node.
            id: gateway_session(node, group, chance() as u32),
            numbers: VecDeque::new(),
            given: 0,
        };
        let session = inner.sessions.entry(group).or_insert_with(new);
        let oldest = session.numbers.front();
        if oldest.is_some_and(|oldest| session.given - oldest.before >= SESSION_NUMBERS_MAX) {
            *session = new();
        }
        session.numbers.push_back(Given {
            seq,
            before: session.given,
            open: true,
        });
        session.given += 1;
        let below = session.numbers.front().map_or(seq, |oldest| oldest.seq);
        Numbered {
            id: RequestId {
                session: session.id,
                seq,
            },
            below,
            group,
            numbering: self.clone(),
        }
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        let mut inner = self.numbering.inner.lock();
        let session = inner.sessions.get_mut(&self.group);
        if let Some(session) = session.filter(|session| session.id == self.id.session) {
            session.close(self.id.seq);
        }
    }
}

impl Session {
    fn close(&mut self, seq: u64) {
        if let Ok(at) = self.numbers.binary_search_by_key(&seq, |given| given.seq) {
            self.numbers[at].open = false;
        }
        while self.numbers.front().is_some_and(|oldest| !oldest.open) {
            self.numbers.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_is_the_oldest_open_number_of_the_group() {
        let numbering = Numbering::new(7);
        let (a, b) = (GroupId::Shard(0), GroupId::Shard(1));
        let first = numbering.begin(a);
        let other = numbering.begin(b);
        let second = numbering.begin(a);
        assert_eq!((first.below, other.below, second.below), (1, 2, 1));
        drop(first);
        assert_eq!(numbering.begin(a).below, 3);
    }

    #[test]
    fn a_number_that_stays_open_does_not_hold_up_the_others_for_ever() {
        let numbering = Numbering::new(7);
        let group = GroupId::Shard(0);
        let unknown = numbering.begin(group);
        for _ in 1..SESSION_NUMBERS_MAX {
            let number = numbering.begin(group);
            assert_eq!(
                (number.id.session, number.below),
                (unknown.id.session, unknown.id.seq)
            );
        }
        let next = numbering.begin(group);
        assert_ne!(next.id.session, unknown.id.session);
        assert_eq!(
            next.below, next.id.seq,
            "the new session has nothing open before it"
        );
        drop(unknown);
        assert_eq!(numbering.begin(group).below, next.id.seq);
        drop(next);
        for _ in 0..2 * SESSION_NUMBERS_MAX {
            let session = numbering.begin(group).id.session;
            assert_eq!(
                numbering.begin(group).id.session,
                session,
                "nothing stays open: no other session"
            );
        }
    }
}
