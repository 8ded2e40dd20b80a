//! Slots, exactly as Redis Cluster computes them (redis.io, "Redis cluster specification", key distribution model).

/// Slots of the whole key space.
pub const SLOTS: u16 = 16384;

/// The part of `key` that is hashed: the first non-empty `{tag}`, else the whole key.
#[must_use]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|&b| b == b'}') {
        Some(close) if close > 0 => &rest[..close],
        _ => key,
    }
}

/// CRC16 (XMODEM) of the key or its tag, modulo [`SLOTS`].
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(hash_tag(key)) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // `redis-cli CLUSTER KEYSLOT`, Redis 7.0.15.
        for (key, slot) in [
            ("b", 3300),
            ("f", 3168),
            ("a", 15495),
            ("foo", 12182),
            ("123456789", 12739),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn the_first_non_empty_tag_counts() {
        assert_eq!(hash_tag(b"{user1}.a"), b"user1");
        assert_eq!(hash_tag(b"x{}y{z}"), b"x{}y{z}");
        assert_eq!(hash_tag(b"x{{y}}"), b"{y");
        assert_eq!(hash_tag(b"x{y"), b"x{y");
        assert_eq!(hash_tag(b"x{a}{b}"), b"a");
    }
}
