//! `redis.call`: a command of a script, run on the script's view.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mlua::{Lua, MultiValue, Value};

use super::Surroundings;
use super::convert::{argument, error_table, from_reply};
use crate::base::Reply;
use crate::base::limits::TXN_BYTES_MAX;
use crate::machine::Touches;
use crate::machine::commands::{self, Flag, Spec, says_block};
use crate::machine::overlay::Overlay;

/// What the commands of one run share.
pub struct Calls<'a, 'b> {
    view: &'a mut Overlay<'b>,
    around: &'a Surroundings,
    read_only: bool,
    resp3: bool,
    /// Keys that it came upon and that are not known.
    pub missing: Vec<Bytes>,
    /// Messages to publish when all is committed.
    pub messages: Vec<(Bytes, Bytes)>,
    /// Bytes that writes and messages have had so far: they do not count as the interpreter's.
    written: usize,
    /// Set then: nothing that follows counts.
    pub missed: Arc<AtomicBool>,
    /// Where the script made its last call, if that is known.
    pub line: Option<usize>,
    /// Of `math.random`: the same in each run, as in Redis.
    pub random: u64,
}

impl<'a, 'b> Calls<'a, 'b> {
    pub fn new(view: &'a mut Overlay<'b>, around: &'a Surroundings, read_only: bool) -> Calls<'a, 'b> {
        Calls {
            view,
            around,
            read_only,
            resp3: false,
            missing: Vec::new(),
            missed: Arc::default(),
            messages: Vec::new(),
            written: 0,
            line: None,
            random: 0,
        }
    }

    /// Runs a command; says whether it has failed, and what it replied.
    pub fn call(&mut self, lua: &Lua, args: &MultiValue, line: Option<usize>) -> mlua::Result<(bool, Value)> {
        self.line = line;
        let reply = match args.iter().map(argument).collect::<Option<Vec<Bytes>>>() {
            Some(args) => self.run(&args).unwrap_or_else(|error| error),
            None => Reply::err("ERR Lua redis lib command arguments must be strings or integers"),
        };
        match &reply {
            Reply::Error(text) => Ok((true, Value::Table(error_table(lua, text)?))),
            reply => Ok((false, from_reply(lua, reply, self.resp3)?)),
        }
    }

    fn run(&mut self, args: &[Bytes]) -> Result<Reply, Reply> {
        let Some((name, args)) = args.split_first() else {
            return Err(Reply::err(
                "ERR Please specify at least one argument for this redis lib call",
            ));
        };
        let Some(spec) = commands::find(name) else {
            return self.own(name, args);
        };
        commands::check_arity(spec, args).map_err(|refused| match refused {
            Reply::Error(why) if why.starts_with("ERR unknown subcommand") => unknown_command(),
            _ => wrong_arity(),
        })?;
        if never_in_scripts(spec) {
            return Err(not_allowed());
        }
        // Whatever it would do with these arguments.
        if self.read_only && spec.flag == Flag::Write {
            return Err(read_only());
        }
        if says_block(spec, args) {
            let name = commands::shown(name);
            return Err(Reply::err(format!(
                "ERR {name} command is not allowed with BLOCK option from scripts"
            )));
        }
        let command = commands::parse_plain(spec, args)?;
        if command.is_write() {
            self.count(command.weight())?;
        }
        let Touches::Keys(keys) = command.touches() else {
            return Err(Reply::err(format!(
                "ERR This Redis command is not allowed from script ('{}' works on the whole key space)",
                spec.name
            )));
        };
        let mut unknown: Vec<Bytes> = keys.into_iter().cloned().collect();
        unknown.extend(command.found_keys(self.view));
        unknown.retain(|key| !self.around.known.contains(key));
        if !unknown.is_empty() {
            self.missing.extend(unknown);
            self.missed.store(true, Ordering::Relaxed);
            return Err(Reply::err("ERR the value of a key is not here yet"));
        }
        Ok(command.run(self.view))
    }

