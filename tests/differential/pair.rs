//! Redis and Quorate side by side: the same command to both, and how their replies compare.

use std::env;

use crate::generate::{Command, Generator, Order};
use crate::machine::Machine;
use crate::redis::Connection;
use crate::resp::{Reply, render};

/// A reply to a time that is read from two clocks that go: so far apart, at the most.
const SECONDS_APART: u64 = 20;

/// Something that replies to commands.
pub trait Speaker {
    /// Whether it waits where there is nothing to pop, and its clock goes.
    const WAITS: bool;
    fn call(&mut self, args: &[Vec<u8>]) -> Reply;
}

impl Speaker for Connection {
    const WAITS: bool = true;
    fn call(&mut self, args: &[Vec<u8>]) -> Reply {
        Connection::call(self, args)
    }
}

impl Speaker for Machine {
    const WAITS: bool = false;
    fn call(&mut self, args: &[Vec<u8>]) -> Reply {
        Machine::call(self, args)
    }
}

/// A connection to Redis, and one to Quorate.
pub struct Pair<S> {
    pub redis: Connection,
    pub quorate: S,
}

/// Pairs, and what has been sent to them.
pub struct Pairs<S> {
    pub pairs: Vec<Pair<S>>,
    pub done: Vec<String>,
}

impl<S: Speaker> Pairs<S> {
    pub fn new(pairs: Vec<Pair<S>>) -> Pairs<S> {
        let mut pairs = Pairs {
            pairs,
            done: Vec::new(),
        };
        pairs.both(0, &[b"FLUSHALL".to_vec()]);
        pairs
    }

    /// Tells the clock in what a difference is shown with.
    pub fn note(&mut self, what: String) {
        self.done.push(what);
    }

    /// Sends words to both of a pair.
    pub fn both(&mut self, who: usize, args: &[Vec<u8>]) -> (Reply, Reply) {
        let words = args.iter().map(|arg| format!("\"{}\"", arg.escape_ascii()));
        let words = words.collect::<Vec<_>>().join(" ");
        self.done.push(match who {
            0 => words,
            other => format!("connection {other}: {words}"),
        });
        let Pair { redis, quorate } = &mut self.pairs[who];
        let theirs = if S::WAITS {
            redis.call(args)
        } else if may_wait(args) {
            redis.call_without_waiting(args)
        } else {
            redis.call(args)
        };
        (theirs, quorate.call(args))
    }

    /// Sends a command to both.
    ///
    /// # Errors
    /// The replies differ.
    pub fn command(&mut self, who: usize, command: &Command) -> Result<(), String> {
        let (theirs, ours) = self.both(who, &command.args);
        self.compare(command, theirs, ours, false)
    }

    fn compare(
        &mut self,
        command: &Command,
        theirs: Reply,
        ours: Reply,
        in_script: bool,
    ) -> Result<(), String> {
        let in_script = in_script || command.args[0].starts_with(b"EVAL");
        let (theirs, ours) = match (theirs, ours) {
            (Reply::List(a, theirs), Reply::List(b, ours))
                if a == b && theirs.len() == command.each.len() && theirs.len() == ours.len() =>
            {
                let replies = theirs.into_iter().zip(ours);
                let mut parts = command.each.iter().zip(replies);
                return parts
                    .try_for_each(|(part, (theirs, ours))| self.compare(part, theirs, ours, in_script));
            }
            (theirs, ours) if in_script => (in_lua(theirs), in_lua(ours)),
            replies => replies,
        };
        let order = match command.order {
            Order::Timed | Order::Seconds | Order::Millis if !S::WAITS => Order::Exact,
            Order::Timed => Order::Size,
            order => order,
        };
        if is_near(order, &theirs, &ours) {
            return Ok(());
        }
        let (theirs, ours) = (comparable(theirs, order), comparable(ours, order));
        if theirs == ours {
            return Ok(());
        }
        let numbers = (
            theirs.trim_matches('"').parse::<f64>(),
            ours.trim_matches('"').parse::<f64>(),
        );
        if order == Order::Number && matches!(numbers, (Ok(a), Ok(b)) if a.to_bits() == b.to_bits()) {
            self.both(0, &[b"DEL".to_vec(), command.args[1].clone()]);
            return Ok(());
        }
        let whole = env::var_os("QUORATE_DIFF_WHOLE").is_some();
        let from = if whole {
            0
        } else {
            self.done.len().saturating_sub(8)
        };
        let of = command.args.iter().map(|arg| arg.escape_ascii().to_string());
        Err(format!(
            "command {}:\n{}\nof {}\nRedis:   {theirs}\nQuorate: {ours}",
            self.done.len(),
            self.done[from..].join("\n"),
            of.collect::<Vec<_>>().join(" "),
        ))
    }

