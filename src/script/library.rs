//! Libraries of functions. Loading one runs its code, which registers functions and can do little else; that happens once to learn
//! what it registers, and anew for each call, so that what one call leaves in the library's variables is not there for the next.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mlua::{MultiValue, Table, Value};

use super::calls::Calls;
use super::convert::{Place, argument, raise, text_of};
use super::engine::{Ended, Engine, only_reads};
use super::{Ran, Surroundings, shebang};
use crate::base::Reply;
use crate::base::limits::FUNCTIONS_BYTES_MAX;
use crate::machine::commands::Eval;
use crate::machine::overlay::Overlay;
use crate::machine::{Function, FunctionFlag, Library};

const SOURCE: &str = "user_function";

/// What a library has registered so far, with what is called.
#[derive(Default)]
struct Registered {
    functions: Vec<(Function, mlua::Function)>,
    /// It may register no more.
    closed: bool,
    bytes: usize,
}

/// A library, from its code.
///
/// # Errors
/// In Redis's words; also if `stop` was set before it was done.
pub fn load(code: &Bytes, stop: &Arc<AtomicBool>) -> Result<Library, Reply> {
    let name = shebang::library_name(code)?;
    let engine = Engine::of_this_thread()?;
    let chunk = engine.compile(code, SOURCE);
    let chunk = chunk.map_err(|why| Reply::err(format!("ERR Error compiling function: {why}")))?;
    let registered = RefCell::default();
    let nothing = engine.lua.create_table();
    let ended = engine.watch([stop, stop]).and_then(|()| {
        let bound = nothing?;
        engine.load(&chunk, &bound, &registered, &RefCell::default(), |_| {
            Ok(Ok(Value::Nil))
        })
    });
    let ended = engine.unwatch().and(ended);
    let failed = match ended {
        _ if stop.load(Ordering::Relaxed) => Some("ERR FUNCTION LOAD timeout".to_owned()),
        Ok(ended) => ended.err(),
        Err(error) => Some(text_of(&error)),
    };
    if let Some(why) = failed {
        return Err(Reply::err(format!("ERR Error registering functions: {why}")));
    }
    let registered = registered.into_inner().functions;
    let mut functions: Vec<Function> = registered.into_iter().map(|(function, _)| function).collect();
    if functions.is_empty() {
        return Err(Reply::err("ERR No functions registered"));
    }
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Library {
        name,
        code: code.clone(),
        functions,
    })
}

/// Calls a function on what `view` has of the known keys.
pub fn call(name: &[u8], eval: &Eval, view: &mut Overlay<'_>, around: &Surroundings) -> Result<Ran, Reply> {
    let found = around.libraries.function(name);
    let (library, function) = found.ok_or_else(|| Reply::err("ERR Function not found"))?;
    if let Some(why) = eval.refuse {
        return Err(Reply::err(why));
    }
    let read_only = only_reads(function.flags.contains(&FunctionFlag::NoWrites), eval.read_only)?;
    let engine = Engine::of_this_thread()?;
    // No script's name has a blank.
    let (known, version) = (format!("library {}", library.name), around.libraries.version());
    let chunk = engine.known(&known, version, &library.code, SOURCE);
    let chunk = chunk.map_err(|why| Reply::err(format!("ERR Error compiling function: {why}")))?;
    let calls = RefCell::new(Calls::new(view, around, read_only));
    let place = Place {
        name: &function.name,
        source: SOURCE,
        only_line: false,
    };
    let run = |bound: Table, line: &RefCell<Option<usize>>| {
        let registered = RefCell::default();
        engine.load(&chunk, &bound, &registered, line, |engine| {
            let (keys, args) = (engine.strings(&eval.keys)?, engine.strings(&eval.args)?);
            let registered = registered.borrow();
            let mut all = registered.functions.iter();
            let callback = all.find(|(other, _)| other.name == function.name);
            let callback = callback.map(|(_, callback)| callback.clone());
            let callback = callback.ok_or_else(|| raise("ERR Function not found"))?;
            drop(registered);
            engine.guarded(&callback, (Some(keys), Some(args)), line)
        })
    };
    Ok(engine.run(calls, around, place, run))
}

