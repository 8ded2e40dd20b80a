//! One entry of a log as the mirror has it: in memory, or only on disk.

use std::io;

use bytes::Bytes;

use super::disk::{Disk, DiskReader};
use super::segments::path;

/// Where an entry's bytes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment's name.
    pub segment: u32,
    pub at: u64,
}

impl Place {
    /// So many bytes further on.
    pub fn plus(self, bytes: usize) -> Place {
        Place {
            at: self.at + bytes as u64,
            ..self
        }
    }
}

/// An entry that is only on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Away {
    pub place: Place,
    pub bytes: u32,
    /// CRC-32 of the entry's bytes: a segment may have been written anew since the place was looked up.
    pub crc: u32,
}

impl Away {
    pub fn damaged(self, disk: &dyn Disk) -> io::Error {
        let Place { segment, at } = self.place;
        let (place, file, bytes) = (disk.place(), path(segment), self.bytes);
        let text = format!(
            "{place}/{file} does not hold the log entry of {bytes} bytes that was written at {at}: it was changed"
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

#[derive(Debug, Clone)]
pub(super) enum Slot {
    Here {
        bytes: Bytes,
        /// Once it is durable.
        place: Option<Place>,
    },
    Away(Away),
}

impl Slot {
    pub fn len(&self) -> usize {
        match self {
            Slot::Here { bytes, .. } => bytes.len(),
            Slot::Away(away) => away.bytes as usize,
        }
    }

    pub fn is_away(&self, at: Away) -> bool {
        matches!(self, &Slot::Away(away) if away == at)
    }

    pub fn in_memory(&self) -> Option<&Bytes> {
        match self {
            Slot::Here { bytes, .. } => Some(bytes),
            Slot::Away(_) => None,
        }
    }

    /// Bytes that it takes in memory.
    pub fn resident(&self) -> usize {
        self.in_memory().map_or(0, Bytes::len)
    }

    /// Lets go of the bytes, if they are on disk.
    pub fn evict(&mut self) -> Option<Bytes> {
        let Slot::Here { bytes, place } = self else {
            return None;
        };
        let away = Away {
            place: (*place)?,
            bytes: u32::try_from(bytes.len()).ok()?,
            crc: crc32fast::hash(bytes),
        };
        match std::mem::replace(self, Slot::Away(away)) {
            Slot::Here { bytes, .. } => Some(bytes),
            Slot::Away(_) => None,
        }
    }
}

/// An entry's bytes from disk.
///
/// # Errors
/// The disk's; `InvalidData` if others lie there.
pub(super) fn read_one(disk: &dyn Disk, away: Away) -> io::Result<Bytes> {
    let found = read(disk, std::iter::once(away))?.pop().flatten();
    found.ok_or_else(|| away.damaged(disk))
}

/// The entries' bytes from disk; `None` for one that does not lie there any more.
///
/// # Errors
/// The disk's.
pub(super) fn read(disk: &dyn Disk, entries: impl Iterator<Item = Away>) -> io::Result<Vec<Option<Bytes>>> {
    let mut open: Option<(u32, Option<Box<dyn DiskReader>>)> = None;
    let mut read_one = |away: Away| {
        let segment = away.place.segment;
        if open.as_ref().is_none_or(|&(name, _)| name != segment) {
            open = Some((segment, disk.open_to_read(&path(segment))?));
        }
        let Some((_, Some(file))) = &open else {
            return Ok(None);
        };
        let mut bytes = vec![0; away.bytes as usize];
        match file.read_at(&mut bytes, away.place.at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
            Ok(()) => Ok((crc32fast::hash(&bytes) == away.crc).then(|| bytes.into())),
        }
    };
    entries.map(&mut read_one).collect()
}
