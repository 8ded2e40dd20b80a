//! Counting: unsigned 64-bit numbers that wrap upwards and stop at 0 downwards.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::{Done, View};
use super::{Item, Word, cas, expiry, ttl};
use crate::base::Reply;
use crate::machine::keyspace::Blob;

/// Digits of a 64-bit number.
const DIGITS_MAX: usize = 20;

/// `incr`, `decr`, `ma`. Replies the number, its unique number, and the time to live before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    pub key: Bytes,
    pub decr: bool,
    pub delta: u64,
    pub cas: Option<u64>,
    /// Where there is nothing: expiry and number of what is put there.
    pub initial: Option<(i64, u64)>,
    pub exptime: Option<i64>,
    /// The unique number is wanted.
    pub tell: bool,
}

impl Delta {
    pub(super) fn run(&self, view: View<'_, '_>) -> Done {
        let now = view.now();
        let Some(mut item) = Item::of(view, &self.key)? else {
            let Some((exptime, initial)) = self.initial else {
                return Ok(Word::NotFound.reply());
            };
            let item = Item::new(initial.to_string().as_bytes(), 0, expiry(exptime, now));
            return self.put(view, item, initial, -1);
        };
        let not_a_number = || Reply::err("CLIENT_ERROR cannot increment or decrement non-numeric value");
        if item.data.is_empty() {
            return Err(not_a_number());
        }
        let differs = |cas| cas != 0 && cas != cas::current(view, &self.key, &item);
        if self.cas.is_some_and(differs) {
            return Ok(Word::Exists.reply());
        }
        let old = number(&item.data).ok_or_else(not_a_number)?;
        let new = if self.decr {
            old.saturating_sub(self.delta)
        } else {
            old.wrapping_add(self.delta)
        };
        let before = ttl(item.expires, now);
        let mut text = new.to_string().into_bytes();
        if text.len() <= item.data.len() {
            // memcached writes it where the old one lay, and does not make the item shorter.
            text.resize(item.data.len(), b' ');
            item.data = Blob::from(&text[..]);
        } else {
            item = Item::new(&text, item.flags, item.expires);
        }
        if let Some(exptime) = self.exptime {
            item.expires = expiry(exptime, now);
        }
        self.put(view, item, new, before)
    }

    fn put(&self, view: View<'_, '_>, item: Item, number: u64, before: i64) -> Done {
        let after = ttl(item.expires, view.now());
        let cas = if self.tell {
            cas::put_and_tell(view, &self.key, item)?
        } else {
            item.put(view, &self.key);
            0
        };
        Ok(Reply::Array(vec![
            Reply::bulk(number.to_string()),
            cas::reply(cas),
            Reply::Int(before),
            Reply::Int(after),
        ]))
    }
}

/// The number that the data begins with; blanks may stand around it, and anything behind these.
fn number(data: &[u8]) -> Option<u64> {
    let digits = data.trim_ascii_start();
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    let len = digits
        .iter()
        .take(DIGITS_MAX + 1)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, behind) = digits.split_at(len);
    if behind.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_memcached_reads_them() {
        let good: [(&[u8], u64); 6] = [
            (b"0", 0),
            (b"007", 7),
            (b" 12", 12),
            (b"9  ", 9),
            (b"5 apples", 5),
            (b"18446744073709551615", u64::MAX),
        ];
        for (text, value) in good {
            assert_eq!(number(text), Some(value), "{}", text.escape_ascii());
        }
        for text in ["", " ", "-1", "1x", "x", "18446744073709551616", "1.5"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }
}
