//! The digest by which replicas are compared in production: cheap, and a function of the state alone.
//!
//! ```text
//!  keys: sum of a hash of each key with value, version and expiry     kept up to date at every write
//!  rest: hash of everything else, encoded                             walked when it is asked for
//! ```
//!
//! A sum does not depend on the order of writes, so a replica that started from a snapshot has the digest of one that
//! applied the whole log. The rest (locks, intents, finished attempts, parked requests, reply table, times; libraries of functions; all of a
//! coordinator) is small as a rule; of a large one the first [`DIGEST_REST_BYTES_MAX`] bytes count, the same on every replica.
//!
//! Not here: finding out that a value has changed in memory without a write. [`Machine::digest`] walks over all keys.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::keyspace::Object;
use super::{Libraries, Machine};
use crate::base::codec::{self, CodecError};
use crate::base::limits::DIGEST_REST_BYTES_MAX;

/// Bytes of the rest that are hashed at a time.
const CHUNK_BYTES: usize = 4 << 10;

/// What a replica's state comes to; equal on all replicas of a group at equal log indexes (P8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest {
    pub keys: u64,
    pub rest: u64,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", self.keys, self.rest)
    }
}

/// One key's share of the sum.
pub(super) fn share(key: &[u8], object: &Object) -> u64 {
    share_of(key, object, object.value().hash())
}

/// As [`share`], from the bytes themselves.
pub(super) fn share_by_bytes(key: &[u8], object: &Object) -> u64 {
    share_of(key, object, object.value().hash_by_bytes())
}

fn share_of(key: &[u8], object: &Object, value: u64) -> u64 {
    // Odd constants (of SplitMix64) keep a version and an expiry apart; no expiry is 0, so that at 0 is another one.
    const VERSION: u64 = 0xbf58_476d_1ce4_e5b9;
    const EXPIRY: u64 = 0x94d0_49bb_1331_11eb;
    let expires = object.expires().map_or(0, |at| at.wrapping_add(1));
    let seed = value ^ object.version.wrapping_mul(VERSION) ^ expires.wrapping_mul(EXPIRY);
    xxh3_64_with_seed(key, seed)
}

impl Machine {
    /// The digest of the state as it is now. Costs nothing for the keys, and a walk over the rest.
    ///
    /// # Errors
    /// A state that cannot be encoded.
    pub fn running_digest(&self) -> Result<Digest, CodecError> {
        Ok(match self {
            Machine::Shard(shard) => {
                let (keyspace, head) = shard.parts();
                Digest {
                    keys: keyspace.digest(),
                    rest: hash_of(head)? ^ hash_of_libraries(shard.libraries())?,
                }
            }
            Machine::Coordinator(coordinator) => Digest {
                keys: 0,
                rest: hash_of(coordinator)?,
            },
        })
    }
}

/// Apart from the rest, so that a long reply table does not hide them; 0 where there never were any.
fn hash_of_libraries(libraries: &Libraries) -> Result<u64, CodecError> {
    if libraries.version() == 0 {
        return Ok(0);
    }
    hash_of(libraries)
}

fn hash_of<T: Serialize>(value: &T) -> Result<u64, CodecError> {
    let mut hashing = Hashing {
        state: 0,
        chunk: Vec::with_capacity(2 * CHUNK_BYTES),
        left: DIGEST_REST_BYTES_MAX,
    };
    let encoded = codec::encode_to(value, &mut hashing);
    if hashing.left > 0 {
        encoded?;
    }
    hashing.close_chunk();
    Ok(hashing.state)
}

struct Hashing {
    state: u64,
    chunk: Vec<u8>,
    left: usize,
}

impl Hashing {
    fn close_chunk(&mut self) {
        self.state = xxh3_64_with_seed(&self.chunk, self.state);
        self.chunk.clear();
    }
}

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let taken = bytes.len().min(CHUNK_BYTES).min(self.left);
        self.left -= taken;
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() >= CHUNK_BYTES {
            self.close_chunk();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
