//! `bit`: operations on 32 bits, as the library of LuaJIT's author has them.

use mlua::{Lua, Table, Variadic};

/// A number as 32 bits: what lies beyond wraps.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "wraps by definition"
)]
fn bits(number: f64) -> u32 {
    (number.round_ties_even() % 4_294_967_296.0) as i64 as u32
}

fn number(bits: u32) -> f64 {
    f64::from(bits.cast_signed())
}

pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let one = |name: &str, f: fn(u32) -> u32| {
        let function = lua.create_function(move |_, a: f64| Ok(number(f(bits(a)))))?;
        library.set(name, function)
    };
    one("tobit", |a| a)?;
    one("bnot", |a| !a)?;
    one("bswap", u32::swap_bytes)?;
    let many = |name: &str, f: fn(u32, u32) -> u32| {
        let fold = move |_: &Lua, (first, rest): (f64, Variadic<f64>)| {
            Ok(number(
                rest.iter().fold(bits(first), |all, next| f(all, bits(*next))),
            ))
        };
        library.set(name, lua.create_function(fold)?)
    };
    many("band", |a, b| a & b)?;
    many("bor", |a, b| a | b)?;
    many("bxor", |a, b| a ^ b)?;
    let shift = |name: &str, f: fn(u32, u32) -> u32| {
        let function =
            lua.create_function(move |_, (a, n): (f64, f64)| Ok(number(f(bits(a), bits(n) & 31))))?;
        library.set(name, function)
    };
    shift("lshift", |a, n| a << n)?;
    shift("rshift", |a, n| a >> n)?;
    shift("arshift", |a, n| (a.cast_signed() >> n).cast_unsigned())?;
    shift("rol", u32::rotate_left)?;
    shift("ror", u32::rotate_right)?;
    let hex = lua.create_function(|_, (a, digits): (f64, Option<i32>)| {
        let digits = digits.unwrap_or(8);
        let text = format!("{:08x}", bits(a));
        let kept = usize::try_from(digits.unsigned_abs()).unwrap_or(8).min(8);
        let text = &text[8 - kept..];
        Ok(if digits < 0 {
            text.to_ascii_uppercase()
        } else {
            text.to_owned()
        })
    })?;
    library.set("tohex", hex)?;
    Ok(library)
}