    /// Counts what is written: as much as a transaction may have.
    fn count(&mut self, bytes: usize) -> Result<(), Reply> {
        self.written += bytes;
        if self.written <= TXN_BYTES_MAX {
            return Ok(());
        }
        Err(Reply::err(format!(
            "ERR a script may write and publish {TXN_BYTES_MAX} bytes at the most"
        )))
    }

    /// Commands that are not about data.
    fn own(&mut self, name: &Bytes, args: &[Bytes]) -> Result<Reply, Reply> {
        match (name.to_ascii_lowercase().as_slice(), args) {
            (b"ping", []) => Ok(Reply::Simple("PONG".into())),
            (b"ping" | b"echo", [message]) => Ok(Reply::Bulk(message.clone())),
            (b"publish", _) if self.read_only => Err(read_only()),
            // Who hears it is not known before it is sent.
            (b"publish", [channel, message]) => {
                self.count(channel.len() + message.len() + 64)?;
                self.messages.push((channel.clone(), message.clone()));
                Ok(Reply::Int(0))
            }
            (b"time", []) => Ok(Reply::time(self.view.now())),
            (b"select", [index]) if index.as_ref() == b"0" => Ok(Reply::ok()),
            (b"select", [_]) => Err(Reply::err("ERR DB index is out of range")),
            (b"ping" | b"echo" | b"time" | b"select" | b"publish", _) => Err(wrong_arity()),
            (
                b"auth" | b"client" | b"command" | b"discard" | b"exec" | b"hello" | b"info" | b"multi"
                | b"quit" | b"quorate" | b"reset" | b"script" | b"txn" | b"unwatch" | b"watch" | b"subscribe"
                | b"psubscribe" | b"ssubscribe" | b"unsubscribe" | b"punsubscribe" | b"sunsubscribe",
                _,
            ) => Err(not_allowed()),
            _ => Err(unknown_command()),
        }
    }

    pub fn set_resp(&mut self, version: &Value) -> mlua::Result<()> {
        self.resp3 = match version {
            Value::Integer(2) => false,
            Value::Integer(3) => true,
            Value::Number(n) if (*n - 2.0).abs() < f64::EPSILON => false,
            Value::Number(n) if (*n - 3.0).abs() < f64::EPSILON => true,
            _ => return Err(mlua::Error::runtime("RESP version must be 2 or 3.")),
        };
        Ok(())
    }

    /// `math.random([m [, n]])`, with numbers of SplitMix64 (see [`Overlay::random`]).
    pub fn random(&mut self, limits: &[f64]) -> mlua::Result<f64> {
        let before = std::mem::replace(&mut self.view.seed, self.random);
        let bits = self.view.random();
        self.random = std::mem::replace(&mut self.view.seed, before);
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let unit = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        let (low, high) = match limits {
            [] => return Ok(unit),
            [high] => (1.0, high.floor()),
            [low, high, ..] => (low.floor(), high.floor()),
        };
        if low > high {
            return Err(mlua::Error::runtime(
                "bad argument to 'random' (interval is empty)",
            ));
        }
        Ok((unit * (high - low + 1.0)).floor() + low)
    }
}

/// As Redis has it: `BLMPOP` and `BZMPOP` do not wait, the older ones that would are refused.
fn never_in_scripts(spec: &Spec) -> bool {
    let waits = spec.waiting().is_some() && spec.group != "stream" && !spec.name.ends_with("mpop");
    waits || spec.group == "scripting"
}

fn not_allowed() -> Reply {
    Reply::err("ERR This Redis command is not allowed from script")
}

fn wrong_arity() -> Reply {
    Reply::err("ERR Wrong number of args calling Redis command from script")
}

fn unknown_command() -> Reply {
    Reply::err("ERR Unknown Redis command called from script")
}

fn read_only() -> Reply {
    Reply::err("ERR Write commands are not allowed from read-only scripts.")
}
