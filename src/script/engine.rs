//! The interpreter: one for each thread that runs scripts, used again and again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mlua::{Error, Function, HookTriggers, Lua, LuaOptions, LuaString, StdLib, Table, Value, VmState};

use super::calls::Calls;
use super::convert::{failure, raised, text_of, to_reply};
use super::{Ran, Surroundings, bits, json, pack, sha1_hex};
use crate::base::limits::{SCRIPT_MEMORY_BYTES_MAX, SCRIPTS_COMPILED_MAX};
use crate::base::{REDIS_VERSION, Reply};
use crate::machine::commands::Eval;
use crate::machine::overlay::Overlay;

/// Instructions between two looks whether the script has to end.
const LOOK_EVERY: u32 = 10_000;

/// Bytes after which what a run has left is collected at once.
const COLLECT_BYTES: usize = 8 << 20;

/// What scripts may use of the base library.
const BASE: &[&str] = &[
    "assert",
    "collectgarbage",
    "error",
    "gcinfo",
    "getmetatable",
    "ipairs",
    "next",
    "pairs",
    "rawequal",
    "rawget",
    "select",
    "setmetatable",
    "tonumber",
    "tostring",
    "type",
    "unpack",
    "_VERSION",
];

struct Engine {
    lua: Lua,
    /// Makes an environment.
    environment: Function,
    /// Runs a script, and catches what it raises.
    guard: Function,
    redis: Table,
    /// By name.
    compiled: RefCell<BTreeMap<String, Function>>,
}

thread_local! {
    static ENGINE: RefCell<Option<Rc<Engine>>> = const { RefCell::new(None) };
}

impl Engine {
    fn new() -> mlua::Result<Engine> {
        let lua = Lua::new_with(
            StdLib::TABLE | StdLib::STRING | StdLib::MATH,
            LuaOptions::default(),
        )?;
        lua.set_memory_limit(SCRIPT_MEMORY_BYTES_MAX)?;
        let globals = lua.globals();
        let shared = lua.create_table()?;
        for name in BASE {
            shared.set(*name, globals.get::<Value>(*name)?)?;
        }
        let libraries = lua.create_table()?;
        for name in ["table", "string", "math"] {
            libraries.set(name, globals.get::<Value>(name)?)?;
        }
        libraries.set("cjson", json::library(&lua)?)?;
        libraries.set("cmsgpack", pack::library(&lua)?)?;
        libraries.set("bit", bits::library(&lua)?)?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name("=prelude");
        let (environment, guard) = prelude.call((shared, libraries))?;
        let redis = redis(&lua)?;
        Ok(Engine {
            lua,
            environment,
            guard,
            redis,
            compiled: RefCell::default(),
        })
    }

    fn of_this_thread() -> Result<Rc<Engine>, Reply> {
        ENGINE.with_borrow_mut(|engine| {
            if let Some(engine) = engine {
                return Ok(Rc::clone(engine));
            }
            let new = Engine::new().map_err(|e| Reply::err(format!("ERR no interpreter: {e}")))?;
            Ok(Rc::clone(engine.insert(Rc::new(new))))
        })
    }

    /// The script of this name, compiled before or now.
    fn script(&self, name: &str, body: &[u8]) -> Result<Function, Reply> {
        if let Some(function) = self.compiled.borrow().get(name) {
            return Ok(function.clone());
        }
        let function = self.compile(body)?;
        let mut compiled = self.compiled.borrow_mut();
        if compiled.len() >= SCRIPTS_COMPILED_MAX {
            compiled.clear();
        }
        compiled.insert(name.to_owned(), function.clone());
        Ok(function)
    }

    fn compile(&self, body: &[u8]) -> Result<Function, Reply> {
        let source = without_shebang(body);
        let chunk = self.lua.load(source).set_name("=user_script");
        let chunk = chunk.set_mode(mlua::chunk::ChunkMode::Text).into_function();
        chunk.map_err(|error| {
            let why = match &error {
                Error::SyntaxError { message, .. } => message.clone(),
                other => other.to_string(),
            };
            Reply::err(format!("ERR Error compiling script (new function): {why}"))
        })
    }

