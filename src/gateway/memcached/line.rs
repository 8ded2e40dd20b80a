//! The lines of the older commands: `get`, `set`, `incr` and so on.

use std::borrow::Cow;

use bytes::Bytes;

use super::meta::{self, Meta};
use super::{Asked, BAD_FORMAT, Counted, Form, TOO_LARGE, VERSION};
use crate::base::limits::MEMCACHED_KEY_BYTES_MAX;
use crate::machine::Command;
use crate::machine::commands::memcached::{Delete, Delta, Look, Memcached, Mode, Store};

/// What `cache_memlimit` takes, in megabytes. It limits nothing here.
const MEMLIMIT: std::ops::RangeInclusive<u64> = 8..=1_000_000_000;
/// No data are announced as longer.
const LENGTH_MAX: u64 = i32::MAX as u64 - 2;

/// What a line is.
#[derive(Debug)]
pub(super) enum Line {
    Asked(Asked),
    /// So many bytes of data, and their end, come behind it.
    Head(Box<Head>),
    /// Likewise, and they are not wanted.
    Refused(Asked, usize),
}

/// A command that waits for its data.
#[derive(Debug)]
pub(super) struct Head {
    pub length: usize,
    /// Without its value.
    pub store: Store,
    /// How a meta command is answered.
    pub meta: Option<Box<Meta>>,
    pub quiet: bool,
}

impl Head {
    /// The whole command; `ends`: the data end where they are to.
    pub(super) fn with(self, value: Bytes, ends: bool) -> Asked {
        let Head {
            store, meta, quiet, ..
        } = self;
        if !ends {
            // What is quiet about a meta command is not its errors.
            return Asked::text("CLIENT_ERROR bad data chunk").quiet(quiet && meta.is_none());
        }
        let counted = if store.cas.is_some() {
            Counted::Cas
        } else {
            Counted::Set
        };
        let form = meta.map_or(Form::Word(counted), Form::Meta);
        Asked::one(Memcached::Store(Store { value, ..store }), form).quiet(quiet)
    }

    pub(super) fn line(self) -> Line {
        Line::Head(Box::new(self))
    }

    /// What is answered to data that are too large. They take the item with them, as in memcached, that nobody goes on reading the
    /// old ones: if they were to replace it.
    pub(super) fn too_large(&self) -> Asked {
        let Head {
            store, meta, quiet, ..
        } = self;
        let quiet = *quiet && meta.is_none();
        let asked = if store.mode == Mode::Set && store.cas.is_none() || meta.is_some() {
            let delete = Delete {
                key: store.key.clone(),
                cas: None,
                invalidate: false,
                exptime: None,
            };
            Asked::one(Memcached::Delete(delete), Form::TooLarge)
        } else {
            Asked::text(TOO_LARGE)
        };
        asked.quiet(quiet)
    }
}

/// Reads a line, without its end.
pub(super) fn parse(line: &Bytes) -> Line {
    let words: Vec<Bytes> = line
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
        .map(|word| line.slice_ref(word))
        .collect();
    let Some((name, args)) = words.split_first() else {
        return Line::Asked(error());
    };
    let store = |mode| stored(mode, args).unwrap_or_else(Line::Asked);
    let asked = match name.as_ref() {
        b"get" | b"gets" => get(args, name.ends_with(b"s")),
        b"gat" | b"gats" => gat(args, name.ends_with(b"s")),
        b"set" | b"cas" => {
            return if name == "cas" {
                compared(args)
            } else {
                store(Mode::Set)
            };
        }
        b"add" => return store(Mode::Add),
        b"replace" => return store(Mode::Replace),
        b"append" => return store(Mode::Append),
        b"prepend" => return store(Mode::Prepend),
        b"delete" => delete(args),
        b"incr" | b"decr" => count(args, name == "decr"),
        b"touch" => touch(args),
        b"mg" => meta::get(args),
        b"ms" => return meta::set(args),
        b"md" => meta::delete(args),
        b"ma" => meta::arithmetic(args),
        b"me" => meta::debug(args),
        b"mn" => Ok(Asked::text("MN")),
        b"flush_all" => flush(args),
        b"stats" => stats(args),
        b"version" => Ok(Asked::text(format!(
            "VERSION {VERSION} (quorate {})",
            env!("CARGO_PKG_VERSION")
        ))),
        b"verbosity" => verbosity(args),
        b"cache_memlimit" => memlimit(args),
        b"shutdown" => Ok(Asked::text("ERROR: shutdown not enabled")),
        b"quit" => Ok(Asked::close(None)),
        _ => Err(error()),
    };
    Line::Asked(asked.unwrap_or_else(|refused| refused))
}

