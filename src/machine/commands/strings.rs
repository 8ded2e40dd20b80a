//! String commands.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::args::{Args, parse_i64, wrong_arity};
use super::expiry::{ExpireWhen, Expiry, ExpiryOption};
use super::float::{add, not_a_float, not_finite};
use super::{Command, Done};
use crate::base::limits::BULK_BYTES_MAX;
use crate::base::{Millis, Reply, codec};
use crate::machine::overlay::Overlay;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetCondition {
    Always,
    IfAbsent,
    IfPresent,
}

/// How `SET` and its older forms answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetReply {
    /// `OK`, or nil if the condition failed.
    Ok,
    /// `1` or `0` (`SETNX`).
    Flag,
    /// The old value (`SET … GET`, `GETSET`).
    Old,
}

/// `SET key value [NX|XX] [GET] [EX|PX|EXAT|PXAT time|KEEPTTL]`, `SETNX`, `SETEX`, `PSETEX`, `GETSET`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetCommand {
    #[serde(deserialize_with = "codec::shared")]
    pub key: Bytes,
    #[serde(deserialize_with = "codec::shared")]
    pub value: Bytes,
    pub condition: SetCondition,
    pub expiry: Expiry,
    pub reply: SetReply,
}

pub fn parse_set(args: &mut Args<'_>) -> Result<Command, Reply> {
    let (key, value) = (args.key()?, args.key()?);
    let mut set = plain(key, value);
    let mut condition = None;
    let mut expiry: Option<ExpiryOption<'_>> = None;
    while let Some(word) = args.word() {
        match word.as_str() {
            "NX" | "XX" => {
                let next = if word == "NX" {
                    SetCondition::IfAbsent
                } else {
                    SetCondition::IfPresent
                };
                if condition.replace(next).is_some_and(|c| c != next) {
                    return Err(Reply::syntax());
                }
            }
            "GET" => set.reply = SetReply::Old,
            other => {
                let next = match other {
                    "KEEPTTL" => ExpiryOption::Keep,
                    _ => ExpiryOption::take(other, args)?.ok_or_else(Reply::syntax)?,
                };
                if expiry.replace(next).is_some_and(|before| !before.same(&next)) {
                    return Err(Reply::syntax());
                }
            }
        }
    }
    set.condition = condition.unwrap_or(SetCondition::Always);
    set.expiry = expiry.map_or(Ok(Expiry::Never), |option| option.expiry(args.name()))?;
    Ok(Command::Set(set))
}

fn plain(key: Bytes, value: Bytes) -> SetCommand {
    SetCommand {
        key,
        value,
        condition: SetCondition::Always,
        expiry: Expiry::Never,
        reply: SetReply::Ok,
    }
}

pub fn parse_set_nx(args: &mut Args<'_>) -> Result<Command, Reply> {
    let set = plain(args.key()?, args.key()?);
    Ok(Command::Set(SetCommand {
        condition: SetCondition::IfAbsent,
        reply: SetReply::Flag,
        ..set
    }))
}

pub fn parse_set_ex(args: &mut Args<'_>) -> Result<Command, Reply> {
    let key = args.key()?;
    let name = args.name();
    let when = ExpireWhen::parse_positive(args.next()?, name == "setex", false, name)?;
    Ok(Command::Set(SetCommand {
        expiry: Expiry::When(when),
        ..plain(key, args.key()?)
    }))
}

pub fn parse_get_set(args: &mut Args<'_>) -> Result<Command, Reply> {
    let set = plain(args.key()?, args.key()?);
    Ok(Command::Set(SetCommand {
        reply: SetReply::Old,
        ..set
    }))
}

pub fn parse_get_ex(args: &mut Args<'_>) -> Result<Command, Reply> {
    let key = args.key()?;
    let mut expiry: Option<ExpiryOption<'_>> = None;
    while let Some(word) = args.word() {
        let next = match word.as_str() {
            "PERSIST" => ExpiryOption::Persist,
            other => ExpiryOption::take(other, args)?.ok_or_else(Reply::syntax)?,
        };
        if expiry.replace(next).is_some_and(|before| !before.same(&next)) {
            return Err(Reply::syntax());
        }
    }
    // Redis looks the key up before it reads the time, so a bad time is an error only if the key is there.
    Ok(
        match expiry.map_or(Ok(Expiry::Keep), |option| option.expiry(args.name())) {
            Ok(expiry) => Command::GetEx {
                key,
                expiry,
                refuse: None,
            },
            Err(Reply::Error(text)) => Command::GetEx {
                key,
                expiry: Expiry::Never,
                refuse: Some(text),
            },
            Err(other) => return Err(other),
        },
    )
}

