//! MULTI: the queue, and what spoils it.

use bytes::Bytes;

use super::exec::PUBLISHES;
use super::functions;
use super::large::{Large, Room};
use crate::base::Reply;
use crate::base::limits::{TXN_BYTES_MAX, TXN_COMMANDS_MAX};
use crate::machine::Command;

/// A queued command.
#[derive(Debug)]
pub enum Queued {
    Data(Command),
    /// Could not be parsed: its error is its reply, as in Redis.
    Failed(Reply),
    /// About the connection: answered by the session when EXEC runs.
    Own(Vec<Bytes>),
}

/// The commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub struct Multi {
    /// With the commands' names.
    pub queue: Vec<(&'static str, Queued)>,
    /// Any error rolls all of it back.
    pub strict: bool,
    bytes: usize,
    large: Large,
    room: Option<Room>,
    spoilt: bool,
}

impl Multi {
    #[must_use]
    pub fn new(strict: bool, large: Large) -> Multi {
        Multi {
            strict,
            large,
            ..Multi::default()
        }
    }

    /// Queues a command.
    ///
    /// # Errors
    /// The limits; the transaction is spoilt then.
    pub fn push(&mut self, name: &'static str, queued: Queued) -> Result<(), Reply> {
        self.bytes += match &queued {
            Queued::Data(command) => command.weight(),
            Queued::Failed(_) => 64,
            Queued::Own(args) => args.iter().map(|arg| arg.len() + 16).sum(),
        };
        if self.queue.len() >= TXN_COMMANDS_MAX || self.bytes > TXN_BYTES_MAX {
            self.spoil();
            return Err(Reply::err(format!(
                "ERR a transaction may have {TXN_COMMANDS_MAX} commands and {TXN_BYTES_MAX} bytes at the most"
            )));
        }
        if let Err(full) = self.large.fit(&mut self.room, self.bytes) {
            self.spoil();
            return Err(full);
        }
        self.queue.push((name, queued));
        Ok(())
    }

    /// Whether what is queued may change something, here or elsewhere.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.queue.iter().any(|(name, queued)| match queued {
            Queued::Data(command) => command.is_write(),
            Queued::Own(request) if *name == "function" => !functions::only_looks(&request[1..]),
            Queued::Own(_) => PUBLISHES.contains(name),
            Queued::Failed(_) => false,
        })
    }

    /// Commands queued.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether `MULTI` may have these arguments; else why not.
    ///
    /// # Errors
    /// Anything but nothing and `STRICT`.
    pub fn check(args: &[Bytes]) -> Result<(), Reply> {
        match args {
            [] => Ok(()),
            [word] if word.eq_ignore_ascii_case(b"strict") => Ok(()),
            _ => Err(Reply::err("ERR wrong number of arguments for 'multi' command")),
        }
    }

    /// A command was refused: EXEC will refuse all of them.
    pub fn spoil(&mut self) {
        self.spoilt = true;
        self.queue.clear();
        self.room = None;
    }

    /// What the queue takes of the node's room: to be kept until its commands have run.
    pub fn take_room(&mut self) -> Option<Room> {
        self.room.take()
    }

    #[must_use]
    pub fn is_spoilt(&self) -> bool {
        self.spoilt
    }
}
