//! DUMP and RESTORE: values as bytes, in Redis's own form.

use bytes::Bytes;

use super::args::{Args, parse_i64};
use super::expiry::ExpireWhen;
use super::{Done, View};
use crate::base::Reply;
use crate::machine::rdb::{self, Refused};

/// `FREQ` is of one byte in Redis.
const FREQUENCY_MAX: i64 = 255;

/// The key as it is told, and how it is put.
#[derive(Debug, Default)]
struct Options {
    replace: bool,
    absolute: bool,
}

pub fn dump(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let Some((value, _)) = view.get(&key) else {
        return Ok(Reply::Nil);
    };
    rdb::dump(value).map(Reply::bulk).map_err(refusal)
}

pub fn restore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, ttl, payload) = (a.key()?, a.next()?, a.next()?);
    let options = options(a)?;
    if !options.replace && view.contains(&key) {
        return Err(Reply::err("BUSYKEY Target key name already exists."));
    }
    let ttl = parse_i64(ttl).ok_or_else(Reply::not_an_integer)?;
    let expires = match ttl {
        ..0 => return Err(Reply::err("ERR Invalid TTL value, must be >= 0")),
        0 => None,
        at if options.absolute => Some(ExpireWhen::At(at).absolute(view.now())),
        left => Some(ExpireWhen::In(left).absolute(view.now())),
    };
    let value = rdb::load(payload).map_err(refusal)?;
    view.put(&key, value, expires);
    Ok(Reply::ok())
}

fn options(a: &mut Args<'_>) -> Result<Options, Reply> {
    let mut options = Options::default();
    let (mut idle, mut frequency) = (false, false);
    while let Some(word) = a.word() {
        match word.as_str() {
            "REPLACE" => options.replace = true,
            "ABSTTL" => options.absolute = true,
            // How often and when a key was used is not kept.
            "IDLETIME" if !frequency => {
                within(a.value()?, i64::MAX, "Invalid IDLETIME value, must be >= 0")?;
                idle = true;
            }
            "FREQ" if !idle => {
                within(
                    a.value()?,
                    FREQUENCY_MAX,
                    "Invalid FREQ value, must be >= 0 and <= 255",
                )?;
                frequency = true;
            }
            _ => return Err(Reply::syntax()),
        }
    }
    Ok(options)
}

fn within(text: &Bytes, most: i64, refused: &str) -> Result<(), Reply> {
    let number = parse_i64(text).ok_or_else(Reply::not_an_integer)?;
    if (0..=most).contains(&number) {
        Ok(())
    } else {
        Err(Reply::err(format!("ERR {refused}")))
    }
}

fn refusal(refused: Refused) -> Reply {
    match refused {
        Refused::Trailer => Reply::err("ERR DUMP payload version or checksum are wrong"),
        Refused::Format => Reply::err("ERR Bad data format"),
        Refused::TooLarge(most) => Reply::err(format!(
            "ERR the value is too large for DUMP and RESTORE: the limit is {most} bytes"
        )),
    }
}
