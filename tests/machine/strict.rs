//! Strict transactions in one group: an error of any command leaves everything as it was.

use quorate::base::{GroupId, Reply};
use quorate::machine::{
    Body, Failed, Fate, Machine, Mode, No, Prepare, Read, ReadOutcome, Request, Response, Seen,
};
use quorate::txn::{Answer, Coordinator, Effect, Part, Txn};

use crate::talk::*;

fn strict(mut request: Request) -> Request {
    match &mut request.body {
        Body::Run { mode, .. } => *mode = Mode::Strict,
        Body::Prepare(prepare) => prepare.strict = true,
        other => panic!("{other:?} is neither strict nor not"),
    }
    request
}

fn failed(at: u32) -> Failed {
    Failed {
        at,
        reply: Reply::not_an_integer(),
    }
}

/// Keys with values, versions and expiries, one of them no number.
fn filled() -> Talk {
    let mut talk = Talk::shard();
    talk.run("SET a 1 PX 5000; SET b text; SET c 3");
    talk.run("INCR c");
    talk
}

fn objects(machine: &Machine) -> Vec<String> {
    let keyspace = machine.as_shard().expect("a shard").keyspace();
    keyspace
        .iter()
        .map(|(key, object)| format!("{key:?} {object:?}"))
        .collect()
}

#[test]
fn a_failing_run_leaves_every_key_version_and_expiry() {
    let mut talk = filled();
    let (before, last) = (objects(&talk.machine), talk.state().last_write());
    let watched = at_version("c", talk.version("c"));
    let request = strict(run("SET a 2; DEL c; SET new 1; INCR b; INCR b"));
    assert_eq!(
        talk.ask(request),
        Response::Failed(failed(3)),
        "the first that fails"
    );
    assert_eq!(
        (objects(&talk.machine), talk.state().last_write()),
        (before, last)
    );
    assert_eq!(
        talk.ask(run_if("SET c 9", &[watched])),
        ok(),
        "who watches sees no change"
    );
}

#[test]
fn without_an_error_strict_is_like_any_other_and_a_plain_run_keeps_its_errors() {
    let mut talk = filled();
    assert_eq!(talk.ask(strict(run("SET a 2"))), ok());
    let replies = vec![Reply::not_an_integer(), Reply::ok()];
    assert_eq!(talk.run("INCR b; SET a 5"), Response::Replies(replies));
    assert_eq!(talk.get("a"), Some("5".into()));
}

#[test]
fn a_failure_is_remembered_also_when_it_would_go_well_now() {
    let mut talk = filled();
    let request = strict(run("SET a 2; INCR b").numbered(1, 1));
    assert_eq!(talk.ask(request.clone()), Response::Failed(failed(1)));
    talk.run("SET b 7");
    assert_eq!(talk.ask(request), Response::Failed(failed(1)));
    assert_eq!(
        (talk.get("a"), talk.get("b")),
        (Some("1".into()), Some("7".into()))
    );
    let id = run("GET a").numbered(1, 1).id.expect("it is numbered");
    let seen = talk.machine.read(&Read::Status(id), talk.now, u64::MAX);
    assert_eq!(
        seen,
        ReadOutcome::Ready(Seen::Request(Fate::Refused)),
        "TXN STATUS: aborted"
    );
}

#[test]
fn one_that_waited_for_a_lock_fails_all_the_same() {
    let mut talk = filled();
    talk.ask(first_phase(prepare(attempt(5, 1), "SET b now_text")));
    let ticket = talk.parks(strict(run("SET c 8; INCR b")));
    let answers = talk.entry(vec![finish(attempt(5, 1), true)]);
    assert!(
        answers.contains(&(ticket, Response::Failed(failed(1)))),
        "{answers:?}"
    );
    assert_eq!(talk.get("c"), Some("4".into()));
    talk.assert_idle();
}

