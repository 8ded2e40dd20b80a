//! The interpreter: one for each thread that runs scripts, used again and again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mlua::{Error, Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};

use super::calls::Calls;
use super::convert::{Place, failure, from_reply, raise, raised, text_of, thrown, to_reply};
use super::globals::Tables;
use super::{Ran, Surroundings, bits, json, pack, shebang, structs};
use crate::base::Reply;
use crate::base::limits::{SCRIPT_MEMORY_BYTES_MAX, SCRIPTS_COMPILED_MAX};
use crate::machine::FunctionFlag;
use crate::machine::commands::Eval;
use crate::machine::overlay::Overlay;

/// Instructions between two looks whether the script has to end.
const LOOK_EVERY: u32 = 10_000;

/// Bytes after which what a run has left is collected at once.
const COLLECT_BYTES: usize = 8 << 20;

/// Frames that are searched for the place of an error.
const FRAMES_MAX: usize = 16;

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

pub struct Engine {
    pub lua: Lua,
    /// Makes the environment of a script, or of a library.
    script: Function,
    pub library: Function,
    /// Runs a function, and says where it fails.
    guard: Function,
    pub redis: Tables,
    /// By name, with the version.
    compiled: RefCell<BTreeMap<String, (u64, Function)>>,
}

thread_local! {
    static ENGINE: RefCell<Option<Rc<Engine>>> = const { RefCell::new(None) };
}

