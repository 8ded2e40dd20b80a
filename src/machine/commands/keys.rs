//! Commands on keys of any type, and on the key space as a whole.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Command;
use super::args::{Args, parse_i64, shown};
use super::expiry::ExpireWhen;
use crate::base::Reply;
use crate::base::slot::SLOTS;
use crate::machine::glob;
use crate::machine::overlay::Overlay;

/// `EXPIRE`, `PEXPIRE`, `EXPIREAT`, `PEXPIREAT`, with `NX XX GT LT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "four options, each given or not")]
pub struct ExpireCommand {
    pub key: Bytes,
    pub when: ExpireWhen,
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl ExpireCommand {
    /// Whether what it does depends on the time at which it runs.
    #[must_use]
    pub fn compares_with_now(&self) -> bool {
        self.gt || self.lt || matches!(self.when, ExpireWhen::At(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TtlKind {
    Seconds,
    Millis,
    AtSeconds,
    AtMillis,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyCommand {
    pub from: Bytes,
    pub to: Bytes,
    pub replace: bool,
}

/// `SCAN`. The cursor is shard × 16384 + slot; whole slots are returned, so what is there all the time is seen once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanCommand {
    cursor: u64,
    pattern: Option<Bytes>,
    count: usize,
    kind: Option<Bytes>,
    /// Shards of the cluster; the gateway fills it in.
    pub shards: u16,
}

impl ScanCommand {
    /// The shard that the cursor points into. A cursor nobody gave out points to the end.
    #[must_use]
    pub fn shard(&self) -> u16 {
        u16::try_from(self.cursor / u64::from(SLOTS))
            .unwrap_or(u16::MAX)
            .min(self.shards.saturating_sub(1))
    }
}

pub fn parse_expire(args: &mut Args<'_>, seconds: bool, absolute: bool) -> Result<Command, Reply> {
    let key = args.key()?;
    let time = args.next()?;
    let name = args.name();
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    while args.remaining() > 0 {
        let raw = args.next()?;
        match raw.to_ascii_uppercase().as_slice() {
            b"NX" => nx = true,
            b"XX" => xx = true,
            b"GT" => gt = true,
            b"LT" => lt = true,
            _ => {
                return Err(Reply::err(format!("ERR Unsupported option {}", shown(raw))));
            }
        }
    }
    if nx && (xx || gt || lt) {
        return Err(Reply::err(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if gt && lt {
        return Err(Reply::err(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    let when = ExpireWhen::parse(time, seconds, absolute, name)?;
    Ok(Command::Expire(ExpireCommand {
        key,
        when,
        nx,
        xx,
        gt,
        lt,
    }))
}

pub fn parse_copy(args: &mut Args<'_>) -> Result<Command, Reply> {
    let (from, to) = (args.key()?, args.key()?);
    let mut replace = false;
    while let Some(word) = args.word() {
        match word.as_str() {
            "REPLACE" => replace = true,
            "DB" => match parse_i64(args.value()?) {
                Some(0) => {}
                Some(_) => return Err(Reply::err("ERR DB index is out of range")),
                None => return Err(Reply::not_an_integer()),
            },
            _ => return Err(Reply::syntax()),
        }
    }
    if from == to {
        return Err(Reply::err("ERR source and destination objects are the same"));
    }
    Ok(Command::Copy(CopyCommand { from, to, replace }))
}

pub fn parse_scan(args: &mut Args<'_>) -> Result<Command, Reply> {
    let cursor = std::str::from_utf8(args.next()?)
        .ok()
        .and_then(|text| text.parse().ok());
    let cursor = cursor.ok_or_else(|| Reply::err("ERR invalid cursor"))?;
    let mut scan = ScanCommand {
        cursor,
        pattern: None,
        count: 10,
        kind: None,
        shards: 1,
    };
    while let Some(word) = args.word() {
        match word.as_str() {
            "MATCH" => scan.pattern = Some(args.value()?.clone()),
            "COUNT" => {
                let count = parse_i64(args.value()?).ok_or_else(Reply::not_an_integer)?;
                let count = usize::try_from(count).ok().filter(|&n| n > 0);
                scan.count = count.ok_or_else(Reply::syntax)?;
            }
            "TYPE" => scan.kind = Some(args.value()?.clone()),
            _ => return Err(Reply::syntax()),
        }
    }
    Ok(Command::Scan(scan))
}

pub fn parse_flush(args: &mut Args<'_>) -> Result<Command, Reply> {
    match args.word().as_deref() {
        None => Ok(Command::Flush),
        Some("SYNC" | "ASYNC") if args.remaining() == 0 => Ok(Command::Flush),
        Some(_) => Err(Reply::syntax()),
    }
}

pub fn expire(view: &mut Overlay<'_>, expire: &ExpireCommand) -> Reply {
    let Some((value, old)) = view.get(&expire.key) else {
        return Reply::Int(0);
    };
    let value = value.clone();
    let at = expire.when.absolute(view.now());
    // A key without expiry counts as one that expires after everything (as Redis has it for GT and LT).
    let refused = (expire.nx && old.is_some())
        || (expire.xx && old.is_none())
        || (expire.gt && old.is_none_or(|old| at <= old))
        || (expire.lt && old.is_some_and(|old| at >= old));
    if refused {
        return Reply::Int(0);
    }
    view.put(&expire.key, value, Some(at));
    Reply::Int(1)
}

pub fn ttl(view: &Overlay<'_>, key: &Bytes, kind: TtlKind) -> Reply {
    let Some((_, expires)) = view.get(key) else {
        return Reply::Int(-2);
    };
    let Some(at) = expires else { return Reply::Int(-1) };
    let left = at.saturating_sub(view.now());
    let value = match kind {
        TtlKind::Seconds => (left + 500) / 1000,
        TtlKind::Millis => left,
        TtlKind::AtSeconds => (at + 500) / 1000,
        TtlKind::AtMillis => at,
    };
    Reply::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

pub fn persist(view: &mut Overlay<'_>, key: &Bytes) -> Reply {
    match view.get(key) {
        Some((value, Some(_))) => {
            let value = value.clone();
            view.put(key, value, None);
            Reply::Int(1)
        }
        _ => Reply::Int(0),
    }
}

pub fn rename(view: &mut Overlay<'_>, from: &Bytes, to: &Bytes, only_new: bool) -> Reply {
    let Some((value, expires)) = view.get(from) else {
        return Reply::err("ERR no such key");
    };
    let value = value.clone();
    if only_new && view.contains(to) {
        return Reply::Int(0);
    }
    if from != to {
        view.remove(from);
        view.put(to, value, expires);
    }
    if only_new { Reply::Int(1) } else { Reply::ok() }
}

pub fn copy(view: &mut Overlay<'_>, copy: &CopyCommand) -> Reply {
    let Some((value, expires)) = view.get(&copy.from) else {
        return Reply::Int(0);
    };
    let value = value.clone();
    if !copy.replace && view.contains(&copy.to) {
        return Reply::Int(0);
    }
    view.put(&copy.to, value, expires);
    Reply::Int(1)
}

pub fn scan(view: &Overlay<'_>, scan: &ScanCommand) -> Reply {
    let shards = u64::from(scan.shards.max(1));
    let slots = u64::from(SLOTS);
    let mut found = Vec::new();
    let mut seen = 0;
    let mut slot = if scan.cursor >= shards * slots {
        slots
    } else {
        scan.cursor % slots
    };
    while slot < slots && seen < scan.count {
        for (key, value) in view.slot_keys(u16::try_from(slot).unwrap_or(SLOTS - 1)) {
            seen += 1;
            let kind = scan.kind.as_ref();
            let fits = scan
                .pattern
                .as_ref()
                .is_none_or(|pattern| glob::matches(pattern, &key))
                && kind.is_none_or(|kind| kind.eq_ignore_ascii_case(value.type_name().as_bytes()));
            if fits {
                found.push(Reply::Bulk(key));
            }
        }
        slot += 1;
    }
    let next = u64::from(scan.shard()) * slots + slot;
    let cursor = if next >= shards * slots { 0 } else { next };
    Reply::Array(vec![Reply::bulk(cursor.to_string()), Reply::Array(found)])
}

pub fn keys(view: &Overlay<'_>, pattern: &Bytes) -> Reply {
    let keys = view
        .all_keys()
        .map(|(key, _)| key)
        .filter(|key| glob::matches(pattern, key));
    Reply::Array(keys.map(Reply::Bulk).collect())
}

/// Any key: the first one at or after a random slot, at a random place in its slot.
pub fn random_key(view: &Overlay<'_>) -> Reply {
    let start = (view.seed % u64::from(SLOTS)) as u16;
    let slots = (start..SLOTS).chain(0..start);
    for slot in slots {
        let keys = view.slot_keys(slot);
        if !keys.is_empty() {
            let at = (view.seed >> 16) % keys.len() as u64;
            let key = keys.into_iter().nth(usize::try_from(at).unwrap_or(0));
            return key.map_or(Reply::Nil, |(key, _)| Reply::Bulk(key));
        }
    }
    Reply::Nil
}
