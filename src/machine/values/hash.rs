//! Hashes: fields with values. A small one keeps the order in which its fields came.

use std::sync::Arc;

use super::{Blob, Item, Large, Members, Packed, Value};

fn members(hash: &Value) -> Option<&Members<Blob>> {
    match hash {
        Value::Large(large) => match &**large {
            Large::Hash(members) => Some(members),
            _ => None,
        },
        _ => None,
    }
}

fn members_mut(large: &mut Arc<Large>) -> &mut Members<Blob> {
    match Arc::make_mut(large) {
        Large::Hash(members) => members,
        other => unreachable!("a hash was looked up, and is {other:?}"),
    }
}

fn packed_pairs(packed: &Packed) -> Vec<(&[u8], &[u8])> {
    let mut items = packed.items();
    let mut pairs = Vec::new();
    while let (Some(field), Some(value)) = (items.next(), items.next()) {
        pairs.push((field, value));
    }
    pairs
}

fn pack(pairs: &[(&[u8], &[u8])]) -> Packed {
    let items: Vec<&[u8]> = pairs.iter().flat_map(|(field, value)| [*field, *value]).collect();
    Packed::of(&items)
}

#[must_use]
pub fn get<'a>(hash: &'a Value, field: &[u8]) -> Option<Item<'a>> {
    if let Some(members) = members(hash) {
        return members.get(field).map(Item::Blob);
    }
    let mut pairs = iter(hash);
    pairs.find(|(name, _)| **name == *field).map(|(_, value)| value)
}

/// All fields with their values.
#[must_use]
pub fn iter(hash: &Value) -> Box<dyn Iterator<Item = (Item<'_>, Item<'_>)> + '_> {
    match (hash, members(hash)) {
        (_, Some(members)) => {
            let all = members.iter();
            Box::new(all.map(|(field, value)| (Item::Blob(field), Item::Blob(value))))
        }
        (Value::Packed(_, packed), None) => {
            let pairs = packed_pairs(packed).into_iter();
            Box::new(pairs.map(|(field, value)| (Item::Slice(field), Item::Slice(value))))
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// The tree of a large one.
#[must_use]
pub fn large(hash: &Value) -> Option<&Members<Blob>> {
    members(hash)
}

/// Sets a field; says whether it is new.
pub fn insert(hash: &mut Value, field: &[u8], value: &[u8]) -> bool {
    if let Value::Packed(kind, old) = hash {
        let old = old.clone();
        let mut pairs = packed_pairs(&old);
        let at = pairs.iter().position(|(name, _)| *name == field);
        if old.fits(field.len() + value.len() + 5) {
            match at {
                Some(at) => pairs[at].1 = value,
                None => pairs.push((field, value)),
            }
            *hash = Value::Packed(*kind, pack(&pairs));
            return at.is_none();
        }
        let all = pairs
            .into_iter()
            .map(|(field, value)| (Blob::from(field), Blob::from(value)));
        *hash = Value::Large(Arc::new(Large::Hash(all.collect())));
    }
    match hash {
        Value::Large(large) => members_mut(large)
            .insert(Blob::from(field), Blob::from(value))
            .is_none(),
        _ => false,
    }
}

/// Removes a field; says whether it was there.
pub fn remove(hash: &mut Value, field: &[u8]) -> bool {
    match hash {
        Value::Packed(kind, old) => {
            let old = old.clone();
            let mut pairs = packed_pairs(&old);
            let Some(at) = pairs.iter().position(|(name, _)| *name == field) else {
                return false;
            };
            pairs.remove(at);
            *hash = Value::Packed(*kind, pack(&pairs));
            true
        }
        Value::Large(large) => members_mut(large).remove(field).is_some(),
        Value::Str(_) | Value::Flagged(_) => false,
    }
}