pub(super) type Parsed = Result<Asked, Asked>;

pub(super) fn error() -> Asked {
    Asked::text("ERROR")
}

pub(super) fn bad_format() -> Asked {
    Asked::text(BAD_FORMAT)
}

/// A number, unless something is wrong with it.
pub(super) fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Whether it can be a key: not too long, without blanks and control characters.
pub(super) fn is_key(word: &[u8]) -> bool {
    word.len() <= MEMCACHED_KEY_BYTES_MAX && !word.iter().any(u8::is_ascii_control)
}

/// The arguments, of which there are as many as `expected` or one more, and whether the last is `noreply`.
fn maybe_quiet(args: &[Bytes], expected: usize) -> Result<(&[Bytes], bool), Asked> {
    if args.len() != expected && args.len() != expected + 1 {
        return Err(error());
    }
    Ok((
        &args[..expected],
        args.last().is_some_and(|last| last == "noreply"),
    ))
}

fn key(word: &Bytes) -> Result<Bytes, Asked> {
    if is_key(word) {
        Ok(word.clone())
    } else {
        Err(bad_format())
    }
}

fn keys(args: &[Bytes]) -> Result<Vec<Bytes>, Asked> {
    args.iter().map(key).collect()
}

fn get(args: &[Bytes], cas: bool) -> Parsed {
    if args.is_empty() {
        return Err(error());
    }
    let keys = keys(args)?;
    let form = Form::Values {
        keys: keys.clone(),
        cas,
    };
    Ok(Asked::one(Memcached::Get { keys, cas }, form))
}

fn gat(args: &[Bytes], cas: bool) -> Parsed {
    let Some((exptime, args)) = args.split_first() else {
        return Err(error());
    };
    let exptime = number(exptime).ok_or_else(|| Asked::text("CLIENT_ERROR invalid exptime argument"))?;
    let keys = keys(args)?;
    let look = |key: &Bytes| Look {
        key: key.clone(),
        touch: Some(exptime),
        vivify: None,
        recache: None,
        wins: false,
        cas,
        writes: true,
    };
    let looks = keys.iter().map(|key| super::run(Memcached::Look(look(key))));
    Ok(Asked::new(
        looks.collect(),
        Form::Touched {
            keys: keys.clone(),
            cas,
        },
    ))
}

fn stored(mode: Mode, args: &[Bytes]) -> Result<Line, Asked> {
    let (args, quiet) = maybe_quiet(args, 4)?;
    let head = head(mode, args, None).map_err(|refused| refused.quiet(quiet))?;
    Ok(Head { quiet, ..head }.line())
}

fn compared(args: &[Bytes]) -> Line {
    let parsed = maybe_quiet(args, 5).and_then(|(args, quiet)| {
        let head = number(&args[4])
            .ok_or_else(bad_format)
            .and_then(|cas| head(Mode::Set, &args[..4], Some(cas)));
        let head = head.map_err(|refused| refused.quiet(quiet))?;
        Ok(Head { quiet, ..head }.line())
    });
    parsed.unwrap_or_else(Line::Asked)
}

/// `key flags exptime length`
fn head(mode: Mode, args: &[Bytes], cas: Option<u64>) -> Result<Head, Asked> {
    let key = key(&args[0])?;
    let flags: u32 = number(&args[1]).ok_or_else(bad_format)?;
    let exptime = number(&args[2]).ok_or_else(bad_format)?;
    Ok(Head {
        length: length(&args[3])?,
        store: Store {
            key,
            value: Bytes::new(),
            flags,
            exptime,
            mode,
            cas,
            invalidate: false,
            tell: false,
        },
        meta: None,
        quiet: false,
    })
}

pub(super) fn length(word: &[u8]) -> Result<usize, Asked> {
    let length = number(word).filter(|&length: &u64| length <= LENGTH_MAX);
    length
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(bad_format)
}

