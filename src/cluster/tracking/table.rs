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
    /// With the moment at which each was last about to read the key.
    clients: SmallVec<[(u64, u64); 1]>,
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
    /// Orders what clients do.
    moment: u64,
    /// The entry that was given up last.
    given_up_at: Option<(GroupId, Bytes)>,
    /// Keys of which nobody needs to tell any more, and has not been told so yet.
    given_up: Keys,
    /// Those of which somebody is being told so.
    forgetting: Keys,
    /// Clients that track prefixes.
    broadcast: BTreeSet<u64>,
    /// Whose writes these are that do not want to hear of them, and since when.
    writes: BTreeMap<RequestId, (u64, u64)>,
    writes_in_order: VecDeque<RequestId>,
    /// Of the prefixes: grows when they change.
    pub version: u64,
}

type Keys = BTreeMap<GroupId, BTreeSet<Bytes>>;

/// Bytes of an entry for each of its clients.
const CLIENT_BYTES: usize = size_of::<(u64, u64)>();
/// Keys that are given up at a time, should many be too many.
const GIVEN_UP_AT_ONCE: usize = 1024;
/// Keys of a shard that whoever tells of them is asked to forget at a time. More it goes on telling of, for nobody.
const GIVEN_UP_MAX: usize = 64 << 10;

impl Table {
    /// A client tracks from now on, or otherwise than before.
    pub fn on(&mut self, id: u64, inbox: Arc<Inbox>, wish: Wish) {
        let before = self.prefixes();
        if wish.prefixes.is_some() {
            self.broadcast.insert(id);
        } else {
            self.broadcast.remove(&id);
        }
        let client = Client {
            inbox,
            wish,
            version: 0,
            answered: false,
            redirect_gone: false,
        };
        self.clients.insert(id, client);
        self.version += u64::from(before != self.prefixes());
        let version = self.version;
        if let Some(client) = self.clients.get_mut(&id) {
            client.version = version;
        }
    }

