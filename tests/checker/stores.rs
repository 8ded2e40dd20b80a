//! Stores that make histories: lawful ones, and transactional ones that break in a known way.

use std::collections::BTreeMap;

use quorate::checker::linear::{Model, Operation, Outcome};
use quorate::checker::list_append::{self, Op, Txn};

use crate::rng::Rng;

/// What an operation does, and when. Times are in `invoked..=at`, `point` among them.
pub struct Planned<C> {
    pub client: u64,
    pub call: C,
    pub invoked: u64,
    pub point: u64,
    pub at: u64,
    /// The client does not learn the outcome.
    pub is_unknown: bool,
    /// An unknown call that never happens.
    pub is_lost: bool,
}

/// Runs the calls at their points. `answer` is the model's sequential meaning.
pub fn run<M: Model<Call: Clone>>(
    model: &M,
    planned: &[Planned<M::Call>],
    answer: impl Fn(&M::State, &M::Call) -> (M::State, M::Reply),
) -> Vec<Operation<M::Call, M::Reply>> {
    let mut order: Vec<usize> = (0..planned.len()).collect();
    order.sort_by_key(|at| planned[*at].point);
    let mut state = model.start();
    let mut history: Vec<Option<Operation<M::Call, M::Reply>>> = planned.iter().map(|_| None).collect();
    for at in order {
        let plan = &planned[at];
        let (after, reply) = answer(&state, &plan.call);
        if !plan.is_lost {
            state = after;
        }
        history[at] = Some(Operation {
            client: plan.client,
            call: plan.call.clone(),
            invoked: plan.invoked,
            outcome: if plan.is_unknown {
                Outcome::Unknown
            } else {
                Outcome::Returned { at: plan.at, reply }
            },
        });
    }
    history.into_iter().flatten().collect()
}

/// How a transactional store isolates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// A transaction happens at one point between its invocation and its end.
    Strict,
    /// At one point, which may lie outside.
    Serializable,
    /// It reads what there was when it began, and appends at its end.
    Snapshot,
    /// Each operation happens at a point of its own.
    None,
}

/// How many transactions, by how many clients at a time, on how many keys.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub txns: usize,
    pub clients: usize,
    pub keys: u64,
    pub ops_max: u64,
    /// Of a thousand.
    pub unknown: u64,
    pub aborted: u64,
    /// Elements after which a key is replaced by a new one, so that lists stay short.
    pub list_max: u64,
    pub isolation: Isolation,
}

/// A transaction under way: its outcome, and the points of its operations.
struct Draft {
    txn: Txn,
    happens: bool,
    points: Vec<u64>,
}

/// Keys are replaced when they have been appended to often enough.
struct Keys {
    live: Vec<(u64, u64)>,
    next_key: u64,
    next_element: u64,
    list_max: u64,
}

impl Keys {
    fn new(shape: Shape) -> Keys {
        Keys {
            live: (0..shape.keys).map(|key| (key, 0)).collect(),
            next_key: shape.keys,
            next_element: 1,
            list_max: shape.list_max,
        }
    }

    fn op(&mut self, rng: &mut Rng) -> Op {
        let at = rng.index(self.live.len());
        if self.live[at].1 >= self.list_max {
            self.live[at] = (self.next_key, 0);
            self.next_key += 1;
        }
        let key = self.live[at].0;
        if rng.per_mille(500) {
            return Op::Read { key, list: None };
        }
        self.live[at].1 += 1;
        self.next_element += 1;
        Op::Append {
            key,
            element: self.next_element - 1,
        }
    }
}

/// A history of transactions with random keys and times.
pub fn transactions(rng: &mut Rng, shape: Shape) -> Vec<Txn> {
    let mut keys = Keys::new(shape);
    let mut free_at = vec![0_u64; shape.clients];
    let mut drafts = Vec::with_capacity(shape.txns);
    for _ in 0..shape.txns {
        let client = rng.index(shape.clients);
        let ops: Vec<Op> = (0..=rng.below(shape.ops_max)).map(|_| keys.op(rng)).collect();
        let invoked = free_at[client] + rng.below(5);
        let at = invoked + rng.below(20);
        free_at[client] = at + 1;
        drafts.push(draft(rng, shape, client, ops, (invoked, at)));
    }
    execute(&mut drafts, shape.isolation);
    drafts.into_iter().map(|draft| draft.txn).collect()
}

fn draft(rng: &mut Rng, shape: Shape, client: usize, ops: Vec<Op>, (invoked, at): (u64, u64)) -> Draft {
    let fate = rng.below(1000);
    let (outcome, happens, last) = if fate < shape.unknown {
        (list_append::Outcome::Unknown, rng.per_mille(500), at + 30)
    } else if fate < shape.unknown + shape.aborted {
        (list_append::Outcome::Aborted { at }, false, at)
    } else {
        (list_append::Outcome::Committed { at }, true, at)
    };
    let mut any = |from: u64, to: u64| from + rng.below(to - from + 1);
    let mut points: Vec<u64> = match shape.isolation {
        Isolation::Strict => vec![any(invoked, last); ops.len()],
        Isolation::Serializable => vec![any(invoked.saturating_sub(30), last + 30); ops.len()],
        Isolation::Snapshot => {
            let (begin, end) = (any(invoked, last), any(invoked, last));
            let point = |op: &Op| match op {
                Op::Append { .. } => begin.max(end),
                Op::Read { .. } => begin.min(end),
            };
            ops.iter().map(point).collect()
        }
        Isolation::None => ops.iter().map(|_| any(invoked, last)).collect(),
    };
    if shape.isolation == Isolation::None {
        points.sort_unstable();
    }
    Draft {
        txn: Txn {
            client: client as u64,
            invoked,
            outcome,
            ops,
        },
        happens,
        points,
    }
}

/// Fills in what committed transactions read.
fn execute(drafts: &mut [Draft], isolation: Isolation) {
    let mut steps: Vec<(u64, usize, usize)> = Vec::new();
    for (number, draft) in drafts.iter().enumerate() {
        steps.extend(
            draft
                .points
                .iter()
                .enumerate()
                .map(|(op, point)| (*point, number, op)),
        );
    }
    steps.sort_unstable();
    let mut lists: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (_, number, at) in steps {
        let Draft { txn, happens, .. } = &mut drafts[number];
        let learns = matches!(txn.outcome, list_append::Outcome::Committed { .. });
        // A snapshot's own appends come after its reads, but it sees them.
        let own: Vec<(u64, u64)> = txn.ops[..at].iter().filter_map(appended).collect();
        match &mut txn.ops[at] {
            Op::Append { key, element } => {
                if *happens {
                    lists.entry(*key).or_default().push(*element);
                }
            }
            Op::Read { key, list } if learns => {
                let mut seen = lists.get(key).cloned().unwrap_or_default();
                if isolation == Isolation::Snapshot {
                    seen.extend(
                        own.iter()
                            .filter(|(to, _)| to == key)
                            .map(|(_, element)| *element),
                    );
                }
                *list = Some(seen);
            }
            Op::Read { .. } => {}
        }
    }
}

fn appended(op: &Op) -> Option<(u64, u64)> {
    match op {
        Op::Append { key, element } => Some((*key, *element)),
        Op::Read { .. } => None,
    }
}