#[test]
fn a_failing_prepare_is_refused_for_good_and_locks_nothing() {
    let mut talk = filled();
    let before = objects(&talk.machine);
    let request = strict(first_phase(prepare(attempt(5, 1), "SET a 2; INCR b")));
    assert_eq!(talk.ask(request.clone()), no(No::Failed(failed(1))));
    talk.assert_idle();
    assert_eq!(objects(&talk.machine), before);
    talk.run("SET b 7");
    assert_eq!(
        talk.ask(request),
        no(No::Late),
        "not even when it would go well now"
    );
    talk.ask(finish(attempt(5, 1), false));
    assert_eq!(
        (talk.get("a"), talk.get("b")),
        (Some("1".into()), Some("7".into()))
    );
}

#[test]
fn what_ran_at_the_gateway_fails_by_what_it_recalls() {
    let mut talk = filled();
    let error = Reply::err("ERR no such key");
    let recall = quorate::machine::Command::Recall {
        key: "a".into(),
        replies: vec![Reply::ok(), error.clone()],
    };
    let body = Body::Run {
        commands: vec![recall],
        conditions: vec![],
        mode: Mode::Strict,
    };
    let reply = Reply::Array(vec![Reply::ok(), error]);
    let failed = Failed { at: 0, reply };
    assert_eq!(talk.ask(Request::anonymous(body)), Response::Failed(failed));
}

const SHARDS: [GroupId; 2] = [GroupId::Shard(0), GroupId::Shard(1)];

/// A coordinator, two shards: the whole of a transaction over shards that fails at one of them.
#[test]
fn over_shards_one_failure_leaves_both_as_they_were_and_the_record_says_abort() {
    let mut shards = [filled(), filled()];
    let before: Vec<_> = shards.iter().map(|talk| objects(&talk.machine)).collect();
    let mut log = Talk::new(COORDINATOR);
    let part = |shard, text: &str| {
        let Prepare { scope, commands, .. } = prepare(attempt(1, 1), text);
        Part {
            shard,
            scope,
            conditions: Vec::new(),
            commands,
        }
    };
    let txn = Txn {
        id: txn(1),
        below: 0,
        started: 1000,
        deadline: FAR,
        parts: vec![
            part(SHARDS[0], "SET a 2; DEL c"),
            part(SHARDS[1], "SET a 2; INCR b"),
        ],
        strict: true,
    };
    let mut leader = Coordinator::new(COORDINATOR, 1);
    let mut effects: std::collections::VecDeque<Effect> = leader.begin(txn, 1000).into();
    let mut answers = Vec::new();
    while let Some(effect) = effects.pop_front() {
        let at = |shard: GroupId| usize::from(shard == SHARDS[1]);
        let more = match effect {
            Effect::Stage { stage, .. } => {
                let request = Request::anonymous(Body::Stage(stage.clone()));
                let Response::Staged(staged) = log.ask(request) else {
                    panic!("it is staged");
                };
                leader.staged(stage.staged.attempt, &staged, 1000)
            }
            Effect::Prepare { shard, prepare } => {
                let attempt = prepare.attempt;
                let Response::Vote(vote) = shards[at(shard)].ask(first_phase(*prepare)) else {
                    panic!("a prepare is voted on");
                };
                leader.vote(attempt, shard, vote, 1000)
            }
            Effect::Decide { decide, .. } => {
                let id = decide.txn;
                let Response::Decision(decision) = log.ask(Request::anonymous(Body::Decide(decide))) else {
                    panic!("the log decides");
                };
                leader.decided(id, &decision, 1000)
            }
            Effect::Finish { shard, finish } => {
                assert!(!finish.commit, "nothing is committed");
                shards[at(shard)].ask(Request::anonymous(Body::Finish(finish)));
                Vec::new()
            }
            Effect::Answer { answer, .. } => {
                answers.push(answer);
                Vec::new()
            }
            other => panic!("{other:?}"),
        };
        effects.extend(more);
    }
    // What is answered after that, behind the record, finds nobody waiting.
    assert_eq!(answers.first(), Some(&Answer::Failed(SHARDS[1], failed(1))));
    for (talk, before) in shards.iter().zip(before) {
        talk.assert_idle();
        assert_eq!(objects(&talk.machine), before);
    }
    let recorded = log
        .machine
        .as_coordinator()
        .and_then(|log| log.decision(self::txn(1)));
    assert_eq!(
        recorded,
        Some(&quorate::machine::Decision::Abort),
        "for whoever asks again"
    );
}
