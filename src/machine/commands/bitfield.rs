//! BITFIELD: numbers of any width in a string.

use bytes::Bytes;

use super::args::{Args, parse_i64};
use super::bits::{bit, extend, offset, set_bit};
use super::strings::current;
use super::{Done, View};
use crate::base::Reply;

#[derive(Debug, Clone, Copy)]
struct Field {
    signed: bool,
    width: u64,
    at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Get(Field),
    Set(Field, i64),
    Add(Field, i64, Overflow),
}

impl Field {
    fn parse(a: &mut Args<'_>) -> Result<Field, Reply> {
        let invalid = || {
            Reply::err(
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            )
        };
        let given = a.value()?;
        let (signed, most) = match given.first() {
            Some(b'i') => (true, 64),
            Some(b'u') => (false, 63),
            _ => return Err(invalid()),
        };
        let width = parse_i64(&given[1..]).and_then(|width| u64::try_from(width).ok());
        let width = width
            .filter(|width| (1..=most).contains(width))
            .ok_or_else(invalid)?;
        let at = offset(a.value()?, Some(width))?;
        Ok(Field { signed, width, at })
    }

    fn end(self) -> u64 {
        self.at + self.width
    }

    fn min(self) -> i128 {
        if self.signed { -(1 << (self.width - 1)) } else { 0 }
    }

    fn max(self) -> i128 {
        let bits = if self.signed { self.width - 1 } else { self.width };
        (1 << bits) - 1
    }

    /// What lies beyond the range comes round again.
    fn wrapped(self, number: i128) -> i128 {
        let low = number.rem_euclid(1 << self.width);
        if low > self.max() {
            low - (1 << self.width)
        } else {
            low
        }
    }

    /// `None`: it does not fit, and that is a failure.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i128> {
        let fits = (self.min()..=self.max()).contains(&number);
        match overflow {
            _ if fits => Some(number),
            Overflow::Wrap => Some(self.wrapped(number)),
            Overflow::Saturate => Some(number.clamp(self.min(), self.max())),
            Overflow::Fail => None,
        }
    }

    fn read(self, bytes: &[u8]) -> i128 {
        let bits = (self.at..self.end()).map(|at| i128::from(bit(bytes, at)));
        self.wrapped(bits.fold(0, |number, bit| number << 1 | bit))
    }

    fn write(self, bytes: &mut [u8], number: i128) {
        for n in 0..self.width {
            set_bit(bytes, self.at + n, number >> (self.width - 1 - n) & 1 == 1);
        }
    }
}

fn steps(a: &mut Args<'_>, read_only: bool) -> Result<Vec<(Step, Overflow)>, Reply> {
    let mut overflow = Overflow::Wrap;
    let mut steps = Vec::new();
    while let Some(word) = a.word() {
        let number = |text: &Bytes| parse_i64(text).ok_or_else(Reply::not_an_integer);
        match word.as_str() {
            "GET" if a.remaining() >= 2 => steps.push((Step::Get(Field::parse(a)?), overflow)),
            "SET" if a.remaining() >= 3 => {
                steps.push((Step::Set(Field::parse(a)?, number(a.value()?)?), overflow));
            }
            "INCRBY" if a.remaining() >= 3 => steps.push((
                Step::Add(Field::parse(a)?, number(a.value()?)?, overflow),
                overflow,
            )),
            "OVERFLOW" => {
                overflow = match a.value()?.to_ascii_uppercase().as_slice() {
                    b"WRAP" => Overflow::Wrap,
                    b"SAT" => Overflow::Saturate,
                    b"FAIL" => Overflow::Fail,
                    _ => return Err(Reply::err("ERR Invalid OVERFLOW type specified")),
                };
            }
            _ => return Err(Reply::syntax()),
        }
    }
    if read_only && steps.iter().any(|(step, _)| !matches!(step, Step::Get(_))) {
        return Err(Reply::err("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    Ok(steps)
}

fn run(view: View<'_, '_>, a: &mut Args<'_>, read_only: bool) -> Done {
    let key = a.key()?;
    let steps = steps(a, read_only)?;
    let (mut bytes, expires) = current(view, &key)?;
    let written = steps.iter().filter_map(|(step, _)| match step {
        Step::Get(_) => None,
        Step::Set(field, _) | Step::Add(field, ..) => Some(field.end()),
    });
    let end = written.max();
    if let Some(end) = end {
        extend(&mut bytes, end)?;
    }
    // As in Redis, it is longer then even if none of the numbers fits.
    let mut changed = view.get_str(&key)?.map_or(0, |blob| blob.len()) != bytes.len();
    let mut replies = Vec::new();
    for (step, overflow) in steps {
        let (field, old) = match step {
            Step::Get(field) | Step::Set(field, _) | Step::Add(field, ..) => (field, field.read(&bytes)),
        };
        let (new, shown) = match step {
            Step::Get(_) => (None, Some(old)),
            Step::Set(_, number) => {
                // A negative number in a field without signs counts as one of 64 bits.
                let number = if field.signed {
                    i128::from(number)
                } else {
                    i128::from(number.cast_unsigned())
                };
                let new = field.fit(number, overflow);
                (new, new.map(|_| old))
            }
            Step::Add(_, by, overflow) => {
                let new = field.fit(old + i128::from(by), overflow);
                (new, new)
            }
        };
        if let Some(new) = new {
            field.write(&mut bytes, new);
            changed = true;
        }
        let shown = shown.and_then(|number| i64::try_from(number).ok());
        replies.push(shown.map_or(Reply::Nil, Reply::Int));
    }
    if changed {
        view.put_str(&key, &bytes, expires);
    }
    Ok(Reply::Array(replies))
}

pub fn bitfield(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    run(view, a, false)
}

pub fn bitfield_ro(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    run(view, a, true)
}
