//! Keyspace events: what commands have done to which keys, in Redis's words, for whoever listens to `__keyspace@0__:…` and
//! `__keyevent@0__:…`. No part of the state, as [`super::interest`] is none: each replica decides for itself whether it notes them, and
//! the replica that proposed an entry tells of it when it applies it. So each is told once at the most; what is lost is lost with a
//! leader that dies. Those of a prepared transaction wait at each replica for its decision.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::AttemptId;
use crate::base::events::Events;
use crate::base::limits::{PUSHES_BYTES_MAX, PUSHES_MAX};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub class: Events,
    pub event: &'static str,
    pub key: Bytes,
}

/// What a key was before a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Absent,
    /// It had expired, and nobody had said so.
    Expired,
    There,
}

/// A write of one key, by one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    pub key: Bytes,
    pub before: Before,
    /// Whether it is there now.
    pub after: bool,
}

/// What an overlay notes while commands run on it.
#[derive(Debug, Default)]
pub struct Recorder {
    /// By the command that is running.
    pub touched: Vec<Touched>,
    pub notices: Vec<Notice>,
}

/// A replica's.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    on: bool,
    /// The entry that is being applied was proposed here.
    own: bool,
    out: Vec<Notice>,
    bytes: usize,
    lost: usize,
    prepared: BTreeMap<AttemptId, Vec<Notice>>,
}

impl Notices {
    /// Whether anybody wants to hear of events from now on.
    pub fn switch(&mut self, on: bool) {
        self.on = on;
        if !on {
            self.prepared.clear();
        }
    }

    pub fn applies_own(&mut self, own: bool) {
        self.own = own;
    }

    /// Whether what is done now is to be told.
    #[must_use]
    pub fn tells(&self) -> bool {
        self.on && self.own
    }

    /// Whether what is prepared now may have to be told.
    #[must_use]
    pub fn notes(&self) -> bool {
        self.on
    }

    pub(super) fn tell(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            self.bytes += notice.key.len() + 64;
            if self.out.len() >= PUSHES_MAX || self.bytes > PUSHES_BYTES_MAX {
                self.lost += 1;
            } else {
                self.out.push(notice);
            }
        }
    }

    pub(super) fn prepared(&mut self, attempt: AttemptId, notices: Vec<Notice>) {
        if self.on && !notices.is_empty() {
            self.prepared.insert(attempt, notices);
        }
    }

    pub(super) fn decided(&mut self, attempt: AttemptId, commit: bool) {
        let notices = self.prepared.remove(&attempt).unwrap_or_default();
        if commit && self.tells() {
            self.tell(notices);
        }
    }

    /// The state is another one: what was prepared may have been decided unseen.
    pub(super) fn forget_prepared(&mut self) {
        self.prepared.clear();
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty() && self.lost == 0
    }

    /// What is to be told, and how many more there were than could be kept.
    #[must_use]
    pub fn take(&mut self) -> (Vec<Notice>, usize) {
        self.bytes = 0;
        (std::mem::take(&mut self.out), std::mem::take(&mut self.lost))
    }
}
