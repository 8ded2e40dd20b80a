//! The linearizability checker against a search that tries all orders, on random histories of a few operations.

use quorate::checker::linear::{Makes, Model, Operation, Outcome, check, check_within};
use quorate::checker::register::{Call, Register, Reply};

use crate::rng::Rng;
use crate::rounds;
use crate::stores::{Planned, run};

/// Tries every order of every subset that holds all known operations.
fn any_order<M: Model>(model: &M, history: &[Operation<M::Call, M::Reply>]) -> bool {
    let mut left: Vec<usize> = (0..history.len()).collect();
    try_all(model, history, &model.start(), &mut left)
}

fn try_all<M: Model>(
    model: &M,
    history: &[Operation<M::Call, M::Reply>],
    state: &M::State,
    left: &mut Vec<usize>,
) -> bool {
    let end = |at: usize| match history[at].outcome {
        Outcome::Returned { at, .. } => at,
        Outcome::Unknown => u64::MAX,
    };
    if left.iter().all(|at| end(*at) == u64::MAX) {
        return true;
    }
    for index in 0..left.len() {
        let at = left[index];
        if left.iter().any(|other| end(*other) < history[at].invoked) {
            continue;
        }
        let reply = match &history[at].outcome {
            Outcome::Returned { reply, .. } => Some(reply),
            Outcome::Unknown => None,
        };
        if let Some(after) = model.step(state, &history[at].call, reply) {
            left.remove(index);
            let found = try_all(model, history, &after, left);
            left.insert(index, at);
            if found {
                return true;
            }
        }
    }
    false
}

/// A register without the hooks that prune: what the search does for models that know none.
struct Plain(Register);

impl Model for Plain {
    type State = Option<u64>;
    type Call = Call;
    type Reply = Reply;

    fn start(&self) -> Option<u64> {
        self.0.start()
    }

    fn step(&self, state: &Option<u64>, call: &Call, reply: Option<&Reply>) -> Option<Option<u64>> {
        self.0.step(state, call, reply)
    }
}

/// A queue: unlike a register's, its calls neither overwrite blindly nor tell the state.
struct Queue;

#[derive(Debug, Clone, Copy)]
enum QueueCall {
    Push(u64),
    Pop,
    Length,
}

fn queue_run(state: &[u64], call: &QueueCall) -> (Vec<u64>, Option<u64>) {
    let mut after = state.to_owned();
    let reply = match call {
        QueueCall::Push(value) => {
            after.push(*value);
            None
        }
        QueueCall::Pop if state.is_empty() => None,
        QueueCall::Pop => Some(after.remove(0)),
        QueueCall::Length => Some(state.len() as u64),
    };
    (after, reply)
}

impl Model for Queue {
    type State = Vec<u64>;
    type Call = QueueCall;
    type Reply = Option<u64>;

    fn start(&self) -> Vec<u64> {
        Vec::new()
    }

    fn step(&self, state: &Vec<u64>, call: &QueueCall, reply: Option<&Option<u64>>) -> Option<Vec<u64>> {
        let (after, answer) = queue_run(state, call);
        reply.is_none_or(|reply| *reply == answer).then_some(after)
    }
}

/// `count` operations with short times, so that many overlap and some times are equal.
fn plan<C>(
    rng: &mut Rng,
    count: usize,
    unknown: u64,
    mut call: impl FnMut(&mut Rng) -> C,
) -> Vec<Planned<C>> {
    (0..count as u64)
        .map(|client| {
            let invoked = rng.below(12);
            let at = invoked + rng.below(6);
            let is_unknown = rng.per_mille(unknown);
            let latest = if is_unknown { 20 } else { at };
            Planned {
                client,
                call: call(rng),
                invoked,
                point: invoked + rng.below(latest - invoked + 1),
                at,
                is_unknown,
                is_lost: is_unknown && rng.per_mille(400),
            }
        })
        .collect()
}

/// The calls that a history may hold: some mixes are hard on one rule of the checker, some on another.
#[derive(Debug, Clone, Copy)]
enum Mix {
    /// Every write has a value of its own.
    Unique,
    /// Values 0 to 2 only, so that replies are ambiguous.
    Narrow,
    /// Often two writes have the same value: nothing can be said of lifetimes, but some writes are seen by nobody.
    Twice,
    Counter,
    /// Increments and reads only: no state comes again.
    Grows,
}

