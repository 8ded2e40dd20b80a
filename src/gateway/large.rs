//! Bounds for what is large: a node takes a few commands of more than a megabyte at a time, whatever the number of its clients, and
//! lets MULTI queue so much in all.
//!
//! ```text
//!  header of a large argument ─▶ ticket, or nothing more is read from this client ─▶ its bytes ─▶ run ─▶ replies written ─▶ back
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::base::Reply;
use crate::base::limits::{COMMAND_BYTES_MAX, LARGE_BYTES, LARGE_COMMANDS_BYTES_MAX, LARGE_QUEUES_BYTES_MAX};

/// Who has a ticket and sends nothing for so long loses it, and the connection.
const STALL: Duration = Duration::from_secs(10);
/// So does who is not through after so long.
const TICKET: Duration = Duration::from_secs(120);
/// What they are told.
pub const STALLED: &str =
    "ERR Protocol error: a command of more than 1 MiB must not pause for 10 s, nor take 120 s";
/// Both are counted in pieces of so many bytes.
const PIECE_BYTES: usize = 1 << 10;

/// A node's room for large things. Clones share it.
#[derive(Debug, Clone)]
pub struct Large {
    commands: Arc<Semaphore>,
    queues: Arc<Semaphore>,
}

/// Room that is taken, until this is dropped.
pub type Room = OwnedSemaphorePermit;

/// Lets one client send large commands.
#[derive(Debug)]
pub struct Ticket {
    _room: Room,
    until: Instant,
}

impl Ticket {
    /// Reads on under a ticket, if there has to be one. `None`: it took too long.
    pub async fn hold<T>(ticket: Option<&Ticket>, reading: impl Future<Output = T>) -> Option<T> {
        match ticket {
            None => Some(reading.await),
            Some(ticket) => {
                let limit = ticket.until.min(Instant::now() + STALL);
                timeout_at(limit, reading).await.ok()
            }
        }
    }
}

impl Default for Large {
    fn default() -> Self {
        Large {
            commands: Arc::new(Semaphore::new(LARGE_COMMANDS_BYTES_MAX / PIECE_BYTES)),
            queues: Arc::new(Semaphore::new(LARGE_QUEUES_BYTES_MAX / PIECE_BYTES)),
        }
    }
}

impl Large {
    /// Waits for a ticket for a command of so many bytes at the most, first come, first served. Nobody may hold one and wait for
    /// another. `None`: the node ends.
    pub async fn ticket(&self, bytes: usize) -> Option<Ticket> {
        let pieces = u32::try_from(bytes.min(COMMAND_BYTES_MAX) / PIECE_BYTES).ok()?;
        let room = Arc::clone(&self.commands).acquire_many_owned(pieces).await.ok()?;
        let until = Instant::now() + TICKET;
        Some(Ticket { _room: room, until })
    }

    /// Makes `room` enough for a queue that has so many bytes now.
    ///
    /// # Errors
    /// The node's queues are full.
    pub fn fit(&self, room: &mut Option<Room>, bytes: usize) -> Result<(), Reply> {
        let pieces = if bytes > LARGE_BYTES {
            bytes / PIECE_BYTES
        } else {
            0
        };
        let held = room.as_ref().map_or(0, Room::num_permits);
        let more = u32::try_from(pieces.saturating_sub(held)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let Ok(more) = Arc::clone(&self.queues).try_acquire_many_owned(more) else {
            return Err(Reply::err(format!(
                "TRYAGAIN the transactions that clients of this node have queued may have {LARGE_QUEUES_BYTES_MAX} bytes in all"
            )));
        };
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_wait_for_room() {
        let large = Large::default();
        let first = large.ticket(usize::MAX).await;
        let second = large.ticket(COMMAND_BYTES_MAX - LARGE_BYTES).await;
        let third = large.ticket(LARGE_BYTES).await;
        assert!(first.is_some() && third.is_some());
        let mut fourth = Box::pin(large.ticket(LARGE_BYTES));
        assert!(futures::poll!(&mut fourth).is_pending());
        drop(second);
        assert!(fourth.await.is_some());
    }

    #[test]
    fn queues_share_their_room_and_give_it_back() {
        let large = Large::default();
        let (mut small, mut one, mut two) = (None, None, None);
        assert!(large.fit(&mut small, LARGE_BYTES).is_ok() && small.is_none());
        assert!(large.fit(&mut one, LARGE_QUEUES_BYTES_MAX / 2).is_ok());
        assert!(large.fit(&mut one, LARGE_QUEUES_BYTES_MAX).is_ok());
        assert!(large.fit(&mut one, LARGE_QUEUES_BYTES_MAX).is_ok(), "it has it");
        assert!(large.fit(&mut two, 2 * LARGE_BYTES).is_err());
        drop(one);
        assert!(large.fit(&mut two, LARGE_QUEUES_BYTES_MAX).is_ok());
    }
}