/// How something that was guarded ended: with a value, or with the beginning of an error reply.
pub type Ended = Result<Value, String>;

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
        libraries.set("struct", structs::library(&lua)?)?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name("=prelude");
        let thrown = lua.create_function(thrown)?;
        let place = lua.create_function(|lua, ()| {
            Ok(innermost(lua).map_or_else(String::new, |(source, line)| format!("{source}:{line}: ")))
        })?;
        let (script, library, guard) = prelude.call((shared, libraries, thrown, place))?;
        let redis = Tables::new(&lua)?;
        Ok(Engine {
            lua,
            script,
            library,
            guard,
            redis,
            compiled: RefCell::default(),
        })
    }

    pub fn of_this_thread() -> Result<Rc<Engine>, Reply> {
        ENGINE.with_borrow_mut(|engine| {
            if let Some(engine) = engine {
                return Ok(Rc::clone(engine));
            }
            let new = Engine::new().map_err(|e| Reply::err(format!("ERR no interpreter: {e}")))?;
            Ok(Rc::clone(engine.insert(Rc::new(new))))
        })
    }

    /// What is known by this name at this version, compiled before or now.
    ///
    /// # Errors
    /// Why it cannot be compiled, in Lua's words.
    pub fn known(&self, name: &str, version: u64, body: &[u8], source: &str) -> Result<Function, String> {
        let mut compiled = self.compiled.borrow_mut();
        match compiled.get(name) {
            Some((known, function)) if *known == version => return Ok(function.clone()),
            _ if compiled.len() >= SCRIPTS_COMPILED_MAX => compiled.clear(),
            _ => drop(compiled.remove(name)),
        }
        let function = self.compile(body, source);
        let function = function.or_else(|why| {
            // What others have left may have filled the memory.
            compiled.clear();
            let again = self.lua.gc_collect().and_then(|()| self.load_chunk(body, source));
            again.map_err(|_| why)
        })?;
        compiled.insert(name.to_owned(), (version, function.clone()));
        Ok(function)
    }

    /// # Errors
    /// As for [`Engine::known`].
    pub fn compile(&self, body: &[u8], source: &str) -> Result<Function, String> {
        self.load_chunk(body, source).map_err(|error| match error {
            Error::SyntaxError { message, .. } => message,
            other => other.to_string(),
        })
    }

    fn load_chunk(&self, body: &[u8], source: &str) -> mlua::Result<Function> {
        let chunk = self.lua.load(shebang::source(body));
        let chunk = chunk.set_name(format!("={source}"));
        chunk.set_mode(mlua::chunk::ChunkMode::Text).into_function()
    }

    /// Ends the script at its next look once one of `stops` is set; whatever it catches, it is ended again.
    pub fn watch(&self, stops: [&Arc<AtomicBool>; 2]) -> mlua::Result<()> {
        let stops = stops.map(Arc::clone);
        let seldom = HookTriggers::new().every_nth_instruction(LOOK_EVERY);
        self.lua.set_global_hook(seldom, move |lua, _| {
            if !stops.iter().any(|stop| stop.load(Ordering::Relaxed)) {
                return Ok(VmState::Continue);
            }
            end(lua)
        })
    }

    /// After [`Engine::watch`].
    pub fn unwatch(&self) -> mlua::Result<()> {
        self.lua.remove_global_hook();
        if self.lua.used_memory() > COLLECT_BYTES {
            self.lua.gc_collect()?;
        }
        Ok(())
    }

    /// Calls a function; if it raises an error, notes in `line` where.
    pub fn guarded(
        &self,
        function: &Function,
        args: (Option<Table>, Option<Table>),
        line: &RefCell<Option<usize>>,
    ) -> mlua::Result<Ended> {
        self.lua.scope(|scope| {
            let note = scope.create_function(|lua, ()| {
                *line.borrow_mut() = innermost(lua).map(|(_, line)| line);
                Ok(())
            })?;
            let (keys, args) = args;
            let (fine, value): (bool, Value) = self.guard.call((note, function.clone(), keys, args))?;
            Ok(if fine { Ok(value) } else { Err(raised(&value)) })
        })
    }

    /// Strings as a table.
    pub fn strings(&self, items: &[Bytes]) -> mlua::Result<Table> {
        let items: mlua::Result<Vec<_>> = items.iter().map(|item| self.lua.create_string(item)).collect();
        self.lua.create_sequence_from(items?)
    }

    /// Lets `run` run with the functions of `redis` that work on `calls`.
    pub fn with_calls<T>(
        &self,
        calls: &RefCell<Calls<'_, '_>>,
        run: impl FnOnce(Table) -> mlua::Result<T>,
    ) -> mlua::Result<T> {
        let lua = &self.lua;
        lua.scope(|scope| {
            let bound = lua.create_table()?;
            let call = scope.create_function(|lua, args: MultiValue| {
                let mut calls = calls.borrow_mut();
                match calls.call(&args) {
                    Reply::Error(text) => Err(raise(text)),
                    reply => from_reply(lua, &reply, calls.resp3),
                }
            })?;
            bound.set("call", call)?;
            let pcall = scope.create_function(|lua, args: MultiValue| {
                let mut calls = calls.borrow_mut();
                from_reply(lua, &calls.call(&args), calls.resp3)
            })?;
            bound.set("pcall", pcall)?;
            let setresp = scope.create_function(|_, args: MultiValue| calls.borrow_mut().set_resp(&args))?;
            bound.set("setresp", setresp)?;
            let math: Table = lua.globals().get("math")?;
            let random = scope.create_function(|lua, limits: mlua::Variadic<f64>| {
                calls.borrow_mut().random(lua, &limits)
            })?;
            math.set("random", random)?;
            let seed = scope.create_function(|_, seed: f64| {
                calls.borrow_mut().random = seed.to_bits();
                Ok(())
            })?;
            math.set("randomseed", seed)?;
            run(bound)
        })
    }

    fn run_script(
        &self,
        function: &Function,
        eval: &Eval,
        bound: &Table,
        line: &RefCell<Option<usize>>,
    ) -> mlua::Result<Ended> {
        let (keys, args) = (self.strings(&eval.keys)?, self.strings(&eval.args)?);
        let environment: Table = self.script.call((&self.redis.scripts, bound, keys, args))?;
        function.set_environment(environment)?;
        self.guarded(function, (None, None), line)
    }
}

