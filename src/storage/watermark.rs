//! How far the journal was acknowledged, in a small file beside the database: a database that was cut off, emptied or
//! replaced by an older copy is noticed at the next start instead of being taken for a shorter journal.
//!
//! It is written after every sync, and synced itself now and then: after a crash of the process it is exact, after a
//! power loss a little behind, and never ahead.

use std::io;

use super::disk::{Disk, DiskFile};

const NAME: &str = "watermark";
/// Frames between two syncs: about a second under load.
const SYNC_EVERY: u64 = 1000;

pub(super) struct Watermark {
    file: Box<dyn DiskFile>,
    next: u64,
    /// As of the last sync by this process.
    synced: Option<u64>,
}

impl Watermark {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// The disk's; `InvalidData` for a file that does not match its checksum.
    pub fn open(disk: &dyn Disk) -> io::Result<Watermark> {
        let next = match disk.read(NAME)? {
            None => 0,
            Some(bytes) if bytes.is_empty() => 0,
            Some(bytes) => {
                let (next, crc) = bytes.split_at(bytes.len().min(8));
                if next.len() != 8 || crc32fast::hash(next).to_le_bytes() != crc {
                    let why = format!("{}/{NAME} does not match its checksum", disk.place());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                next.iter()
                    .rev()
                    .fold(0, |value, &byte| value << 8 | u64::from(byte))
            }
        };
        Ok(Watermark {
            file: disk.open(NAME)?,
            next,
            synced: None,
        })
    }

    /// Number of the first frame that was not acknowledged.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Notes that all frames before `next` are durable.
    ///
    /// # Errors
    /// The disk's.
    pub fn advance(&mut self, next: u64) -> io::Result<()> {
        if next <= self.next {
            return Ok(());
        }
        self.next = next;
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&next.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..8]).to_le_bytes();
        bytes[8..].copy_from_slice(&crc);
        self.file.write_at(&bytes, 0)?;
        if self.synced.is_none_or(|synced| next >= synced + SYNC_EVERY) {
            self.file.sync()?;
            self.synced = Some(next);
        }
        Ok(())
    }
}
