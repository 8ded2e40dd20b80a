//! A command as the log holds it: its name and its arguments. What it does is in the table alone, so that to add one is to add
//! one line there and one function.

use std::sync::LazyLock;

use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use super::args::{Args, parse_i64};
use super::blocking::Waits;
use super::table::{self, Flag, Movable, Spec};
use super::{Command, Done};
use super::{geo, sort, streams};
use crate::base::Reply;
use crate::machine::keyspace::Keyspace;
use crate::machine::overlay::Overlay;

/// What a command of the table does with the state and its arguments.
pub type Run = fn(&mut Overlay<'_>, &mut Args<'_>) -> Done;

#[derive(Debug, Clone)]
pub struct Call {
    spec: &'static Spec,
    run: Run,
    args: Vec<Bytes>,
}

impl Call {
    /// # Errors
    /// Where the keys cannot be told from the arguments, or there are none: what the command itself says of them.
    pub fn new(spec: &'static Spec, run: Run, args: Vec<Bytes>) -> Result<Call, Reply> {
        let call = Call { spec, run, args };
        if call.keys().is_empty() {
            let nothing = Keyspace::default();
            let said = call.run(&mut Overlay::new(&nothing, 0, 0));
            return Err(said.unwrap_or_else(|error| error));
        }
        Ok(call)
    }

    /// The keys among the arguments; none if they cannot be told.
    #[must_use]
    pub fn keys(&self) -> SmallVec<[&Bytes; 2]> {
        self.spec.keys_in(&self.args)
    }

    /// Name and arguments.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &[Bytes]) {
        (self.spec.name, &self.args)
    }

    #[must_use]
    pub fn is_write(&self) -> bool {
        self.spec.flag == Flag::Write
            && match self.spec.movable {
                Some(Movable::Stored) => sort::writes(&self.args),
                Some(Movable::StoredNear) => geo::writes(&self.args),
                _ => true,
            }
    }

    /// Its share for the key at this place alone; `None`: it has none.
    #[must_use]
    pub fn share(&self, at: usize) -> Option<Command> {
        let args = streams::share(self.spec, &self.args, at)?;
        let (spec, run) = (self.spec, self.run);
        Some(Command::Call(Call { spec, run, args }))
    }

    /// Bytes, for bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.args.iter().map(|arg| arg.len() + 8).sum()
    }

    /// Whether there are arguments with which the command waits.
    #[must_use]
    pub fn may_wait(&self) -> bool {
        self.spec.waiting().is_some()
    }

    /// What the command waits for if it finds nothing; `None`: it does not wait, or cannot be run at all.
    #[must_use]
    pub fn waits(&self) -> Option<Waits> {
        static NOTHING: LazyLock<Keyspace> = LazyLock::new(Keyspace::default);
        let waits = self.spec.waiting().and_then(|waiting| waiting(&self.args))?;
        match self.run(&mut Overlay::new(&NOTHING, 0, 0)) {
            // Where there are no keys there is no group either.
            Err(Reply::Error(text)) if text.starts_with("NOGROUP") => Some(waits),
            found => found.is_ok().then_some(waits),
        }
    }

    pub(super) fn run(&self, view: &mut Overlay<'_>) -> Done {
        let mut args = Args::new(self.spec.name, &self.args);
        (self.run)(view, &mut args)
    }
}

impl Spec {
    /// The keys among the arguments after the name; none if they cannot be told.
    pub(super) fn keys_in<'a>(&self, args: &'a [Bytes]) -> SmallVec<[&'a Bytes; 2]> {
        let mut keys = SmallVec::new();
        let (first, last, step) = self.keys;
        if first > 0 {
            let place = |at: i64| usize::try_from(at).unwrap_or(usize::MAX);
            let end = if last < 0 {
                i64::try_from(args.len()).unwrap_or(i64::MAX) + 1 + last
            } else {
                last
            };
            let end = place(end).min(args.len());
            keys.extend(
                (place(first - 1)..end)
                    .step_by(place(step).max(1))
                    .map(|at| &args[at]),
            );
        }
        match self.movable {
            Some(Movable::Streams) => return streams::keys(args),
            Some(Movable::Stored) => return sort::keys(args),
            Some(Movable::StoredNear) => return geo::keys(args),
            Some(Movable::Counted(_)) | None => {}
        }
        if let Some(Movable::Counted(at)) = self.movable {
            let count = args.get(at).and_then(|count| parse_i64(count));
            let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
            match args.get(at + 1..).and_then(|rest| rest.get(..count)) {
                Some(counted) if count > 0 => keys.extend(counted),
                _ => keys.clear(),
            }
        }
        keys
    }
}

impl PartialEq for Call {
    fn eq(&self, other: &Call) -> bool {
        self.spec.name == other.spec.name && self.args == other.args
    }
}

impl Serialize for Call {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.spec.name, &self.args).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (name, args) = <(String, Vec<Bytes>)>::deserialize(deserializer)?;
        let unknown = || D::Error::custom(format!("command {name:?} is not known here"));
        let spec = table::find(name.as_bytes()).ok_or_else(unknown)?;
        let run = spec.run().ok_or_else(unknown)?;
        Ok(Call { spec, run, args })
    }
}
