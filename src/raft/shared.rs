//! A replica's state in memory, and who waits for what to be applied to it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::admission::Used;
use super::faults;
use super::gathering::Presence;
use super::waiter::Waiter;
use super::{LogId, StoredMembership};
use crate::base::codec::{self, CodecError};
use crate::base::limits::DIGESTS_KEPT;
use crate::base::{GroupId, Millis, NodeId};
use crate::machine::{Batch, Body, Digest, Interest, Machine, Origin, Response, Shard, Ticket};

/// The largest replicated time of a node's replicas. Asked for with every request, so they are not asked in turn. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Latest(Arc<AtomicU64>);

impl Latest {
    #[must_use]
    pub fn get(&self) -> Millis {
        self.0.load(Ordering::Relaxed)
    }

    fn note(&self, time: Millis) {
        self.0.fetch_max(time, Ordering::Relaxed);
    }
}

/// One replica. Held by its state machine, proposer and reader.
pub struct Shared {
    pub group: GroupId,
    pub node: NodeId,
    state: Mutex<State>,
    /// Index of the last applied entry; readers that met a lock watch it.
    applied: watch::Sender<u64>,
    /// Keys of interest were written.
    pub written: Notify,
    used: Used,
    latest: Latest,
    /// Keys of which copies are kept were written.
    pub tracked: Notify,
    /// Something was done to keys that is to be told.
    pub noticed: Notify,
}

pub struct State {
    pub machine: Machine,
    pub applied: Option<LogId>,
    pub membership: StoredMembership,
    /// Bytes of entries applied since the last snapshot was cut.
    pub bytes_since_snapshot: u64,
    /// Bytes of the snapshot that was written or taken in last.
    pub snapshot_bytes: u64,
    /// One is being written.
    pub writes_snapshot: bool,
    /// When the last one was written or taken in by this process, and how long it took to write.
    pub snapshot_written: Option<(Instant, Duration)>,
    /// Batches proposed here, by nonce.
    proposed: BTreeMap<u64, Proposed>,
    /// Requests parked on locks, by where they stand in the log.
    parked: BTreeMap<Ticket, Waiter<Response>>,
    pub digests: Digests,
    /// Bytes of keys and values when they were last added up.
    bytes: u64,
}

/// A batch on its way through the log.
pub struct Proposed {
    pub waiters: Vec<Waiter<Response>>,
    /// What the entry will be decoded to, if it may be applied as it is.
    pub batch: Option<Batch>,
    pub present: Option<Presence>,
}

/// What this replica's state came to at entries that asked for it, to be compared with the other replicas'.
#[derive(Default)]
pub struct Digests {
    /// By log index, the last [`DIGESTS_KEPT`].
    pub noted: VecDeque<(u64, Digest)>,
    /// Whether anything was applied since the last.
    pub changed: bool,
    /// Why this replica must not go on: it is not what the others are.
    pub failure: Option<String>,
}

impl Digests {
    fn note(&mut self, index: u64, digest: Digest) {
        self.changed = false;
        self.noted.push_back((index, digest));
        if self.noted.len() > DIGESTS_KEPT {
            self.noted.pop_front();
        }
    }
}

/// What there is to tell those who have asked to hear of it.
struct Heard {
    written: bool,
    tracked: bool,
    noticed: bool,
}

impl Heard {
    fn of(interest: &Interest) -> Heard {
        Heard {
            written: interest.has_written(),
            tracked: interest.tracked.has_changes(),
            noticed: !interest.notices.is_empty(),
        }
    }
}

impl Shared {
    #[must_use]
    pub fn new(group: GroupId, node: NodeId, used: Used, latest: Latest) -> Shared {
        let state = State {
            machine: Machine::new(group),
            applied: None,
            membership: StoredMembership::default(),
            bytes_since_snapshot: 0,
            snapshot_bytes: 0,
            writes_snapshot: false,
            snapshot_written: None,
            proposed: BTreeMap::new(),
            parked: BTreeMap::new(),
            digests: Digests::default(),
            bytes: 0,
        };
        Shared {
            group,
            node,
            state: Mutex::new(state),
            applied: watch::Sender::new(0),
            written: Notify::new(),
            used,
            latest,
            tracked: Notify::new(),
            noticed: Notify::new(),
        }
    }