pub fn parse_pairs(args: &mut Args<'_>) -> Result<Vec<(Bytes, Bytes)>, Reply> {
    if !args.remaining().is_multiple_of(2) {
        return Err(wrong_arity(args.name()));
    }
    let mut pairs = Vec::with_capacity(args.remaining() / 2);
    while args.remaining() > 0 {
        pairs.push((args.key()?, args.key()?));
    }
    Ok(pairs)
}

pub fn parse_incr_by_float(args: &mut Args<'_>) -> Result<Command, Reply> {
    // What is no number is found when it runs, after what the key holds.
    let (key, by) = (args.key()?, args.key()?);
    Ok(Command::IncrByFloat { key, by })
}

pub fn parse_decr_by(args: &mut Args<'_>) -> Result<Command, Reply> {
    let (key, by) = (args.key()?, args.int()?);
    let by = by
        .checked_neg()
        .ok_or_else(|| Reply::err("ERR decrement would overflow"))?;
    Ok(Command::IncrBy { key, by })
}

pub fn parse_set_range(args: &mut Args<'_>) -> Result<Command, Reply> {
    let (key, offset, value) = (args.key()?, args.int()?, args.key()?);
    let offset = u64::try_from(offset).map_err(|_| Reply::err("ERR offset is out of range"))?;
    Ok(Command::SetRange { key, offset, value })
}

