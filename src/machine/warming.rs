//! What an entry's writes will look at is looked at first, one kind of place after the other for all keys.
//!
//! A key's place hangs on four pointers, one behind the other, and in a state of any size each of them is a cache miss. Of one key
//! they have to be waited for in turn; those of many keys can be under way side by side, as long as little else is done
//! between them ("group prefetching": Chen, Ailamaki, Gibbons, Mowry, "Improving hash join performance through prefetching",
//! 2004). Nothing is changed, so it does not matter what an earlier request of the entry does to a later one's keys.

use std::collections::BTreeMap;
use std::hint::black_box;

use smallvec::SmallVec;

use super::commands::Touches;
use super::keyspace::{Keyspace, Object};
use super::locks::Scope;
use super::request::{Body, Request};
use super::shard::Intent;
use crate::base::AttemptId;
use crate::base::slot::slot_of;

/// Fewer keys are not worth it.
const KEYS_MIN: usize = 4;

/// Brings the places of all keys near that the requests touch, or the intents that they end.
pub(super) fn warm(keyspace: &Keyspace, prepared: &BTreeMap<AttemptId, Intent>, requests: &[Request]) {
    let mut keys: SmallVec<[(&[u8], u16); 64]> = SmallVec::new();
    for request in requests {
        match &request.body {
            Body::Run { commands, .. } => {
                for command in commands {
                    if let Touches::Keys(touched) = command.touches() {
                        keys.extend(touched.into_iter().map(|key| (&key[..], slot_of(key))));
                    }
                }
            }
            Body::Prepare(prepare) => {
                if let Scope::Keys(touched) = &prepare.scope {
                    keys.extend(touched.iter().map(|key| (&key[..], slot_of(key))));
                }
            }
            Body::Finish(finish) if finish.commit => {
                let written = prepared
                    .get(&finish.attempt)
                    .map(|intent| intent.writes.keys.keys());
                keys.extend(written.into_iter().flatten().map(|key| (&key[..], slot_of(key))));
            }
            _ => {}
        }
    }
    if keys.len() < KEYS_MIN {
        return;
    }
    for &(_, slot) in &keys {
        black_box(keyspace.slot_len(slot));
    }
    for &(_, slot) in &keys {
        black_box(keyspace.slot(slot).next().map(|(_, object)| object.version));
    }
    // A search branches, and where a branch is not foreseen nothing behind it is under way: so what it finds is looked at after all
    // searches.
    let found = keys.iter().filter_map(|&(key, slot)| keyspace.get_in(slot, key));
    let found: SmallVec<[&Object; 64]> = found.collect();
    for object in found {
        black_box(object.value().hash());
    }
}
