//! Expiries: relative or absolute as the user gave them, absolute when the command runs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::args::{Args, parse_i64};
use crate::base::{Millis, Reply};

/// The year 2100, which stands in for the clock where Redis checks that a relative time does not overflow.
const LATEST_CLOCK_MS: i64 = 4_102_444_800_000;

/// A point in time as a command names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpireWhen {
    /// Milliseconds from the entry's time; negative: in the past.
    In(i64),
    /// Milliseconds since the epoch; negative: in the past.
    At(i64),
}

/// What a command does to a key's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiry {
    Keep,
    Never,
    When(ExpireWhen),
}

impl ExpireWhen {
    /// The absolute time, given the entry's. A time before the epoch is the epoch: past either way.
    #[must_use]
    pub fn absolute(self, now: Millis) -> Millis {
        match self {
            ExpireWhen::In(delta) => now.saturating_add_signed(delta),
            ExpireWhen::At(at) => u64::try_from(at).unwrap_or(0),
        }
    }

    /// Reads a time in seconds or milliseconds.
    ///
    /// # Errors
    /// Not an integer, or beyond what milliseconds in 63 bits can say.
    pub fn parse(text: &[u8], seconds: bool, absolute: bool, command: &str) -> Result<ExpireWhen, Reply> {
        let value = parse_i64(text).ok_or_else(Reply::not_an_integer)?;
        let invalid = || invalid(command);
        let value = if seconds {
            value.checked_mul(1000).ok_or_else(invalid)?
        } else {
            value
        };
        if absolute {
            return Ok(ExpireWhen::At(value));
        }
        value.checked_add(LATEST_CLOCK_MS).ok_or_else(invalid)?;
        Ok(ExpireWhen::In(value))
    }

    /// As [`ExpireWhen::parse`], but a time of zero or less is an error (SET, GETEX, SETEX).
    ///
    /// # Errors
    /// As `parse`, and zero or negative times.
    pub fn parse_positive(text: &[u8], seconds: bool, absolute: bool, command: &str) -> Result<Self, Reply> {
        if parse_i64(text).is_some_and(|value| value <= 0) {
            return Err(invalid(command));
        }
        Self::parse(text, seconds, absolute, command)
    }
}

/// An expiry option and its argument, not read yet: Redis looks at all options before it looks at any time.
#[derive(Debug, Clone, Copy)]
pub enum ExpiryOption<'a> {
    Keep,
    Persist,
    Time { unit: &'static str, text: &'a Bytes },
}

impl<'a> ExpiryOption<'a> {
    /// The option that `word` names, with its argument; `None` if it names none.
    ///
    /// # Errors
    /// A missing argument.
    pub fn take(word: &str, args: &mut Args<'a>) -> Result<Option<Self>, Reply> {
        let unit = match word {
            "EX" => "EX",
            "PX" => "PX",
            "EXAT" => "EXAT",
            "PXAT" => "PXAT",
            _ => return Ok(None),
        };
        Ok(Some(ExpiryOption::Time {
            unit,
            text: args.value()?,
        }))
    }

    /// Whether both name the same option, so that the later one counts; others together are a syntax error.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        use ExpiryOption as O;
        match (self, other) {
            (O::Keep, O::Keep) | (O::Persist, O::Persist) => true,
            (O::Time { unit: a, .. }, O::Time { unit: b, .. }) => a == b,
            _ => false,
        }
    }

    /// Reads the time.
    ///
    /// # Errors
    /// Not an integer, zero or negative, too large.
    pub fn expiry(&self, command: &str) -> Result<Expiry, Reply> {
        match self {
            ExpiryOption::Keep => Ok(Expiry::Keep),
            ExpiryOption::Persist => Ok(Expiry::Never),
            ExpiryOption::Time { unit, text } => {
                let (seconds, absolute) = (unit.starts_with("EX"), unit.ends_with("AT"));
                Ok(Expiry::When(ExpireWhen::parse_positive(
                    text, seconds, absolute, command,
                )?))
            }
        }
    }
}

fn invalid(command: &str) -> Reply {
    Reply::err(format!("ERR invalid expire time in '{command}' command"))
}
