//! What a command answers, before it is RESP2 or RESP3.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Millis;

/// A reply as Redis knows them. RESP2 flattens what it lacks (maps, doubles, nulls).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    Simple(Cow<'static, str>),
    /// The whole error line, its code first: `ERR syntax error`.
    Error(String),
    Int(i64),
    Bulk(Bytes),
    /// Text that RESP3 marks as verbatim (`INFO`).
    Verbatim(Bytes),
    /// Absent value: `$-1` in RESP2, `_` in RESP3.
    Nil,
    /// Absent array (an aborted EXEC): `*-1` in RESP2, `_` in RESP3.
    NilArray,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    /// A set in RESP3, an array in RESP2.
    Set(Vec<Reply>),
    /// What no request has asked for, of its own kind in RESP3; an array in RESP2.
    Push(Vec<Reply>),
    /// A number with a fraction; text in RESP2.
    Double(f64),
    /// An array of pairs in RESP3, all in one array in RESP2.
    Pairs(Vec<(Reply, Reply)>),
    /// A map in RESP3, an array of pairs in RESP2.
    Keyed(Vec<(Reply, Reply)>),
    /// A number with a fraction, spelled out.
    Number(Bytes),
    /// 1 or 0 in RESP2.
    Bool(bool),
    /// Digits; text in RESP2.
    BigNumber(Bytes),
    /// Text that RESP3 marks as of this format.
    Formatted([u8; 3], Bytes),
}

impl Reply {
    #[must_use]
    pub fn ok() -> Reply {
        Reply::Simple("OK".into())
    }

    pub fn err(text: impl Into<String>) -> Reply {
        Reply::Error(text.into())
    }

    pub fn bulk(bytes: impl Into<Bytes>) -> Reply {
        Reply::Bulk(bytes.into())
    }

    /// A count as Redis replies it.
    #[must_use]
    pub fn count(n: usize) -> Reply {
        Reply::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// What `TIME` replies: seconds, and microseconds of the one that has begun.
    #[must_use]
    pub fn time(now: Millis) -> Reply {
        let parts = [now / 1000, now % 1000 * 1000];
        Reply::Array(parts.map(|part| Reply::bulk(part.to_string())).into())
    }

    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }

    /// Bytes, roughly, for bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        16 + match self {
            Reply::Simple(text) => text.len(),
            Reply::Error(text) => text.len(),
            Reply::Bulk(bytes)
            | Reply::Verbatim(bytes)
            | Reply::Number(bytes)
            | Reply::BigNumber(bytes)
            | Reply::Formatted(_, bytes) => bytes.len(),
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
                items.iter().map(Reply::weight).sum()
            }
            Reply::Map(pairs) | Reply::Pairs(pairs) | Reply::Keyed(pairs) => {
                pairs.iter().map(|(k, v)| k.weight() + v.weight()).sum()
            }
            Reply::Int(_) | Reply::Bool(_) | Reply::Double(_) | Reply::Nil | Reply::NilArray => 0,
        }
    }

    /// Puts an error in the place of each reply that would make them more than `most` bytes together. What was replied so has
    /// happened none the less.
    pub fn leave_out<'a>(replies: impl Iterator<Item = &'a mut Reply>, most: usize) {
        let mut left = most;
        for reply in replies {
            let bytes = reply.weight();
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => {
                    *reply = Reply::err(format!(
                        "ERR a reply of {bytes} bytes was left out: those to one request may have {most} in all"
                    ));
                }
            }
        }
    }

    #[must_use]
    pub fn wrong_type() -> Reply {
        Reply::err("WRONGTYPE Operation against a key holding the wrong kind of value")
    }

    #[must_use]
    pub fn syntax() -> Reply {
        Reply::err("ERR syntax error")
    }

    #[must_use]
    pub fn not_an_integer() -> Reply {
        Reply::err("ERR value is not an integer or out of range")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_any_more_is_left_out_and_what_comes_behind_it_may_fit() {
        let bulk = |bytes: usize| Reply::bulk(vec![0; bytes]);
        let list = Reply::Array(vec![bulk(40), bulk(40)]);
        let mut replies = [bulk(40), list.clone(), Reply::Int(1), bulk(30)];
        let most = bulk(40).weight() + list.weight();
        Reply::leave_out(replies.iter_mut(), most);
        assert!(replies[..2] == [bulk(40), list.clone()] && replies[2..].iter().all(Reply::is_error));
        let mut replies = [bulk(40), list, Reply::Int(1), bulk(30)];
        Reply::leave_out(replies.iter_mut(), 150);
        assert!(replies[1].is_error(), "56 and 128");
        assert_eq!(
            [&replies[0], &replies[2], &replies[3]],
            [&bulk(40), &Reply::Int(1), &bulk(30)]
        );
    }
}
