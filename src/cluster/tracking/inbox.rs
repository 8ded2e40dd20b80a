//! What a connection is to be told about copies that its client, or one that redirects to it, keeps. It gathers until the connection
//! takes it; what grows too large becomes "all of it", so that a slow client costs no more than a bounded number of keys.

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
#[derive(Debug, Default)]
pub struct Inbox {
    gathered: Mutex<Gathered>,
    some: Notify,
    closed: AtomicBool,
}

impl Inbox {
    pub(super) fn put(&self, word: Word, redirected: bool) {
        let mut gathered = self.gathered.lock();
        let stale = if redirected {
            &mut gathered.redirected
        } else {
            &mut gathered.own
        };
        stale.add(word);
        self.some.notify_one();
    }

    pub(super) fn note_gone(&self, redirect: u64) {
        self.gathered.lock().gone = Some(redirect);
        self.some.notify_one();
    }

    /// Waits until there is something.
    pub async fn some(&self) {
        self.some.notified().await;
    }

    #[must_use]
    pub fn take(&self) -> Gathered {
        std::mem::take(&mut self.gathered.lock())
    }

    /// The connection has ended.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        drop(self.take());
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}