impl Engine {
    /// Runs a library's code, and `then` while what it has registered can be called, unless it has failed.
    fn load(
        &self,
        chunk: &mlua::Function,
        bound: &Table,
        registered: &RefCell<Registered>,
        line: &RefCell<Option<usize>>,
        then: impl FnOnce(&Engine) -> mlua::Result<Ended>,
    ) -> mlua::Result<Ended> {
        self.lua.scope(|scope| {
            let register =
                scope.create_function(|_, args: MultiValue| registered.borrow_mut().register(&args))?;
            let (environment, begin): (Table, mlua::Function) =
                self.library
                    .call((&self.redis.loading, register, &self.redis.functions, bound))?;
            chunk.set_environment(environment)?;
            let ended = self.guarded(chunk, (None, None), line)?;
            if ended.is_err() {
                return Ok(ended);
            }
            registered.borrow_mut().closed = true;
            begin.call::<()>(())?;
            then(self)
        })
    }
}

impl Registered {
    /// `redis.register_function(name, callback)`, or with named arguments in one table.
    fn register(&mut self, args: &MultiValue) -> mlua::Result<()> {
        if self.closed {
            return Err(raise(
                "ERR redis.register_function can only be called on FUNCTION LOAD command",
            ));
        }
        let args: Vec<&Value> = args.iter().collect();
        let (function, callback) = match args.as_slice() {
            [one] => named(one)?,
            [name, callback] => positional(name, callback)?,
            _ => return Err(raise("ERR wrong number of arguments to redis.register_function")),
        };
        super::shebang::check_name(&function.name).map_err(|why| raise(format!("ERR {why}")))?;
        if self
            .functions
            .iter()
            .any(|(other, _)| other.name == function.name)
        {
            return Err(raise("ERR Function already exists in the library"));
        }
        self.bytes += 64 + function.name.len() + function.description.as_ref().map_or(0, Bytes::len);
        if self.bytes > FUNCTIONS_BYTES_MAX {
            return Err(raise("ERR a library registers too much"));
        }
        self.functions.push((function, callback));
        Ok(())
    }
}

fn text(value: &Value) -> Option<String> {
    argument(value).map(|text| String::from_utf8_lossy(&text).into_owned())
}

fn positional(name: &Value, callback: &Value) -> mlua::Result<(Function, mlua::Function)> {
    let name =
        text(name).ok_or_else(|| raise("ERR first argument to redis.register_function must be a string"))?;
    let Value::Function(callback) = callback else {
        return Err(raise(
            "ERR second argument to redis.register_function must be a function",
        ));
    };
    let function = Function {
        name,
        description: None,
        flags: BTreeSet::new(),
    };
    Ok((function, callback.clone()))
}

fn named(args: &Value) -> mlua::Result<(Function, mlua::Function)> {
    let Value::Table(args) = args else {
        return Err(raise(
            "ERR calling redis.register_function with a single argument is only applicable to Lua table (representing \
             named arguments).",
        ));
    };
    let (mut name, mut description, mut callback, mut flags) = (None, None, None, BTreeSet::new());
    for pair in args.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let wrong = |what: &str| raise(format!("ERR {what}"));
        let key = text(&key)
            .ok_or_else(|| wrong("named argument key given to redis.register_function is not a string"))?;
        match key.to_ascii_lowercase().as_str() {
            "function_name" => {
                name = Some(text(&value).ok_or_else(|| {
                    wrong("function_name argument given to redis.register_function must be a string")
                })?);
            }
            "description" => {
                description = Some(argument(&value).ok_or_else(|| {
                    wrong("description argument given to redis.register_function must be a string")
                })?);
            }
            "callback" => match value {
                Value::Function(function) => callback = Some(function),
                _ => {
                    return Err(wrong(
                        "callback argument given to redis.register_function must be a function",
                    ));
                }
            },
            "flags" => match value {
                Value::Table(list) => flags = read_flags(&list)?,
                _ => {
                    return Err(wrong(
                        "flags argument to redis.register_function must be a table representing function flags",
                    ));
                }
            },
            _ => return Err(wrong("unknown argument given to redis.register_function")),
        }
    }
    let name = name.ok_or_else(|| raise("ERR redis.register_function must get a function name argument"))?;
    let callback =
        callback.ok_or_else(|| raise("ERR redis.register_function must get a callback argument"))?;
    let function = Function {
        name,
        description,
        flags,
    };
    Ok((function, callback))
}

fn read_flags(list: &Table) -> mlua::Result<BTreeSet<FunctionFlag>> {
    let mut flags = BTreeSet::new();
    for value in list.sequence_values::<Value>() {
        let name = text(&value?).unwrap_or_default();
        let mut all = FunctionFlag::ALL.into_iter();
        let flag = all.find(|flag| flag.name().eq_ignore_ascii_case(&name));
        flags.insert(flag.ok_or_else(|| raise("ERR unknown flag given"))?);
    }
    Ok(flags)
}
