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

/// A number, or text that is one.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.to_string_lossy().trim().parse().ok(),
        #[expect(clippy::cast_precision_loss, reason = "Lua 5.1 has no integers")]
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// What a command, or a function of ours, raises as `{err = text}`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// An error whose text is a whole reply.
pub fn raise(text: impl Into<String>) -> Error {
    Error::external(Raised(text.into()))
}

/// An error that says where in the script it is, as those of Lua itself do.
pub fn located(lua: &Lua, why: &str) -> Error {
    let place = lua.inspect_stack(1, |debug| {
        let source = debug.source().short_src.map(std::borrow::Cow::into_owned);
        Some(format!("{}:{}: ", source?, debug.current_line()?))
    });
    Error::runtime(format!("{}{why}", place.flatten().unwrap_or_default()))
}

/// What Lua gets to see of an error that was caught.
pub fn thrown(lua: &Lua, value: Value) -> mlua::Result<Value> {
    let Value::Error(error) = &value else {
        return Ok(value);
    };
    let text = text_of(error);
    if is_raised(error) {
        return error_table(lua, text.as_bytes()).map(Value::Table);
    }
    let text = text.strip_prefix("ERR ").unwrap_or(&text);
    lua.create_string(text).map(Value::String)
}

fn is_raised(error: &Error) -> bool {
    match error {
        Error::CallbackError { cause, .. } => is_raised(cause),
        other => other.downcast_ref::<Raised>().is_some(),
    }
}

/// `{err = text}`.
pub fn error_table(lua: &Lua, text: &[u8]) -> mlua::Result<Table> {
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
        Reply::Error(text) => error_table(lua, text.as_bytes()).map(Value::Table),
        #[expect(clippy::cast_precision_loss, reason = "Lua 5.1 has no integers")]
        Reply::Int(number) => Ok(Value::Number(*number as f64)),
        Reply::Verbatim(bytes) if resp3 => verbatim(lua, b"txt", bytes),
        Reply::Formatted(format, bytes) if resp3 => verbatim(lua, format, bytes),
        Reply::BigNumber(text) if resp3 => under("big_number", string(text)?),
        Reply::Bool(yes) if resp3 => Ok(Value::Boolean(*yes)),
        Reply::Bool(yes) => Ok(Value::Number(f64::from(u8::from(*yes)))),
        Reply::Bulk(bytes)
        | Reply::Verbatim(bytes)
        | Reply::Formatted(_, bytes)
        | Reply::BigNumber(bytes) => string(bytes),
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

fn verbatim(lua: &Lua, format: &[u8], text: &[u8]) -> mlua::Result<Value> {
    let (inner, outer) = (lua.create_table()?, lua.create_table()?);
    inner.set("string", lua.create_string(text)?)?;
    inner.set("format", lua.create_string(format)?)?;
    outer.set("verbatim_string", inner)?;
    Ok(Value::Table(outer))
}

/// What a script returns, as a reply: in RESP3 there are truths.
pub fn to_reply(value: &Value, resp3: bool, depth: usize) -> mlua::Result<Reply> {
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
        Value::Boolean(yes) if resp3 => Reply::Bool(*yes),
        Value::Boolean(true) => Reply::Int(1),
        Value::Table(table) => of_table(table, resp3, depth)?,
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

fn of_table(table: &Table, resp3: bool, depth: usize) -> mlua::Result<Reply> {
    let inner = |value: &Value| to_reply(value, resp3, depth + 1);
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
            pairs.push((inner(&key)?, inner(&value)?));
        }
        return Ok(Reply::Map(pairs));
    }
    if let Value::Table(set) = field("set")? {
        let members = set.pairs::<Value, Value>().map(|pair| inner(&pair?.0));
        return members.collect::<mlua::Result<_>>().map(Reply::Set);
    }
    if let Value::String(number) = field("big_number")? {
        return Ok(Reply::BigNumber(line(&number.as_bytes()).into()));
    }
    if let Value::Table(verbatim) = field("verbatim_string")?
        && let Value::String(text) = verbatim.raw_get::<Value>("string")?
        && let Value::String(format) = verbatim.raw_get::<Value>("format")?
    {
        let mut three = *b"   ";
        three
            .iter_mut()
            .zip(format.as_bytes().iter())
            .for_each(|(to, from)| *to = *from);
        return Ok(Reply::Formatted(three, Bytes::copy_from_slice(&text.as_bytes())));
    }
    let mut items = Vec::new();
    for at in 1.. {
        match table.raw_get::<Value>(at)? {
            Value::Nil => break,
            item => items.push(inner(&item)?),
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
        other => match other.downcast_ref::<Raised>() {
            Some(Raised(text)) => text.clone(),
            None => format!("ERR {other}"),
        },
    }
}

/// Who runs, for the errors.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// A script's SHA-1, or a function.
    pub name: &'a str,
    /// Which code it is in.
    pub source: &'static str,
    /// There is but one, so it need not be found.
    pub only_line: bool,
}

/// What a script replies that has raised an error, at this line.
pub fn failure(raised: &str, place: Place<'_>, at: Option<usize>) -> Reply {
    let at = at.map_or_else(|| "?".to_owned(), |line: usize| line.to_string());
    let Place { name, source, .. } = place;
    let text = format!("{raised} script: {name}, on @{source}:{at}.");
    Reply::Error(line(text.as_bytes()))
}
