//! One task a group that turns the requests waiting at that moment into one log entry.
//!
//! With few entries under way, what arrives meanwhile makes the next entry larger: batching costs no delay when there
//! is no load, and grows with it. Under load the next entry waits for those that the last one answered (`gathering.rs`).
//!
//! What nobody waits for (mostly the end of a transaction that has been answered) stays until something else makes an
//! entry necessary, [`LINGER`] at the most. It goes first in that entry, so a request finds the locks free; a read that waits
//! for a lock, or a request that is parked on one, makes it go at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::error::ClientWriteError;
use openraft::impls::ProgressResponder;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Raft;
use super::admission::Admission;
use super::entry::Payload;
use super::gathering::{Gathering, Presence};
use super::group::GroupError;
use super::hibernation::Hibernation;
use super::options::GroupOptions;
use super::shared::{Proposed, Shared, State};
use super::waiter::Waiter;
use crate::base::codec;
use crate::base::limits::{BATCH_BYTES_MAX, BATCH_REQUESTS_MAX, BATCHES_IN_FLIGHT_MAX, ENTRY_BYTES_MAX};
use crate::host::{Clock, chance};
use crate::machine::{Batch, Origin, Request, Response};

/// How long a request that can wait does so in a group without others: some rounds of one client.
const LINGER: Duration = Duration::from_millis(10);

/// A request on its way into the log.
pub struct Proposal {
    pub request: Request,
    pub answer: Waiter<Response>,
    /// `None`: nobody waits for it who may ask again.
    pub presence: Option<Presence>,
}

impl Proposal {
    pub fn new(request: Request, answer: Waiter<Response>, gathering: &Arc<Gathering>) -> Proposal {
        let presence = (!request.can_wait()).then(|| gathering.come());
        Proposal {
            request,
            answer,
            presence,
        }
    }
}

pub struct Proposer {
    raft: Raft,
    shared: Arc<Shared>,
    clock: Clock,
    next_nonce: u64,
    /// Whether reads wait for locks.
    hurry: watch::Receiver<bool>,
    hibernation: Arc<Hibernation>,
    admission: Arc<dyn Admission>,
    gathering: Arc<Gathering>,
    /// What can wait, and until when.
    lingering: Vec<Proposal>,
    until: Instant,
}

/// How a batch ended, and how long that took.
struct Ended {
    nonce: u64,
    took: Duration,
    result: Result<(), GroupError>,
}

impl Proposer {
    /// The process's number keeps its nonces apart from those of its earlier lives.
    pub fn new(
        raft: Raft,
        shared: Arc<Shared>,
        hurry: watch::Receiver<bool>,
        hibernation: Arc<Hibernation>,
        options: &GroupOptions,
    ) -> Proposer {
        Proposer {
            raft,
            shared,
            clock: Arc::clone(&options.clock),
            next_nonce: u64::from(options.boot) << 32,
            hurry,
            hibernation,
            admission: Arc::clone(&options.admission),
            gathering: Arc::clone(&options.gathering),
            lingering: Vec::new(),
            until: Instant::now(),
        }
    }

