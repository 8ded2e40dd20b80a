//! Between replies and Lua's values, by the rules of Redis.

use bytes::Bytes;
use mlua::{Error, Lua, Table, Value};

use crate::base::Reply;
use crate::base::float::general;
use crate::machine::commands::parse_f64;

/// How deep tables may lie in each other in what a script returns.
const DEPTH_MAX: usize = 128;

/// A command's argument: strings, and numbers as text.
pub fn argument(value: &Value) -> Option<Bytes> {
    match value {
        Value::String(text) => Some(Bytes::copy_from_slice(&text.as_bytes())),
        Value::Integer(number) => Some(number.to_string().into()),
        Value::Number(number) => Some(general(*number).into()),
        _ => None,
    }
}

/// `{err = text}`.
pub fn error_table(lua: &Lua, text: &str) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.set("err", lua.create_string(text)?)?;
    Ok(table)
}

/// A reply as a script sees it.
pub fn from_reply(lua: &Lua, reply: &Reply, resp3: bool) -> mlua::Result<Value> {
    let string = |bytes: &[u8]| lua.create_string(bytes).map(Value::String);
    let under = |name: &str, value: Value| {
        let table = lua.create_table()?;
        table.set(name, value)?;
        mlua::Result::Ok(Value::Table(table))
    };
    let flat = |pairs: &[(Reply, Reply)]| {
        let items = pairs.iter().flat_map(|(key, value)| [key, value]);
        sequence(lua, items, resp3)
    };
    match reply {
        Reply::Simple(text) => under("ok", string(text.as_bytes())?),
        Reply::Error(text) => error_table(lua, text).map(Value::Table),
        #[expect(clippy::cast_precision_loss, reason = "Lua 5.1 has no integers")]
        Reply::Int(number) => Ok(Value::Number(*number as f64)),
        Reply::Bulk(bytes) | Reply::Verbatim(bytes) => string(bytes),
        Reply::Nil | Reply::NilArray if resp3 => Ok(Value::Nil),
        Reply::Nil | Reply::NilArray => Ok(Value::Boolean(false)),
        Reply::Number(text) if !resp3 => from_reply(lua, &Reply::Bulk(text.clone()), resp3),
        Reply::Number(text) => {
            let number = parse_f64(text).unwrap_or_default();
            from_reply(lua, &Reply::Double(number), resp3)
        }
        Reply::Double(number) if resp3 => under("double", Value::Number(*number)),
        Reply::Double(number) => string(general(*number).as_bytes()),
        Reply::Map(pairs) if resp3 => {
            let map = lua.create_table()?;
            for (key, value) in pairs {
                map.set(from_reply(lua, key, resp3)?, from_reply(lua, value, resp3)?)?;
            }
            under("map", Value::Table(map))
        }
        Reply::Set(items) if resp3 => {
            let set = lua.create_table()?;
            for item in items {
                set.set(from_reply(lua, item, resp3)?, true)?;
            }
            under("set", Value::Table(set))
        }
        Reply::Keyed(pairs) if resp3 => from_reply(lua, &Reply::Map(pairs.clone()), resp3),
        Reply::Pairs(pairs) | Reply::Keyed(pairs) if resp3 || matches!(reply, Reply::Keyed(_)) => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| Reply::Array(vec![key.clone(), value.clone()]));
            let pairs: Vec<Reply> = pairs.collect();
            sequence(lua, pairs.iter(), resp3)
        }
        Reply::Map(pairs) | Reply::Pairs(pairs) | Reply::Keyed(pairs) => flat(pairs),
        Reply::Array(items) | Reply::Push(items) | Reply::Set(items) => sequence(lua, items.iter(), resp3),
    }
}

fn sequence<'a>(lua: &Lua, items: impl Iterator<Item = &'a Reply>, resp3: bool) -> mlua::Result<Value> {
    let items: mlua::Result<Vec<Value>> = items.map(|item| from_reply(lua, item, resp3)).collect();
    lua.create_sequence_from(items?).map(Value::Table)
}

