//! Keys that somebody near this replica waits for or keeps copies of, and which of them were written. No part of the state:
//! replicas differ in it, and neither digests nor snapshots have it.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::notices::Notices;
use super::tracked::Tracked;

#[derive(Debug, Clone, Default)]
pub struct Interest {
    wanted: BTreeSet<Bytes>,
    written: BTreeSet<Bytes>,
    /// Copies of these are kept.
    pub tracked: Tracked,
    /// What is done to keys, to be told.
    pub notices: Notices,
}

impl Interest {
    pub fn want(&mut self, key: &Bytes) {
        self.wanted.insert(key.clone());
    }

    pub fn forget(&mut self, key: &[u8]) {
        self.wanted.remove(key);
        self.written.remove(key);
    }

    /// A key was written.
    pub fn note(&mut self, key: &[u8]) {
        if !self.wanted.is_empty()
            && let Some(key) = self.wanted.get(key)
        {
            self.written.insert(key.clone());
        }
        self.tracked.note(key);
    }

    /// The state is another one.
    pub fn note_other_state(&mut self) {
        self.note_all();
        self.notices.forget_prepared();
    }

    /// Anything may have been written.
    pub fn note_all(&mut self) {
        self.written.clone_from(&self.wanted);
        self.tracked.note_all();
    }

    #[must_use]
    pub fn has_written(&self) -> bool {
        !self.written.is_empty()
    }

    /// The wanted keys that were written since the last time.
    #[must_use]
    pub fn take_written(&mut self) -> BTreeSet<Bytes> {
        std::mem::take(&mut self.written)
    }
}
