//! What memcached clients see: the text protocol of memcached 1.6 with its meta commands, on a port of its own, over the same keys that
//! Redis clients see.
//!
//! ```text
//!  bytes ─input─▶ line (line, meta), then its data ─▶ Asked { commands, form } ─session─▶ burst ─▶ replies ─encode─▶ bytes
//! ```
//!
//! What a command does is in `machine/commands/memcached`; here are its words. Where memcached is particular (what an error swallows,
//! which replies `noreply` leaves out) this is as particular: `tests/memcached/` holds replies that were recorded from it.
//!
//! Not here: the binary protocol, which is closed with a word, UDP, and SASL.

mod encode;
mod input;
mod line;
mod meta;
mod session;
mod stats;

use std::borrow::Cow;

use bytes::Bytes;

use crate::machine::Command;
use crate::machine::commands::memcached::{Look, Memcached};
use meta::Meta;

pub use session::Session;
pub use stats::Stats;

/// Memcached's own version, as which clients take this.
pub const VERSION: &str = "1.6.18";

const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";

/// One request: what is to be run, and how what comes of it is said.
#[derive(Debug)]
struct Asked {
    commands: Vec<Command>,
    form: Form,
    /// `noreply`.
    quiet: bool,
}

/// How a request is answered.
#[derive(Debug)]
enum Form {
    /// As it stands.
    Text(Cow<'static, str>),
    /// Likewise, and the connection is closed.
    Close(Option<&'static str>),
    /// `get`, `gets`: the items of one reply.
    Values {
        keys: Vec<Bytes>,
        cas: bool,
    },
    /// `gat`, `gats`: an item a reply.
    Touched {
        keys: Vec<Bytes>,
        cas: bool,
    },
    /// The word that comes of it.
    Word(Counted),
    /// `incr`, `decr`.
    Number {
        decr: bool,
    },
    /// Data that were too large; what the key held is gone.
    TooLarge,
    Flushed,
    /// The number of all keys comes of it.
    Stats,
    ResetStats,
    Settings,
    Debug {
        key: Bytes,
        base64: bool,
    },
    Meta(Box<Meta>),
}

/// Whose statistics a word counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Set,
    Cas,
    Delete,
    Touch,
}

impl Asked {
    fn new(commands: Vec<Command>, form: Form) -> Asked {
        Asked {
            commands,
            form,
            quiet: false,
        }
    }

    fn one(command: Memcached, form: Form) -> Asked {
        Asked::new(vec![run(command)], form)
    }

    fn text(text: impl Into<Cow<'static, str>>) -> Asked {
        Asked::new(Vec::new(), Form::Text(text.into()))
    }

    /// The last: it is answered, perhaps, and the connection closed.
    fn close(why: Option<&'static str>) -> Asked {
        Asked::new(Vec::new(), Form::Close(why))
    }

    fn quiet(self, quiet: bool) -> Asked {
        Asked { quiet, ..self }
    }
}

/// All requests in what comes, and what would be reserved for them is bounded.
#[cfg(fuzzing)]
pub(super) fn fuzzed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    use crate::base::limits::{BULK_BYTES_MAX, COMMAND_BYTES_MAX};
    let mut reader = input::Reader::new(BULK_BYTES_MAX);
    let (mut buffer, mut all) = (bytes::BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(asked) = reader.next(&mut buffer) {
            all.push(format!("{asked:?}"));
            if matches!(asked.form, Form::Close(_)) {
                return all;
            }
        }
        assert!(reader.unfinished() <= COMMAND_BYTES_MAX && reader.missing(&buffer) <= COMMAND_BYTES_MAX);
    }
    all
}

fn run(command: Memcached) -> Command {
    Command::Memcached(Box::new(command))
}

/// The look that a read has shown to be a write.
fn writing(look: &Look) -> Command {
    run(Memcached::Look(Look {
        writes: true,
        ..look.clone()
    }))
}