const MIXES: [Mix; 5] = [Mix::Unique, Mix::Narrow, Mix::Twice, Mix::Counter, Mix::Grows];

fn call(rng: &mut Rng, mix: Mix, next: &mut u64) -> Call {
    *next += 1;
    let value = match mix {
        Mix::Unique => 10 * *next,
        Mix::Narrow | Mix::Counter | Mix::Grows => rng.below(3),
        Mix::Twice => 10 * rng.below(4),
    };
    let guess = match mix {
        Mix::Unique => 10 * (1 + rng.below(*next)),
        Mix::Narrow | Mix::Counter | Mix::Grows => rng.below(3),
        Mix::Twice => 10 * rng.below(4),
    };
    let expected = (!rng.per_mille(250)).then_some(guess);
    let kinds = match mix {
        Mix::Twice => [4, 6, 8][rng.index(3)],
        Mix::Counter => 10,
        Mix::Unique | Mix::Narrow => 8,
        Mix::Grows => return if rng.per_mille(500) { Call::Get } else { Call::Incr },
    };
    match rng.below(kinds) {
        0 | 1 => Call::Get,
        2 | 3 => Call::Set(value),
        4 | 5 => Call::SetIf { expected, value },
        6 => Call::Delete,
        _ => Call::Incr,
    }
}

/// Another reply that the call might have given.
fn corrupt(rng: &mut Rng, call: Call, reply: Reply, values: &[u64]) -> Reply {
    let any = values[rng.index(values.len())];
    match (call, reply) {
        (_, Reply::Swapped(swapped)) => Reply::Swapped(!swapped),
        (_, Reply::Deleted(deleted)) => Reply::Deleted(!deleted),
        (_, Reply::Count(count)) => Reply::Count((count + rng.below(3)).saturating_sub(1)),
        (Call::Get, _) if rng.per_mille(300) => Reply::Value(None),
        (Call::Get, _) => Reply::Value(Some(any)),
        (_, reply) => reply,
    }
}

fn values(planned: &[Planned<Call>]) -> Vec<u64> {
    let written = planned.iter().filter_map(|plan| match plan.call {
        Call::Set(value) | Call::SetIf { value, .. } => Some(value),
        _ => None,
    });
    written.flat_map(|value| [value, value + 1]).chain([1]).collect()
}

#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    rejected: u64,
}

impl Tally {
    fn count(&mut self, accepted: bool) {
        *(if accepted {
            &mut self.accepted
        } else {
            &mut self.rejected
        }) += 1;
    }

    /// Both answers are common, or the comparison says little.
    #[track_caller]
    fn assert_balanced(&self) {
        let all = self.accepted + self.rejected;
        assert!(self.accepted > all / 10 && self.rejected > all / 10, "{self:?}");
    }
}

#[test]
fn registers_agree_with_trying_all_orders() {
    let mut tally = Tally::default();
    let answer = |state: &Option<u64>, call: &Call| Register::run(*state, *call).expect("small numbers");
    for seed in 0..rounds(100_000) {
        let rng = &mut Rng::new(seed);
        let mix = MIXES[rng.index(MIXES.len())];
        let (count, unknown) = (2 + rng.index(5), 500 * rng.below(2));
        let mut next = 0;
        let planned = plan(rng, count, unknown, |rng| call(rng, mix, &mut next));
        let model = Register {
            start: rng.per_mille(200).then_some(1),
        };
        let mut history = run(&model, &planned, answer);
        assert_eq!(
            check(&model, &history),
            Ok(()),
            "seed {seed}: a lawful history {history:#?}"
        );
        let values = values(&planned);
        for _ in 0..=rng.below(2) {
            let at = rng.index(count);
            let call = history[at].call;
            if let Outcome::Returned { reply, .. } = &mut history[at].outcome {
                *reply = corrupt(rng, call, *reply, &values);
            }
        }
        let wanted = any_order(&model, &history);
        tally.count(wanted);
        let found = check(&model, &history);
        assert_eq!(
            found.is_ok(),
            wanted,
            "seed {seed}, {mix:?}: {found:#?} of {history:#?}"
        );
        let plain = check(&Plain(model), &history);
        assert_eq!(
            plain.is_ok(),
            wanted,
            "seed {seed}, {mix:?}, without hooks: {history:#?}"
        );
    }
    println!("{tally:?}");
    tally.assert_balanced();
}

