//! Of one gateway: which clients keep copies of which keys. Pure.
//!
//! A key's entry goes when it is written: its clients are told, and keep no copy that this table would have to know of. An entry is
//! there before the key is read and until the client has been told, so between the two every write of the key is told after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::inbox::{Inbox, Word};
use crate::base::limits::{TRACKED_BYTES_MAX, TRACKED_WRITES_MAX};
use crate::base::{GroupId, RequestId};
use crate::machine::Changes;

/// How a client wants to be told.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// On that other connection.
    pub redirect: Option<(u64, Arc<Inbox>)>,
    /// Of all keys with these prefixes, instead of those that it has read.
    pub prefixes: Option<BTreeSet<Bytes>>,
    /// Not of its own writes.
    pub not_own: bool,
}

#[derive(Debug)]
struct Client {
    inbox: Arc<Inbox>,
    wish: Wish,
    /// From which version on the prefixes hold those of this client.
    version: u64,
    /// It has been told that it tracks, so it may have copies.
    answered: bool,
    redirect_gone: bool,
}

#[derive(Debug)]
struct Entry {
    clients: SmallVec<[u64; 2]>,
    /// Tells it from earlier entries of the key.
    number: u64,
    /// Whoever tells this gateway of writes knows that this key is one to tell of.
    registered: bool,
}

#[derive(Debug, Default)]
pub struct Table {
    clients: BTreeMap<u64, Client>,
    keys: BTreeMap<GroupId, BTreeMap<Bytes, Entry>>,
    count: usize,
    bytes: usize,
    entries: u64,
    /// The entry that was given up last.
    given_up_at: Option<(GroupId, Bytes)>,
    /// Keys of which nobody needs to tell any more.
    pub given_up: Vec<(GroupId, Bytes)>,
    /// Whose writes these are that do not want to hear of them.
    writes: BTreeMap<RequestId, u64>,
    writes_in_order: VecDeque<RequestId>,
    /// Of the prefixes: grows when one is added.
    pub version: u64,
}

impl Table {
    /// A client tracks from now on, or otherwise than before.
    pub fn on(&mut self, id: u64, inbox: Arc<Inbox>, wish: Wish) {
        let known = self.prefixes();
        if wish
            .prefixes
            .iter()
            .flatten()
            .any(|prefix| !known.contains(prefix))
        {
            self.version += 1;
        }
        let client = Client {
            inbox,
            wish,
            version: self.version,
            answered: false,
            redirect_gone: false,
        };
        self.clients.insert(id, client);
    }

