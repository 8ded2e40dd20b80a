//! What a connection is to be told about copies that its client, or one that redirects to it, keeps. It gathers until the connection
//! takes it; what grows too large becomes "all of it", so that a slow client costs no more than a bounded number of keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::limits::{PUSHES_BYTES_MAX, PUSHES_MAX};

/// Copies that are not to be relied on any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// All of them.
    pub all: bool,
    /// By keys that the client has read.
    pub keys: Vec<Bytes>,
    /// By prefixes.
    pub by_prefix: Vec<Bytes>,
    bytes: usize,
}

/// One word to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    Key(Bytes),
    ByPrefix(Bytes),
    All,
}

impl Stale {
    fn add(&mut self, word: Word) {
        if self.all {
            return;
        }
        match word {
            Word::All => return self.become_all(),
            Word::Key(key) => {
                self.bytes += key.len();
                self.keys.push(key);
            }
            Word::ByPrefix(key) => {
                self.bytes += key.len();
                self.by_prefix.push(key);
            }
        }
        if self.keys.len() + self.by_prefix.len() > PUSHES_MAX || self.bytes > PUSHES_BYTES_MAX {
            self.become_all();
        }
    }

    fn become_all(&mut self) {
        *self = Stale {
            all: true,
            ..Stale::default()
        };
    }
}

/// What has gathered.
#[derive(Debug, Default)]
pub struct Gathered {
    pub own: Stale,
    /// Of clients that redirect to this one.
    pub redirected: Stale,
    /// The connection that this one's client redirects to is gone.
    pub gone: Option<u64>,
}

/// A connection's.
#[derive(Debug)]
pub struct Inbox {
    gathered: Mutex<Gathered>,
    /// Whether there is something, for those who look often.
    some: AtomicBool,
    /// What the connection waits for beside its client.
    wake: Arc<Notify>,
    closed: AtomicBool,
}

impl Inbox {
    /// One that wakes its connection so.
    #[must_use]
    pub fn new(wake: Arc<Notify>) -> Inbox {
        Inbox {
            gathered: Mutex::default(),
            some: AtomicBool::new(false),
            wake,
            closed: AtomicBool::new(false),
        }
    }

    /// `false`: the connection has ended, and nobody will hear it.
    pub(super) fn put(&self, word: Word, redirected: bool) -> bool {
        self.change(|gathered| {
            let stale = if redirected {
                &mut gathered.redirected
            } else {
                &mut gathered.own
            };
            stale.add(word);
        })
    }

    pub(super) fn note_gone(&self, redirect: u64) {
        self.change(|gathered| gathered.gone = Some(redirect));
    }

    fn change(&self, change: impl FnOnce(&mut Gathered)) -> bool {
        let mut gathered = self.gathered.lock();
        if self.is_closed() {
            return false;
        }
        change(&mut gathered);
        self.some.store(true, Ordering::Release);
        drop(gathered);
        self.wake.notify_one();
        true
    }

    /// Whether there is something.
    #[must_use]
    pub fn has_some(&self) -> bool {
        self.some.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn take(&self) -> Gathered {
        let mut gathered = self.gathered.lock();
        self.some.store(false, Ordering::Release);
        std::mem::take(&mut gathered)
    }

    /// The connection has ended.
    pub fn close(&self) {
        let mut gathered = self.gathered.lock();
        self.closed.store(true, Ordering::Relaxed);
        self.some.store(false, Ordering::Release);
        *gathered = Gathered::default();
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}