    /// Queues commands at both, after MULTI.
    pub fn queue(&mut self, commands: &[Command]) -> Result<(), String> {
        self.command(0, &Command::exact(&["MULTI"]))?;
        commands.iter().try_for_each(|command| {
            let queued = Command {
                args: command.args.clone(),
                ..Command::exact(&[])
            };
            self.command(0, &queued)
        })
    }

    /// Executes at both what was queued.
    pub fn exec(&mut self, commands: Vec<Command>) -> Result<(), String> {
        self.command(
            0,
            &Command {
                each: commands,
                ..Command::exact(&["EXEC"])
            },
        )
    }

    pub fn everything(&mut self, generator: &Generator) -> Result<(), String> {
        let all = generator.look_at_everything();
        all.iter().try_for_each(|command| self.command(0, command))
    }
}

fn may_wait(args: &[Vec<u8>]) -> bool {
    let is = |word: &[u8]| args[0].starts_with(word);
    is(b"BL") || is(b"BR") || is(b"BZ") || is(b"XREAD")
}

fn is_near(order: Order, theirs: &Reply, ours: &Reply) -> bool {
    let apart = match order {
        Order::Seconds => SECONDS_APART,
        Order::Millis => SECONDS_APART * 1000,
        _ => return false,
    };
    matches!((theirs, ours), (&Reply::Integer(a), &Reply::Integer(b)) if a > 0 && b > 0 && a.abs_diff(b) < apart)
}

/// A reply as it is compared.
fn comparable(reply: Reply, order: Order) -> String {
    match (order, unsigned_zero(reply)) {
        (Order::Any, reply) => render(&sorted(reply)),
        (Order::Size, Reply::List(mark, items)) => format!("{mark}{} items", items.len()),
        (Order::Size, Reply::Map(pairs)) => format!("{} pairs", pairs.len()),
        (Order::Size, Reply::Bulk(_)) => "a string".to_owned(),
        (_, reply) => render(&reply),
    }
}

/// Numbers of Lua are doubles. What C makes of one that is larger than an integer is undefined: Redis has the least, Quorate the
/// greatest.
fn in_lua(reply: Reply) -> Reply {
    match reply {
        Reply::Integer(i64::MIN) => Reply::Integer(i64::MAX),
        Reply::List(mark, items) => Reply::List(mark, items.into_iter().map(in_lua).collect()),
        other => other,
    }
}

/// Redis keeps a score's negative zero in large sorted sets and not in small ones; Quorate in none.
fn unsigned_zero(reply: Reply) -> Reply {
    match reply {
        Reply::Text(text) if text == "(double) -0" => Reply::Text("(double) 0".to_owned()),
        Reply::Bulk(text) if text == b"-0" => Reply::Bulk(b"0".to_vec()),
        Reply::List(mark, items) => Reply::List(mark, items.into_iter().map(unsigned_zero).collect()),
        other => other,
    }
}

fn sorted(reply: Reply) -> Reply {
    match reply {
        Reply::List(mark, items) => {
            let mut items: Vec<Reply> = items.into_iter().map(sorted).collect();
            items.sort_by_cached_key(render);
            Reply::List(mark, items)
        }
        Reply::Map(pairs) => {
            let mut pairs: Vec<(Reply, Reply)> = pairs
                .into_iter()
                .map(|(key, value)| (key, sorted(value)))
                .collect();
            pairs.sort_by_cached_key(|(key, _)| render(key));
            Reply::Map(pairs)
        }
        other => other,
    }
}