#[test]
fn queues_agree_with_trying_all_orders() {
    let mut tally = Tally::default();
    for seed in 0..rounds(50_000) {
        let rng = &mut Rng::new(seed);
        let mut next = 0;
        let count = 2 + rng.index(5);
        let planned = plan(rng, count, 350, |rng| match rng.below(5) {
            0 | 1 => {
                next += 1;
                QueueCall::Push(next)
            }
            2 | 3 => QueueCall::Pop,
            _ => QueueCall::Length,
        });
        let mut history = run(&Queue, &planned, |state, call| queue_run(state, call));
        assert_eq!(
            check(&Queue, &history),
            Ok(()),
            "seed {seed}: a lawful history {history:#?}"
        );
        let pops: Vec<usize> = (0..count)
            .filter(|at| !matches!(history[*at].call, QueueCall::Push(_)))
            .collect();
        if pops.is_empty() {
            continue;
        }
        let at = pops[rng.index(pops.len())];
        let is_length = matches!(history[at].call, QueueCall::Length);
        if let Outcome::Returned { reply, .. } = &mut history[at].outcome {
            *reply = (is_length || rng.per_mille(800)).then(|| rng.below(next + 2));
        }
        let wanted = any_order(&Queue, &history);
        tally.count(wanted);
        let found = check(&Queue, &history);
        assert_eq!(found.is_ok(), wanted, "seed {seed}: {found:#?} of {history:#?}");
    }
    println!("{tally:?}");
    tally.assert_balanced();
}

/// Ten concurrent writes have 10! orders but 10 · 2^9 configurations.
#[test]
fn a_configuration_is_entered_once() {
    let operation = |client, call, reply| Operation {
        client,
        call,
        invoked: 0,
        outcome: Outcome::Returned { at: 100, reply },
    };
    let mut history: Vec<_> = (0..10)
        .map(|client| operation(client, Call::Set(client), Reply::Stored))
        .collect();
    history.push(operation(10, Call::Get, Reply::Value(Some(99))));
    let found = check_within(&Plain(Register::default()), &history, 10 * 512 + 2);
    assert!(found.is_err(), "{found:?}");
}

/// Holds the highest number it was ever given.
struct Highest;

impl Model for Highest {
    type State = u64;
    /// `Some`: raise to that; `None`: get.
    type Call = Option<u64>;
    type Reply = u64;

    fn start(&self) -> u64 {
        0
    }

    fn step(&self, state: &u64, call: &Option<u64>, reply: Option<&u64>) -> Option<u64> {
        let after = call.unwrap_or(0).max(*state);
        reply.is_none_or(|reply| *reply == after).then_some(after)
    }

    fn needs(&self, call: &Option<u64>, reply: &u64) -> Option<u64> {
        call.is_none().then_some(*reply)
    }

    fn makes(&self, call: &Option<u64>, _reply: Option<&u64>) -> Makes<u64> {
        call.map_or(Makes::Nothing, Makes::Only)
    }

    fn never_returns(&self, _history: &[Operation<Option<u64>, u64>]) -> bool {
        true
    }
}

/// A state's second maker is unknown and may never happen: it does not make the state last.
#[test]
fn an_unknown_call_that_is_not_needed_prolongs_no_state() {
    let known = |invoked, call, reply| Operation {
        client: 0,
        call,
        invoked,
        outcome: Outcome::Returned {
            at: invoked + 5,
            reply,
        },
    };
    let mut history = vec![
        known(0, Some(1), 1),
        known(10, None, 1),
        known(20, Some(2), 2),
        known(30, None, 2),
        Operation {
            client: 1,
            call: Some(1),
            invoked: 100,
            outcome: Outcome::Unknown,
        },
    ];
    assert_eq!(check(&Highest, &history), Ok(()));
    history.push(known(40, None, 1));
    assert!(check(&Highest, &history).is_err());
}
