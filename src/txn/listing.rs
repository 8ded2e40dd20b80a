//! What a coordinator's leader and its log know of transactions under way, as rows of `TXN LIST`.

use super::coordinator::{Active, Coordinator, Phase};
use crate::base::{AttemptId, GroupId, Millis, TxnId};
use crate::machine::{self, Decision, Listing, Row, Staged, State, Wait};

#[derive(Clone, Copy)]
enum Found<'a> {
    Active(TxnId, &'a Active),
    /// Staged, and being asked about by this leader, or by nobody yet.
    Staged(&'a Staged),
    /// Committed, and not told to all as far as the log knows.
    Telling(TxnId, &'a Decision),
    /// Over.
    Decided(TxnId, &'a Decision),
}

impl Coordinator {
    /// What is under way; of one transaction also what was decided.
    #[must_use]
    pub fn listed(&self, log: &machine::Coordinator, only: Option<TxnId>) -> Listing {
        let wanted = |txn: &TxnId| only.is_none_or(|only| only == *txn);
        let mut found: Vec<(Millis, Found<'_>)> = Vec::new();
        let active = self.active.iter().filter(|(txn, _)| wanted(txn));
        found.extend(active.map(|(&txn, active)| (active.txn.started, Found::Active(txn, active))));
        // Nobody remembers when these have started: they are taken for the oldest.
        let staged = log.staged().iter().filter(|(txn, _)| wanted(txn));
        let staged = staged.filter(|(txn, _)| !self.active.contains_key(txn));
        found.extend(staged.map(|(_, staged)| (0, Found::Staged(staged))));
        let commits = log.unretired().iter().filter(|(txn, _)| wanted(txn));
        found.extend(commits.map(|(&txn, decision)| (0, Found::Telling(txn, decision))));
        if let Some(txn) = only
            && !log.unretired().contains_key(&txn)
            && let Some(decision) = log.decision(txn)
        {
            found.push((0, Found::Decided(txn, decision)));
        }
        let row = |found| match found {
            Found::Active(txn, active) => self.active_row(txn, active),
            Found::Staged(staged) => self.staged_row(staged),
            Found::Telling(txn, decision) => self.decided_row(txn, decision, true),
            Found::Decided(txn, decision) => self.decided_row(txn, decision, false),
        };
        Listing::oldest(found, |found| Row {
            coordinator: Some(self.group),
            ..row(found)
        })
    }

    fn active_row(&self, txn: TxnId, active: &Active) -> Row {
        let (state, waits) = match &active.phase {
            Phase::Queued => {
                let ahead = self.admission.ahead_of(txn, &active.lanes).into_iter();
                let turn = |(behind, lane)| Wait::Turn { behind, lane };
                (State::Queued, ahead.map(turn).collect())
            }
            Phase::Preparing { votes, staged } => {
                let silent = active
                    .txn
                    .parts
                    .iter()
                    .filter(|part| !votes.contains_key(&part.shard));
                let votes = silent.map(|part| Wait::Vote(part.shard));
                let log = (!staged).then_some(Wait::Log(self.group));
                let state = if *staged { State::Staged } else { State::Preparing };
                (state, votes.chain(log).collect())
            }
            Phase::Waiting { until } => (State::Waiting, vec![Wait::Retry(*until)]),
            Phase::Deciding => (State::Deciding, self.unsettled(txn)),
        };
        let attempt = AttemptId {
            txn,
            term: self.term,
            number: active.number,
        };
        Row {
            attempt: (active.number > 0).then_some(attempt),
            started: Some(active.txn.started),
            deadline: Some(active.txn.deadline),
            participants: active.txn.parts.iter().map(|part| part.shard).collect(),
            ..Row::new(txn, state).waiting_for(waits)
        }
    }

    /// The votes that are still asked for, or else the log.
    fn unsettled(&self, txn: TxnId) -> Vec<Wait> {
        let silent = self.resolving.silent(txn);
        if silent.is_empty() {
            return vec![Wait::Log(self.group)];
        }
        silent.into_iter().map(Wait::Vote).collect()
    }

    fn staged_row(&self, staged: &Staged) -> Row {
        let txn = staged.attempt.txn;
        let waits = if self.resolving.contains(txn) {
            self.unsettled(txn)
        } else {
            staged.participants.iter().copied().map(Wait::Vote).collect()
        };
        Row {
            attempt: Some(staged.attempt),
            deadline: Some(staged.deadline),
            participants: staged.participants.clone(),
            ..Row::new(txn, State::Staged).waiting_for(waits)
        }
    }

    fn decided_row(&self, txn: TxnId, decision: &Decision, telling: bool) -> Row {
        let Decision::Commit {
            attempt,
            participants,
            deadline,
        } = decision
        else {
            return Row::new(txn, State::Aborted);
        };
        let all: Vec<GroupId> = participants.iter().map(|(shard, _)| *shard).collect();
        let untold: Vec<GroupId> = match self.telling.get(&txn) {
            _ if !telling => Vec::new(),
            Some((_, left)) => left.iter().copied().collect(),
            None => all.clone(),
        };
        let state = if telling { State::Telling } else { State::Committed };
        Row {
            attempt: Some(*attempt),
            deadline: Some(*deadline),
            participants: all,
            ..Row::new(txn, state).waiting_for(untold.into_iter().map(Wait::Acknowledgement))
        }
    }

    /// Whether this leader is at work on it, or will be: not one that it only asks about.
    #[must_use]
    pub fn is_running(&self, txn: TxnId) -> bool {
        self.active.contains_key(&txn) && !self.resolving.contains(txn)
    }
}
