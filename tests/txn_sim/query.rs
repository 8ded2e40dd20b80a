//! One leader by itself: what it may say about an attempt without its log, and how it names its attempts.

use quorate::base::{AttemptId, GroupId, TxnId};
use quorate::machine::{Command, Decision, No, Staged, Vote, scope_of};
use quorate::txn::{Answer, Coordinator, Effect, Now, Part, Query, Txn};

const TERM: u64 = 5;
const SHARDS: [GroupId; 2] = [GroupId::Shard(0), GroupId::Shard(1)];

fn txn(seq: u64) -> Txn {
    let part = |shard| {
        let commands = vec![Command::Get { key: "k".into() }];
        Part {
            shard,
            scope: scope_of(&commands, &[]),
            conditions: Vec::new(),
            commands,
        }
    };
    Txn {
        id: TxnId { session: 1, seq },
        below: 0,
        started: 10,
        deadline: 1000,
        parts: SHARDS.map(part).to_vec(),
        strict: false,
    }
}

fn attempt(seq: u64, term: u64, number: u32) -> AttemptId {
    let txn = TxnId { session: 1, seq };
    AttemptId { txn, term, number }
}

/// The attempt that the effects prepare.
fn prepared(effects: &[Effect]) -> AttemptId {
    match effects {
        [
            Effect::Prepare { prepare: one, .. },
            Effect::Prepare { prepare: other, .. },
            Effect::Stage { stage, .. },
        ] => {
            assert_eq!(one.attempt, stage.staged.attempt);
            assert_eq!(one.attempt, other.attempt);
            one.attempt
        }
        other => unreachable!("two prepares and their staging, not {other:?}"),
    }
}

fn leader() -> Coordinator {
    Coordinator::new(GroupId::Coordinator(0), TERM)
}

#[test]
fn only_the_log_can_rule_out_what_another_leader_or_an_earlier_begin_has_attempted() {
    let mut leader = leader();
    assert_eq!(leader.query(attempt(1, TERM, 1)), Query::Unknown);
    let first = prepared(&leader.begin(txn(1), 10));
    assert_eq!(leader.query(first), Query::Pending);
    for term in [TERM - 1, TERM + 1] {
        for number in [first.number - 1, first.number, first.number + 1] {
            assert_eq!(
                leader.query(attempt(1, term, number)),
                Query::Unknown,
                "{term}.{number}"
            );
        }
    }
    // Committed and told, as the log of a later leader says; then asked for again by a gateway that has not heard.
    let record = Decision::Commit {
        attempt: first,
        participants: SHARDS.map(|shard| (shard, Vec::new())).to_vec(),
        deadline: 1000,
    };
    leader.decided(first.txn, &record, 20);
    assert_eq!(
        leader.query(first),
        Query::Pending,
        "the participants are being told"
    );
    assert_eq!(leader.told(first, SHARDS[0]), []);
    assert_eq!(leader.told(first, SHARDS[1]), [Effect::Retire { txn: first.txn }]);
    assert_eq!(leader.query(first), Query::Unknown);
    let second = prepared(&leader.begin(txn(1), 30));
    assert_eq!(leader.query(first), Query::Unknown, "not aborted by this begin");
    assert_eq!(leader.query(second), Query::Pending);
}

/// The answer, and the end for the participants, wait for nothing more than votes and stage.
#[test]
fn a_commit_is_told_at_once_and_recorded_when_all_know_it() {
    let mut leader = leader();
    let attempt = prepared(&leader.begin(txn(1), 10));
    assert_eq!(leader.begin(txn(2), 10), [], "it shares a key");
    let staged = Staged {
        attempt,
        participants: SHARDS.to_vec(),
        deadline: 1000,
    };
    assert_eq!(leader.staged(attempt, &staged, 20), []);
    assert_eq!(leader.vote(attempt, SHARDS[0], Vote::Yes(Vec::new()), 20), []);
    let effects = leader.vote(attempt, SHARDS[1], Vote::Yes(Vec::new()), 20);
    let commits = |effect: &Effect, to| matches!(effect, Effect::Finish { shard, finish } if finish.commit && *shard == to);
    assert!(
        commits(&effects[0], SHARDS[0]) && commits(&effects[1], SHARDS[1]),
        "{effects:?}"
    );
    let answered = |effect: &Effect| {
        matches!(
            effect,
            Effect::Answer {
                answer: Answer::Committed(_),
                ..
            }
        )
    };
    assert!(answered(&effects[2]), "{effects:?}");
    assert_eq!(
        prepared(&effects[3..]).txn,
        txn(2).id,
        "the next in line has begun"
    );
    // Whoever asks now hears of the commit, although no log says so.
    assert!(matches!(leader.commit(txn(1).id), Some(Decision::Commit { attempt: a, .. }) if a == attempt));
    assert_eq!(leader.query(attempt), Query::Pending);
    let records = |effects: Vec<Effect>| -> Vec<bool> {
        let told = |effect| match effect {
            Effect::Decide { decide, .. } => Some(decide.told),
            _ => None,
        };
        effects.into_iter().filter_map(told).collect()
    };
    // One that a participant has not acknowledged is left for one entry of records, not for two.
    assert_eq!(leader.told(attempt, SHARDS[0]), []);
    assert_eq!(records(leader.tick(100)), [] as [bool; 0]);
    let mut same = leader_with(attempt);
    assert_eq!(same.told(attempt, SHARDS[0]), []);
    assert_eq!(records(same.tick(100)), [] as [bool; 0]);
    assert_eq!(same.told(attempt, SHARDS[1]), []);
    assert_eq!(records(same.tick(200)), [true], "all have acknowledged it");
    let record = same.commit(attempt.txn).expect("not logged yet");
    same.decided(attempt.txn, &record, 210);
    assert_eq!(same.commit(attempt.txn), None);
    assert_eq!(records(leader.tick(200)), [false], "one has not");
    leader.decided(attempt.txn, &record, 210);
    assert_eq!(
        leader.told(attempt, SHARDS[1]),
        [Effect::Retire { txn: attempt.txn }]
    );
}

