//! A map whose keys come nearly in order and go nearly in order.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Pairs in the order of their keys, in a queue: a new key goes to its end, and the first is found at once; others by halving. One in
/// the middle moves what is nearer of both sides. Encoded as any map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ascending<K, V>(VecDeque<(K, V)>);

impl<K, V> Default for Ascending<K, V> {
    fn default() -> Self {
        Ascending(VecDeque::new())
    }
}

impl<K: Ord + Copy, V> Ascending<K, V> {
    /// Where the key is, or would be.
    fn place(&self, key: K) -> Result<usize, usize> {
        match (self.0.front(), self.0.back()) {
            (_, Some((last, _))) if *last < key => Err(self.0.len()),
            (Some((first, _)), _) if *first == key => Ok(0),
            _ => self.0.binary_search_by_key(&key, |&(key, _)| key),
        }
    }

    #[must_use]
    pub fn get(&self, key: K) -> Option<&V> {
        self.place(key).ok().map(|at| &self.0[at].1)
    }

    /// Replaces what the key had.
    pub fn insert(&mut self, key: K, value: V) {
        match self.place(key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    pub fn remove(&mut self, key: K) {
        if let Ok(at) = self.place(key) {
            self.0.remove(at);
        }
    }

    pub fn remove_below(&mut self, key: K) {
        while self.0.front().is_some_and(|&(first, _)| first < key) {
            self.0.pop_front();
        }
    }

    #[must_use]
    pub fn last_key(&self) -> Option<K> {
        self.0.back().map(|&(key, _)| key)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::base::codec;

    proptest! {
        #[test]
        fn it_is_a_map_and_so_are_its_bytes(
            steps in prop::collection::vec((0..24u64, any::<u8>(), 0..6u8), 0..200),
        ) {
            let (mut model, mut map) = (BTreeMap::new(), Ascending::default());
            for (key, value, what) in steps {
                match what {
                    0 => {
                        model.remove(&key);
                        map.remove(key);
                    }
                    1 => {
                        model = model.split_off(&key);
                        map.remove_below(key);
                    }
                    _ => {
                        model.insert(key, value);
                        map.insert(key, value);
                    }
                }
                prop_assert_eq!(map.get(key), model.get(&key));
                prop_assert_eq!(map.last_key(), model.keys().next_back().copied());
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
                prop_assert!(map.iter().eq(model.iter().map(|(key, value)| (*key, value))));
                let bytes = codec::encode(&map).expect("it can be encoded");
                prop_assert_eq!(&bytes, &codec::encode(&model).expect("it can be encoded"));
                prop_assert_eq!(&codec::decode::<Ascending<u64, u8>>(&bytes).expect("it can be decoded"), &map);
            }
        }
    }
}
