//! One group: a log that never fails, the state it makes at the leader, and at times a second replica that follows.

use std::collections::VecDeque;

use quorate::base::codec::CodecError;
use quorate::base::{GroupId, Millis};
use quorate::machine::{Batch, Body, Digest, Machine, Origin, Request, Response, Thaw, Ticket, Vote};

use super::checks::check;
use super::message::{Decider, Message, Waiter};
use super::world::World;

pub struct Log {
    pub group: GroupId,
    /// The leader's state.
    pub machine: Machine,
    index: u64,
    /// Not logged yet.
    pending: Vec<(Request, Waiter)>,
    /// How far the leader's clock is ahead of the slowest.
    ahead: Millis,
    follower: Option<Follower>,
}

struct Follower {
    machine: Machine,
    behind: VecDeque<(u64, Batch)>,
}

impl Log {
    pub fn new(group: GroupId, followed: bool) -> Log {
        let follower = || Follower {
            machine: Machine::new(group),
            behind: VecDeque::new(),
        };
        Log {
            group,
            machine: Machine::new(group),
            index: 0,
            pending: Vec::new(),
            ahead: 0,
            follower: followed.then(follower),
        }
    }

    pub fn shard(&self) -> &quorate::machine::Shard {
        self.machine.as_shard().expect("a shard's log")
    }

    pub fn coordinator(&self) -> &quorate::machine::Coordinator {
        self.machine.as_coordinator().expect("a coordinator's log")
    }

    /// Puts a request into the next entry.
    pub fn enqueue(&mut self, request: Request, waiter: Waiter) {
        self.pending.push((request, waiter));
    }

    /// Of the last applied entry.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The leader's clock.
    pub fn clock(&self, now: Millis) -> Millis {
        now + self.ahead
    }

    /// The state, through the bytes of a snapshot that arrive in pieces.
    fn thawed(&self, piece: usize) -> Machine {
        let mut thaw = Thaw::default();
        let taken = self.machine.freeze().sections(|section| {
            for part in section.chunks(piece) {
                thaw.take(part).expect("a piece of a snapshot is taken");
            }
            Ok::<(), CodecError>(())
        });
        taken.expect("a snapshot is encoded");
        thaw.finish().expect("a snapshot ends with its last piece")
    }
}

/// Checksum of the whole state, and the running digest.
pub fn digest(machine: &Machine) -> (u32, Digest) {
    if let Some(shard) = machine.as_shard() {
        let keyspace = shard.keyspace();
        check(keyspace.digest() == keyspace.digest_by_walk(), "digests", || {
            "the running digest is not that of the keys".into()
        });
    }
    let running = machine.running_digest();
    (
        machine.digest().expect("a state is encoded"),
        running.expect("a state is encoded"),
    )
}

impl World {
    pub fn log(&mut self, group: GroupId) -> &mut Log {
        match group {
            GroupId::Shard(n) => &mut self.shards[usize::from(n)],
            GroupId::Coordinator(n) => &mut self.coordinators[usize::from(n)],
        }
    }

    pub fn groups(&self) -> Vec<GroupId> {
        let logs = self.shards.iter().chain(&self.coordinators);
        logs.map(|log| log.group).collect()
    }

    /// Puts a request into a group's next entry.
    pub fn propose(&mut self, group: GroupId, request: Request, waiter: Waiter) {
        self.log(group).enqueue(request, waiter);
        if self.healing || self.rng.per_mille(750) {
            self.flush(group);
        }
    }

    /// Logs and applies what waits.
    pub fn flush(&mut self, group: GroupId) {
        let (now, seed, behind) = (self.now, self.rng.next(), self.rng.per_mille(500));
        let log = self.log(group);
        if log.pending.is_empty() {
            return;
        }
        log.index += 1;
        let index = log.index;
        let (requests, waiters): (Vec<_>, Vec<_>) = std::mem::take(&mut log.pending).into_iter().unzip();
        // A leader stamps no less than what it has applied; what it has proposed may be more recent than that.
        let clock = log.clock(now);
        let batch = Batch {
            origin: Origin {
                node: 1,
                nonce: index,
            },
            time: if behind {
                clock
            } else {
                clock.max(log.machine.time())
            },
            seed,
            requests,
        };
        if let Some(follower) = &mut log.follower {
            follower.behind.push_back((index, batch.clone()));
        }
        if let GroupId::Shard(n) = group {
            let time = &mut self.model.times[usize::from(n)];
            *time = (*time).max(batch.time);
        }
        self.note(|| format!("{group} #{index} {batch:?}"));
        for (at, waiter) in (0..).zip(waiters) {
            self.waiters.insert((group, Ticket { index, at }), waiter);
        }
        let answers = self.log(group).machine.apply(index, batch);
        for (ticket, response) in answers {
            let waiter = self.waiters.remove(&(group, ticket));
            check(waiter.is_some(), "tickets", || {
                format!("{group} answers {ticket:?}, for which nobody waits, with {response:?}")
            });
            self.note(|| format!("{group} answers {ticket:?} {waiter:?}: {response:?}"));
            self.respond(group, waiter.unwrap_or(Waiter::Nobody), response);
        }
        self.check_group(group);
    }

