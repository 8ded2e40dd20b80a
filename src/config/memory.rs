//! Keys of `[limits]` whose values are texts of Redis's.

use std::fmt;

use serde::Deserializer;
use serde::de::{Error, Visitor};

use crate::base::Policy;
use crate::base::memory::parse_bytes;

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("for limits.maxmemory: bytes as a number, or text like \"512mb\"")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
        let given = u64::try_from(bytes);
        given.map_err(|_| E::custom(format!("limits.maxmemory: {bytes} is no size")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let given = parse_bytes(text);
        given.ok_or_else(|| E::custom(format!("limits.maxmemory: {text:?} is no size such as \"512mb\"")))
    }
}

struct Name;

impl Visitor<'_> for Name {
    type Value = Policy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("for limits.maxmemory_policy: text like \"allkeys-lru\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Policy, E> {
        text.parse()
            .map_err(|why| E::custom(format!("limits.maxmemory_policy: {text:?}: {why}")))
    }
}

/// A size.
///
/// # Errors
/// Another type, a negative number, another text.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Bytes)
}

/// A policy by its name.
///
/// # Errors
/// Another type, no such policy.
pub(super) fn policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Policy, D::Error> {
    deserializer.deserialize_str(Name)
}