    /// The client is told that it tracks.
    pub fn answered(&mut self, id: u64) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.answered = true;
        }
    }

    /// A client tracks no more. Its entries stay until their keys are written, unless it was the last.
    pub fn off(&mut self, id: u64) {
        self.clients.remove(&id);
        if self.clients.is_empty() {
            *self = Table {
                entries: self.entries,
                version: self.version,
                ..Table::default()
            };
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Clients, keys.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.clients.len(), self.count)
    }

    #[must_use]
    pub fn redirect_is_gone(&self, id: u64) -> bool {
        self.clients.get(&id).is_some_and(|client| client.redirect_gone)
    }

    /// All prefixes of all clients.
    #[must_use]
    pub fn prefixes(&self) -> BTreeSet<Bytes> {
        let all = self
            .clients
            .values()
            .filter_map(|client| client.wish.prefixes.as_ref());
        all.flatten().cloned().collect()
    }

    /// A client is about to read a key. `Some`: the number of its entry, of which nobody has been told yet.
    pub fn enter(&mut self, id: u64, group: GroupId, key: &Bytes, keys_max: usize) -> Option<u64> {
        if !self.clients.contains_key(&id) {
            return None;
        }
        let keys = self.keys.entry(group).or_default();
        if let Some(entry) = keys.get_mut(key) {
            if !entry.clients.contains(&id) {
                entry.clients.push(id);
            }
            return (!entry.registered).then_some(entry.number);
        }
        self.entries += 1;
        let entry = Entry {
            clients: SmallVec::from_slice(&[id]),
            number: self.entries,
            registered: false,
        };
        // Copied: a slice of a request's buffer would keep the whole buffer alive.
        keys.insert(Bytes::copy_from_slice(key), entry);
        self.count += 1;
        self.bytes += key.len();
        while self.count > keys_max.max(1) || self.bytes > TRACKED_BYTES_MAX {
            self.give_one_up();
        }
        Some(self.entries)
    }

    /// Writes of the key are told from now on, and were since before it was asked for.
    pub fn registered(&mut self, group: GroupId, key: &Bytes, number: u64) {
        let entry = self.keys.get_mut(&group).and_then(|keys| keys.get_mut(key));
        if let Some(entry) = entry.filter(|entry| entry.number == number) {
            entry.registered = true;
        }
    }

    /// Nobody could be asked to tell of the key's writes: the client is told now not to rely on what it is about to read.
    pub fn failed(&mut self, id: u64, group: GroupId, key: &Bytes) {
        if let Some(entry) = self.keys.get_mut(&group).and_then(|keys| keys.get_mut(key)) {
            entry.clients.retain(|other| *other != id);
            if entry.clients.is_empty() {
                self.remove(group, key);
            }
        }
        self.tell(id, Word::Key(key.clone()));
    }

    fn remove(&mut self, group: GroupId, key: &Bytes) -> Option<Entry> {
        let entry = self.keys.get_mut(&group)?.remove(key)?;
        self.count -= 1;
        self.bytes -= key.len();
        Some(entry)
    }

    /// The table is full: the next key in turn is given up.
    fn give_one_up(&mut self) {
        let next = self.given_up_at.take().and_then(|(group, key)| {
            let keys = self.keys.get(&group)?;
            let after = (Bound::Excluded(key), Bound::Unbounded);
            let next = keys.range::<Bytes, _>(after).next().map(|(key, _)| key.clone());
            let others = || self.keys.range((Bound::Excluded(group), Bound::Unbounded));
            next.map(|key| (group, key)).or_else(|| first(others()))
        });
        let Some((group, key)) = next.or_else(|| first(self.keys.iter())) else {
            return;
        };
        if let Some(entry) = self.remove(group, &key) {
            for id in entry.clients {
                self.tell(id, Word::Key(key.clone()));
            }
        }
        self.given_up.push((group, key.clone()));
        self.given_up_at = Some((group, key));
    }

    /// Something of a shard was written.
    pub fn changed(&mut self, group: GroupId, changes: Changes) {
        if changes.all {
            return self.flush(group);
        }
        let mut by_prefix: BTreeMap<u64, Vec<Bytes>> = BTreeMap::new();
        for (key, by) in changes.keys {
            let writer = by.and_then(|by| self.writes.get(&by).copied());
            let entry = self.remove(group, &key);
            for id in entry.iter().flat_map(|entry| entry.clients.iter()) {
                let own =
                    Some(*id) == writer && self.clients.get(id).is_some_and(|client| client.wish.not_own);
                if !own {
                    self.tell(*id, Word::Key(key.clone()));
                }
            }
            for (&id, client) in &self.clients {
                let own = client.wish.not_own && writer == Some(id);
                let mut prefixes = client.wish.prefixes.iter().flatten();
                if !own && prefixes.any(|prefix| key.starts_with(prefix)) {
                    by_prefix.entry(id).or_default().push(key.clone());
                }
            }
        }
        for (id, keys) in by_prefix {
            for key in keys {
                self.tell(id, Word::ByPrefix(key));
            }
        }
    }

    /// Writes of a shard's keys may not have been told: no copy of them is to be relied on.
    pub fn flush(&mut self, group: GroupId) {
        let gone = self.keys.remove(&group).unwrap_or_default();
        self.count -= gone.len();
        self.bytes -= gone.keys().map(Bytes::len).sum::<usize>();
        let mut ids: BTreeSet<u64> = gone
            .values()
            .flat_map(|entry| entry.clients.iter().copied())
            .collect();
        let by_prefix = self
            .clients
            .iter()
            .filter(|(_, client)| client.wish.prefixes.is_some());
        ids.extend(by_prefix.map(|(&id, _)| id));
        for id in ids {
            self.tell(id, Word::All);
        }
    }

    /// Writes of keys with prefixes are told since now; those of the clients whose prefixes are newer than `before` were not, though
    /// the clients may think so.
    pub fn prefixes_told(&mut self, before: u64) {
        let late = self.clients.iter().filter(|(_, client)| {
            client.answered && client.version > before && client.wish.prefixes.is_some()
        });
        let late: Vec<u64> = late.map(|(&id, _)| id).collect();
        for id in late {
            self.tell(id, Word::All);
        }
    }

    /// Tells a client, or whom it redirects to.
    pub fn tell(&mut self, id: u64, word: Word) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match &client.wish.redirect {
            None => client.inbox.put(word, false),
            Some((to, inbox)) if inbox.is_closed() => {
                client.redirect_gone = true;
                client.inbox.note_gone(*to);
            }
            Some((_, inbox)) => inbox.put(word, true),
        }
    }

    /// A request of a client that does not want to hear of its own writes.
    pub fn writes(&mut self, id: u64, request: RequestId) {
        if self.writes.insert(request, id).is_none() {
            self.writes_in_order.push_back(request);
        }
        if self.writes_in_order.len() > TRACKED_WRITES_MAX
            && let Some(oldest) = self.writes_in_order.pop_front()
        {
            self.writes.remove(&oldest);
        }
    }
}

fn first<'a>(
    mut keys: impl Iterator<Item = (&'a GroupId, &'a BTreeMap<Bytes, Entry>)>,
) -> Option<(GroupId, Bytes)> {
    keys.find_map(|(&group, keys)| keys.first_key_value().map(|(key, _)| (group, key.clone())))
}
