//! The tables `redis`: what scripts, functions, and libraries while they are loaded, find there besides what belongs to one run.

use bytes::Bytes;
use mlua::{Lua, MultiValue, Table, Value};

use super::calls::knows;
use super::convert::{argument, error_table, number, raise};
use super::sha1_hex;
use crate::base::REDIS_VERSION;

/// One table for each.
pub struct Tables {
    pub loading: Table,
    pub functions: Table,
    pub scripts: Table,
}

impl Tables {
    pub fn new(lua: &Lua) -> mlua::Result<Tables> {
        let (loading, functions, scripts) = (lua.create_table()?, lua.create_table()?, lua.create_table()?);
        for table in [&loading, &functions, &scripts] {
            for_all(lua, table)?;
        }
        for table in [&functions, &scripts] {
            while_running(lua, table)?;
        }
        // What a script writes is always replicated as its effects, whatever it wishes; and there is no debugger.
        scripts.set("replicate_commands", lua.create_function(|_, ()| Ok(true))?)?;
        scripts.set("breakpoint", lua.create_function(|_, ()| Ok(false))?)?;
        scripts.set("debug", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
        Ok(Tables {
            loading,
            functions,
            scripts,
        })
    }
}

fn for_all(lua: &Lua, redis: &Table) -> mlua::Result<()> {
    let log = lua.create_function(|_, args: MultiValue| {
        if args.len() < 2 {
            return Err(raise("ERR redis.log() requires two arguments or more."));
        }
        let level = args.front().and_then(number);
        let level = level.ok_or_else(|| raise("ERR First argument must be a number (log level)."))?;
        if !(0.0..4.0).contains(&level) {
            return Err(raise("ERR Invalid debug level."));
        }
        let parts = args.iter().skip(1).filter_map(argument);
        let parts: Vec<String> = parts
            .map(|part| String::from_utf8_lossy(&part).into_owned())
            .collect();
        tracing::debug!(level, "a script says: {}", parts.join(" "));
        Ok(())
    })?;
    redis.set("log", log)?;
    for (level, name) in (0..).zip(["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"]) {
        redis.set(name, level)?;
    }
    redis.set("REDIS_VERSION", REDIS_VERSION)?;
    redis.set("REDIS_VERSION_NUM", 0x0007_000f)
}

fn while_running(lua: &Lua, redis: &Table) -> mlua::Result<()> {
    let text = |args: &MultiValue| match (args.len(), args.front()) {
        (1, Some(Value::String(text))) => Some(text.as_bytes().to_vec()),
        _ => None,
    };
    let wrong = |lua: &Lua| error_table(lua, b"ERR wrong number or type of arguments");
    let status = move |lua: &Lua, args: MultiValue| {
        let Some(text) = text(&args) else {
            return wrong(lua);
        };
        let table = lua.create_table()?;
        table.set("ok", lua.create_string(text)?)?;
        Ok(table)
    };
    redis.set("status_reply", lua.create_function(status)?)?;
    let error = move |lua: &Lua, args: MultiValue| match text(&args) {
        Some(text) => error_table(lua, &with_code(&text)),
        None => wrong(lua),
    };
    redis.set("error_reply", lua.create_function(error)?)?;
    let sha = lua.create_function(|_, args: MultiValue| match (args.len(), args.front()) {
        (1, Some(value)) => Ok(sha1_hex(&argument(value).unwrap_or_default())),
        _ => Err(raise("ERR wrong number of arguments")),
    })?;
    redis.set("sha1hex", sha)?;
    let replicate = lua.create_function(|_, args: MultiValue| {
        if args.len() != 1 {
            return Err(raise("ERR redis.set_repl() requires two arguments."));
        }
        // All is replicated, whatever it wishes.
        let flags = args.front().and_then(number).unwrap_or_default();
        if !(0.0..4.0).contains(&flags) {
            return Err(raise(
                "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
            ));
        }
        Ok(())
    })?;
    redis.set("set_repl", replicate)?;
    for (name, value) in [
        ("REPL_NONE", 0),
        ("REPL_AOF", 1),
        ("REPL_SLAVE", 2),
        ("REPL_REPLICA", 2),
        ("REPL_ALL", 3),
    ] {
        redis.set(name, value)?;
    }
    // There are no access lists: whoever may run a script may run any command.
    let check = lua.create_function(|_, args: MultiValue| {
        let args: Option<Vec<Bytes>> = args.iter().map(argument).collect();
        match args.as_deref() {
            None => Err(raise(
                "ERR Lua redis lib command arguments must be strings or integers",
            )),
            Some([]) => Err(raise(
                "ERR Please specify at least one argument for this redis lib call",
            )),
            Some([name, ..]) if knows(name) => Ok(true),
            Some(_) => Err(raise("ERR Invalid command passed to redis.acl_check_cmd()")),
        }
    })?;
    redis.set("acl_check_cmd", check)
}

/// An error's text without its mark, and without the ends of lines behind it. What is but one word gets a code.
fn with_code(text: &[u8]) -> Vec<u8> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
    let text = &text[..end.map_or(0, |end| end + 1)];
    let code: &[u8] = if text.contains(&b' ') { b"" } else { b"ERR " };
    [code, text].concat()
}
