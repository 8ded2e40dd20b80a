//! What an entry's writes, or reads that are answered together, will look at is looked at first, one kind of place after the other
//! for all keys.
//!
//! A key's place hangs on four pointers, one behind the other, and in a state of any size each of them is a cache miss. Of one key
//! they have to be waited for in turn; those of many keys can be under way side by side, as long as little else is done
//! between them ("group prefetching": Chen, Ailamaki, Gibbons, Mowry, "Improving hash join performance through prefetching",
//! 2004). Nothing is changed, so it does not matter what an earlier request of the entry does to a later one's keys.

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use smallvec::SmallVec;

use super::commands::{Command, Touches};
use super::keyspace::{Keyspace, Object};
use super::locks::Scope;
use super::read::Read;
use super::request::{Body, Request};
use super::shard::Intent;
use crate::base::AttemptId;
use crate::base::slot::slot_of;

/// Fewer keys are not worth it.
const KEYS_MIN: usize = 4;

/// Keys with their slots.
type Places<'a> = SmallVec<[(&'a [u8], u16); 64]>;

fn place(key: &Bytes) -> (&[u8], u16) {
    (key, slot_of(key))
}

fn touched<'a>(commands: &'a [Command], places: &mut Places<'a>) {
    for command in commands {
        if let Touches::Keys(keys) = command.touches() {
            places.extend(keys.into_iter().map(place));
        }
    }
}

/// Brings the places of all keys near that the requests touch, or the intents that they end.
pub(super) fn warm(keyspace: &Keyspace, prepared: &BTreeMap<AttemptId, Intent>, requests: &[Request]) {
    let mut places = Places::new();
    for request in requests {
        match &request.body {
            Body::Run { commands, .. } => touched(commands, &mut places),
            Body::Prepare(prepare) => {
                if let Scope::Keys(keys) = &prepare.scope {
                    places.extend(keys.iter().map(place));
                }
            }
            Body::Finish(finish) if finish.commit => {
                let written = prepared
                    .get(&finish.attempt)
                    .map(|intent| intent.writes.keys.keys());
                places.extend(written.into_iter().flatten().map(place));
            }
            _ => {}
        }
    }
    look(keyspace, &places);
}

/// The same for what reads touch.
pub(super) fn warm_for_reads<'a>(keyspace: &Keyspace, reads: impl Iterator<Item = &'a Read>) {
    let mut places = Places::new();
    for read in reads {
        match read {
            Read::Run { commands, .. } => touched(commands, &mut places),
            Read::Values { keys, .. } => places.extend(keys.iter().map(place)),
            _ => {}
        }
    }
    look(keyspace, &places);
}

fn look(keyspace: &Keyspace, places: &Places<'_>) {
    if places.len() < KEYS_MIN {
        return;
    }
    for &(_, slot) in places {
        black_box(keyspace.slot_len(slot));
    }
    for &(_, slot) in places {
        black_box(keyspace.slot(slot).next().map(|(_, object)| object.version));
    }
    // A search branches, and where a branch is not foreseen nothing behind it is under way: so what it finds is looked at after all
    // searches.
    let found = places
        .iter()
        .filter_map(|&(key, slot)| keyspace.get_in(slot, key));
    let found: SmallVec<[&Object; 64]> = found.collect();
    for object in found {
        black_box(object.value().hash());
    }
}