    /// The client is told that it tracks.
    pub fn answered(&mut self, id: u64) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.answered = true;
        }
    }

    /// A client tracks no more. Its entries stay until their keys are written, unless it was the last: then all that there is comes
    /// back, to be freed where nobody waits.
    pub fn off(&mut self, id: u64) -> Option<Table> {
        self.clients.remove(&id)?;
        if self.broadcast.contains(&id) {
            // Somebody else may have the same ones: then too much is said once.
            self.broadcast.remove(&id);
            self.version += 1;
        }
        if !self.clients.is_empty() {
            return None;
        }
        let empty = Table {
            moment: self.moment,
            version: self.version,
            // Being told, whoever comes next.
            forgetting: std::mem::take(&mut self.forgetting),
            ..Table::default()
        };
        Some(std::mem::replace(self, empty))
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
        let clients = self.broadcast.iter().filter_map(|id| self.clients.get(id));
        let all = clients.filter_map(|client| client.wish.prefixes.as_ref());
        all.flatten().cloned().collect()
    }

    /// A client is about to read a key. `Some`: the number of its entry, of which nobody has been told yet.
    pub fn enter(&mut self, id: u64, group: GroupId, key: &Bytes, keys_max: usize) -> Option<u64> {
        if !self.clients.contains_key(&id) {
            return None;
        }
        self.moment += 1;
        let keys = self.keys.entry(group).or_default();
        if let Some(entry) = keys.get_mut(key) {
            let number = (!entry.registered).then_some(entry.number);
            match entry.clients.iter_mut().find(|(other, _)| *other == id) {
                Some((_, read_at)) => *read_at = self.moment,
                None => {
                    entry.clients.push((id, self.moment));
                    self.bytes += CLIENT_BYTES;
                    self.keep_to(keys_max, TRACKED_BYTES_MAX);
                }
            }
            return number;
        }
        if self.forgetting.get(&group).is_some_and(|keys| keys.contains(key)) {
            // Whether that comes before or after what would be asked now, nobody knows.
            self.tell(id, Word::Key(key.clone()));
            return None;
        }
        if let Some(given_up) = self.given_up.get_mut(&group) {
            given_up.remove(key);
        }
        let entry = Entry {
            clients: SmallVec::from_slice(&[(id, self.moment)]),
            number: self.moment,
            registered: false,
        };
        // Copied: a slice of a request's buffer would keep the whole buffer alive.
        keys.insert(Bytes::copy_from_slice(key), entry);
        self.count += 1;
        self.bytes += key.len() + CLIENT_BYTES;
        self.keep_to(keys_max, TRACKED_BYTES_MAX);
        Some(self.moment)
    }

    /// Gives up what is too much.
    fn keep_to(&mut self, keys_max: usize, bytes_max: usize) {
        for _ in 0..GIVEN_UP_AT_ONCE {
            if self.count <= keys_max.max(1) && self.bytes <= bytes_max {
                break;
            }
            self.give_one_up();
        }
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
            let before = entry.clients.len();
            entry.clients.retain(|(other, _)| *other != id);
            self.bytes -= (before - entry.clients.len()) * CLIENT_BYTES;
            if entry.clients.is_empty() {
                self.remove(group, key);
            }
        }
        self.tell(id, Word::Key(key.clone()));
    }

    fn remove(&mut self, group: GroupId, key: &Bytes) -> Option<Entry> {
        let entry = self.keys.get_mut(&group)?.remove(key)?;
        self.count -= 1;
        self.bytes -= bytes_of(key, &entry);
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
            for (id, _) in entry.clients {
                self.tell(id, Word::Key(key.clone()));
            }
        }
        let given_up = self.given_up.entry(group).or_default();
        if given_up.len() < GIVEN_UP_MAX {
            given_up.insert(key.clone());
        }
        self.given_up_at = Some((group, key));
    }

    /// Keys of these shards of which nobody needs to tell any more, for whoever does; until [`Table::forgotten`].
    pub fn forget(&mut self, groups: &[GroupId]) -> Vec<(GroupId, Bytes)> {
        for group in groups {
            if let Some(keys) = self.given_up.remove(group) {
                self.forgetting.insert(*group, keys);
            }
        }
        let of = |group: &GroupId| self.forgetting.get(group).map(|keys| (*group, keys));
        let keys = groups.iter().filter_map(of);
        keys.flat_map(|(group, keys)| keys.iter().map(move |key| (group, key.clone())))
            .collect()
    }

    /// Whoever was told to forget them has done so, or has forgotten everything.
    pub fn forgotten(&mut self, groups: &[GroupId]) {
        for group in groups {
            self.forgetting.remove(group);
        }
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
            for &(id, read_at) in entry.iter().flat_map(|entry| entry.clients.iter()) {
                // Of what it has read since, nobody will tell.
                let own = writer.is_some_and(|(writer, at)| writer == id && read_at < at);
                if !(own && self.clients.get(&id).is_some_and(|client| client.wish.not_own)) {
                    self.tell(id, Word::Key(key.clone()));
                }
            }
            for (&id, client) in self
                .broadcast
                .iter()
                .filter_map(|id| self.clients.get_key_value(id))
            {
                let own = client.wish.not_own && writer.is_some_and(|(writer, _)| writer == id);
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
        self.bytes -= gone
            .iter()
            .map(|(key, entry)| bytes_of(key, entry))
            .sum::<usize>();
        let mut ids: BTreeSet<u64> = gone
            .values()
            .flat_map(|entry| entry.clients.iter().map(|(id, _)| *id))
            .collect();
        ids.extend(&self.broadcast);
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
            None => drop(client.inbox.put(word, false)),
            Some((to, inbox)) => {
                if !inbox.put(word, true) {
                    client.redirect_gone = true;
                    client.inbox.note_gone(*to);
                }
            }
        }
    }

    /// A request of a client that does not want to hear of its own writes.
    pub fn writes(&mut self, id: u64, request: RequestId) {
        self.moment += 1;
        if self.writes.insert(request, (id, self.moment)).is_none() {
            self.writes_in_order.push_back(request);
        }
        if self.writes_in_order.len() > TRACKED_WRITES_MAX
            && let Some(oldest) = self.writes_in_order.pop_front()
        {
            self.writes.remove(&oldest);
        }
    }
}

fn bytes_of(key: &Bytes, entry: &Entry) -> usize {
    key.len() + entry.clients.len() * CLIENT_BYTES
}

