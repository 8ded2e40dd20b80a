//! The keys of the simulation, spread by a real ring: one name and number on every shard that is asked for.

use std::sync::OnceLock;

use bytes::Bytes;
use quorate::ring::Ring;

/// More shards than this no run has.
pub const SHARDS_MAX: u16 = 4;
/// Points of each shard on the ring: few, since evenness does not matter here.
const VIRTUAL_NODES: u32 = 64;
/// Slots of each shard that its keys use.
const TAGS: usize = 3;

/// What a key is for: the first letter of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Account,
    Pair,
    /// A mark that a transaction leaves on each of its shards.
    Mark,
    List,
    Register,
    Counter,
    /// An element of the unique set.
    Element,
    /// A key that expires.
    Lease,
    /// A key that RENAME moves about.
    Wanderer,
    /// A key that holds now a number, now none.
    Fickle,
    /// One of two, of which always one is there.
    Token,
}

#[derive(Debug)]
pub struct Keys {
    ring: Ring,
    /// By shard: hash tags whose slots it owns.
    tags: Vec<Vec<String>>,
}

impl Keys {
    /// The keys of a cluster of so many shards.
    pub fn of(shards: u16) -> &'static Keys {
        static ALL: [OnceLock<Keys>; SHARDS_MAX as usize + 1] =
            [const { OnceLock::new() }; SHARDS_MAX as usize + 1];
        ALL[usize::from(shards)].get_or_init(|| Keys::new(shards))
    }

    fn new(shards: u16) -> Keys {
        let ring = Ring::new(1, shards, VIRTUAL_NODES);
        let mut tags = vec![Vec::new(); usize::from(shards)];
        let mut next = 0;
        while tags.iter().any(|tags| tags.len() < TAGS) {
            let tag = format!("{{{next}}}");
            let of_shard = &mut tags[usize::from(ring.shard_of(tag.as_bytes()))];
            if of_shard.len() < TAGS {
                of_shard.push(tag);
            }
            next += 1;
        }
        Keys { ring, tags }
    }

    pub fn shards(&self) -> u16 {
        self.ring.shards()
    }

    pub fn shard_of(&self, key: &[u8]) -> u16 {
        self.ring.shard_of(key)
    }

    pub fn key(&self, what: Use, n: u64, shard: u16) -> Bytes {
        let letter = match what {
            Use::Account => 'a',
            Use::Pair => 'p',
            Use::Mark => 'm',
            Use::List => 'l',
            Use::Register => 'r',
            Use::Counter => 'c',
            Use::Element => 'e',
            Use::Lease => 'x',
            Use::Wanderer => 'w',
            Use::Fickle => 'f',
            Use::Token => 't',
        };
        let tags = &self.tags[usize::from(shard)];
        let tag = &tags[usize::try_from(n).expect("a small number") % tags.len()];
        Bytes::from(format!("{letter}{n}{tag}"))
    }

    /// The `n`th key of its kind, where kinds have one key of a number in the whole cluster.
    pub fn nth(&self, what: Use, n: u64) -> Bytes {
        let shard = u16::try_from(n % u64::from(self.shards())).expect("below the number of shards");
        self.key(what, n, shard)
    }
}