fn delete(args: &[Bytes]) -> Parsed {
    let last = args.last().is_some_and(|last| last == "noreply");
    let (word, quiet) = match args {
        [key] => (key, false),
        // Of old, a time could be given for which the key is to stay away.
        [key, zero] if zero == "0" || last => (key, last),
        [key, zero, _] if zero == "0" && last => (key, true),
        [_, _] | [_, _, _] => {
            let usage = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
            return Err(Asked::text(usage).quiet(last));
        }
        _ => return Err(error()),
    };
    let key = key(word).map_err(|refused| refused.quiet(quiet))?;
    let delete = Delete {
        key,
        cas: None,
        invalidate: false,
        exptime: None,
    };
    Ok(Asked::one(Memcached::Delete(delete), Form::Word(Counted::Delete)).quiet(quiet))
}

fn count(args: &[Bytes], decr: bool) -> Parsed {
    let (args, quiet) = maybe_quiet(args, 2)?;
    let parsed = key(&args[0]).and_then(|key| {
        let delta = number(&args[1]);
        let wrong = || Asked::text("CLIENT_ERROR invalid numeric delta argument");
        let delta = Delta {
            key,
            decr,
            delta: delta.ok_or_else(wrong)?,
            cas: None,
            initial: None,
            exptime: None,
            tell: false,
        };
        Ok(Asked::one(Memcached::Delta(delta), Form::Number { decr }))
    });
    both_quiet(parsed, quiet)
}

fn touch(args: &[Bytes]) -> Parsed {
    let (args, quiet) = maybe_quiet(args, 2)?;
    let parsed = key(&args[0]).and_then(|key| {
        let exptime = number(&args[1]);
        let wrong = || Asked::text("CLIENT_ERROR invalid exptime argument");
        let exptime = exptime.ok_or_else(wrong)?;
        Ok(Asked::one(
            Memcached::Touch { key, exptime },
            Form::Word(Counted::Touch),
        ))
    });
    both_quiet(parsed, quiet)
}

fn both_quiet(parsed: Parsed, quiet: bool) -> Parsed {
    match parsed {
        Ok(asked) => Ok(asked.quiet(quiet)),
        Err(refused) => Err(refused.quiet(quiet)),
    }
}

fn flush(args: &[Bytes]) -> Parsed {
    let quiet = args.last().is_some_and(|last| last == "noreply");
    let delay = match args {
        [] => Some(0),
        [_] if quiet => Some(0),
        [delay] | [delay, _] => number::<i64>(delay),
        _ => return Err(error()),
    };
    let asked = match delay {
        Some(..=0) => Asked::new(vec![Command::Flush], Form::Flushed),
        Some(_) => Asked::text("SERVER_ERROR flush_all with a delay is not supported: nothing was flushed"),
        None => Asked::text("CLIENT_ERROR invalid exptime argument"),
    };
    Ok(asked.quiet(quiet))
}

fn verbosity(args: &[Bytes]) -> Parsed {
    let (args, quiet) = maybe_quiet(args, 1)?;
    let text = number::<u32>(&args[0]).map_or(BAD_FORMAT, |_| "OK");
    Ok(Asked::text(text).quiet(quiet))
}

fn memlimit(args: &[Bytes]) -> Parsed {
    let (args, quiet) = maybe_quiet(args, 1)?;
    let text = match number::<u32>(&args[0]).map(u64::from) {
        None => "ERROR",
        Some(limit) if limit < *MEMLIMIT.start() => "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m",
        Some(limit) if limit > *MEMLIMIT.end() => "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes",
        Some(_) => "OK",
    };
    Ok(Asked::text(text).quiet(quiet))
}

fn stats(args: &[Bytes]) -> Parsed {
    let Some((sub, args)) = args.split_first() else {
        return Ok(Asked::new(vec![Command::DbSize], Form::Stats));
    };
    let text: Cow<'static, str> = match sub.as_ref() {
        b"reset" => return Ok(Asked::new(Vec::new(), Form::ResetStats)),
        b"settings" => return Ok(Asked::new(Vec::new(), Form::Settings)),
        b"items" | b"conns" => "END".into(),
        b"slabs" => "STAT active_slabs 0\r\nSTAT total_malloced 0\r\nEND".into(),
        b"sizes" => "STAT sizes_status disabled\r\nEND".into(),
        b"cachedump" => match args {
            [class, limit, ..] if number::<u32>(class).is_some() && number::<u32>(limit).is_some() => {
                "END".into()
            }
            [_, _, ..] => BAD_FORMAT.into(),
            _ => "CLIENT_ERROR bad command line".into(),
        },
        b"detail" => "SERVER_ERROR statistics by prefix are not kept".into(),
        _ => return Err(error()),
    };
    Ok(Asked::text(text))
}
