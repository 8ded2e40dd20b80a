//! Floor 3: scripts in Lua 5.1, as Redis has them. A script runs at the gateway, on the values of its keys, and leaves writes; what
//! comes of them is the affair of the floors around it.
//!
//! ```text
//!  script, values of known keys ─run─▶ reply, and writes in the view
//!                                 └──▶ a key that is not known: to be fetched, and then everything again
//! ```
//!
//! A function is a script that is found in a library by its name ([`library`]).
//!
//! Absence as an invariant: a script sees no clock but the view's time and no randomness but a seed of its own, so a run depends
//! on the values alone.

mod bits;
mod calls;
mod convert;
mod engine;
mod globals;
mod json;
mod library;
mod pack;
mod shebang;
mod structs;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use parking_lot::Mutex;
use sha1::{Digest, Sha1};

pub use engine::check;
pub use library::load;
pub use shebang::library_name;

use crate::base::Reply;
use crate::machine::commands::Eval;
use crate::machine::overlay::Overlay;
use crate::machine::{Command, Libraries};

/// The name of a script: its SHA-1 in hex.
#[must_use]
pub fn sha1_hex(body: &[u8]) -> String {
    let mut hex = String::with_capacity(40);
    for byte in Sha1::digest(body) {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// What a run depends on besides the script and the view.
#[derive(Debug)]
pub struct Surroundings {
    /// The keys whose values the view has.
    pub known: BTreeSet<Bytes>,
    /// Set when the script has to end.
    pub stop: Arc<AtomicBool>,
    /// Where functions are found.
    pub libraries: Arc<Libraries>,
    /// Commands that make the changes which were made so far. `None`: there are none.
    pub wrote: Mutex<Option<Vec<Command>>>,
}

impl Surroundings {
    /// A command was run, and replied so.
    pub fn note(&self, command: &Command, reply: &Reply) {
        let mut wrote = self.wrote.lock();
        if let Some(all) = &mut *wrote
            && command.again(reply, all).is_none()
        {
            *wrote = None;
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ran {
    /// With the messages that it wants to be published once its writes are committed: channel and text.
    Replied(Reply, Vec<(Bytes, Bytes)>),
    /// It came upon keys that are not known; whatever else it did does not count.
    Needs(Vec<Bytes>),
}

/// Runs a script, or a function, on what `view` has of the known keys.
#[must_use]
pub fn run(eval: &Eval, view: &mut Overlay<'_>, around: &Surroundings) -> Ran {
    let ran = match &eval.function {
        Some(name) => library::call(name, eval, view, around),
        None => engine::run_script(eval, view, around),
    };
    ran.unwrap_or_else(|refused| Ran::Replied(refused, Vec::new()))
}
