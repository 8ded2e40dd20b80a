//! How much memory, and what goes when there is no more: the words of Redis's configuration.

use std::fmt;
use std::str::FromStr;

/// What a node removes when it is full (`maxmemory-policy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    #[default]
    NoEviction,
    AllKeysLru,
    AllKeysLfu,
    AllKeysRandom,
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
}

impl Policy {
    /// In the order in which Redis names them.
    pub const ALL: [Policy; 8] = [
        Policy::VolatileLru,
        Policy::VolatileLfu,
        Policy::VolatileRandom,
        Policy::VolatileTtl,
        Policy::AllKeysLru,
        Policy::AllKeysLfu,
        Policy::AllKeysRandom,
        Policy::NoEviction,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Policy::NoEviction => "noeviction",
            Policy::AllKeysLru => "allkeys-lru",
            Policy::AllKeysLfu => "allkeys-lfu",
            Policy::AllKeysRandom => "allkeys-random",
            Policy::VolatileLru => "volatile-lru",
            Policy::VolatileLfu => "volatile-lfu",
            Policy::VolatileRandom => "volatile-random",
            Policy::VolatileTtl => "volatile-ttl",
        }
    }

    /// Whether it removes only keys that expire.
    #[must_use]
    pub const fn only_volatile(self) -> bool {
        matches!(
            self,
            Policy::VolatileLru | Policy::VolatileLfu | Policy::VolatileRandom | Policy::VolatileTtl
        )
    }

    /// Whether it goes by how often a key is used.
    #[must_use]
    pub const fn is_lfu(self) -> bool {
        matches!(self, Policy::AllKeysLfu | Policy::VolatileLfu)
    }

    /// Whether it goes by when a key was last used.
    #[must_use]
    pub const fn is_lru(self) -> bool {
        matches!(self, Policy::AllKeysLru | Policy::VolatileLru)
    }

    /// What `as u64` made of it.
    #[must_use]
    pub fn from_code(code: u64) -> Policy {
        let found = Policy::ALL.into_iter().find(|policy| *policy as u64 == code);
        found.unwrap_or_default()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        let found = Policy::ALL
            .into_iter()
            .find(|policy| policy.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let names: Vec<&str> = Policy::ALL.into_iter().map(Policy::name).collect();
            format!("argument(s) must be one of the following: {}", names.join(", "))
        })
    }
}

/// A size as Redis reads it: `512mb`, `1k` (1000), `1kb` (1024), or bytes. `None`: it is none, or does not fit.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_redis_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("512mb", Some(512 << 20)),
            ("1K", Some(1000)),
            ("1kB", Some(1024)),
            ("2g", Some(2_000_000_000)),
            ("3b", Some(3)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551615k", None),
            ("", None),
            ("mb", None),
            ("-1", None),
            ("5zz", None),
            ("1.5gb", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }

    #[test]
    fn policies_keep_their_names_and_codes() {
        for policy in Policy::ALL {
            assert_eq!(policy.name().to_uppercase().parse(), Ok(policy));
            assert_eq!(Policy::from_code(policy as u64), policy);
        }
        assert!("lru".parse::<Policy>().is_err());
    }
}
