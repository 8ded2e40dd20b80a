//! What a coordinator's leader and its log know of transactions under way, as rows of `TXN LIST`.

use super::coordinator::{Active, Coordinator, Phase};
use super::telling::Telling;
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
            Found::Staged(staged) => match self.telling.get(&staged.attempt.txn) {
                Some(telling) => self.telling_row(staged, telling),
                None => self.staged_row(staged),
            },
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
            Phase::Waiting { about, .. } => (State::Waiting, vec![Wait::Retry(*about)]),
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

    /// Committed; the log knows it as staged, still.
    fn telling_row(&self, staged: &Staged, telling: &Telling) -> Row {
        Row {
            attempt: Some(staged.attempt),
            deadline: Some(staged.deadline),
            participants: staged.participants.clone(),
            ..Row::new(staged.attempt.txn, State::Telling).waiting_for(self.untold(Some(telling)))
        }
    }

    /// The participants that have not acknowledged a commit, or else the log: all have, or this leader is about to take
    /// it over.
    fn untold(&self, telling: Option<&Telling>) -> Vec<Wait> {
        let left = telling.into_iter().flat_map(|telling| &telling.left);
        let left: Vec<Wait> = left.copied().map(Wait::Acknowledgement).collect();
        if left.is_empty() {
            return vec![Wait::Log(self.group)];
        }
        left
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
        let waits = if telling {
            self.untold(self.telling.get(&txn))
        } else {
            Vec::new()
        };
        let state = if telling { State::Telling } else { State::Committed };
        Row {
            attempt: Some(*attempt),
            deadline: Some(*deadline),
            participants: all,
            ..Row::new(txn, state).waiting_for(waits)
        }
    }

    /// Whether this leader is at work on it, or will be: not one that it only asks about.
    #[must_use]
    pub fn is_running(&self, txn: TxnId) -> bool {
        self.active.contains_key(&txn) && !self.resolving.contains(txn)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;

    use super::*;
    use crate::base::limits::{LISTED_ROWS_MAX, LISTED_WAITS_MAX};
    use crate::machine::{Batch, Body, Machine, No, Origin, Request, Response, Scope, Stage, Vote};
    use crate::txn::{Effect, Part, Txn};

    const GROUP: GroupId = GroupId::Coordinator(0);

    fn id(seq: u64) -> TxnId {
        TxnId { session: 1, seq }
    }

    fn attempt(seq: u64, number: u32) -> AttemptId {
        AttemptId {
            txn: id(seq),
            term: 3,
            number,
        }
    }

    fn txn_on(seq: u64, keys: &[&'static str]) -> Txn {
        let part = |(shard, key): (u16, &&'static str)| Part {
            shard: GroupId::Shard(shard),
            scope: Scope::Keys(vec![Bytes::from(*key)]),
            conditions: Vec::new(),
            commands: Vec::new(),
        };
        Txn {
            id: id(seq),
            below: 0,
            started: 100 + seq,
            strict: false,
            deadline: 1000,
            parts: (0..).zip(keys).map(part).collect(),
        }
    }

    struct World {
        coordinator: Coordinator,
        log: Machine,
        index: u64,
    }

    impl World {
        fn new() -> World {
            World {
                coordinator: Coordinator::new(GROUP, 3),
                log: Machine::new(GROUP),
                index: 0,
            }
        }

        fn write(&mut self, body: Body) -> Response {
            self.index += 1;
            let batch = Batch {
                origin: Origin { node: 1, nonce: 0 },
                time: 0,
                seed: 0,
                requests: vec![Request::anonymous(body)],
            };
            let mut answers = self.log.apply(self.index, batch);
            answers.pop().expect("it is answered").1
        }

        fn stage(&mut self, seq: u64, number: u32, shards: u16) -> Staged {
            let staged = Staged {
                attempt: attempt(seq, number),
                participants: (0..shards).map(GroupId::Shard).collect(),
                deadline: 1000,
            };
            let stage = Stage {
                staged: staged.clone(),
                refused: None,
            };
            self.write(Body::Stage(Box::new(stage)));
            staged
        }

        fn rows(&self, only: Option<TxnId>) -> Vec<Row> {
            let log = self.log.as_coordinator().expect("a coordinator");
            self.coordinator.listed(log, only).rows
        }

        fn shown(&self, seq: u64) -> (State, Vec<Wait>) {
            let mut rows = self.rows(Some(id(seq)));
            assert_eq!(rows.len(), 1, "{rows:?}");
            let row = rows.remove(0);
            assert_eq!(row.coordinator, Some(GROUP));
            (row.state, row.waits)
        }

        fn yes(&mut self, seq: u64, number: u32, shard: u16) {
            let yes = Vote::Yes(Vec::new());
            self.coordinator
                .vote(attempt(seq, number), GroupId::Shard(shard), yes, 0);
        }
    }

    fn votes(shards: &[u16]) -> Vec<Wait> {
        shards
            .iter()
            .map(|&shard| Wait::Vote(GroupId::Shard(shard)))
            .collect()
    }

    #[test]
    fn every_step_says_what_it_waits_for() {
        let mut world = World::new();
        world.coordinator.begin(txn_on(1, &["a", "b"]), 100);
        let log = Wait::Log(GROUP);
        let (state, waits) = world.shown(1);
        assert_eq!(
            (state, waits),
            (State::Preparing, [votes(&[0, 1]), vec![log.clone()]].concat())
        );
        world.yes(1, 1, 0);
        assert_eq!(world.shown(1).1, [votes(&[1]), vec![log.clone()]].concat());
        let staged = world.stage(1, 1, 2);
        world.coordinator.staged(attempt(1, 1), &staged, 100);
        assert_eq!(world.shown(1), (State::Staged, votes(&[1])));
        world.yes(1, 1, 1);
        let untold = |shards: &[u16]| -> Vec<Wait> {
            let wait = |&shard| Wait::Acknowledgement(GroupId::Shard(shard));
            shards.iter().map(wait).collect()
        };
        assert_eq!(world.shown(1), (State::Telling, untold(&[0, 1])));
        world.coordinator.told(attempt(1, 1), GroupId::Shard(0));
        assert_eq!(world.shown(1), (State::Telling, untold(&[1])));
        world.coordinator.told(attempt(1, 1), GroupId::Shard(1));
        assert_eq!(
            world.shown(1),
            (State::Telling, vec![log.clone()]),
            "told, and not recorded"
        );
        let [Effect::Decide { decide, .. }] = &world.coordinator.tick(1000)[..] else {
            panic!("it is recorded now");
        };
        let commit = decide.decision.clone();
        assert!(decide.told, "{decide:?}");
        world.write(Body::Decide(decide.clone()));
        assert_eq!(
            world.coordinator.decided(id(1), &commit, 1000).len(),
            1,
            "an answer"
        );
        assert_eq!(world.rows(None), [], "recorded as told");
        assert_eq!(world.shown(1), (State::Committed, Vec::new()));
    }

    #[test]
    fn one_that_is_queued_tells_behind_whom_and_at_which_key() {
        let mut world = World::new();
        world.coordinator.begin(txn_on(1, &["a", "b"]), 100);
        world.coordinator.begin(txn_on(2, &["c", "b"]), 100);
        let lane = Some((GroupId::Shard(1), Bytes::from("b")));
        let behind = Wait::Turn { behind: id(1), lane };
        assert_eq!(world.shown(2), (State::Queued, vec![behind]));
        let mut alone = txn_on(3, &["a", "b"]);
        alone.parts[0].scope = Scope::All;
        world.coordinator.begin(alone, 100);
        let turn = |behind| Wait::Turn { behind, lane: None };
        assert_eq!(world.shown(3), (State::Queued, vec![turn(id(1)), turn(id(2))]));
        world.coordinator.begin(txn_on(4, &["z", "y"]), 100);
        assert_eq!(world.shown(4), (State::Queued, vec![turn(id(3))]));
        let all: Vec<TxnId> = world.rows(None).iter().map(|row| row.txn).collect();
        assert_eq!(all, [id(1), id(2), id(3), id(4)], "the oldest first");
    }

    #[test]
    fn between_two_attempts_and_without_a_leader_who_knows_it() {
        let mut world = World::new();
        world.coordinator.begin(txn_on(1, &["a", "b"]), 100);
        world
            .coordinator
            .vote(attempt(1, 1), GroupId::Shard(0), Vote::No(No::Locked), 100);
        let (state, waits) = world.shown(1);
        assert_eq!(state, State::Waiting);
        assert!(matches!(waits[..], [Wait::Retry(at)] if at > 100), "{waits:?}");

        // What an earlier leader has staged, and nobody asks about yet; then it is asked about.
        let staged = world.stage(2, 7, 3);
        assert_eq!(world.shown(2), (State::Staged, votes(&[0, 1, 2])));
        world.coordinator.undecided(&staged);
        assert!(!world.coordinator.is_running(id(2)));
        world
            .coordinator
            .inquired(attempt(2, 7), GroupId::Shard(1), Vote::Yes(Vec::new()));
        assert_eq!(world.shown(2), (State::Staged, votes(&[0, 2])));
        world
            .coordinator
            .inquired(attempt(2, 7), GroupId::Shard(0), Vote::No(No::Late));
        assert_eq!(world.shown(2), (State::Staged, vec![Wait::Log(GROUP)]));
    }

    #[test]
    fn a_listing_is_bounded_and_keeps_the_oldest() {
        let mut world = World::new();
        let more = 10;
        for seq in 0..(LISTED_ROWS_MAX + more) as u64 {
            world.coordinator.begin(txn_on(seq, &["a"]), 100);
        }
        let log = world.log.as_coordinator().expect("a coordinator");
        let listing = world.coordinator.listed(log, None);
        assert_eq!((listing.rows.len(), listing.left_out), (LISTED_ROWS_MAX, more));
        let kept: BTreeSet<TxnId> = listing.rows.iter().map(|row| row.txn).collect();
        assert_eq!(kept.last(), Some(&id(LISTED_ROWS_MAX as u64 - 1)));

        let shards = 3 * LISTED_WAITS_MAX;
        let row = Row::new(id(1), State::Staged);
        let row = row.waiting_for((0..shards).map(|_| Wait::Log(GROUP)));
        assert_eq!(
            (row.waits.len(), row.more_waits),
            (LISTED_WAITS_MAX, 2 * LISTED_WAITS_MAX)
        );
    }
}
