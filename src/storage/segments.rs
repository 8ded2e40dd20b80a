//! The journal's files: preallocated segments of one size, used again and again.
//!
//! ```text
//!  journal/0000.seg  0001.seg  …      a segment: frame, frame, …, then whatever it held before
//!  frame: magic, crc32 (of all that follows), length, number, floor; payload
//! ```
//!
//! Writing into blocks that are there already leaves a sync nothing but the data to make durable. Frames are numbered
//! without gaps, so where the number breaks, the journal ends. `floor` is the first frame that was still needed when
//! the frame was written: older segments may be used anew, and at a start everything from the newest frame's floor on
//! must be there.
//!
//! Only one frame is ever written and not synced, so at most the last one is torn.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::disk::{Disk, DiskFile};
use super::slot::Place;
use crate::base::limits::JOURNAL_FREE_SEGMENTS_MAX;
use crate::base::{Mutant, mutant};

/// The journal's folder.
pub(super) const FOLDER: &str = "journal";
const MAGIC: u32 = u32::from_le_bytes(*b"QJ01");
/// Bytes of a frame's header; a frame's buffer begins with this much room.
pub(super) const HEADER_BYTES: usize = 28;
/// Where the part of a frame begins that its checksum covers.
const COVERED: usize = 8;

#[derive(Debug)]
struct Segment {
    name: u32,
    /// Number of its first frame.
    first: u64,
    bytes: u64,
}

/// The journal's segments, and the place where the next frame goes.
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    /// Oldest first; the last is being written.
    live: VecDeque<Segment>,
    head: Option<Box<dyn DiskFile>>,
    at: u64,
    free: Vec<u32>,
    /// Files of another size without a frame: half-made, or damaged. Removed once the journal has proved whole.
    rubbish: Vec<u32>,
    names: u32,
    spare: Option<JoinHandle<io::Result<u32>>>,
}

/// What a segment's file holds, as found at a start.
struct Found {
    segment: Segment,
    /// Number past its last whole frame, where that ends, and that frame's floor.
    end: u64,
    end_at: u64,
    floor: u64,
}

/// A frame that a start finds.
pub(super) struct FoundFrame<'a> {
    /// Number of the first frame in its segment.
    pub segment: u64,
    pub number: u64,
    pub payload: &'a [u8],
    /// Where the payload begins.
    pub place: Place,
}

/// A frame that was written.
pub(super) struct Written {
    /// Whether it began a new segment.
    pub began: bool,
    /// Where the buffer lies.
    pub place: Place,
}

struct Header {
    length: usize,
    number: u64,
    floor: u64,
}

fn damaged(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The frame at the front of `bytes`, if it is whole.
fn frame(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let word = |at| number_at(bytes, at).map(u32::from_le_bytes);
    let long = |at| number_at(bytes, at).map(u64::from_le_bytes);
    let header = Header {
        length: usize::try_from(word(8)?).ok()?,
        number: long(12)?,
        floor: long(20)?,
    };
    let covered = bytes.get(COVERED..HEADER_BYTES.checked_add(header.length)?)?;
    let whole = word(0)? == MAGIC && word(4)? == crc32fast::hash(covered);
    whole.then(|| (header, &covered[HEADER_BYTES - COVERED..]))
}

/// All whole frames from the front of a segment on, as far as their numbers follow each other.
fn frames(bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let (mut at, mut expected) = (0, None);
    std::iter::from_fn(move || {
        let (header, payload) = frame(bytes.get(at..)?)?;
        if expected.is_some_and(|number| number != header.number) {
            return None;
        }
        at += HEADER_BYTES + header.length;
        expected = Some(header.number + 1);
        Some((header, payload))
    })
}

/// The file of the segment of this name.
pub(super) fn path(name: u32) -> String {
    format!("{FOLDER}/{name:04}.seg")
}

fn read(disk: &dyn Disk, name: u32) -> io::Result<Vec<u8>> {
    let bytes = disk.read(&path(name))?;
    bytes.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} is gone", path(name))))
}