/// Ends whatever runs, in whichever coroutine, and again at the next instruction if it has caught that.
fn end(lua: &Lua) -> mlua::Result<VmState> {
    let always = HookTriggers::new().every_nth_instruction(1);
    lua.set_global_hook(always, |lua, _| end(lua))?;
    Err(Error::runtime(STOPPED))
}

const STOPPED: &str = "Script killed by user with SCRIPT KILL, or at the end of its time";

/// Where the innermost Lua function is that is not of the prelude: its source, and the line.
fn innermost(lua: &Lua) -> Option<(String, usize)> {
    (1..FRAMES_MAX).find_map(|level| {
        let frame = lua.inspect_stack(level, |debug| {
            let source = debug.source().short_src?;
            let theirs = source != "prelude";
            debug
                .current_line()
                .filter(|_| theirs)
                .map(|line| (source.into_owned(), line))
        });
        frame.flatten()
    })
}

/// Whether the script can be compiled.
///
/// # Errors
/// Why not.
pub fn check(body: &[u8]) -> Result<(), Reply> {
    shebang::flags(body)?;
    let compiled = Engine::of_this_thread()?.compile(body, SCRIPT);
    compiled.map(drop).map_err(uncompiled)
}

fn uncompiled(why: impl std::fmt::Display) -> Reply {
    Reply::err(format!("ERR Error compiling script (new function): {why}"))
}

const SCRIPT: &str = "user_script";

/// Whether a run only reads, by what it says of itself and how it was called.
///
/// # Errors
/// It was called by a command that only reads, and does not say that it does.
pub fn only_reads(says: bool, called_so: bool) -> Result<bool, Reply> {
    if called_so && !says {
        return Err(Reply::err(
            "ERR Can not execute a script with write flag using *_ro command.",
        ));
    }
    Ok(says)
}

/// Runs a script on what `view` has of the known keys.
pub fn run_script(eval: &Eval, view: &mut Overlay<'_>, around: &Surroundings) -> Result<Ran, Reply> {
    let body = eval.body.clone().unwrap_or_default();
    let read_only = match shebang::flags(&body)? {
        None => eval.read_only,
        Some(flags) => only_reads(flags.contains(&FunctionFlag::NoWrites), eval.read_only)?,
    };
    let engine = Engine::of_this_thread()?;
    let function = engine.known(&eval.sha, 0, &body, SCRIPT).map_err(uncompiled)?;
    let calls = RefCell::new(Calls::new(view, around, read_only));
    let place = Place {
        name: &eval.sha,
        source: SCRIPT,
        only_line: !body.contains(&b'\n'),
    };
    let run = |bound: Table, line: &_| engine.run_script(&function, eval, &bound, line);
    Ok(engine.run(calls, around, place, run))
}

impl Engine {
    /// Runs something with calls, within what is around it.
    pub fn run(
        &self,
        calls: RefCell<Calls<'_, '_>>,
        around: &Surroundings,
        place: Place<'_>,
        run: impl FnOnce(Table, &RefCell<Option<usize>>) -> mlua::Result<Ended>,
    ) -> Ran {
        let missed = Arc::clone(&calls.borrow().missed);
        let line = RefCell::default();
        let result = self.watch([&around.stop, &missed]).and_then(|()| {
            self.with_calls(&calls, |bound| match run(bound, &line)? {
                Ok(value) => to_reply(&value, calls.borrow().resp3, 0).map(Ok),
                Err(raised) => Ok(Err(raised)),
            })
        });
        let result = self.unwatch().and(result);
        let calls = calls.into_inner();
        if !calls.missing.is_empty() {
            return Ran::Needs(calls.missing);
        }
        let raised = match result {
            Ok(Ok(reply)) => return Ran::Replied(reply, calls.messages),
            Ok(Err(raised)) => raised,
            Err(error) => text_of(&error),
        };
        let line = line.into_inner().or(place.only_line.then_some(1));
        Ran::Replied(failure(&raised, place, line), calls.messages)
    }
}