    /// Runs until every sender is gone.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Proposal>) {
        let mut waiting = Vec::new();
        let mut under_way = FuturesUnordered::new();
        loop {
            let free = under_way.len() < BATCHES_IN_FLIGHT_MAX;
            let lingers = free && !self.lingering.is_empty();
            tokio::select! {
                biased;
                Some(Ended { nonce, took, result }) = under_way.next(), if !under_way.is_empty() => {
                    self.ended(nonce, result);
                    if under_way.is_empty() {
                        self.gathering.gather(queue.len(), took).await;
                    }
                    continue;
                }
                taken = queue.recv_many(&mut waiting, BATCH_REQUESTS_MAX), if free => {
                    if taken == 0 {
                        return;
                    }
                    // Whoever is ready to ask at this moment comes along: that costs nothing when nobody is.
                    tokio::task::yield_now().await;
                    while waiting.len() < BATCH_REQUESTS_MAX
                        && let Ok(more) = queue.try_recv()
                    {
                        waiting.push(more);
                    }
                    self.put_off(&mut waiting);
                }
                Ok(()) = self.hurry.changed(), if lingers => {}
                () = tokio::time::sleep_until(self.until), if lingers => {}
            }
            let due = *self.hurry.borrow_and_update() || Instant::now() >= self.until;
            if waiting.is_empty() && !due && self.lingering.len() < BATCH_REQUESTS_MAX {
                continue;
            }
            let mut all = std::mem::take(&mut self.lingering);
            all.append(&mut waiting);
            while !all.is_empty() {
                let batch = take_batch(&mut all);
                if let Some(outcome) = self.propose(batch).await {
                    under_way.push(outcome);
                }
            }
        }
    }

    /// Keeps back what can wait, unless somebody waits for a lock.
    fn put_off(&mut self, waiting: &mut Vec<Proposal>) {
        let parked = |state: &State| state.machine.as_shard().is_some_and(|shard| shard.parked() > 0);
        if waiting.iter().all(|proposal| !proposal.request.can_wait()) || self.shared.with(|s| parked(s)) {
            return;
        }
        if self.lingering.is_empty() {
            self.until = Instant::now() + LINGER;
        }
        let can_wait = waiting.extract_if(.., |proposal| proposal.request.can_wait());
        self.lingering.extend(can_wait);
    }

    async fn propose(&mut self, batch: Vec<Proposal>) -> Option<impl Future<Output = Ended> + use<>> {
        self.hibernation.wake();
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        let (mut requests, mut waiters, present) = Self::take_apart(batch);
        let (time, before) = self.shared.with(|state| {
            let before = self
                .admission
                .before(self.shared.group, &state.machine, &requests);
            (state.machine.time(), before)
        });
        waiters.splice(0..0, before.iter().map(|_| Waiter::nobody()));
        requests.splice(0..0, before.into_iter().map(Request::anonymous));
        let time = time.max((self.clock)());
        let seed = chance();
        let origin = Origin {
            node: self.shared.node,
            nonce,
        };
        let batch = Batch {
            origin,
            time,
            seed,
            requests,
        };
        let bytes = match codec::encode(&batch) {
            Ok(bytes) if bytes.len() <= ENTRY_BYTES_MAX => Bytes::from(bytes),
            other => {
                // In the log, no replica could apply it.
                let why = other.map_or_else(|e| e.to_string(), |bytes| format!("{} bytes", bytes.len()));
                tracing::error!(group = %self.shared.group, "a batch cannot be an entry: {why}");
                for waiter in waiters {
                    waiter.send(Err(GroupError::Busy));
                }
                return None;
            }
        };
        let batch = batch
            .requests
            .iter()
            .all(Request::leaves_nothing)
            .then_some(batch);
        let proposed = Proposed {
            waiters,
            batch,
            present,
        };
        self.shared.expect(nonce, proposed);
        let (responder, outcome) = ProgressResponder::complete_only();
        let began = Instant::now();
        let sent = self.raft.client_write_ff(Payload(bytes), Some(responder)).await;
        Some(async move {
            let result = match (sent, outcome.await) {
                (Err(fatal), _) => Err(GroupError::Stopped(fatal.to_string())),
                (Ok(()), Ok(Ok(_))) => Ok(()),
                (Ok(()), Ok(Err(ClientWriteError::ForwardToLeader(to)))) => {
                    Err(GroupError::NotLeader(to.leader_id))
                }
                (Ok(()), Ok(Err(other))) => Err(GroupError::Unknown(other.to_string())),
                (Ok(()), Err(_)) => Err(GroupError::Unknown("the replica has stopped".into())),
            };
            Ended {
                nonce,
                took: began.elapsed(),
                result,
            }
        })
    }

    fn take_apart(batch: Vec<Proposal>) -> (Vec<Request>, Vec<Waiter<Response>>, Option<Presence>) {
        let mut present: Option<Presence> = None;
        let (mut requests, mut waiters) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for proposal in batch {
            requests.push(proposal.request);
            waiters.push(proposal.answer);
            match (&mut present, proposal.presence) {
                (Some(all), Some(one)) => all.add(one),
                (none @ None, one) => *none = one,
                (Some(_), None) => {}
            }
        }
        (requests, waiters, present)
    }

    fn ended(&self, nonce: u64, result: Result<(), GroupError>) {
        if let Err(error) = result {
            // Waiters that the apply has served are gone from the table; the rest hear why.
            for waiter in self.shared.give_up(nonce) {
                waiter.send(Err(error.clone()));
            }
        }
    }
}

fn take_batch(waiting: &mut Vec<Proposal>) -> Vec<Proposal> {
    let mut bytes = 0;
    let fitting = waiting.iter().take_while(|proposal| {
        let fits = bytes == 0 || bytes + proposal.request.weight() <= BATCH_BYTES_MAX;
        bytes += proposal.request.weight();
        fits
    });
    let count = fitting.count();
    let rest = waiting.split_off(count);
    std::mem::replace(waiting, rest)
}