/// One that has committed this attempt, and nothing else.
fn leader_with(attempt: AttemptId) -> Coordinator {
    let mut same = leader();
    assert_eq!(prepared(&same.begin(txn(1), 10)), attempt);
    let staged = Staged {
        attempt,
        participants: SHARDS.to_vec(),
        deadline: 1000,
    };
    same.staged(attempt, &staged, 20);
    for shard in SHARDS {
        same.vote(attempt, shard, Vote::Yes(Vec::new()), 20);
    }
    same
}

#[test]
fn of_one_that_waits_in_line_the_log_speaks() {
    let mut leader = leader();
    prepared(&leader.begin(txn(1), 10));
    assert_eq!(leader.begin(txn(2), 10), [], "it shares a key");
    assert_eq!(leader.query(attempt(2, TERM, 1)), Query::Unknown);
}

#[test]
fn an_attempt_that_died_is_aborted_everywhere_and_the_next_has_another_name() {
    let mut leader = leader();
    let first = prepared(&leader.begin(txn(1), 10));
    let effects = leader.vote(first, SHARDS[0], Vote::No(No::Locked), 20);
    let told: Vec<GroupId> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Finish { shard, finish } if finish.attempt == first && !finish.commit => *shard,
            other => panic!("an abort, not {other:?}"),
        })
        .collect();
    assert_eq!(told, SHARDS);
    assert_eq!(leader.query(first), Query::Abort);
    let second = prepared(&leader.tick(1000));
    assert_ne!(first, second);
    assert_eq!(
        (leader.query(first), leader.query(second)),
        (Query::Abort, Query::Pending)
    );
    assert_eq!(leader.vote(first, SHARDS[1], Vote::Yes(Vec::new()), 1000), []);
}

/// The abort of the first begin may still be on its way when the same transaction is asked for again.
#[test]
fn attempts_of_one_term_never_share_a_name() {
    let mut leader = leader();
    let mut names = Vec::new();
    for _ in 0..3 {
        let attempt = prepared(&leader.begin(txn(1), 10));
        assert!(!names.contains(&attempt), "{attempt} comes again");
        names.push(attempt);
        let effects = leader.vote(attempt, SHARDS[1], Vote::No(No::Full), 20);
        let aborts = effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Finish { .. }));
        assert_eq!(aborts.count(), 2, "{effects:?}");
        let answered = |effect: &Effect| {
            matches!(
                effect,
                Effect::Answer {
                    answer: Answer::Aborted(_),
                    ..
                }
            )
        };
        assert!(effects.iter().any(answered), "{effects:?}");
    }
}

/// Found by the nemesis: a clock was a minute ahead for a moment, replicated time stood still for that minute, and so did
/// every transaction that waited for its next attempt, or in line: their outcomes stayed unknown for as long.
#[test]
fn while_replicated_time_stands_still_attempts_start_and_transactions_end() {
    let at = |steady| Now {
        replicated: 10,
        steady,
    };
    let mut leader = leader();
    let first = prepared(&leader.begin(txn(1), at(10)));
    leader.begin(txn(2), at(10));
    leader.vote(first, SHARDS[0], Vote::No(No::Locked), at(20));
    let second = prepared(&leader.tick(at(1000)));
    assert_eq!((second.txn, second.number > first.number), (first.txn, true));
    let ends = leader.tick(at(1_000_000));
    let ended = |effect: &Effect| matches!(effect, Effect::Answer { txn, answer: Answer::Aborted(_) } if *txn == self::txn(2).id);
    assert!(
        ends.iter().any(ended),
        "the one in line is past its deadline: {ends:?}"
    );
}
