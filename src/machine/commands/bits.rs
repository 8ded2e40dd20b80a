//! Bits of strings: the first is the highest of the first byte. Each change writes the whole string anew.

use bytes::Bytes;

use super::args::{Args, parse_i64};
use super::strings::{current, too_long};
use super::{Done, View};
use crate::base::Reply;
use crate::base::limits::BULK_BYTES_MAX;

/// No bit of a string in Redis is beyond.
const OFFSET_MAX: u64 = 1 << 32;

/// An offset in bits; with `width`, `#n` stands for the n-th field of so many bits.
pub(super) fn offset(text: &[u8], width: Option<u64>) -> Result<u64, Reply> {
    let invalid = || Reply::err("ERR bit offset is not an integer or out of range");
    let (text, step) = match (text.strip_prefix(b"#"), width) {
        (Some(n), Some(width)) => (n, width),
        _ => (text, 1),
    };
    let at = parse_i64(text).and_then(|at| u64::try_from(at).ok());
    let at = at.and_then(|at| at.checked_mul(step));
    at.filter(|at| *at < OFFSET_MAX).ok_or_else(invalid)
}

/// Makes the string so long that the bit before `end` is in it.
pub(super) fn extend(bytes: &mut Vec<u8>, end: u64) -> Result<(), Reply> {
    let wanted = usize::try_from(end.div_ceil(8)).unwrap_or(usize::MAX);
    if wanted > BULK_BYTES_MAX {
        return Err(too_long());
    }
    bytes.resize(bytes.len().max(wanted), 0);
    Ok(())
}

pub(super) fn bit(bytes: &[u8], at: u64) -> bool {
    let byte = usize::try_from(at / 8).ok().and_then(|byte| bytes.get(byte));
    byte.is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
}

/// Sets a bit that is within.
pub(super) fn set_bit(bytes: &mut [u8], at: u64, on: bool) {
    let byte = usize::try_from(at / 8).ok().and_then(|byte| bytes.get_mut(byte));
    if let Some(byte) = byte {
        let mask = 1 << (7 - at % 8);
        *byte = if on { *byte | mask } else { *byte & !mask };
    }
}

fn string(view: View<'_, '_>, key: &Bytes) -> Result<Option<Bytes>, Reply> {
    Ok(view.get_str(key)?.map(super::Blob::to_bytes))
}

pub fn setbit(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, at) = (a.key()?, offset(a.next()?, None)?);
    let on = match a.next()?.as_ref() {
        b"0" => false,
        b"1" => true,
        _ => return Err(Reply::err("ERR bit is not an integer or out of range")),
    };
    let (mut bytes, expires) = current(view, &key)?;
    let (old, len) = (bit(&bytes, at), bytes.len());
    extend(&mut bytes, at + 1)?;
    if bytes.len() == len && old == on {
        return Ok(Reply::Int(i64::from(old)));
    }
    set_bit(&mut bytes, at, on);
    view.put_str(&key, &bytes, expires);
    Ok(Reply::Int(i64::from(old)))
}

pub fn getbit(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, at) = (a.key()?, offset(a.next()?, None)?);
    let on = view.get_str(&key)?.is_some_and(|blob| bit(blob, at));
    Ok(Reply::Int(i64::from(on)))
}

/// `start end [BYTE|BIT]` of a string, as bits: first and one beyond the last. `None`: nothing is within.
fn span(len: usize, start: i64, end: i64, in_bits: bool) -> Option<(u64, u64)> {
    let len = i64::try_from(len).ok()? * if in_bits { 8 } else { 1 };
    let absolute = |at: i64| if at < 0 { (len + at.max(-len)).max(0) } else { at };
    let (start, end) = (absolute(start).min(len), absolute(end).min(len - 1));
    let unit = if in_bits { 1 } else { 8 };
    let (first, beyond) = (u64::try_from(start).ok()?, u64::try_from(end + 1).ok()?);
    (first < beyond).then_some((first * unit, beyond * unit))
}

fn unit(a: &mut Args<'_>) -> Result<bool, Reply> {
    match a.word().as_deref() {
        None | Some("BYTE") => Ok(false),
        Some("BIT") => Ok(true),
        Some(_) => Err(Reply::syntax()),
    }
}

