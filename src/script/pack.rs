//! `cmsgpack`: MessagePack by rmpv, with the rules of lua-cmsgpack for tables and numbers.

use std::io::Cursor;

use mlua::{Error, Lua, LuaString, MultiValue, Table, Value};
use rmpv::Value as Packed;

use super::convert::located;

/// How deep values may lie in each other; what lies deeper is packed as nil.
const DEPTH_MAX: usize = 16;

pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let pack = lua.create_function(|lua, values: MultiValue| {
        let mut bytes = Vec::new();
        for value in &values {
            let packed = to_packed(value, 0)?;
            rmpv::encode::write_value(&mut bytes, &packed).map_err(Error::external)?;
        }
        lua.create_string(bytes)
    })?;
    library.set("pack", pack)?;
    let unpack = lua.create_function(|lua, bytes: LuaString| unpack(lua, &bytes, None, 0))?;
    library.set("unpack", unpack)?;
    let one = lua.create_function(|lua, (bytes, offset): (LuaString, Option<i64>)| {
        self::unpack(lua, &bytes, Some(1), offset.unwrap_or(0))
    })?;
    library.set("unpack_one", one)?;
    let some = lua.create_function(|lua, (bytes, limit, offset): (LuaString, i64, Option<i64>)| {
        self::unpack(lua, &bytes, Some(limit), offset.unwrap_or(0))
    })?;
    library.set("unpack_limit", some)?;
    library.set("_NAME", "cmsgpack")?;
    library.set("_VERSION", "lua-cmsgpack 0.4.0")?;
    Ok(library)
}

/// Up to `limit` values, from this byte on. With a limit, the place of the next one comes first; -1: there is none.
fn unpack(lua: &Lua, bytes: &LuaString, limit: Option<i64>, offset: i64) -> mlua::Result<MultiValue> {
    let bytes = bytes.as_bytes();
    let wrong = |limit: i64| limit < 0 || offset < 0;
    if limit.is_some_and(wrong) {
        // Redis shows the length as the limit.
        let why = format!(
            "Invalid request to unpack with offset of {offset} and limit of {}.",
            bytes.len()
        );
        return Err(located(lua, &why));
    }
    let start = usize::try_from(offset).ok().and_then(|start| bytes.get(start..));
    let Some(from) = start else {
        let why = format!("Start offset {offset} greater than input length {}.", bytes.len());
        return Err(located(lua, &why));
    };
    let mut rest = Cursor::new(from);
    let left = |rest: &Cursor<&[u8]>| from.len() - usize::try_from(rest.position()).unwrap_or(usize::MAX);
    let mut values = MultiValue::new();
    let most = limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    while left(&rest) > 0 && values.len() < most {
        let packed = rmpv::decode::read_value(&mut rest);
        let packed = packed.map_err(|_| located(lua, "Missing bytes in input."))?;
        values.push_back(from_packed(lua, &packed)?);
    }
    if limit.is_some() {
        let next = match left(&rest) {
            0 => -1,
            left => i64::try_from(bytes.len() - left).unwrap_or(i64::MAX),
        };
        values.push_front(Value::Integer(next));
    }
    Ok(values)
}

#[expect(clippy::cast_possible_truncation, reason = "checked to lose nothing")]
fn of_number(number: f64) -> Packed {
    if number.fract() == 0.0 && number.abs() < 9.2e18 {
        return Packed::from(number as i64);
    }
    let short = number as f32;
    if f64::from(short).to_bits() == number.to_bits() {
        return Packed::F32(short);
    }
    Packed::F64(number)
}

fn to_packed(value: &Value, depth: usize) -> mlua::Result<Packed> {
    Ok(match value {
        Value::Boolean(yes) => Packed::Boolean(*yes),
        Value::Integer(number) => Packed::from(*number),
        Value::Number(number) => of_number(*number),
        Value::String(text) => match std::str::from_utf8(&text.as_bytes()) {
            Ok(text) => Packed::from(text),
            Err(_) => Packed::Binary(text.as_bytes().to_vec()),
        },
        Value::Table(_) if depth >= DEPTH_MAX => Packed::Nil,
        Value::Table(table) => of_table(table, depth)?,
        _ => Packed::Nil,
    })
}

fn of_table(table: &Table, depth: usize) -> mlua::Result<Packed> {
    let pairs: mlua::Result<Vec<(Value, Value)>> = table.pairs().collect();
    let pairs = pairs?;
    let len = table.raw_len();
    if len == pairs.len() {
        let items = (1..=len).map(|at| to_packed(&table.raw_get::<Value>(at)?, depth + 1));
        return items.collect::<mlua::Result<_>>().map(Packed::Array);
    }
    let pairs = pairs
        .iter()
        .map(|(key, value)| Ok((to_packed(key, depth + 1)?, to_packed(value, depth + 1)?)));
    pairs.collect::<mlua::Result<_>>().map(Packed::Map)
}

fn from_packed(lua: &Lua, packed: &Packed) -> mlua::Result<Value> {
    Ok(match packed {
        Packed::Nil | Packed::Ext(..) => Value::Nil,
        Packed::Boolean(yes) => Value::Boolean(*yes),
        Packed::Integer(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Packed::F32(number) => Value::Number(f64::from(*number)),
        Packed::F64(number) => Value::Number(*number),
        Packed::String(text) => Value::String(lua.create_string(text.as_bytes())?),
        Packed::Binary(bytes) => Value::String(lua.create_string(bytes)?),
        Packed::Array(items) => {
            let items: mlua::Result<Vec<Value>> = items.iter().map(|item| from_packed(lua, item)).collect();
            Value::Table(lua.create_sequence_from(items?)?)
        }
        Packed::Map(pairs) => {
            let table = lua.create_table()?;
            for (key, value) in pairs {
                table.raw_set(from_packed(lua, key)?, from_packed(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}