impl Segments {
    /// Opens `disk`, hands every needed frame to `replay` in order, and says which number comes next.
    ///
    /// # Errors
    /// The disk's; `InvalidData` for a file that was cut off and for frames that are missing; `replay`'s own.
    pub fn open(
        disk: &Arc<dyn Disk>,
        mut replay: impl FnMut(FoundFrame<'_>) -> io::Result<()>,
    ) -> io::Result<(Self, u64)> {
        let Scanned {
            mut found,
            mut free,
            rubbish,
            names,
        } = scan(disk.as_ref())?;
        found.sort_by_key(|found| found.segment.first);
        let floor = found.last().map_or(0, |last| last.floor);
        let needed = found.partition_point(|found| found.end <= floor);
        free.extend(found.drain(..needed).map(|found| found.segment.name));
        let mut next = found.first().map_or(0, |first| first.segment.first.min(floor));
        for found in &found {
            if found.segment.first > next {
                let (to, in_file) = (found.segment.first, path(found.segment.name));
                return Err(damaged(format!(
                    "journal frames {next} to {} are missing or damaged before {in_file}",
                    to - 1
                )));
            }
            let bytes = read(disk.as_ref(), found.segment.name)?;
            let mut at = 0;
            for (header, payload) in frames(&bytes) {
                at += HEADER_BYTES as u64;
                replay(FoundFrame {
                    segment: found.segment.first,
                    number: header.number,
                    payload,
                    place: Place {
                        segment: found.segment.name,
                        at,
                    },
                })?;
                at += payload.len() as u64;
            }
            next = found.end;
        }
        let at = found.last().map_or(0, |last| last.end_at);
        let mut segments = Segments {
            disk: Arc::clone(disk),
            live: found.into_iter().map(|found| found.segment).collect(),
            head: None,
            at,
            free,
            rubbish,
            names,
            spare: None,
        };
        if let Some(last) = segments.live.back() {
            segments.head = Some(disk.open(&path(last.name))?);
        }
        // At once, so that a full disk is told of now.
        if segments.free.is_empty() {
            let name = segments.new_name();
            disk.create(&path(name), disk.segment_bytes())?;
            segments.free.push(name);
        }
        Ok((segments, next))
    }

    /// Writes a frame; [`Segments::sync`] makes it durable. `buffer` holds [`HEADER_BYTES`] of room, then the payload.
    /// Says where.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&mut self, number: u64, floor: u64, buffer: &mut [u8]) -> io::Result<Written> {
        let length = u32::try_from(buffer.len() - HEADER_BYTES).map_err(io::Error::other)?;
        buffer[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        buffer[8..12].copy_from_slice(&length.to_le_bytes());
        buffer[12..20].copy_from_slice(&number.to_le_bytes());
        buffer[20..28].copy_from_slice(&floor.to_le_bytes());
        let crc = crc32fast::hash(&buffer[COVERED..]);
        buffer[4..8].copy_from_slice(&crc.to_le_bytes());
        let bytes = buffer.len() as u64;
        let fits = self.live.back().is_some_and(|head| self.at + bytes <= head.bytes);
        if !fits {
            self.begin_segment(number, bytes)?;
        }
        let head = self
            .head
            .as_mut()
            .ok_or_else(|| io::Error::other("the journal has no segment"))?;
        let at = self.at;
        head.write_at(buffer, at)?;
        self.at += bytes;
        let segment = self.live.back().map_or(0, |head| head.name);
        Ok(Written {
            began: !fits,
            place: Place { segment, at },
        })
    }

    /// Makes all frames durable.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        let head = self.head.as_ref().filter(|_| !mutant::is(Mutant::SyncSkipped));
        head.map_or(Ok(()), |head| head.sync())
    }

    /// Lets segments go that hold only frames before `floor`. `floor` must stand in a frame that is durable: a start
    /// asks for everything from there on.
    ///
    /// # Errors
    /// The disk's.
    pub fn release(&mut self, floor: u64) -> io::Result<()> {
        for name in std::mem::take(&mut self.rubbish) {
            self.disk.remove(&path(name))?;
        }
        while self.live.get(1).is_some_and(|second| second.first <= floor) {
            let Some(oldest) = self.live.pop_front() else {
                break;
            };
            let usual = oldest.bytes == self.disk.segment_bytes();
            if usual && self.free.len() < JOURNAL_FREE_SEGMENTS_MAX {
                self.free.push(oldest.name);
            } else {
                self.disk.remove(&path(oldest.name))?;
            }
        }
        Ok(())
    }