/// Whole bytes within, and the bits before and behind them.
fn count(bytes: &[u8], first: u64, beyond: u64) -> u64 {
    let (whole, last) = (first.div_ceil(8), beyond / 8);
    if whole >= last {
        return (first..beyond).map(|at| u64::from(bit(bytes, at))).sum();
    }
    let place = |byte: u64| usize::try_from(byte).unwrap_or(usize::MAX);
    let within = bytes.get(place(whole)..place(last)).unwrap_or_default();
    let edges = (first..whole * 8).chain(last * 8..beyond);
    within
        .iter()
        .map(|byte| u64::from(byte.count_ones()))
        .sum::<u64>()
        + edges.map(|at| u64::from(bit(bytes, at))).sum::<u64>()
}

pub fn bitcount(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let Some(bytes) = string(view, &key)? else {
        return Ok(Reply::Int(0));
    };
    let span = if a.remaining() == 0 {
        Some((0, bytes.len() as u64 * 8))
    } else if a.remaining() == 1 || a.remaining() > 3 {
        return Err(Reply::syntax());
    } else {
        let (start, end) = (a.int()?, a.int()?);
        let in_bits = unit(a)?;
        // BITPOS has no such rule.
        let backwards = start < 0 && end < 0 && start > end;
        if backwards {
            None
        } else {
            span(bytes.len(), start, end, in_bits)
        }
    };
    let ones = span.map_or(0, |(first, beyond)| count(&bytes, first, beyond));
    Ok(Reply::Int(i64::try_from(ones).unwrap_or(i64::MAX)))
}

pub fn bitpos(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let wanted = match a.int()? {
        0 => false,
        1 => true,
        _ => return Err(Reply::err("ERR The bit argument must be 1 or 0.")),
    };
    let Some(bytes) = string(view, &key)? else {
        return Ok(Reply::Int(if wanted { -1 } else { 0 }));
    };
    if a.remaining() > 3 {
        return Err(Reply::syntax());
    }
    let has_end = a.remaining() >= 2;
    let start = if a.remaining() > 0 { a.int()? } else { 0 };
    let end = a.next().ok();
    let in_bits = unit(a)?;
    let end = end
        .map_or(Some(-1), |end| parse_i64(end))
        .ok_or_else(Reply::not_an_integer)?;
    let found = span(bytes.len(), start, end, in_bits).and_then(|(first, beyond)| {
        let found = position(&bytes, wanted, first, beyond);
        // Behind the string, as it were, there are zeros; unless it was said where to end.
        found.or_else(|| (!wanted && !has_end).then_some(bytes.len() as u64 * 8))
    });
    Ok(Reply::Int(
        found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1),
    ))
}

fn position(bytes: &[u8], wanted: bool, first: u64, beyond: u64) -> Option<u64> {
    let none = if wanted { 0 } else { u8::MAX };
    let mut at = first;
    while at < beyond {
        let byte = usize::try_from(at / 8).ok().and_then(|byte| bytes.get(byte));
        if at.is_multiple_of(8) && byte == Some(&none) {
            at += 8;
        } else if bit(bytes, at) == wanted {
            return Some(at);
        } else {
            at += 1;
        }
    }
    None
}

pub fn bitop(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let op = a.word().unwrap_or_default();
    let (to, from) = (a.key()?, a.all());
    let join: fn(u8, u8) -> u8 = match op.as_str() {
        "AND" => |a, b| a & b,
        "OR" => |a, b| a | b,
        "XOR" => |a, b| a ^ b,
        "NOT" if from.len() == 1 => |_, b| !b,
        "NOT" => {
            return Err(Reply::err(
                "ERR BITOP NOT must be called with a single source key.",
            ));
        }
        _ => return Err(Reply::syntax()),
    };
    let mut strings = Vec::new();
    for key in &from {
        strings.push(string(view, key)?.unwrap_or_default());
    }
    let len = strings.iter().map(Bytes::len).max().unwrap_or(0);
    let mut result = vec![0; len];
    for (n, source) in strings.iter().enumerate() {
        let padded = source.iter().chain(std::iter::repeat(&0));
        for (byte, other) in result.iter_mut().zip(padded) {
            *byte = if n == 0 && op != "NOT" {
                *other
            } else {
                join(*byte, *other)
            };
        }
    }
    if result.is_empty() {
        view.remove(&to);
    } else {
        view.put_str(&to, &result, None);
    }
    Ok(Reply::count(len))
}
