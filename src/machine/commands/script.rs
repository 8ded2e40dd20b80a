//! `EVAL` and its like, as commands. They run at the gateway alone (the script floor): a log has what they come to.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Command;
use super::args::{Args, parse_i64};
use crate::base::Reply;

/// A script to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Eval {
    /// `None`: to be found by its name, or a function.
    pub body: Option<Bytes>,
    /// SHA-1 in hex; empty where it has not been looked at yet.
    pub sha: String,
    pub keys: Vec<Bytes>,
    pub args: Vec<Bytes>,
    pub read_only: bool,
    /// The function to call, of whichever library it is.
    pub function: Option<Bytes>,
    /// What to reply if there is such a function: its arguments are wrong.
    #[serde(skip)]
    pub refuse: Option<&'static str>,
}

impl Eval {
    #[must_use]
    pub fn weight(&self) -> usize {
        let parts = self
            .keys
            .iter()
            .chain(&self.args)
            .chain(&self.body)
            .chain(&self.function);
        parts.map(|part| part.len() + 8).sum::<usize>() + self.sha.len()
    }
}

/// `EVAL body numkeys [key …] [arg …]`; likewise by name, and for scripts that only read.
pub fn parse_eval(a: &mut Args<'_>) -> Result<Command, Reply> {
    let named = a.name().starts_with("evalsha");
    let (script, count) = (a.key()?, a.next()?);
    let count = parse_i64(count).ok_or_else(Reply::not_an_integer)?;
    if count < 0 {
        return Err(Reply::err("ERR Number of keys can't be negative"));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > a.remaining() {
        return Err(Reply::err(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    let keys = (0..count).map(|_| a.key()).collect::<Result<_, _>>()?;
    let name = |script: &Bytes| String::from_utf8_lossy(script).to_ascii_lowercase();
    Ok(Command::Eval(Box::new(Eval {
        // A whole script is not gone through for a name that it does not have.
        sha: if named { name(&script) } else { String::new() },
        body: (!named).then_some(script),
        keys,
        read_only: a.name().ends_with("_ro"),
        args: a.all(),
        function: None,
        refuse: None,
    })))
}

/// `FCALL function numkeys [key …] [arg …]`, and for functions that only read. What is wrong with the numbers is said once the function
/// is found.
pub fn parse_fcall(a: &mut Args<'_>) -> Result<Command, Reply> {
    let (function, count) = (a.key()?, a.next()?);
    let counted = match parse_i64(count) {
        None => Err("ERR Bad number of keys provided"),
        Some(count) if count < 0 => Err("ERR Number of keys can't be negative"),
        Some(count) => match usize::try_from(count) {
            Ok(count) if count <= a.remaining() => Ok(count),
            _ => Err("ERR Number of keys can't be greater than number of args"),
        },
    };
    let keys = (0..counted.unwrap_or(0))
        .map(|_| a.key())
        .collect::<Result<_, _>>()?;
    Ok(Command::Eval(Box::new(Eval {
        body: None,
        sha: String::new(),
        keys,
        read_only: a.name().ends_with("_ro"),
        args: a.all(),
        function: Some(function),
        refuse: counted.err(),
    })))
}
