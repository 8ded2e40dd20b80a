//! Requests that wait for a lock, inside the replicated state: every replica holds the same queue.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Prepare, Request, Scope, Ticket};
use crate::base::{AttemptId, Millis};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Parked {
    pub request: Request,
    pub scope: Scope,
    pub deadline: Millis,
    /// The attempt, if it is a prepare.
    pub attempt: Option<AttemptId>,
    /// Later copies of the same request: they get the same answer.
    pub also: Vec<Ticket>,
}

/// The parked requests by ticket, by deadline, and prepares by attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ParkedTable {
    parked: BTreeMap<Ticket, Parked>,
    deadlines: BTreeSet<(Millis, Ticket)>,
    attempts: BTreeMap<AttemptId, Ticket>,
}

impl ParkedTable {
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    pub fn insert(&mut self, ticket: Ticket, mut request: Request, scope: Scope, prepare: Option<&Prepare>) {
        request.detach();
        let deadline = prepare.map_or(request.deadline, |p| p.deadline);
        let attempt = prepare.map(|p| p.attempt);
        self.deadlines.insert((deadline, ticket));
        self.attempts.extend(attempt.map(|attempt| (attempt, ticket)));
        self.parked.insert(
            ticket,
            Parked {
                request,
                scope,
                deadline,
                attempt,
                also: Vec::new(),
            },
        );
    }

    pub fn iter(&self) -> impl Iterator<Item = &Parked> {
        self.parked.values()
    }

    pub fn get(&self, ticket: Ticket) -> Option<&Parked> {
        self.parked.get(&ticket)
    }

    pub fn remove(&mut self, ticket: Ticket) -> Option<Parked> {
        let parked = self.parked.remove(&ticket)?;
        self.deadlines.remove(&(parked.deadline, ticket));
        if let Some(attempt) = parked.attempt {
            self.attempts.remove(&attempt);
        }
        Some(parked)
    }

    /// Lets a copy of a parked request wait for the same answer.
    pub fn join(&mut self, ticket: Ticket, copy: Ticket) {
        if let Some(parked) = self.parked.get_mut(&ticket) {
            parked.also.push(copy);
        }
    }

    pub fn of_attempt(&self, attempt: AttemptId) -> Option<Ticket> {
        self.attempts.get(&attempt).copied()
    }

    /// The first request whose deadline is before `now`.
    pub fn overdue(&self, now: Millis) -> Option<Ticket> {
        self.deadlines
            .first()
            .filter(|(deadline, _)| *deadline < now)
            .map(|&(_, ticket)| ticket)
    }
}