fn first<'a>(
    mut keys: impl Iterator<Item = (&'a GroupId, &'a BTreeMap<Bytes, Entry>)>,
) -> Option<(GroupId, Bytes)> {
    keys.find_map(|(&group, keys)| keys.first_key_value().map(|(key, _)| (group, key.clone())))
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    const GROUP: GroupId = GroupId::Shard(0);

    fn request(seq: u64) -> RequestId {
        RequestId { session: 1, seq }
    }

    fn key(name: &str) -> Bytes {
        Bytes::copy_from_slice(name.as_bytes())
    }

    /// A table with one client, which has read `a`, and its inbox.
    fn table(not_own: bool) -> (Table, Arc<Inbox>) {
        let inbox = Arc::new(Inbox::new(Arc::new(Notify::new())));
        let mut table = Table::default();
        let wish = Wish {
            not_own,
            ..Wish::default()
        };
        table.on(7, Arc::clone(&inbox), wish);
        assert!(read(&mut table, "a"));
        (table, inbox)
    }

    /// Whether the key has to be registered.
    fn read(table: &mut Table, name: &str) -> bool {
        let number = table.enter(7, GROUP, &key(name), 1);
        if let Some(number) = number {
            table.registered(GROUP, &key(name), number);
        }
        number.is_some()
    }

    fn written(table: &mut Table, name: &str, by: Option<RequestId>) {
        let keys = BTreeMap::from([(key(name), by)]);
        table.changed(GROUP, Changes { all: false, keys });
    }

    #[test]
    fn an_own_write_is_told_if_the_key_was_read_behind_it() {
        let (mut table, inbox) = table(true);
        table.writes(7, request(1));
        written(&mut table, "a", Some(request(1)));
        assert!(!inbox.has_some());
        assert!(read(&mut table, "a"), "it is tracked anew");
        table.writes(7, request(2));
        assert!(!read(&mut table, "a"), "as far as is known here, it still is");
        written(&mut table, "a", Some(request(2)));
        assert_eq!(inbox.take().own.keys, [key("a")]);
    }

    #[test]
    fn a_key_that_is_being_forgotten_is_not_relied_on_until_it_is() {
        let (mut table, inbox) = table(false);
        assert!(read(&mut table, "b") && inbox.take().own.keys == [key("a")]);
        assert!(read(&mut table, "a") && inbox.take().own.keys == [key("b")]);
        assert_eq!(table.forget(&[GroupId::Shard(1)]), [], "another's");
        let forgets = table.forget(&[GROUP]);
        assert_eq!(forgets, [(GROUP, key("b"))], "and a was asked for again");
        assert!(!read(&mut table, "b"), "nobody is asked");
        assert_eq!(inbox.take().own.keys, [key("b")], "it is told now");
        table.forgotten(&[GROUP]);
        assert!(read(&mut table, "b"));
        assert_eq!(table.forget(&[GROUP]), [(GROUP, key("a"))]);
    }

    #[test]
    fn what_all_take_is_added_up() {
        let (mut table, _inbox) = table(false);
        let other = Arc::new(Inbox::new(Arc::new(Notify::new())));
        table.on(8, other, Wish::default());
        let number = table.enter(8, GROUP, &key("a"), 9);
        assert_eq!(number, None);
        assert_eq!(table.bytes, 1 + 2 * CLIENT_BYTES);
        table.failed(8, GROUP, &key("a"));
        assert_eq!(table.bytes, 1 + CLIENT_BYTES);
        assert!(table.enter(8, GROUP, &key("bc"), 9).is_some());
        // Others who read what is tracked already count as well.
        table.keep_to(9, 2 + CLIENT_BYTES);
        assert_eq!((table.bytes, table.count), (2 + CLIENT_BYTES, 1), "a is given up");
        assert!(table.enter(7, GROUP, &key("a"), 9).is_some());
        written(&mut table, "a", None);
        assert_eq!(table.bytes, 2 + CLIENT_BYTES);
        table.flush(GROUP);
        assert_eq!((table.bytes, table.count), (0, 0));
    }

    #[test]
    fn prefixes_are_said_anew_when_they_go() {
        let (mut table, inbox) = table(false);
        let version = table.version;
        let prefixes = Some(BTreeSet::from([key("p")]));
        let wish = Wish {
            prefixes,
            ..Wish::default()
        };
        table.on(8, inbox, wish);
        assert!(table.version > version && table.prefixes().len() == 1);
        let version = table.version;
        assert!(table.off(8).is_none());
        assert!(table.version > version && table.prefixes().is_empty());
        assert!(table.off(7).is_some_and(|garbage| garbage.count == 1));
    }
}
