//! Ids as commands spell them.

use crate::base::Reply;
use crate::machine::values::stream::Id;

pub fn invalid() -> Reply {
    Reply::err("ERR Invalid stream ID specified as stream command argument")
}

/// A number of 64 bits without a sign; zeros may lead it.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// `ms-seq`, or `ms` alone with `seq` for the rest.
pub fn exact(text: &[u8], seq: u64) -> Result<Id, Reply> {
    let parts: Vec<&[u8]> = text.splitn(2, |byte| *byte == b'-').collect();
    let id = match parts.as_slice() {
        [ms, rest] => number(ms).zip(number(rest)).map(|(ms, seq)| Id { ms, seq }),
        [ms] => number(ms).map(|ms| Id { ms, seq }),
        _ => None,
    };
    id.ok_or_else(invalid)
}

/// The same; `-` and `+` stand for the least and the greatest.
pub fn bound(text: &[u8], seq: u64) -> Result<Id, Reply> {
    match text {
        b"-" => Ok(Id::ZERO),
        b"+" => Ok(Id::MAX),
        _ => exact(text, seq),
    }
}

/// Where a range begins: `(` leaves the id itself out.
pub fn start(text: &[u8]) -> Result<Id, Reply> {
    match text.strip_prefix(b"(") {
        None => bound(text, 0),
        Some(id) => exact(id, 0)?
            .next()
            .ok_or_else(|| Reply::err("ERR invalid start ID for the interval")),
    }
}

/// Where a range ends: `(` leaves the id itself out.
pub fn end(text: &[u8]) -> Result<Id, Reply> {
    match text.strip_prefix(b"(") {
        None => bound(text, u64::MAX),
        Some(id) => exact(id, u64::MAX)?
            .prev()
            .ok_or_else(|| Reply::err("ERR invalid end ID for the interval")),
    }
}

/// The id of an entry to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum New {
    /// `*`
    Now,
    /// `ms-*`
    Within(u64),
    Exact(Id),
}

impl New {
    pub fn parse(text: &[u8]) -> Result<New, Reply> {
        if text == b"*" {
            return Ok(New::Now);
        }
        match text.strip_suffix(b"-*") {
            Some(ms) => number(ms).map(New::Within).ok_or_else(invalid),
            None => exact(text, 0).map(New::Exact),
        }
    }

    /// The id at time `now`, behind `last`.
    pub fn after(self, last: Id, now: u64) -> Result<Id, Reply> {
        let small =
            || Reply::err("ERR The ID specified in XADD is equal or smaller than the target stream top item");
        if last == Id::MAX {
            return Err(Reply::err(
                "ERR The stream has exhausted the last possible ID, unable to add more items",
            ));
        }
        let id = match self {
            New::Now if now > last.ms => Id { ms: now, seq: 0 },
            New::Now => last.next().ok_or_else(small)?,
            New::Within(ms) if ms == last.ms => {
                let seq = last.seq.checked_add(1).ok_or_else(small)?;
                Id { ms, seq }
            }
            New::Within(ms) => Id { ms, seq: 0 },
            New::Exact(id) => id,
        };
        if id <= last { Err(small()) } else { Ok(id) }
    }
}