    /// Ends the script at its next look once one of `stops` is set; whatever it catches, it is ended again.
    fn watch(&self, stops: [&Arc<AtomicBool>; 2]) -> mlua::Result<()> {
        let stops = stops.map(Arc::clone);
        let seldom = HookTriggers::new().every_nth_instruction(LOOK_EVERY);
        self.lua.set_hook(seldom, move |lua, _| {
            if !stops.iter().any(|stop| stop.load(Ordering::Relaxed)) {
                return Ok(VmState::Continue);
            }
            let always = HookTriggers::new().every_nth_instruction(1);
            lua.set_hook(always, |_, _| Err(Error::runtime(STOPPED)))?;
            Err(Error::runtime(STOPPED))
        })
    }
}

const STOPPED: &str = "Script killed by user with SCRIPT KILL, or at the end of its time";

/// The first line is for Redis; the lines keep their numbers.
fn without_shebang(body: &[u8]) -> &[u8] {
    if body.starts_with(b"#!") {
        let end = body.iter().position(|&byte| byte == b'\n').unwrap_or(body.len());
        return &body[end..];
    }
    body
}

/// Whether the script says of itself that it only reads.
///
/// # Errors
/// A first line that asks for what is not there.
fn says_read_only(body: &[u8]) -> Result<bool, Reply> {
    if !body.starts_with(b"#!") {
        return Ok(false);
    }
    let line = body.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut parts = line.split_ascii_whitespace();
    let engine = parts.next().unwrap_or_default();
    if engine != "#!lua" {
        return Err(Reply::err(format!(
            "ERR Unexpected engine in script shebang: {engine}"
        )));
    }
    let mut read_only = false;
    for part in parts {
        let Some(flags) = part.strip_prefix("flags=") else {
            return Err(Reply::err(format!("ERR Unknown lua shebang option: {part}")));
        };
        for flag in flags.split(',') {
            match flag {
                "no-writes" => read_only = true,
                // None of them takes anything away here.
                "allow-oom" | "allow-stale" | "no-cluster" | "allow-cross-slot-keys" | "" => {}
                _ => {
                    return Err(Reply::err(format!(
                        "ERR Unexpected flag in script shebang: {flag}"
                    )));
                }
            }
        }
    }
    Ok(read_only)
}

/// What `redis` holds besides `call` and `pcall`.
fn redis(lua: &Lua) -> mlua::Result<Table> {
    let redis = lua.create_table()?;
    let single = |field: &'static str| {
        move |lua: &Lua, value: Value| {
            let Value::String(text) = value else {
                let wrong = lua.create_table()?;
                wrong.set("err", "ERR wrong number or type of arguments")?;
                return Ok(wrong);
            };
            let text = text.as_bytes();
            let text = if field == "err" {
                text.strip_prefix(b"-").unwrap_or(&text)
            } else {
                &text
            };
            let table = lua.create_table()?;
            table.set(field, lua.create_string(text)?)?;
            Ok(table)
        }
    };
    redis.set("error_reply", lua.create_function(single("err"))?)?;
    redis.set("status_reply", lua.create_function(single("ok"))?)?;
    let sha = lua.create_function(|_, text: LuaString| Ok(sha1_hex(&text.as_bytes())))?;
    redis.set("sha1hex", sha)?;
    let log = lua.create_function(|_, (level, parts): (i64, mlua::Variadic<LuaString>)| {
        let parts: Vec<String> = parts.iter().map(LuaString::to_string_lossy).collect();
        tracing::debug!(level, "a script says: {}", parts.join(" "));
        Ok(())
    })?;
    redis.set("log", log)?;
    for (level, name) in (0..).zip(["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"]) {
        redis.set(name, level)?;
    }
    redis.set("REDIS_VERSION", REDIS_VERSION)?;
    redis.set("REDIS_VERSION_NUM", 0x0007_000f)?;
    // What a script writes is always replicated as its effects, whatever it wishes.
    redis.set("replicate_commands", lua.create_function(|_, ()| Ok(true))?)?;
    redis.set("set_repl", lua.create_function(|_, _: Value| Ok(()))?)?;
    for (name, value) in [
        ("REPL_NONE", 0),
        ("REPL_AOF", 1),
        ("REPL_SLAVE", 2),
        ("REPL_REPLICA", 2),
        ("REPL_ALL", 3),
    ] {
        redis.set(name, value)?;
    }
    redis.set("breakpoint", lua.create_function(|_, ()| Ok(false))?)?;
    Ok(redis)
}