    fn respond(&mut self, group: GroupId, waiter: Waiter, response: Response) {
        let message = match (waiter, response) {
            (Waiter::Nobody, _) => return,
            (Waiter::Op(op), response) => {
                self.ran(op, &response);
                Message::Response { op, response }
            }
            (Waiter::Vote { term, attempt, shard }, Response::Vote(vote)) => {
                self.voted(shard, attempt, &vote);
                Message::Vote {
                    term,
                    attempt,
                    shard,
                    vote,
                }
            }
            (Waiter::Stage { term, attempt }, Response::Staged(staged)) => {
                if staged.attempt == attempt {
                    self.staged(&staged);
                }
                Message::Staged {
                    term,
                    attempt,
                    staged,
                }
            }
            (Waiter::Stage { term, attempt }, Response::Decision(decision)) => {
                self.recorded(attempt.txn, &decision);
                let txn = attempt.txn;
                Message::Decided { term, txn, decision }
            }
            (Waiter::Inquiry { term, attempt, shard }, Response::Vote(vote)) => {
                if let Vote::No(_) = vote {
                    self.ruled_out(shard, attempt);
                }
                Message::Inquired {
                    term,
                    attempt,
                    shard,
                    vote,
                }
            }
            (Waiter::Decide { by, txn, .. }, Response::Staged(staged)) => match by {
                Decider::Leader(term) => Message::Undecided { term, txn, staged },
                Decider::Gateway(op) => Message::Response {
                    op,
                    response: Response::Staged(staged),
                },
                Decider::Participant(..) => match self.current(group) {
                    Some(term) => Message::Undecided { term, txn, staged },
                    None => return,
                },
            },
            (Waiter::Told { term, shard, finish }, Response::Done) => Message::Told { term, shard, finish },
            (Waiter::Retire { term, txn }, Response::Done) => {
                self.retired(txn);
                Message::Retired { term, txn }
            }
            (Waiter::Decide { by, txn, told }, Response::Decision(decision)) => {
                self.recorded(txn, &decision);
                if told {
                    self.stats.add("recorded as told");
                    self.retired(txn);
                }
                match by {
                    Decider::Leader(term) => Message::Decided { term, txn, decision },
                    Decider::Gateway(op) => Message::Response {
                        op,
                        response: Response::Decision(decision),
                    },
                    Decider::Participant(shard, prepared) => Message::Verdict {
                        shard,
                        prepared,
                        decision,
                    },
                }
            }
            (waiter, response) => {
                check(false, "answers", || {
                    format!("{group} answers {waiter:?} with {response:?}")
                });
                return;
            }
        };
        self.send(message);
    }

    pub fn flush_all(&mut self) {
        for group in self.groups() {
            self.flush(group);
        }
    }

    /// As housekeeping does it: an entry if anything waits for time to pass, or has expired.
    pub fn let_time_pass(&mut self) {
        for n in 0..self.shards.len() {
            let log = &self.shards[n];
            let (shard, now) = (log.shard(), log.clock(self.now));
            let expired = shard
                .keyspace()
                .expiring(now)
                .any(|(_, key)| shard.locks().owner(key).is_none());
            if expired || shard.has_overdue(now) {
                let group = log.group;
                self.propose(group, Request::anonymous(Body::Sweep), Waiter::Nobody);
            }
        }
    }

    fn some_group(&mut self) -> GroupId {
        let groups = self.groups();
        groups[self.rng.index(groups.len())]
    }

    /// A group's leader goes on from its own snapshot.
    pub fn restart_some_group(&mut self) {
        let group = self.some_group();
        let (piece, ahead) = (1 + self.rng.index(700), self.some_skew());
        let log = self.log(group);
        log.ahead = ahead;
        let before = digest(&log.machine);
        log.machine = log.thawed(piece);
        check(before == digest(&log.machine), "snapshots", || {
            format!("{group} is not what it was before its snapshot")
        });
        self.stats.add("restarts");
        self.note(|| format!("{group} goes on from its snapshot"));
    }

    /// Another replica leads, by another clock. What was not logged is lost.
    pub fn change_some_leader(&mut self) {
        let group = self.some_group();
        let ahead = self.some_skew();
        let log = self.log(group);
        log.ahead = ahead;
        log.pending.clear();
        if let Some(follower) = &mut log.follower {
            for (index, batch) in follower.behind.drain(..) {
                follower.machine.apply(index, batch);
            }
            check(
                digest(&follower.machine) == digest(&log.machine),
                "replicas",
                || format!("the replicas of {group} differ"),
            );
            std::mem::swap(&mut follower.machine, &mut log.machine);
            self.stats.add("replicas compared");
        }
        self.stats.add("leaders changed");
        self.note(|| format!("{group} has another leader, {ahead} ms ahead"));
    }
}
