//! Ways in for `fuzz/`.

/// The requests of a memcached client, as text.
#[must_use]
pub fn memcached<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    super::memcached::fuzzed(pieces)
}
