//! What lies at a key, and what it costs.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::values::Value;
use crate::base::Millis;

/// A key's value, expiry and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    body: Body,
    /// Log index of the entry that last changed the key.
    pub version: u64,
}

/// Most keys have no expiry, and pay nothing for it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Body {
    Lasting(Value),
    Expiring(Box<(Value, Millis)>),
}

const _: () = assert!(size_of::<Object>() == 24);

impl Object {
    #[must_use]
    pub fn new(value: Value, expires: Option<Millis>, version: u64) -> Object {
        let body = match expires {
            None => Body::Lasting(value),
            Some(at) => Body::Expiring(Box::new((value, at.max(1)))),
        };
        Object { body, version }
    }

    #[must_use]
    pub fn value(&self) -> &Value {
        match &self.body {
            Body::Lasting(value) => value,
            Body::Expiring(expiring) => &expiring.0,
        }
    }

    pub(super) fn value_mut(&mut self) -> &mut Value {
        match &mut self.body {
            Body::Lasting(value) => value,
            Body::Expiring(expiring) => &mut expiring.0,
        }
    }

    #[must_use]
    pub fn expires(&self) -> Option<Millis> {
        match &self.body {
            Body::Lasting(_) => None,
            Body::Expiring(expiring) => Some(expiring.1),
        }
    }

    /// Whether the key counts as absent at replicated time `now`.
    #[must_use]
    pub fn expired(&self, now: Millis) -> bool {
        self.expires().is_some_and(|at| at <= now)
    }

    /// Whether it was a string of this length that expires if this one does, and has become this one.
    pub(super) fn overwrite(&mut self, bytes: &[u8], expires: Option<Millis>, version: u64) -> bool {
        let (value, old) = match (&mut self.body, expires) {
            (Body::Lasting(value), None) => (value, None),
            (Body::Expiring(expiring), Some(at)) => (&mut expiring.0, Some((&mut expiring.1, at))),
            _ => return false,
        };
        let Value::Str(blob) = value else {
            return false;
        };
        if !blob.overwrite(bytes) {
            return false;
        }
        if let Some((old, at)) = old {
            *old = at.max(1);
        }
        self.version = version;
        true
    }

    pub(super) fn into_value(self) -> Value {
        match self.body {
            Body::Lasting(value) => value,
            Body::Expiring(expiring) => expiring.0,
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.value(), self.expires(), self.version).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (value, expires, version) = Deserialize::deserialize(deserializer)?;
        Ok(Object::new(value, expires, version))
    }
}

/// What a key takes beside its bytes and its value's: its place in a node of the tree, the value's header, and their share of room
/// that is free.
pub const KEY_COST: u64 = 96;
/// What an expiry takes: the time twice, the key once more, a node's share.
pub const EXPIRY_COST: u64 = 96;

/// Bytes that a key takes with what it holds, roughly, and the same on every replica.
#[must_use]
pub fn cost(key: &[u8], object: &Object) -> u64 {
    cost_of(key, object.value(), object.expires())
}

/// As [`cost`].
#[must_use]
pub fn cost_of(key: &[u8], value: &Value, expires: Option<Millis>) -> u64 {
    let expiry = expires.map_or(0, |_| EXPIRY_COST + key.len() as u64);
    KEY_COST + expiry + (key.len() + value.weight()) as u64
}
