//! Words for talking to a machine.

use bytes::Bytes;
use quorate::base::{AttemptId, GroupId, Millis, Reply, RequestId, TxnId};
use quorate::machine::{
    Age, Batch, Body, Command, Condition, Decide, Decision, Finish, Machine, Mode, No, Origin, Prepare, Read,
    ReadOutcome, Refusal, Request, Response, Seen, Ticket, Vote, commands, scope_of,
};

/// A machine, the next index of its log, and the time on its leader's clock.
pub struct Talk {
    pub machine: Machine,
    pub index: u64,
    pub now: Millis,
}

pub const SHARD: GroupId = GroupId::Shard(0);
pub const COORDINATOR: GroupId = GroupId::Coordinator(0);
/// A deadline that no test reaches.
pub const FAR: Millis = 1_000_000;

impl Talk {
    pub fn shard() -> Talk {
        Talk::new(SHARD)
    }

    pub fn new(group: GroupId) -> Talk {
        Talk {
            machine: Machine::new(group),
            index: 0,
            now: 1000,
        }
    }

    /// One entry with these requests; answers as `(index, place, response)`.
    pub fn entry(&mut self, requests: Vec<Request>) -> Vec<(Ticket, Response)> {
        self.index += 1;
        self.machine
            .apply(self.index, batch(self.index, self.now, requests))
    }

    /// One request in an entry of its own, answered at once and nobody else.
    pub fn ask(&mut self, request: Request) -> Response {
        let mut answers = self.entry(vec![request]);
        assert_eq!(answers.len(), 1, "one answer: {answers:?}");
        let (ticket, response) = answers.remove(0);
        assert_eq!(ticket, self.ticket());
        response
    }

    /// One request in an entry of its own, which is not answered: its ticket.
    pub fn parks(&mut self, request: Request) -> Ticket {
        assert_eq!(self.entry(vec![request]), [], "it should wait");
        self.ticket()
    }

    /// The first ticket of the last entry.
    pub fn ticket(&self) -> Ticket {
        Ticket {
            index: self.index,
            at: 0,
        }
    }

    pub fn run(&mut self, text: &str) -> Response {
        self.ask(run(text))
    }

    pub fn get(&self, key: &str) -> Option<String> {
        match self.read(&format!("GET {key}"), &[]) {
            ReadOutcome::Ready(Seen::Run { replies, .. }) => match &replies[..] {
                [Reply::Bulk(bytes)] => Some(String::from_utf8_lossy(bytes).into_owned()),
                [Reply::Nil] => None,
                other => panic!("GET answers {other:?}"),
            },
            other => panic!("GET answers {other:?}"),
        }
    }

    pub fn read(&self, text: &str, conditions: &[Condition]) -> ReadOutcome {
        let read = Read::Run {
            commands: commands_of(text),
            conditions: conditions.to_vec(),
            seed: 0,
            versions: true,
            misses: false,
        };
        self.machine.read(&read, self.now, u64::MAX)
    }

    pub fn version(&self, key: &str) -> u64 {
        self.state().version(key.as_bytes(), self.machine.time())
    }

    pub fn state(&self) -> &quorate::machine::Shard {
        self.machine.as_shard().expect("a shard")
    }

    pub fn digest(&self) -> u32 {
        self.machine.digest().expect("a state is encoded")
    }

    pub fn assert_idle(&self) {
        assert_eq!((self.state().prepared().count(), self.state().parked()), (0, 0));
        assert!(self.state().locks().is_free());
    }
}

pub fn batch(index: u64, time: Millis, requests: Vec<Request>) -> Batch {
    Batch {
        origin: Origin {
            node: 1,
            nonce: index,
        },
        time,
        seed: index,
        requests,
    }
}

/// `SET a 1; GET a` as commands.
pub fn commands_of(text: &str) -> Vec<Command> {
    let command = |text: &str| {
        let args: Vec<Bytes> = text
            .split_whitespace()
            .map(|word| Bytes::from(word.to_string()))
            .collect();
        let (name, rest) = args.split_first().expect("a command has a name");
        let spec = commands::find(name).expect("a command that there is");
        commands::parse(spec, rest).expect("a command's arguments")
    };
    text.split(';').map(command).collect()
}

pub fn run(text: &str) -> Request {
    run_if(text, &[])
}

pub fn run_if(text: &str, conditions: &[Condition]) -> Request {
    Request::anonymous(Body::Run {
        commands: commands_of(text),
        conditions: conditions.to_vec(),
        mode: Mode::Together,
    })
}

impl Numbered for Request {
    fn numbered(mut self, seq: u64, below: u64) -> Request {
        self.id = Some(RequestId { session: 7, seq });
        self.below = below;
        self
    }

    fn until(mut self, deadline: Millis) -> Request {
        self.deadline = deadline;
        self
    }
}

pub trait Numbered {
    fn numbered(self, seq: u64, below: u64) -> Request;
    fn until(self, deadline: Millis) -> Request;
}

pub fn txn(seq: u64) -> TxnId {
    TxnId { session: 9, seq }
}

/// The transaction's attempt with this number.
pub fn attempt(seq: u64, number: u32) -> AttemptId {
    AttemptId {
        txn: txn(seq),
        term: 1,
        number,
    }
}

/// A prepare; transactions with smaller numbers are older.
pub fn prepare(attempt: AttemptId, text: &str) -> Prepare {
    prepare_if(attempt, text, &[])
}

pub fn prepare_if(attempt: AttemptId, text: &str, conditions: &[Condition]) -> Prepare {
    let commands = commands_of(text);
    Prepare {
        attempt,
        age: Age(attempt.txn.seq, attempt.txn),
        coordinator: COORDINATOR,
        deadline: FAR,
        scope: scope_of(&commands, conditions),
        conditions: conditions.to_vec(),
        commands,
        strict: false,
    }
}

pub fn first_phase(prepare: Prepare) -> Request {
    Request::anonymous(Body::Prepare(Box::new(prepare)))
}

pub fn finish(attempt: AttemptId, commit: bool) -> Request {
    Request::anonymous(Body::Finish(Finish {
        attempt,
        commit,
        deadline: FAR,
    }))
}

pub fn sweep() -> Request {
    Request::anonymous(Body::Sweep)
}

pub fn at_version(key: &str, version: u64) -> Condition {
    Condition::Key {
        key: Bytes::from(key.to_string()),
        version,
    }
}

pub fn ok() -> Response {
    Response::Replies(vec![Reply::ok()])
}

pub fn int(n: i64) -> Response {
    Response::Replies(vec![Reply::Int(n)])
}

pub fn yes(replies: &[Reply]) -> Response {
    Response::Vote(Vote::Yes(replies.to_vec()))
}

pub fn no(why: No) -> Response {
    Response::Vote(Vote::No(why))
}

pub fn refused(why: Refusal) -> Response {
    Response::Refused(why)
}

pub fn commit(attempt: AttemptId) -> Decision {
    Decision::Commit {
        attempt,
        participants: vec![(SHARD, vec![Reply::ok()])],
        deadline: FAR,
    }
}

pub fn decide(seq: u64, decision: Decision, below: u64) -> Request {
    let mut request = Request::anonymous(Body::Decide(Box::new(Decide {
        txn: txn(seq),
        deadline: FAR,
        decision,
        refused: None,
        told: false,
    })));
    request.below = below;
    request
}

pub fn retire(seq: u64) -> Request {
    Request::anonymous(Body::Retire(txn(seq)))
}
