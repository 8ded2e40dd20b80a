//! The lines of the meta commands, and how they are answered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::line::{Head, Line, Parsed, bad_format, error, is_key, length, number};
use super::{Asked, Form};
use crate::base::limits::MEMCACHED_KEY_BYTES_MAX;
use crate::machine::commands::memcached::{Delete, Delta, Look, Memcached, Mode, Store};

/// Words of a line, its name included.
const WORDS_MAX: usize = 19;
const OPAQUE_BYTES_MAX: usize = 32;

/// How a meta command is answered.
#[derive(Debug)]
pub(super) struct Meta {
    pub kind: Kind,
    pub key: Bytes,
    /// Whether the key came, and goes, in base64.
    pub base64: bool,
    /// Whether the value is wanted.
    pub value: bool,
    pub echoes: Vec<Echo>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Get(Look),
    Set,
    Delete,
    Arithmetic { decr: bool },
}

/// What comes back behind the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Echo {
    Opaque(Bytes),
    Key,
    Cas,
    Flags,
    Size,
    /// `new`: as the command has left it.
    Ttl {
        new: bool,
    },
    /// Whether it was hit before, and how long ago: reading leaves no trace, so nobody knows.
    Hit,
    Accessed,
}

/// The flags of a line.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "flags, each given or not")]
struct Flags {
    base64: bool,
    value: bool,
    quiet: bool,
    invalidate: bool,
    cas_wanted: bool,
    vivify: Option<i64>,
    exptime: Option<i64>,
    recache: Option<i64>,
    client: u32,
    cas: Option<u64>,
    mode: Option<u8>,
    initial: u64,
    delta: Option<u64>,
    echoes: Vec<Echo>,
}

impl Flags {
    fn parse(words: &[Bytes]) -> Result<Flags, &'static str> {
        const TOKEN: &str = "CLIENT_ERROR bad token in command line format";
        let mut flags = Flags::default();
        let mut seen = [false; 128];
        for word in words {
            let (&flag, token) = word.split_first().ok_or("CLIENT_ERROR invalid flag")?;
            let twice = seen
                .get_mut(usize::from(flag))
                .map(|seen| std::mem::replace(seen, true));
            if twice != Some(false) {
                return Err("CLIENT_ERROR duplicate flag");
            }
            let time = || number(token).ok_or(TOKEN);
            match flag {
                b'b' => flags.base64 = true,
                b'v' => flags.value = true,
                b'q' => flags.quiet = true,
                b'I' => flags.invalidate = true,
                b'N' => flags.vivify = Some(time()?),
                b'T' => flags.exptime = Some(time()?),
                b'R' => flags.recache = Some(time()?),
                b'F' => flags.client = number(token).ok_or(super::BAD_FORMAT)?,
                b'C' => flags.cas = Some(number(token).ok_or(TOKEN)?),
                b'M' => match token {
                    [mode] => flags.mode = Some(*mode),
                    _ => return Err("CLIENT_ERROR incorrect length for M token"),
                },
                b'J' => flags.initial = number(token).ok_or("CLIENT_ERROR invalid numeric initial value")?,
                b'D' => flags.delta = Some(number(token).ok_or("CLIENT_ERROR invalid numeric delta value")?),
                b'P' | b'L' | b'u' => {}
                _ => flags.echo(flag, word)?,
            }
        }
        Ok(flags)
    }

    fn echo(&mut self, flag: u8, word: &Bytes) -> Result<(), &'static str> {
        self.echoes.push(match flag {
            b'O' if word.len() > OPAQUE_BYTES_MAX => return Err("CLIENT_ERROR opaque token too long"),
            b'O' => Echo::Opaque(word.clone()),
            b'k' => Echo::Key,
            b'c' => {
                self.cas_wanted = true;
                Echo::Cas
            }
            b'f' => Echo::Flags,
            b's' => Echo::Size,
            b't' => Echo::Ttl {
                new: self.exptime.is_some() || self.vivify.is_some(),
            },
            b'h' => Echo::Hit,
            b'l' => Echo::Accessed,
            _ => return Err("CLIENT_ERROR invalid flag"),
        });
        Ok(())
    }

    /// The key that the word stands for.
    fn key(&self, word: &Bytes) -> Result<Bytes, &'static str> {
        if self.base64 {
            let key = STANDARD.decode(word).ok().filter(|key| !key.is_empty());
            return key.map(Bytes::from).ok_or("CLIENT_ERROR error decoding key");
        }
        if is_key(word) {
            Ok(word.clone())
        } else {
            Err(super::BAD_FORMAT)
        }
    }

    /// How the command is answered, of whose echoes these are known.
    fn meta(&mut self, kind: Kind, key: Bytes, known: fn(&Echo) -> bool) -> Box<Meta> {
        let mut echoes = std::mem::take(&mut self.echoes);
        echoes.retain(known);
        Box::new(Meta {
            kind,
            key,
            base64: self.base64,
            value: self.value,
            echoes,
        })
    }
}

/// Key and flags; `long`: what is said of too many.
fn split<'a>(args: &'a [Bytes], long: &'static str) -> Result<(&'a Bytes, &'a [Bytes]), Asked> {
    let (key, flags) = args.split_first().ok_or_else(error)?;
    if key.len() > MEMCACHED_KEY_BYTES_MAX {
        return Err(bad_format());
    }
    if args.len() >= WORDS_MAX {
        return Err(Asked::text(long));
    }
    Ok((key, flags))
}

const TOO_LONG: &str = "CLIENT_ERROR options flags too long";