/// Whether the script can be compiled.
///
/// # Errors
/// Why not.
pub fn check(body: &[u8]) -> Result<(), Reply> {
    says_read_only(body)?;
    Engine::of_this_thread()?.compile(body).map(drop)
}

/// Runs a script on what `view` has of the known keys.
#[must_use]
pub fn run(eval: &Eval, view: &mut Overlay<'_>, around: &Surroundings) -> Ran {
    let body = eval.body.clone().unwrap_or_default();
    let read_only = match says_read_only(&body) {
        Ok(says) => says || eval.read_only,
        Err(reply) => return Ran::Replied(reply, Vec::new()),
    };
    let prepared = Engine::of_this_thread().and_then(|engine| Ok((engine.script(&eval.sha, &body)?, engine)));
    let (function, engine) = match prepared {
        Ok(prepared) => prepared,
        Err(reply) => return Ran::Replied(reply, Vec::new()),
    };
    let calls = RefCell::new(Calls::new(view, around, read_only));
    let result = engine.execute(&function, eval, &calls, around);
    let calls = calls.into_inner();
    if !calls.missing.is_empty() {
        return Ran::Needs(calls.missing);
    }
    let raised = match result {
        Ok(Ok(reply)) => return Ran::Replied(reply, calls.messages),
        Ok(Err(raised)) => raised,
        Err(error) => text_of(&error),
    };
    let reply = failure(&raised, &eval.sha, &body, calls.line);
    Ran::Replied(reply, calls.messages)
}

impl Engine {
    fn execute(
        &self,
        function: &Function,
        eval: &Eval,
        calls: &RefCell<Calls<'_, '_>>,
        around: &Surroundings,
    ) -> mlua::Result<Result<Reply, String>> {
        let lua = &self.lua;
        let strings = |items: &[Bytes]| -> mlua::Result<Table> {
            let items: mlua::Result<Vec<_>> = items.iter().map(|item| lua.create_string(item)).collect();
            lua.create_sequence_from(items?)
        };
        let (keys, args) = (strings(&eval.keys)?, strings(&eval.args)?);
        let missed = Arc::clone(&calls.borrow().missed);
        self.watch([&around.stop, &missed])?;
        let reply = lua.scope(|scope| {
            let call = scope.create_function(|lua, args: mlua::MultiValue| {
                #[expect(
                    clippy::redundant_closure_for_method_calls,
                    reason = "the method is of one lifetime"
                )]
                let line = lua.inspect_stack(2, |debug| debug.current_line()).flatten();
                calls.borrow_mut().call(lua, &args, line)
            })?;
            let redis = self.redis.clone();
            let setresp = scope.create_function(|_, version: Value| calls.borrow_mut().set_resp(&version))?;
            redis.set("setresp", setresp)?;
            let math: Table = lua.globals().get("math")?;
            let random =
                scope.create_function(|_, limits: mlua::Variadic<f64>| calls.borrow_mut().random(&limits))?;
            math.set("random", random)?;
            let seed = scope.create_function(|_, seed: f64| {
                calls.borrow_mut().random = seed.to_bits();
                Ok(())
            })?;
            math.set("randomseed", seed)?;
            let environment: Table = self.environment.call((call, redis, keys, args))?;
            function.set_environment(environment)?;
            let (fine, value): (bool, Value) = self.guard.call(function.clone())?;
            if fine {
                to_reply(&value, 0).map(Ok)
            } else {
                Ok(Err(raised(&value)))
            }
        });
        lua.remove_hook();
        if lua.used_memory() > COLLECT_BYTES {
            lua.gc_collect()?;
        }
        reply
    }
}