pub(super) fn too_long() -> Reply {
    Reply::err("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
}

pub fn get(view: &Overlay<'_>, key: &Bytes) -> Done {
    let value = view.get_str(key)?;
    Ok(value.map_or(Reply::Nil, |value| Reply::Bulk(value.to_bytes())))
}

/// What holds no string counts as absent.
pub fn mget(view: &Overlay<'_>, keys: &[Bytes]) -> Reply {
    let one = |key| get(view, key).unwrap_or(Reply::Nil);
    Reply::Array(keys.iter().map(one).collect())
}

pub fn str_len(view: &Overlay<'_>, key: &Bytes) -> Done {
    let value = view.get_str(key)?;
    Ok(Reply::count(value.map_or(0, |value| value.len())))
}

pub fn set(view: &mut Overlay<'_>, set: &SetCommand) -> Done {
    let looks = set.condition != SetCondition::Always || set.expiry == Expiry::Keep;
    let old = if looks { view.get(&set.key) } else { None };
    let there = old.is_some();
    let old_expiry = old.and_then(|(_, expires)| expires);
    let old_value = if set.reply == SetReply::Old {
        get(view, &set.key)?
    } else {
        Reply::Nil
    };
    let allowed = match set.condition {
        SetCondition::Always => true,
        SetCondition::IfAbsent => !there,
        SetCondition::IfPresent => there,
    };
    if allowed {
        let expires = absolute(set.expiry, old_expiry, view.now());
        view.put_str(&set.key, &set.value, expires);
    }
    Ok(match set.reply {
        SetReply::Ok if allowed => Reply::ok(),
        SetReply::Ok => Reply::Nil,
        SetReply::Flag => Reply::Int(i64::from(allowed)),
        SetReply::Old => old_value,
    })
}

fn absolute(expiry: Expiry, old: Option<Millis>, now: Millis) -> Option<Millis> {
    match expiry {
        Expiry::Keep => old,
        Expiry::Never => None,
        Expiry::When(when) => Some(when.absolute(now)),
    }
}

pub fn get_del(view: &mut Overlay<'_>, key: &Bytes) -> Done {
    let old = get(view, key)?;
    view.remove(key);
    Ok(old)
}

pub fn get_ex(view: &mut Overlay<'_>, key: &Bytes, expiry: Expiry, refuse: Option<&String>) -> Done {
    let reply = get(view, key)?;
    let Some((value, expires)) = view.get(key) else {
        return Ok(Reply::Nil);
    };
    if let Some(text) = refuse {
        return Err(Reply::err(text));
    }
    let value = value.clone();
    let new = absolute(expiry, expires, view.now());
    // PERSIST of a key without expiry changes nothing; a time is a change even if it is the same (as for WATCH).
    if expiry != Expiry::Keep && !(expiry == Expiry::Never && expires.is_none()) {
        view.put(key, value, new);
    }
    Ok(reply)
}

pub fn mset(view: &mut Overlay<'_>, pairs: &[(Bytes, Bytes)]) -> Reply {
    for (key, value) in pairs {
        view.put_str(key, value, None);
    }
    Reply::ok()
}

pub fn mset_nx(view: &mut Overlay<'_>, pairs: &[(Bytes, Bytes)]) -> Reply {
    if pairs.iter().any(|(key, _)| view.contains(key)) {
        return Reply::Int(0);
    }
    mset(view, pairs);
    Reply::Int(1)
}

/// Value (empty if absent) and expiry, for commands that change a value in place.
pub(super) fn current(view: &Overlay<'_>, key: &Bytes) -> Result<(Vec<u8>, Option<Millis>), Reply> {
    let expires = view.get(key).and_then(|(_, expires)| expires);
    let value = view.get_str(key)?;
    Ok((value.map(|v| v.to_vec()).unwrap_or_default(), expires))
}

pub fn append(view: &mut Overlay<'_>, key: &Bytes, value: &Bytes) -> Done {
    let (mut bytes, expires) = current(view, key)?;
    if bytes.len() + value.len() > BULK_BYTES_MAX {
        return Ok(too_long());
    }
    bytes.extend_from_slice(value);
    view.put_str(key, &bytes, expires);
    Ok(Reply::count(bytes.len()))
}

pub fn incr_by(view: &mut Overlay<'_>, key: &Bytes, by: i64) -> Done {
    let (bytes, expires) = current(view, key)?;
    let there = view.contains(key);
    let Some(old) = (if there { parse_i64(&bytes) } else { Some(0) }) else {
        return Ok(Reply::not_an_integer());
    };
    let Some(new) = old.checked_add(by) else {
        return Ok(Reply::err("ERR increment or decrement would overflow"));
    };
    view.put_str(key, new.to_string().as_bytes(), expires);
    Ok(Reply::Int(new))
}

pub fn incr_by_float(view: &mut Overlay<'_>, key: &Bytes, by: &Bytes) -> Done {
    let (bytes, expires) = current(view, key)?;
    let old = if view.contains(key) { &bytes[..] } else { b"0" };
    let Some(sum) = add(old, by) else {
        return Ok(not_a_float());
    };
    if sum.is_empty() {
        return Ok(not_finite());
    }
    view.put_str(key, sum.as_bytes(), expires);
    Ok(Reply::bulk(sum))
}

pub fn get_range(view: &Overlay<'_>, key: &Bytes, start: i64, end: i64) -> Done {
    let Some(value) = view.get_str(key)? else {
        return Ok(Reply::bulk(Bytes::new()));
    };
    let len = i64::try_from(value.len()).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return Ok(Reply::bulk(Bytes::new()));
    }
    let from_end = |at: i64| {
        if at < 0 {
            (len.saturating_add(at)).max(0)
        } else {
            at
        }
    };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if start > end || len == 0 {
        return Ok(Reply::bulk(Bytes::new()));
    }
    let range = usize::try_from(start).unwrap_or(0)..usize::try_from(end + 1).unwrap_or(0);
    Ok(Reply::Bulk(value.to_bytes().slice(range)))
}

pub fn set_range(view: &mut Overlay<'_>, key: &Bytes, offset: u64, value: &Bytes) -> Done {
    let (mut bytes, expires) = current(view, key)?;
    if value.is_empty() {
        return Ok(Reply::count(bytes.len()));
    }
    let Some(offset) = usize::try_from(offset)
        .ok()
        .filter(|&o| o <= BULK_BYTES_MAX - value.len().min(BULK_BYTES_MAX))
    else {
        return Ok(too_long());
    };
    if bytes.len() < offset + value.len() {
        bytes.resize(offset + value.len(), 0);
    }
    bytes[offset..offset + value.len()].copy_from_slice(value);
    view.put_str(key, &bytes, expires);
    Ok(Reply::count(bytes.len()))
}