/// `mg key flags*`
pub(super) fn get(args: &[Bytes]) -> Parsed {
    let (word, flags) = split(args, "CLIENT_ERROR options flags are too long")?;
    let mut flags = Flags::parse(flags).map_err(Asked::text)?;
    let key = flags.key(word).map_err(Asked::text)?;
    let look = Look {
        key: key.clone(),
        touch: flags.exptime,
        vivify: flags.vivify,
        recache: flags.recache,
        wins: true,
        cas: flags.cas_wanted,
        // Mostly there is nothing to write, and then it is a read.
        writes: flags.exptime.is_some(),
    };
    let form = Form::Meta(flags.meta(Kind::Get(look.clone()), key, |_| true));
    Ok(Asked::one(Memcached::Look(look), form).quiet(flags.quiet))
}

/// `ms key length flags*`, and the data.
pub(super) fn set(args: &[Bytes]) -> Line {
    let parsed = split(args, TOO_LONG).and_then(|(word, rest)| {
        let (bytes, flags) = rest.split_first().ok_or_else(bad_format)?;
        let length = length(bytes)?;
        Ok(match stored(word, length, flags) {
            Ok(head) => head.line(),
            Err(why) => Line::Refused(Asked::text(why), length),
        })
    });
    parsed.unwrap_or_else(Line::Asked)
}

fn stored(word: &Bytes, length: usize, flags: &[Bytes]) -> Result<Head, &'static str> {
    let mut flags = Flags::parse(flags)?;
    let mode = match flags.mode {
        None | Some(b'S') => Mode::Set,
        Some(b'E') => Mode::Add,
        Some(b'A') => Mode::Append,
        Some(b'P') => Mode::Prepend,
        Some(b'R') => Mode::Replace,
        Some(_) => return Err("CLIENT_ERROR invalid mode for ms M token"),
    };
    let store = Store {
        key: flags.key(word)?,
        value: Bytes::new(),
        flags: flags.client,
        exptime: flags.exptime.unwrap_or(0),
        mode,
        cas: flags.cas,
        invalidate: flags.invalidate,
        tell: flags.cas_wanted,
    };
    let known = |echo: &Echo| matches!(echo, Echo::Opaque(_) | Echo::Key | Echo::Cas);
    Ok(Head {
        length,
        meta: Some(flags.meta(Kind::Set, store.key.clone(), known)),
        store,
        quiet: flags.quiet,
    })
}

/// `md key flags*`
pub(super) fn delete(args: &[Bytes]) -> Parsed {
    let (word, flags) = split(args, TOO_LONG)?;
    let (mut flags, key) = parse_plainly(word, flags)?;
    let delete = Delete {
        key: key.clone(),
        cas: flags.cas,
        invalidate: flags.invalidate,
        exptime: flags.exptime,
    };
    let known = |echo: &Echo| matches!(echo, Echo::Opaque(_) | Echo::Key);
    let form = Form::Meta(flags.meta(Kind::Delete, key, known));
    Ok(Asked::one(Memcached::Delete(delete), form).quiet(flags.quiet))
}

/// `ma key flags*`
pub(super) fn arithmetic(args: &[Bytes]) -> Parsed {
    let (word, flags) = split(args, TOO_LONG)?;
    let (mut flags, key) = parse_plainly(word, flags)?;
    let decr = match flags.mode {
        None | Some(b'I' | b'+') => false,
        Some(b'D' | b'-') => true,
        Some(_) => return Err(Asked::text("CLIENT_ERROR invalid mode for ma M token")),
    };
    let delta = Delta {
        key: key.clone(),
        decr,
        delta: flags.delta.unwrap_or(1),
        cas: flags.cas,
        initial: flags.vivify.map(|exptime| (exptime, flags.initial)),
        exptime: flags.exptime,
        tell: flags.cas_wanted,
    };
    let known = |echo: &Echo| matches!(echo, Echo::Opaque(_) | Echo::Key | Echo::Cas | Echo::Ttl { .. });
    let form = Form::Meta(flags.meta(Kind::Arithmetic { decr }, key, known));
    Ok(Asked::one(Memcached::Delta(delta), form).quiet(flags.quiet))
}

/// Flags and key, where memcached does not say what is wrong with them.
fn parse_plainly(word: &Bytes, flags: &[Bytes]) -> Result<(Flags, Bytes), Asked> {
    let flags = Flags::parse(flags).map_err(|why| {
        Asked::text(if why.contains("opaque") {
            why
        } else {
            "CLIENT_ERROR invalid or duplicate flag"
        })
    })?;
    let key = flags.key(word).map_err(Asked::text)?;
    Ok((flags, key))
}

/// `me key [b]`
pub(super) fn debug(args: &[Bytes]) -> Parsed {
    let word = args.first().ok_or_else(bad_format)?;
    let flags = Flags {
        base64: args.get(1).is_some_and(|flag| flag == "b"),
        ..Flags::default()
    };
    let key = flags.key(word).map_err(|_| bad_format())?;
    let look = Look {
        key: key.clone(),
        touch: None,
        vivify: None,
        recache: None,
        wins: false,
        cas: true,
        writes: false,
    };
    let form = Form::Debug {
        key,
        base64: flags.base64,
    };
    Ok(Asked::one(Memcached::Look(look), form))
}

impl Meta {
    /// The key as it goes back.
    pub(super) fn key_text(key: &Bytes, base64: bool) -> Bytes {
        if base64 {
            STANDARD.encode(key).into()
        } else {
            key.clone()
        }
    }
}
