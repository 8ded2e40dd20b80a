//! What one client does until it is told to stop.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use quorate::checker::linear::{Operation, Outcome as Seen};
use quorate::checker::list_append::{Op, Outcome, Txn};
use quorate::checker::register::{Call, Reply};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redis_protocol::resp2::types::BytesFrame as Frame;

use crate::client::{Client, Sent, Verdict, command, number, text, verdict};
use crate::history::Shared;

pub const ACCOUNTS: u64 = 5;
pub const OPENING: i64 = 100;
const LISTS: u64 = 6;
const REGISTERS: u64 = 4;
const COUNTERS: u64 = 2;
/// What a transaction of appends and reads does, as a script: an empty argument stands for a read. With `names` first the keys are
/// none that it names, so it comes upon them.
const SCRIPT: &str = "
    local keys, first = KEYS, 1
    if ARGV[1] == 'names' then
        keys, first = {}, 2 + ARGV[2]
        for i = 1, ARGV[2] do keys[i] = ARGV[2 + i] end
        first = first + 1
    end
    local out = {}
    for i, key in ipairs(keys) do
        local element = ARGV[first + i - 1]
        out[i] = element == '' and redis.call('get', key) or element ~= '' and redis.call('append', key, element)
    end
    return out";

pub struct Worker {
    pub id: u64,
    pub nodes: Vec<SocketAddr>,
    pub history: Shared,
    pub stop: Rc<Cell<bool>>,
    pub rng: SmallRng,
    client: Client,
    next: u64,
}

/// What became of a transaction.
pub enum Ended {
    Committed(Vec<Frame>),
    Aborted,
    Unknown(Option<String>),
}

impl Worker {
    pub fn new(id: u64, seed: u64, nodes: Vec<SocketAddr>, history: Shared, stop: Rc<Cell<bool>>) -> Worker {
        let mut rng = SmallRng::seed_from_u64(seed);
        let client = Client::new(nodes[rng.random_range(0..nodes.len())]);
        Worker {
            id,
            nodes,
            history,
            stop,
            rng,
            client,
            next: 0,
        }
    }

