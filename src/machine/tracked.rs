//! Which keys of this replica gateways want to hear of when they are next written, since their clients keep copies (`CLIENT
//! TRACKING`). No part of the state, as [`super::interest`] is none: any replica applies the same entries in the same order, so
//! whichever a gateway follows tells it of every write that comes after the gateway had asked.
//!
//! ```text
//!  keys(id, …) ─▶ tracked ─a write─▶ in the changes, and tracked no more ─take(id)─▶ told
//!  prefixes(id, …) ─▶ tracked until they are replaced
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base::RequestId;
use crate::base::limits::{PUSHES_BYTES_MAX, PUSHES_MAX, TRACKED_KEYS_MAX};

/// Names one gateway's share at one replica; never used again in a process.
pub type TrackerId = u64;

/// What was written of what one gateway tracks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Anything may have been written; `keys` does not say what.
    pub all: bool,
    /// With the request that did it, if it was one alone and has a number.
    pub keys: BTreeMap<Bytes, Option<RequestId>>,
}

impl Changes {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.keys.is_empty()
    }
}

/// One gateway's share.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    keys: BTreeSet<Bytes>,
    prefixes: Vec<Bytes>,
    changes: Changes,
    /// Of the keys in `changes`.
    bytes: usize,
}

impl Tracker {
    fn note(&mut self, key: &[u8], by: Option<RequestId>) {
        let tracked = self.keys.take(key);
        let wanted = tracked.is_some() || self.prefixes.iter().any(|prefix| key.starts_with(prefix));
        if !wanted || self.changes.all {
            return;
        }
        if let Some(other) = self.changes.keys.get_mut(key) {
            if *other != by {
                *other = None;
            }
            return;
        }
        self.bytes += key.len();
        if self.changes.keys.len() >= PUSHES_MAX || self.bytes > PUSHES_BYTES_MAX {
            return self.note_all();
        }
        let key = tracked.unwrap_or_else(|| Bytes::copy_from_slice(key));
        self.changes.keys.insert(key, by);
    }

    fn note_all(&mut self) {
        if !self.wants_nothing() || !self.changes.keys.is_empty() {
            self.keys.clear();
            self.changes = Changes {
                all: true,
                keys: BTreeMap::new(),
            };
        }
        self.bytes = 0;
    }

    fn wants_nothing(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty()
    }
}

/// All gateways' shares at one replica.
#[derive(Debug, Clone, Default)]
pub struct Tracked {
    trackers: BTreeMap<TrackerId, Tracker>,
    by: Option<RequestId>,
}

impl Tracked {
    /// The next write of each of these keys is to be told.
    pub fn keys(&mut self, id: TrackerId, keys: &[Bytes]) {
        let tracker = self.trackers.entry(id).or_default();
        tracker.keys.extend(keys.iter().cloned());
        if tracker.keys.len() > TRACKED_KEYS_MAX {
            tracker.note_all();
        }
    }

    /// Every write of a key with one of these prefixes is to be told, and of no other prefixes any more.
    pub fn prefixes(&mut self, id: TrackerId, prefixes: Vec<Bytes>) {
        self.trackers.entry(id).or_default().prefixes = prefixes;
    }

    /// These keys are of no interest any more.
    pub fn forget<'a>(&mut self, id: TrackerId, keys: impl Iterator<Item = &'a Bytes>) {
        if let Some(tracker) = self.trackers.get_mut(&id) {
            for key in keys {
                tracker.keys.remove(key);
            }
        }
    }

    /// All that it tracked, to be freed where nobody waits.
    pub fn close(&mut self, id: TrackerId) -> Option<Tracker> {
        self.trackers.remove(&id)
    }

    /// Whether there is anything of whose writes it wants to hear.
    #[must_use]
    pub fn is_wanted_by(&self, id: TrackerId) -> bool {
        let tracker = self.trackers.get(&id);
        tracker.is_some_and(|tracker| !tracker.wants_nothing())
    }

    /// Who does what is noted from now on.
    pub(super) fn by(&mut self, request: Option<RequestId>) {
        self.by = request;
    }

    pub(super) fn note(&mut self, key: &[u8]) {
        for tracker in self.trackers.values_mut() {
            tracker.note(key, self.by);
        }
    }

    pub(super) fn note_all(&mut self) {
        self.trackers.values_mut().for_each(Tracker::note_all);
    }

    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.trackers.values().any(|tracker| !tracker.changes.is_empty())
    }

    /// What was written since the last time.
    #[must_use]
    pub fn take(&mut self, id: TrackerId) -> Changes {
        let tracker = self.trackers.get_mut(&id);
        tracker.map_or_else(Changes::default, |tracker| {
            tracker.bytes = 0;
            std::mem::take(&mut tracker.changes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Bytes {
        Bytes::copy_from_slice(name.as_bytes())
    }

    fn request(seq: u64) -> RequestId {
        RequestId { session: 1, seq }
    }

    #[test]
    fn a_key_is_told_once_and_a_prefix_each_time_to_who_wants_it() {
        let mut tracked = Tracked::default();
        tracked.keys(1, &[key("a"), key("b")]);
        tracked.prefixes(2, vec![key("a")]);
        tracked.by(Some(request(7)));
        tracked.note(b"a");
        tracked.by(Some(request(8)));
        for name in ["a", "ab", "c"] {
            tracked.note(name.as_bytes());
        }
        let one = tracked.take(1);
        assert_eq!(one.keys, BTreeMap::from([(key("a"), Some(request(7)))]));
        let two = tracked.take(2);
        let both_did = None;
        assert_eq!(
            two.keys,
            BTreeMap::from([(key("a"), both_did), (key("ab"), Some(request(8)))])
        );
        tracked.note(b"a");
        assert!(tracked.take(1).is_empty() && !tracked.take(2).is_empty());
        assert!(tracked.is_wanted_by(1), "b has not been written");
        tracked.forget(1, [key("b")].iter());
        assert!(!tracked.is_wanted_by(1));
    }

    #[test]
    fn what_is_too_much_to_tell_is_told_as_all() {
        let mut tracked = Tracked::default();
        tracked.prefixes(1, vec![Bytes::new()]);
        for n in 0..=PUSHES_MAX {
            tracked.note(n.to_string().as_bytes());
        }
        let all = tracked.take(1);
        assert!(all.all && all.keys.is_empty());
        tracked.note(b"later");
        assert_eq!(tracked.take(1).keys.len(), 1);
        let many: Vec<Bytes> = (0..=TRACKED_KEYS_MAX).map(|n| key(&n.to_string())).collect();
        tracked.keys(2, &many);
        assert!(tracked.take(2).all && !tracked.is_wanted_by(2));
    }
}