    fn add_up(&self, state: &mut State) {
        let bytes = state.machine.as_shard().map_or(0, Shard::bytes);
        if bytes != state.bytes {
            self.used.change(state.bytes, bytes);
            state.bytes = bytes;
        }
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock())
    }

    /// Expects a batch that is about to be proposed.
    pub fn expect(&self, nonce: u64, proposed: Proposed) {
        self.state.lock().proposed.insert(nonce, proposed);
    }

    /// Gives the waiters of a batch back: it was not proposed, or nobody knows.
    pub fn give_up(&self, nonce: u64) -> Vec<Waiter<Response>> {
        let proposed = self.state.lock().proposed.remove(&nonce);
        proposed.map(|proposed| proposed.waiters).unwrap_or_default()
    }

    /// Index of the last applied entry; told a moment after the state shows it.
    #[must_use]
    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    #[must_use]
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// What an entry says, and who waits for it if this process has proposed it.
    fn open(&self, payload: &Bytes) -> Result<(Batch, Option<Proposed>), CodecError> {
        let origin: Origin = codec::decode_first(payload)?;
        let own = origin.node == self.node;
        let mut proposed = own
            .then(|| self.state.lock().proposed.remove(&origin.nonce))
            .flatten();
        let kept = proposed.as_mut().and_then(|proposed| proposed.batch.take());
        debug_assert!(kept.is_none() || kept == codec::decode_shared(payload).ok());
        let batch = kept.map_or_else(|| codec::decode_shared(payload), Ok)?;
        Ok((batch, proposed))
    }

    /// Applies one normal entry and answers who waits for it.
    ///
    /// # Errors
    /// A committed entry that cannot be decoded: the replica must stop.
    pub fn apply(&self, id: LogId, payload: &Bytes) -> io::Result<()> {
        let damaged = |e| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} entry {id}: {e}", self.group),
            )
        };
        let (mut batch, proposed) = self.open(payload).map_err(damaged)?;
        faults::lose_writes(self.group, self.node, id.index, &mut batch);
        let mut state = self.state.lock();
        // Proposed by an earlier process of this node, it was told of then.
        let own = proposed.is_some();
        let (waiters, present) = proposed.map_or_else(Default::default, |it| (it.waiters, it.present));
        if let Some(interest) = state.machine.interest() {
            interest.notices.applies_own(own);
        }
        let mut waiters: Vec<Option<Waiter<Response>>> = waiters.into_iter().map(Some).collect();
        state.bytes_since_snapshot += payload.len() as u64;
        state.applied = Some(id);
        let asks = batch
            .requests
            .iter()
            .any(|request| matches!(request.body, Body::Digest));
        let mut answers = Vec::new();
        for (ticket, response) in state.machine.apply_heard(id.index, batch, own) {
            let waiter = if ticket.index == id.index {
                waiters.get_mut(ticket.at as usize).and_then(Option::take)
            } else {
                state.parked.remove(&ticket)
            };
            answers.extend(waiter.map(|waiter| (waiter, response)));
        }
        if asks {
            let digest = state.machine.running_digest().map_err(io::Error::other)?;
            state.digests.note(id.index, digest);
        } else {
            state.digests.changed = true;
        }
        for (at, waiter) in (0..).zip(waiters) {
            if let Some(waiter) = waiter {
                state.parked.insert(Ticket { index: id.index, at }, waiter);
            }
        }
        if state.parked.len() > 1024 {
            state.parked.retain(|_, waiter| !waiter.is_closed());
        }
        let heard = state.machine.interest().map(|interest| Heard::of(interest));
        self.add_up(&mut state);
        self.latest.note(state.machine.time());
        drop(state);
        // Whoever is woken looks at the state, maybe at once in another thread.
        self.applied.send_replace(id.index);
        self.wake(heard);
        // They are not here any more before they can ask again.
        drop(present);
        for (waiter, response) in answers {
            waiter.send(Ok(response));
        }
        Ok(())
    }

    fn wake(&self, heard: Option<Heard>) {
        let Some(heard) = heard else { return };
        if heard.written {
            self.written.notify_one();
        }
        if heard.tracked {
            self.tracked.notify_one();
        }
        if heard.noticed {
            self.noticed.notify_one();
        }
    }

    /// Notes an entry that changes no machine state.
    pub fn skip(&self, id: LogId, membership: Option<StoredMembership>) {
        let mut state = self.state.lock();
        state.applied = Some(id);
        if let Some(membership) = membership {
            state.membership = membership;
        }
        drop(state);
        self.applied.send_replace(id.index);
    }

    /// Replaces the whole state by a snapshot's. Parked requests' callers time out and ask again.
    pub fn install(&self, mut machine: Machine, applied: Option<LogId>, membership: StoredMembership) {
        let mut state = self.state.lock();
        let interest = state.machine.interest().map(std::mem::take);
        let mut heard = None;
        if let (Some(new), Some(mut interest)) = (machine.interest(), interest) {
            interest.note_other_state();
            heard = Some(Heard::of(&interest));
            *new = interest;
        }
        if let (Some(new), Some(old)) = (machine.access(), state.machine.access()) {
            std::mem::swap(new, old);
        }
        machine.keep_tally(&state.machine);
        state.machine = machine;
        state.applied = applied;
        state.membership = membership;
        state.bytes_since_snapshot = 0;
        state.digests.changed = true;
        self.add_up(&mut state);
        self.latest.note(state.machine.time());
        drop(state);
        self.applied.send_replace(applied.map_or(0, |id| id.index));
        self.wake(heard);
    }
}

