//! MULTI: the queue, and what spoils it.

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
    Own(Vec<bytes::Bytes>),
}

/// The commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub struct Multi {
    pub queue: Vec<Queued>,
    bytes: usize,
    spoilt: bool,
}

impl Multi {
    /// Queues a command.
    ///
    /// # Errors
    /// The limits; the transaction is spoilt then.
    pub fn push(&mut self, queued: Queued) -> Result<(), Reply> {
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
        self.queue.push(queued);
        Ok(())
    }

    /// A command was refused: EXEC will refuse all of them.
    pub fn spoil(&mut self) {
        self.spoilt = true;
        self.queue.clear();
    }

    #[must_use]
    pub fn is_spoilt(&self) -> bool {
        self.spoilt
    }
}
