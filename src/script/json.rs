//! `cjson`: JSON by serde_json, with the rules of lua-cjson for tables and numbers.

use mlua::{Error, Lua, Table, Value};
use serde_json::{Map, Number, Value as Json};

/// How deep values may lie in each other.
const DEPTH_MAX: usize = 1000;
/// A table whose largest index is beyond this and [`SPARSE_RATIO`] times its items is no array.
const SPARSE_SAFE: usize = 10;
const SPARSE_RATIO: usize = 2;

pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let encode = lua.create_function(|lua, value: Value| {
        let mut text = Vec::new();
        encode(&value, 0, &mut text)?;
        lua.create_string(text)
    })?;
    library.set("encode", encode)?;
    let decode = lua.create_function(|lua, text: mlua::LuaString| {
        let text = text.as_bytes();
        let mut reader = serde_json::Deserializer::from_slice(&text).into_iter::<Json>();
        let json = match reader.next() {
            Some(json) => json.map_err(|e| Error::runtime(format!("invalid JSON: {e}")))?,
            None => return Err(Error::runtime("Expected value but found T_END at character 1")),
        };
        if reader.next().is_some() {
            return Err(Error::runtime("Expected the end but found more"));
        }
        from_json(lua, &json)
    })?;
    library.set("decode", decode)?;
    library.set("null", Value::NULL)?;
    // How sparse arrays, depth and precision are treated is fixed here: the settings are taken, and change nothing.
    for name in [
        "encode_sparse_array",
        "encode_max_depth",
        "decode_max_depth",
        "encode_number_precision",
        "encode_keep_buffer",
        "encode_invalid_numbers",
        "decode_invalid_numbers",
    ] {
        library.set(name, lua.create_function(|_, _: mlua::MultiValue| Ok(()))?)?;
    }
    library.set("_NAME", "cjson")?;
    library.set("_VERSION", "2.1.0")?;
    Ok(library)
}

fn cannot(what: &str) -> Error {
    Error::runtime(format!("Cannot serialise {what}"))
}

fn encode(value: &Value, depth: usize, out: &mut Vec<u8>) -> mlua::Result<()> {
    if depth > DEPTH_MAX {
        return Err(Error::runtime("Cannot serialise, excessive depth (1001)"));
    }
    match value {
        Value::Nil => out.extend(b"null"),
        value if value.is_null() => out.extend(b"null"),
        Value::Boolean(yes) => out.extend(yes.to_string().bytes()),
        Value::Integer(number) => out.extend(number.to_string().bytes()),
        Value::Number(number) if !number.is_finite() => return Err(cannot("number: must not be NaN or Inf")),
        Value::Number(number) => out.extend(with_14_digits(*number).bytes()),
        Value::String(text) => quote(&text.as_bytes(), out),
        Value::Table(table) => return encode_table(table, depth, out),
        other => return Err(cannot(&format!("{}: type not supported", other.type_name()))),
    }
    Ok(())
}

/// As `%.14g` has it.
fn with_14_digits(number: f64) -> String {
    crate::base::float::general_with(number, 14)
}

fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' => out.extend(b"\\\""),
            b'\\' => out.extend(b"\\\\"),
            b'/' => out.extend(b"\\/"),
            0x08 => out.extend(b"\\b"),
            0x0c => out.extend(b"\\f"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0..=0x1f | 0x7f => out.extend(format!("\\u{byte:04x}").bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// The largest index of a table whose keys are all positive whole numbers; `None`: it is no array.
fn array_len(table: &Table) -> mlua::Result<Option<usize>> {
    let (mut largest, mut items) = (0, 0);
    for pair in table.pairs::<Value, Value>() {
        let index = match pair?.0 {
            Value::Integer(index) if index > 0 => usize::try_from(index).ok(),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
            Value::Number(index) if index > 0.0 && index.fract() == 0.0 && index < 1e15 => {
                Some(index as usize)
            }
            _ => None,
        };
        let Some(index) = index else { return Ok(None) };
        largest = largest.max(index);
        items += 1;
    }
    if largest > SPARSE_SAFE && largest > items * SPARSE_RATIO {
        return Err(cannot("table: excessively sparse array"));
    }
    Ok((items > 0).then_some(largest))
}

fn encode_table(table: &Table, depth: usize, out: &mut Vec<u8>) -> mlua::Result<()> {
    if let Some(len) = array_len(table)? {
        out.push(b'[');
        for at in 1..=len {
            if at > 1 {
                out.push(b',');
            }
            encode(&table.raw_get::<Value>(at)?, depth + 1, out)?;
        }
        out.push(b']');
        return Ok(());
    }
    out.push(b'{');
    let mut first = true;
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        match &key {
            Value::String(name) => quote(&name.as_bytes(), out),
            Value::Integer(number) => quote(number.to_string().as_bytes(), out),
            Value::Number(number) => quote(with_14_digits(*number).as_bytes(), out),
            _ => return Err(cannot("table: table key must be a number or string")),
        }
        out.push(b':');
        encode(&value, depth + 1, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn from_number(number: &Number) -> Value {
    Value::Number(number.as_f64().unwrap_or(f64::NAN))
}

fn from_map(lua: &Lua, map: &Map<String, Json>) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    for (name, value) in map {
        table.raw_set(name.as_str(), from_json(lua, value)?)?;
    }
    Ok(Value::Table(table))
}

fn from_json(lua: &Lua, json: &Json) -> mlua::Result<Value> {
    match json {
        Json::Null => Ok(Value::NULL),
        Json::Bool(yes) => Ok(Value::Boolean(*yes)),
        Json::Number(number) => Ok(from_number(number)),
        Json::String(text) => lua.create_string(text).map(Value::String),
        Json::Array(items) => {
            let items: mlua::Result<Vec<Value>> = items.iter().map(|item| from_json(lua, item)).collect();
            lua.create_sequence_from(items?).map(Value::Table)
        }
        Json::Object(map) => from_map(lua, map),
    }
}