#[cfg(test)]
mod tests {
    use openraft::testing::log_id;

    use super::*;
    use crate::machine::Origin;
    use crate::raft::TypeConfig;
    use crate::raft::gathering::Gathering;

    fn entry(time: Millis) -> Bytes {
        let origin = Origin { node: 1, nonce: 1 };
        let batch = Batch {
            origin,
            time,
            seed: 0,
            requests: Vec::new(),
        };
        codec::encode(&batch).expect("it can be encoded").into()
    }

    #[test]
    fn a_nodes_time_is_the_largest_of_its_groups_whether_applied_or_taken_in() {
        let latest = Latest::default();
        let [one, two] =
            [0, 1].map(|shard| Shared::new(GroupId::Shard(shard), 1, Used::default(), latest.clone()));
        let id = |index| log_id::<TypeConfig>(1, 1, index);
        one.apply(id(1), &entry(50)).expect("it can be applied");
        two.apply(id(1), &entry(40)).expect("it can be applied");
        assert_eq!(latest.get(), 50);
        let mut ahead = Machine::new(GroupId::Shard(1));
        let batch: Batch = codec::decode(&entry(60)).expect("it can be decoded");
        drop(ahead.apply(2, batch));
        two.install(ahead, Some(id(2)), StoredMembership::default());
        assert_eq!(latest.get(), 60);
    }

    #[test]
    fn who_is_answered_sees_what_it_did_and_is_not_waited_for() {
        let latest = Latest::default();
        let shared = Arc::new(Shared::new(GroupId::Shard(0), 1, Used::default(), latest.clone()));
        let gathering = Arc::new(Gathering::default());
        let (seen, gathered) = (Arc::clone(&shared), Arc::clone(&gathering));
        let (told, answer) = std::sync::mpsc::sync_channel(1);
        let waiter = Waiter::pass_on(
            move |_| {
                // Not even a look at the state would wait for what answers.
                let free = seen.state.try_lock().is_some();
                let at = (seen.applied(), latest.get(), gathered.present(), free);
                told.send(at).expect("the test listens");
            },
            crate::raft::GroupError::Busy,
        );
        let proposed = Proposed {
            waiters: vec![waiter],
            batch: None,
            present: Some(gathering.come()),
        };
        shared.expect(1, proposed);
        let batch = Batch {
            origin: Origin { node: 1, nonce: 1 },
            time: 50,
            seed: 0,
            requests: vec![crate::machine::Request::anonymous(Body::Sweep)],
        };
        let entry = codec::encode(&batch).expect("it can be encoded");
        let applied = shared.apply(log_id::<TypeConfig>(1, 1, 7), &entry.into());
        applied.expect("it can be applied");
        assert_eq!(answer.try_recv(), Ok((7, 50, 0, true)));
    }
}
