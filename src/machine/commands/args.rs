//! Taking a command's arguments one after another, and numbers as strictly as Redis reads them.

use std::borrow::Cow;

use bytes::Bytes;

use crate::base::Reply;

/// The arguments after the command's name.
#[derive(Debug)]
pub struct Args<'a> {
    name: &'a str,
    rest: std::slice::Iter<'a, Bytes>,
}

impl<'a> Args<'a> {
    #[must_use]
    pub fn new(name: &'a str, args: &'a [Bytes]) -> Args<'a> {
        Args {
            name,
            rest: args.iter(),
        }
    }

    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn next(&mut self) -> Result<&'a Bytes, Reply> {
        self.rest.next().ok_or_else(|| wrong_arity(self.name))
    }

    pub fn key(&mut self) -> Result<Bytes, Reply> {
        self.next().cloned()
    }

    pub fn int(&mut self) -> Result<i64, Reply> {
        parse_i64(self.next()?).ok_or_else(Reply::not_an_integer)
    }

    /// The next argument as an option word in upper case, if there is one.
    pub fn word(&mut self) -> Option<String> {
        self.rest
            .next()
            .map(|word| String::from_utf8_lossy(word).to_ascii_uppercase())
    }

    /// An option's argument: its absence is a syntax error, not an arity error.
    pub fn value(&mut self) -> Result<&'a Bytes, Reply> {
        self.rest.next().ok_or_else(Reply::syntax)
    }

    pub fn all(&mut self) -> Vec<Bytes> {
        self.rest.by_ref().cloned().collect()
    }

    pub fn end(&mut self) -> Result<(), Reply> {
        if self.rest.len() == 0 {
            Ok(())
        } else {
            Err(Reply::syntax())
        }
    }
}

pub fn wrong_arity(name: &str) -> Reply {
    Reply::err(format!("ERR wrong number of arguments for '{name}' command"))
}

/// Whether `all` words, the name among them, are as many as `arity` wants; a negative one is the least.
#[must_use]
pub fn fits(arity: i64, all: usize) -> bool {
    let all = i64::try_from(all).unwrap_or(i64::MAX);
    all == arity || (arity < 0 && all >= -arity)
}

/// A name as an error shows it: up to a zero byte, as Redis has it.
pub fn shown(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// Takes the subcommand's name, of those that are `known` with their arities, and checks the number of arguments behind it.
/// Also as it was given.
pub fn subcommand(a: &mut Args<'_>, known: &[(&str, i64)]) -> Result<(String, Bytes), Reply> {
    let given = a.next()?.clone();
    let word = String::from_utf8_lossy(&given).to_ascii_lowercase();
    let Some((_, arity)) = known.iter().find(|(name, _)| *name == word) else {
        let given = shown(&given[..given.len().min(128)]);
        let name = a.name().to_ascii_uppercase();
        return Err(Reply::err(format!(
            "ERR unknown subcommand '{given}'. Try {name} HELP."
        )));
    };
    if fits(*arity, a.remaining() + 2) {
        Ok((word, given))
    } else {
        Err(wrong_arity(&format!("{}|{word}", a.name())))
    }
}

/// The same check alone, of the arguments behind the name.
///
/// # Errors
/// The reply for a subcommand that is not known, or has another number of arguments.
pub fn check_subcommand(name: &str, args: &[Bytes], known: &[(&str, i64)]) -> Result<(), Reply> {
    subcommand(&mut Args::new(name, args), known).map(drop)
}

/// An integer as Redis's `string2ll` takes it: no blanks, no plus, no leading zeros.
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        b"0" => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A float as Redis's `getLongDoubleFromObject` takes it: no blanks, no NaN.
#[must_use]
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(hex, 16).ok().map(f64::from);
    }
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-'));
    let value: f64 = text.parse().ok()?;
    (plain && !value.is_nan() && !text.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_strictly_as_redis_does() {
        let good = [
            ("0", 0),
            ("-1", -1),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ];
        for (text, value) in good {
            assert_eq!(parse_i64(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "-0",
            "01",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "9223372036854775808",
            "0x1",
            "１",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }
}
