//! `redis.call`: a command of a script, run on the script's view.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mlua::{Lua, MultiValue};

use super::Surroundings;
use super::convert::{argument, located, raise};
use crate::base::Reply;
use crate::base::limits::TXN_BYTES_MAX;
use crate::machine::Touches;
use crate::machine::commands::{self, Flag, Spec, says_block};
use crate::machine::overlay::Overlay;

/// The gateway's commands that are refused in scripts.
const NOT_FOR_SCRIPTS: &[&str] = &[
    "auth",
    "client",
    "command",
    "discard",
    "exec",
    "function",
    "hello",
    "info",
    "multi",
    "psubscribe",
    "punsubscribe",
    "quit",
    "quorate",
    "reset",
    "script",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "txn",
    "unsubscribe",
    "unwatch",
    "watch",
];
/// Those that are not.
const FOR_SCRIPTS: &[&str] = &["echo", "ping", "publish", "select", "time"];

/// Whether there is a command of this name.
pub fn knows(name: &[u8]) -> bool {
    let mut own = NOT_FOR_SCRIPTS.iter().chain(FOR_SCRIPTS);
    commands::find(name).is_some() || own.any(|own| own.as_bytes().eq_ignore_ascii_case(name))
}

/// What the commands of one run share.
pub struct Calls<'a, 'b> {
    view: &'a mut Overlay<'b>,
    around: &'a Surroundings,
    read_only: bool,
    /// The replies' version, as the script has set it.
    pub resp3: bool,
    /// Keys that it came upon and that are not known.
    pub missing: Vec<Bytes>,
    /// Messages to publish when all is committed.
    pub messages: Vec<(Bytes, Bytes)>,
    /// Bytes that writes and messages have had so far: they do not count as the interpreter's.
    written: usize,
    /// Set then: nothing that follows counts.
    pub missed: Arc<AtomicBool>,
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
            random: 0,
        }
    }

    /// Runs a command.
    pub fn call(&mut self, args: &MultiValue) -> Reply {
        match args.iter().map(argument).collect::<Option<Vec<Bytes>>>() {
            Some(args) => self.run(&args).unwrap_or_else(|error| error),
            None => Reply::err("ERR Lua redis lib command arguments must be strings or integers"),
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
        let reply = command.run(self.view);
        self.around.note(&command, &reply);
        Ok(reply)
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
            (name, _) if NOT_FOR_SCRIPTS.iter().any(|other| other.as_bytes() == name) => Err(not_allowed()),
            _ => Err(unknown_command()),
        }
    }

    pub fn set_resp(&mut self, args: &MultiValue) -> mlua::Result<()> {
        if args.len() != 1 {
            return Err(raise("ERR redis.setresp() requires one argument."));
        }
        let version = args.front().and_then(argument).unwrap_or_default();
        self.resp3 = match version.as_ref() {
            b"2" => false,
            b"3" => true,
            _ => return Err(raise("ERR RESP version must be 2 or 3.")),
        };
        Ok(())
    }

    /// `math.random([m [, n]])`, with numbers of SplitMix64 (see [`Overlay::random`]).
    pub fn random(&mut self, lua: &Lua, limits: &[f64]) -> mlua::Result<f64> {
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
            let place = limits.len();
            let why = format!("bad argument #{place} to 'random' (interval is empty)");
            return Err(located(lua, &why));
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
