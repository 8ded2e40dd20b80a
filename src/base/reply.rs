//! What a command answers, before it is RESP2 or RESP3.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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

    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
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
