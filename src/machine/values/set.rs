//! Sets. A small one keeps the order in which its members came.

use std::sync::Arc;

use super::{Blob, Item, Kind, Large, Members, Packed, Value};

/// The tree of a large one.
#[must_use]
pub fn large(set: &Value) -> Option<&Members<()>> {
    match set {
        Value::Large(large) => match &**large {
            Large::Set(members) => Some(members),
            _ => None,
        },
        _ => None,
    }
}

fn members_mut(large: &mut Arc<Large>) -> &mut Members<()> {
    match Arc::make_mut(large) {
        Large::Set(members) => members,
        other => unreachable!("a set was looked up, and is {other:?}"),
    }
}

#[must_use]
pub fn contains(set: &Value, member: &[u8]) -> bool {
    match (set, large(set)) {
        (_, Some(members)) => members.contains(member),
        (Value::Packed(_, packed), None) => packed.items().any(|item| item == member),
        _ => false,
    }
}

#[must_use]
pub fn iter(set: &Value) -> Box<dyn Iterator<Item = Item<'_>> + '_> {
    match (set, large(set)) {
        (_, Some(members)) => Box::new(members.iter().map(|(name, ())| Item::Blob(name))),
        (Value::Packed(_, packed), None) => Box::new(packed.items().map(Item::Slice)),
        _ => Box::new(std::iter::empty()),
    }
}

/// Adds a member; says whether it is new.
pub fn insert(set: &mut Value, member: &[u8]) -> bool {
    if let Value::Packed(kind, old) = set {
        let old = old.clone();
        if old.items().any(|item| item == member) {
            return false;
        }
        if old.fits(member.len()) {
            let items: Vec<&[u8]> = old.items().chain([member]).collect();
            *set = Value::Packed(*kind, Packed::of(&items));
            return true;
        }
        let all = old.items().map(|item| (Blob::from(item), ()));
        *set = Value::Large(Arc::new(Large::Set(all.collect())));
    }
    match set {
        Value::Large(large) => {
            let members = members_mut(large);
            !members.contains(member) && members.insert(Blob::from(member), ()).is_none()
        }
        _ => false,
    }
}

/// Removes a member; says whether it was there.
pub fn remove(set: &mut Value, member: &[u8]) -> bool {
    match set {
        Value::Packed(kind, old) => {
            let old = old.clone();
            let items: Vec<&[u8]> = old.items().filter(|item| *item != member).collect();
            let there = items.len() < old.items().count();
            if there {
                *set = Value::Packed(*kind, Packed::of(&items));
            }
            there
        }
        Value::Large(large) => members_mut(large).remove(member).is_some(),
        Value::Str(_) | Value::Flagged(_) => false,
    }
}

/// A set of these, small or large as its size demands.
#[must_use]
pub fn of<'a>(all: impl IntoIterator<Item = &'a [u8]>) -> Value {
    let mut set = Value::empty(Kind::Set);
    for member in all {
        insert(&mut set, member);
    }
    set
}
