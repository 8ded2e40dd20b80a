//! Which keyspace events are told (`notify-keyspace-events`): Redis's letters.

use std::fmt;
use std::str::FromStr;

/// A set of kinds of events, and of the channels (`K`, `E`) that they are told on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events(u32);

impl Events {
    pub const NONE: Events = Events(0);
    /// Channels named by key: `__keyspace@0__:key`.
    pub const KEYSPACE: Events = Events(1);
    /// Channels named by event: `__keyevent@0__:event`.
    pub const KEYEVENT: Events = Events(1 << 1);
    pub const GENERIC: Events = Events(1 << 2);
    pub const STRING: Events = Events(1 << 3);
    pub const LIST: Events = Events(1 << 4);
    pub const SET: Events = Events(1 << 5);
    pub const HASH: Events = Events(1 << 6);
    pub const ZSET: Events = Events(1 << 7);
    pub const EXPIRED: Events = Events(1 << 8);
    pub const EVICTED: Events = Events(1 << 9);
    pub const STREAM: Events = Events(1 << 10);
    pub const MISS: Events = Events(1 << 11);
    pub const MODULE: Events = Events(1 << 13);
    pub const NEW: Events = Events(1 << 14);
    /// The letter `A`. Misses and new keys are not in it, as in Redis.
    pub const ALL: Events = Events(0b10_0111_1111_1100);

    /// What `A` may stand for, and then the rest; in the order in which Redis prints them.
    const LETTERS: [(char, Events); 11] = [
        ('g', Events::GENERIC),
        ('$', Events::STRING),
        ('l', Events::LIST),
        ('s', Events::SET),
        ('h', Events::HASH),
        ('z', Events::ZSET),
        ('x', Events::EXPIRED),
        ('e', Events::EVICTED),
        ('t', Events::STREAM),
        ('d', Events::MODULE),
        ('n', Events::NEW),
    ];
    const OTHERS: [(char, Events); 3] = [
        ('K', Events::KEYSPACE),
        ('E', Events::KEYEVENT),
        ('m', Events::MISS),
    ];

    #[must_use]
    pub const fn with(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn has(self, other: Events) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether anybody is told of events of this kind.
    #[must_use]
    pub const fn tells(self, kind: Events) -> bool {
        self.has(kind) && (self.has(Events::KEYSPACE) || self.has(Events::KEYEVENT))
    }

    #[must_use]
    pub const fn code(self) -> u64 {
        self.0 as u64
    }

    /// What [`Events::code`] made of it; bits that mean nothing are left out.
    #[must_use]
    pub fn from_code(code: u64) -> Events {
        let known = Events::LETTERS.iter().chain(&Events::OTHERS);
        let all = known.fold(Events::NONE, |all, (_, event)| all.with(*event));
        Events(u32::try_from(code).unwrap_or(0) & all.0)
    }
}

impl FromStr for Events {
    type Err = String;

    fn from_str(text: &str) -> Result<Events, String> {
        let mut events = Events::NONE;
        for letter in text.chars() {
            let known = Events::LETTERS.iter().chain(&Events::OTHERS);
            let mut known = known.chain(&[('A', Events::ALL)]);
            let Some((_, event)) = known.find(|(known, _)| *known == letter) else {
                return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into());
            };
            events = events.with(*event);
        }
        Ok(events)
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.has(Events::ALL);
        if all {
            f.write_str("A")?;
        }
        let letters = Events::LETTERS.iter().filter(|_| !all);
        for (letter, event) in letters.chain(&Events::OTHERS) {
            if self.has(*event) {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Redis 7.0.15 prints them.
    #[test]
    fn letters_are_read_and_printed_as_redis_does() {
        let cases = [
            ("", ""),
            ("A", "A"),
            ("An", "A"),
            ("KEA", "AKE"),
            ("KEg$lszhxetdmn", "AKEm"),
            ("KEmn", "nKEm"),
            ("x", "x"),
            ("hg", "gh"),
        ];
        for (letters, printed) in cases {
            let events: Events = letters.parse().expect(letters);
            assert_eq!(events.to_string(), printed, "{letters}");
            assert_eq!(Events::from_code(events.code()), events, "{letters}");
        }
        assert!("q".parse::<Events>().is_err());
    }

    #[test]
    fn nobody_is_told_without_a_kind_of_channel() {
        let parse = |letters: &str| letters.parse::<Events>().unwrap_or_default();
        assert!(!parse("A").tells(Events::EXPIRED));
        assert!(parse("Ex").tells(Events::EXPIRED) && !parse("Ex").tells(Events::STRING));
        assert!(parse("KA").tells(Events::STRING) && !parse("KA").tells(Events::MISS));
    }
}