/// What a script returns, as a reply.
pub fn to_reply(value: &Value, depth: usize) -> mlua::Result<Reply> {
    if depth > DEPTH_MAX {
        return Ok(Reply::err("ERR reached lua stack limit"));
    }
    Ok(match value {
        Value::String(text) => Reply::Bulk(Bytes::copy_from_slice(&text.as_bytes())),
        Value::Integer(number) => Reply::Int(*number),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "as in Redis: the fraction is cut off"
        )]
        Value::Number(number) => Reply::Int(*number as i64),
        Value::Boolean(true) => Reply::Int(1),
        Value::Table(table) => of_table(table, depth)?,
        _ => Reply::Nil,
    })
}

fn line(text: &[u8]) -> String {
    let clean = |byte: &u8| {
        if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            *byte
        }
    };
    let text: Vec<u8> = text.iter().map(clean).collect();
    String::from_utf8_lossy(&text).into_owned()
}

fn of_table(table: &Table, depth: usize) -> mlua::Result<Reply> {
    let field = |name: &str| table.raw_get::<Value>(name);
    if let Value::String(text) = field("err")? {
        return Ok(Reply::Error(line(&text.as_bytes())));
    }
    if let Value::String(text) = field("ok")? {
        return Ok(Reply::Simple(line(&text.as_bytes()).into()));
    }
    match field("double")? {
        Value::Number(number) => return Ok(Reply::Double(number)),
        #[expect(clippy::cast_precision_loss, reason = "a double was asked for")]
        Value::Integer(number) => return Ok(Reply::Double(number as f64)),
        _ => {}
    }
    if let Value::Table(map) = field("map")? {
        let mut pairs = Vec::new();
        for pair in map.pairs::<Value, Value>() {
            let (key, value) = pair?;
            pairs.push((to_reply(&key, depth + 1)?, to_reply(&value, depth + 1)?));
        }
        return Ok(Reply::Map(pairs));
    }
    if let Value::Table(set) = field("set")? {
        let members = set
            .pairs::<Value, Value>()
            .map(|pair| to_reply(&pair?.0, depth + 1));
        return members.collect::<mlua::Result<_>>().map(Reply::Set);
    }
    if let Value::String(number) = field("big_number")? {
        return Ok(Reply::Bulk(Bytes::copy_from_slice(&number.as_bytes())));
    }
    if let Value::Table(verbatim) = field("verbatim_string")?
        && let Value::String(text) = verbatim.raw_get::<Value>("string")?
    {
        return Ok(Reply::Verbatim(Bytes::copy_from_slice(&text.as_bytes())));
    }
    let mut items = Vec::new();
    for at in 1.. {
        match table.raw_get::<Value>(at)? {
            Value::Nil => break,
            item => items.push(to_reply(&item, depth + 1)?),
        }
    }
    Ok(Reply::Array(items))
}

/// What a script has raised, as the beginning of an error reply.
pub fn raised(value: &Value) -> String {
    match value {
        Value::Table(table) => match table.raw_get::<Value>("err") {
            Ok(Value::String(text)) => text.to_string_lossy(),
            _ => "ERR unknown error".into(),
        },
        Value::Error(error) => text_of(error),
        Value::String(text) => format!("ERR {}", text.to_string_lossy()),
        other => format!("ERR {}", other.to_string().unwrap_or_default()),
    }
}

/// An error of the interpreter, likewise.
pub fn text_of(error: &Error) -> String {
    match error {
        Error::CallbackError { cause, .. } => text_of(cause),
        // Lua's own traceback is of no use to a client.
        Error::RuntimeError(text) => {
            format!(
                "ERR {}",
                text.split("\nstack traceback:").next().unwrap_or_default()
            )
        }
        Error::MemoryError(_) => "ERR not enough memory".into(),
        other => format!("ERR {other}"),
    }
}

/// What a script replies that has raised an error.
pub fn failure(raised: &str, sha: &str, body: &[u8], called_at: Option<usize>) -> Reply {
    // A call in tail position has no line; where there is but one, that is it.
    let only = (!body.contains(&b'\n')).then_some(1);
    let said = raised.strip_prefix("ERR user_script:").and_then(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    let at = said.or(called_at).or(only);
    let at = at.map_or_else(|| "?".to_owned(), |line: usize| line.to_string());
    let text = format!("{raised} script: {sha}, on @user_script:{at}.");
    Reply::Error(line(text.as_bytes()))
}