    pub fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Where they are, for people.
    pub fn place(&self) -> String {
        self.disk.place()
    }

    /// Bytes of the segments that hold needed frames.
    pub fn bytes(&self) -> u64 {
        self.live.iter().map(|segment| segment.bytes).sum()
    }

    /// First frame of the segment being written; 0 if there is none yet.
    pub fn head_first(&self) -> u64 {
        self.live.back().map_or(0, |segment| segment.first)
    }

    /// First frame of the second oldest segment: with everything before it gone, the oldest is free.
    pub fn second_first(&self) -> Option<u64> {
        self.live.get(1).map(|segment| segment.first)
    }

    fn begin_segment(&mut self, first: u64, bytes: u64) -> io::Result<()> {
        let usual = self.disk.segment_bytes();
        let size = bytes.max(usual);
        let name = if size > usual {
            self.create(size)?
        } else {
            match (self.free.pop(), self.spare.take()) {
                (Some(name), spare) => {
                    self.spare = spare;
                    name
                }
                (None, Some(spare)) => joined(spare)?,
                (None, None) => self.create(size)?,
            }
        };
        self.head = Some(self.disk.open(&path(name))?);
        self.at = 0;
        self.live.push_back(Segment {
            name,
            first,
            bytes: size,
        });
        self.prepare_spare()
    }

    /// Has another segment made meanwhile, if none is left: the writer should not wait for that.
    fn prepare_spare(&mut self) -> io::Result<()> {
        if self.disk.threads() && self.free.is_empty() && self.spare.is_none() {
            let (disk, name) = (Arc::clone(&self.disk), self.new_name());
            let thread = std::thread::Builder::new().name("quorate-segment".into());
            let make = move || disk.create(&path(name), disk.segment_bytes()).map(|()| name);
            self.spare = Some(thread.spawn(make)?);
        }
        Ok(())
    }

    fn create(&mut self, bytes: u64) -> io::Result<u32> {
        let name = self.new_name();
        self.disk.create(&path(name), bytes)?;
        Ok(name)
    }

    fn new_name(&mut self) -> u32 {
        self.names += 1;
        self.names
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        // Half-made, it is made anew at the next start; but nothing of ours should run on.
        let _ = self.spare.take().map(joined);
    }
}

fn joined(spare: JoinHandle<io::Result<u32>>) -> io::Result<u32> {
    spare
        .join()
        .map_err(|_| io::Error::other("making a journal segment panicked"))?
}

#[derive(Default)]
struct Scanned {
    found: Vec<Found>,
    free: Vec<u32>,
    rubbish: Vec<u32>,
    /// The highest name.
    names: u32,
}

/// Reads what the segments hold.
fn scan(disk: &dyn Disk) -> io::Result<Scanned> {
    let mut scanned = Scanned::default();
    let usual = disk.segment_bytes();
    for file in disk.files(FOLDER)? {
        let name = file
            .strip_suffix(".seg")
            .and_then(|name| name.parse::<u32>().ok());
        let Some(name) = name else {
            continue;
        };
        scanned.names = scanned.names.max(name);
        let bytes = read(disk, name)?;
        let size = bytes.len() as u64;
        match found(name, &bytes) {
            Some(_) if size < usual => {
                return Err(damaged(format!(
                    "{}/{} has {size} bytes instead of {usual}: it was cut off",
                    disk.place(),
                    path(name)
                )));
            }
            Some(found) => scanned.found.push(found),
            None if size == usual => scanned.free.push(name),
            None => scanned.rubbish.push(name),
        }
    }
    Ok(scanned)
}

fn found(name: u32, bytes: &[u8]) -> Option<Found> {
    let mut whole: Option<Found> = None;
    for (header, payload) in frames(bytes) {
        let (first, at) = whole
            .as_ref()
            .map_or((header.number, 0), |found| (found.segment.first, found.end_at));
        whole = Some(Found {
            segment: Segment {
                name,
                first,
                bytes: bytes.len() as u64,
            },
            end: header.number + 1,
            end_at: at + (HEADER_BYTES + payload.len()) as u64,
            floor: header.floor,
        });
    }
    whole
}