    pub async fn run(mut self) {
        while !self.stop.get() {
            match self.rng.random_range(0..100) {
                0..34 => self.append_and_read().await,
                34..40 => self.pass_on().await,
                40..65 => self.register().await,
                65..75 => self.transfer().await,
                75..80 => self.audit().await,
                80..88 => self.unique().await,
                88..94 => self.count().await,
                94..98 => self.expire().await,
                _ => self.fail_strictly().await,
            }
            if self.rng.random_bool(0.3) {
                tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..40))).await;
            }
            if self.rng.random_bool(0.05) {
                self.turn();
            }
        }
    }

    /// A value that nobody else writes.
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.id << 32 | self.next
    }

    fn turn(&mut self) {
        let node = self.nodes[self.rng.random_range(0..self.nodes.len())];
        self.client.turn_to(node);
    }

    pub async fn send(&mut self, commands: &[Frame]) -> Sent {
        let sent = self.client.send(commands).await;
        if !matches!(sent, Sent::Replied(_)) {
            self.turn();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sent
    }

    /// MULTI, the commands, EXEC.
    pub async fn exec(&mut self, commands: Vec<Frame>) -> Ended {
        let mut all = vec![command(&["MULTI"])];
        all.extend(commands);
        all.push(command(&["EXEC"]));
        let ended = match self.send(&all).await {
            Sent::Never => Ended::Aborted,
            Sent::Lost => Ended::Unknown(None),
            Sent::Replied(replies) => match replies.last().map(verdict) {
                Some(Verdict::Done(Frame::Array(replies))) => Ended::Committed(replies),
                Some(Verdict::Done(Frame::Null) | Verdict::Refused) => Ended::Aborted,
                Some(Verdict::Unknown(id)) => Ended::Unknown(Some(id)),
                other => panic!("EXEC answered {other:?}"),
            },
        };
        self.history.count(match &ended {
            Ended::Committed(_) => "txns committed",
            Ended::Aborted => "txns aborted",
            Ended::Unknown(_) => "txns unknown",
        });
        ended
    }

    /// Appends to lists on several shards, and reads some.
    async fn append_and_read(&mut self) {
        let mut ops = Vec::new();
        for _ in 0..self.rng.random_range(1..5) {
            let key = self.rng.random_range(0..LISTS);
            if self.rng.random_bool(0.5) {
                let element = self.fresh();
                ops.push(Op::Append { key, element });
            } else {
                ops.push(Op::Read { key, list: None });
            }
        }
        let as_script = self.rng.random_bool(0.25);
        let named = self.rng.random_bool(0.5);
        let invoked = self.history.now();
        let ended = if as_script {
            self.exec_script(&ops, named).await
        } else {
            let commands = ops.iter().map(|op| match op {
                Op::Append { key, element } => {
                    command(&["APPEND", &format!("l:{key}"), &format!("{element},")])
                }
                Op::Read { key, .. } => command(&["GET", &format!("l:{key}")]),
            });
            let commands = commands.collect();
            self.exec(commands).await
        };
        let at = self.history.now();
        let outcome = match &ended {
            Ended::Committed(replies) => {
                for (op, reply) in ops.iter_mut().zip(replies) {
                    if let Op::Read { list, .. } = op {
                        *list = Some(parse_list(reply));
                    }
                }
                Outcome::Committed { at }
            }
            Ended::Aborted => Outcome::Aborted { at },
            Ended::Unknown(_) => Outcome::Unknown,
        };
        let client = self.id;
        self.history
            .tell(|| format!("client {client} {ops:?} {outcome:?}"));
        let mut txns = self.history.txns.borrow_mut();
        if let Ended::Unknown(Some(id)) = ended {
            self.history.unknown.borrow_mut().push((id, txns.len()));
        }
        txns.push(Txn {
            client,
            invoked,
            outcome,
            ops,
        });
    }

    /// The same as one script.
    async fn exec_script(&mut self, ops: &[Op], named: bool) -> Ended {
        let keys: Vec<String> = ops
            .iter()
            .map(|op| match op {
                Op::Append { key, .. } | Op::Read { key, .. } => format!("l:{key}"),
            })
            .collect();
        let elements = ops.iter().map(|op| match op {
            Op::Append { element, .. } => format!("{element},"),
            Op::Read { .. } => String::new(),
        });
        let count = keys.len().to_string();
        let mut words = vec!["EVAL".to_owned(), SCRIPT.to_owned()];
        if named {
            words.push(count);
        } else {
            words.extend(["0".to_owned(), "names".to_owned(), count]);
        }
        words.extend(keys);
        words.extend(elements);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ended = match self.send(&[command(&words)]).await {
            Sent::Never => Ended::Aborted,
            Sent::Lost => Ended::Unknown(None),
            Sent::Replied(replies) => match verdict(&replies[0]) {
                Verdict::Done(Frame::Array(replies)) => Ended::Committed(replies),
                Verdict::Refused => Ended::Aborted,
                Verdict::Unknown(id) => Ended::Unknown(Some(id)),
                Verdict::Done(other) => panic!("EVAL answered {other:?}"),
            },
        };
        self.history.count(match &ended {
            Ended::Committed(_) => "scripts committed",
            Ended::Aborted => "scripts aborted",
            Ended::Unknown(_) => "scripts unknown",
        });
        ended
    }

    async fn register(&mut self) {
        let key = format!("r:{}", self.rng.random_range(0..REGISTERS));
        let call = match self.rng.random_range(0..10) {
            0..4 => Call::Get,
            4..8 => Call::Set(self.fresh()),
            8 => Call::Incr,
            _ => Call::Delete,
        };
        let sent = match call {
            Call::Set(value) => command(&["SET", &key, &value.to_string()]),
            Call::Incr => command(&["INCR", &key]),
            Call::Delete => command(&["DEL", &key]),
            _ => command(&["GET", &key]),
        };
        let invoked = self.history.now();
        let outcome = match self.send(&[sent]).await {
            Sent::Never => return,
            Sent::Lost => Seen::Unknown,
            Sent::Replied(replies) => match verdict(&replies[0]) {
                Verdict::Refused => return,
                Verdict::Unknown(_) => Seen::Unknown,
                Verdict::Done(reply) => Seen::Returned {
                    at: self.history.now(),
                    reply: register_reply(call, &reply),
                },
            },
        };
        let client = self.id;
        self.history
            .tell(|| format!("client {client} {key} {call:?} {outcome:?}"));
        self.history.count("register operations");
        if call == Call::Get && outcome == Seen::Unknown {
            return;
        }
        let operation = Operation {
            client,
            call,
            invoked,
            outcome,
        };
        self.history
            .registers
            .borrow_mut()
            .entry(key)
            .or_default()
            .push(operation);
    }

    /// Moves money under a watch of both accounts.
    async fn transfer(&mut self) {
        let from = self.rng.random_range(0..ACCOUNTS);
        let to = (from + self.rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let (from, to) = (format!("a:{from}"), format!("a:{to}"));
        let look = [
            command(&["WATCH", &from, &to]),
            command(&["GET", &from]),
            command(&["GET", &to]),
        ];
        let Sent::Replied(replies) = self.send(&look).await else {
            return;
        };
        if replies
            .iter()
            .any(|reply| !matches!(verdict(reply), Verdict::Done(_)))
        {
            self.turn(); // its watch goes with the connection
            return;
        }
        let (Some(balance), Some(other)) = (number(&replies[1]), number(&replies[2])) else {
            self.turn();
            return;
        };
        let amount = self.rng.random_range(1..20).min(balance);
        if amount <= 0 {
            self.turn();
            return;
        }
        let moves = vec![
            command(&["SET", &from, &(balance - amount).to_string()]),
            command(&["SET", &to, &(other + amount).to_string()]),
        ];
        let ended = self.exec(moves).await;
        if matches!(ended, Ended::Committed(_)) {
            self.history.count("transfers");
        }
        let client = self.id;
        self.history
            .tell(|| format!("client {client} moves {amount} from {from} to {to}"));
    }

    /// All accounts at once hold what was paid in.
    async fn audit(&mut self) {
        let accounts: Vec<String> = (0..ACCOUNTS).map(|account| format!("a:{account}")).collect();
        let mut words = vec!["MGET"];
        words.extend(accounts.iter().map(String::as_str));
        let Sent::Replied(replies) = self.send(&[command(&words)]).await else {
            return;
        };
        if let Verdict::Done(Frame::Array(balances)) = verdict(&replies[0]) {
            let balances: Vec<Option<i64>> = balances.iter().map(number).collect();
            let opened = balances.iter().any(Option::is_some);
            let total: i64 = balances.iter().flatten().sum();
            assert!(
                !opened || total == OPENING * ACCOUNTS.cast_signed(),
                "money was made or lost: {balances:?}"
            );
            self.history.count("audits");
        }
    }

    /// An element and its mark, on two shards or one: both or none, and for ever.
    async fn unique(&mut self) {
        let element = self.fresh();
        let set = vec![
            command(&["SET", &format!("u:{element}"), "1"]),
            command(&["SET", &format!("m:{element}"), "1"]),
        ];
        let ended = self.exec(set).await;
        match ended {
            Ended::Committed(_) => drop(self.history.acked.borrow_mut().insert(element)),
            Ended::Unknown(_) => drop(self.history.open.borrow_mut().insert(element)),
            Ended::Aborted => {}
        }
    }

    /// Two keys as one, and then an error: neither may ever be there.
    async fn fail_strictly(&mut self) {
        let element = self.fresh();
        self.history.doomed.borrow_mut().push(element);
        let mark = format!("m:{element}");
        let commands = [
            command(&["MULTI", "STRICT"]),
            command(&["SET", &format!("u:{element}"), "1"]),
            command(&["SET", &mark, "text"]),
            command(&["INCR", &mark]),
            command(&["EXEC"]),
        ];
        if let Sent::Replied(replies) = self.send(&commands).await
            && let Some(last) = replies.last()
        {
            if matches!(last, Frame::Error(why) if why.starts_with("EXECABORT ") && why.contains("command 3 ('incr')"))
            {
                self.history.count("strict failures");
            } else {
                assert!(
                    !matches!(verdict(last), Verdict::Done(_)),
                    "EXEC answered {last:?}"
                );
            }
        }
    }

    /// Increments a counter, asking again as long as the answer is that nothing has happened.
    async fn count(&mut self) {
        let key = format!("c:{}", self.rng.random_range(0..COUNTERS));
        for _ in 0..4 {
            let sent = self.send(&[command(&["INCR", &key])]).await;
            let mut counts = self.history.counts.borrow_mut();
            let (acked, unknown) = counts.entry(key.clone()).or_default();
            match sent {
                Sent::Never => {}
                Sent::Lost => {
                    *unknown += 1;
                    return;
                }
                Sent::Replied(replies) => match verdict(&replies[0]) {
                    Verdict::Refused => {}
                    Verdict::Unknown(_) => {
                        *unknown += 1;
                        return;
                    }
                    Verdict::Done(_) => {
                        *acked += 1;
                        return;
                    }
                },
            }
        }
    }

    /// A key that goes by itself: who has seen it gone never sees it again, and nobody else who asks later does.
    async fn expire(&mut self) {
        let known = self.history.expiring.borrow().len();
        let key = if known == 0 || self.rng.random_bool(0.5) {
            let key = format!("e:{}", self.fresh());
            let lifetime = self.rng.random_range(20..1500).to_string();
            let set = command(&["SET", &key, "1", "PX", &lifetime]);
            let Sent::Replied(replies) = self.send(&[set]).await else {
                return;
            };
            if !matches!(verdict(&replies[0]), Verdict::Done(_)) {
                return;
            }
            self.history.expiring.borrow_mut().push(key.clone());
            key
        } else {
            let recent = self.rng.random_range(known.saturating_sub(4)..known);
            self.history.expiring.borrow()[recent].clone()
        };
        for _ in 0..6 {
            let asked = self.history.now();
            let Sent::Replied(replies) = self.send(&[command(&["GET", &key])]).await else {
                continue;
            };
            let Verdict::Done(reply) = verdict(&replies[0]) else {
                continue;
            };
            let gone = self.history.gone.borrow().get(&key).copied();
            if reply == Frame::Null {
                let at = self.history.now();
                self.history.gone.borrow_mut().entry(key.clone()).or_insert(at);
                self.history.count("expiries seen");
            } else if gone.is_some_and(|gone| gone < asked) {
                panic!("{key} was gone, and came back");
            }
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..400))).await;
            self.turn();
        }
    }
}

fn register_reply(call: Call, reply: &Frame) -> Reply {
    let value = |reply: &Frame| number(reply).and_then(|n| u64::try_from(n).ok());
    match call {
        Call::Set(_) => Reply::Stored,
        Call::Incr => Reply::Count(value(reply).expect("a count")),
        Call::Delete => Reply::Deleted(value(reply) == Some(1)),
        _ => Reply::Value(value(reply)),
    }
}

/// `1,2,3,`
pub fn parse_list(reply: &Frame) -> Vec<u64> {
    let text = text(reply).unwrap_or_default();
    let elements = text.split(',').filter(|part| !part.is_empty());
    elements
        .map(|part| part.parse().expect("a list of numbers"))
        .collect()
}
