//! The state as a stream of sections, and back. Cutting it is cheap (pointers); encoding happens elsewhere, later.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::keyspace::{Key, Keyspace, Object, Slot, Value};
use super::shard::{Head, Shard};
use super::{Coordinator, Libraries, Machine};
use crate::base::codec::{self, CodecError};
use crate::base::limits::SNAPSHOT_SECTION_BYTES;
use crate::base::{Mutant, mutant};

/// Layout of the sections. Those before are read as well: 4 had a slot in one section, 5 a value, 6 no streams, 7 no functions. Others
/// are refused.
const FORMAT_VERSION: u32 = 8;
const FORMAT_OLDEST: u32 = 4;

/// Bytes of the length before each section.
const LENGTH_BYTES: usize = 8;

/// One section of a snapshot, length-prefixed in the stream.
#[derive(Debug, Serialize, Deserialize)]
enum Section<S, H, C, M, L> {
    Format(u32),
    Shard(H),
    Coordinator(C),
    /// Some of the keys of one slot.
    Keys(S),
    /// More of the value of a key that came before.
    More(M),
    /// Libraries of functions; none where there never were any.
    Libraries(L),
}

/// A state that no longer changes.
#[derive(Debug)]
pub enum Frozen {
    Shard {
        head: Box<Head>,
        libraries: Libraries,
        slots: Vec<Arc<Slot>>,
    },
    Coordinator(Box<Coordinator>),
}

impl Machine {
    /// Cuts the state as it is now.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        match self {
            Machine::Shard(shard) => {
                let (keyspace, head) = shard.parts();
                Frozen::Shard {
                    head: Box::new(remembered(head.clone())),
                    libraries: shard.libraries().clone(),
                    slots: keyspace.freeze(),
                }
            }
            Machine::Coordinator(coordinator) => {
                Frozen::Coordinator(Box::new(remembered_by_coordinator(*coordinator.clone())))
            }
        }
    }

    /// A checksum of the whole state: equal on all replicas at equal log indexes.
    ///
    /// # Errors
    /// The codec's.
    pub fn digest(&self) -> Result<u32, CodecError> {
        let mut crc = crc32fast::Hasher::new();
        self.freeze().sections(|section| {
            crc.update(section);
            Ok::<(), CodecError>(())
        })?;
        Ok(crc.finalize())
    }
}

/// All of it; a mutant forgets a part.
fn remembered(mut head: Head) -> Head {
    if mutant::is(Mutant::LocksLostInSnapshot) {
        drop(std::mem::take(&mut head.locks));
    }
    if mutant::is(Mutant::IntentsLostInSnapshot) {
        drop(std::mem::take(&mut head.prepared));
    }
    if mutant::is(Mutant::RepliesLostInSnapshot) {
        drop(std::mem::take(&mut head.sessions));
    }
    if mutant::is(Mutant::ParkedLostInSnapshot) {
        drop(std::mem::take(&mut head.parked));
    }
    if mutant::is(Mutant::FinishedLostInSnapshot) {
        drop(std::mem::take(&mut head.finished));
    }
    if mutant::is(Mutant::VotesLostInSnapshot) {
        drop(std::mem::take(&mut head.kept));
    }
    if mutant::is(Mutant::TimeLostInSnapshot) {
        head.time = 0;
    }
    head
}

/// All of it; a mutant forgets a part.
fn remembered_by_coordinator(mut coordinator: Coordinator) -> Coordinator {
    if mutant::is(Mutant::CommitsLostInSnapshot) {
        drop(std::mem::take(&mut coordinator.unretired));
    }
    if mutant::is(Mutant::OutcomesLostInSnapshot) {
        drop(std::mem::take(&mut coordinator.outcomes));
    }
    coordinator
}

impl Frozen {
    /// Encodes section after section into `put`.
    ///
    /// # Errors
    /// The codec's or `put`'s.
    pub fn sections<E: From<CodecError>>(
        &self,
        mut put: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut framed = Vec::new();
        let mut write = |section: &Out<'_>| -> Result<(), E> {
            framed.clear();
            framed.extend_from_slice(&[0; LENGTH_BYTES]);
            codec::encode_onto(section, &mut framed)?;
            let length = (framed.len() - LENGTH_BYTES) as u64;
            framed[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
            put(&framed)
        };
        write(&Section::Format(FORMAT_VERSION))?;
        match self {
            Frozen::Coordinator(coordinator) => write(&Section::Coordinator(coordinator)),
            Frozen::Shard {
                head,
                libraries,
                slots,
            } => {
                write(&Section::Shard(head))?;
                if libraries.version() > 0 {
                    write(&Section::Libraries(libraries))?;
                }
                for slot in slots {
                    write_slot(slot, &mut write)?;
                }
                Ok(())
            }
        }
    }
}

/// A key's object, or the beginning of one that is large.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Piece<'a> {
    Whole(&'a Object),
    First(Object),
}

type Out<'a> =
    Section<&'a [(&'a Key, Piece<'a>)], &'a Head, &'a Coordinator, (&'a Key, Value), &'a Libraries>;

fn write_slot<E>(slot: &Slot, write: &mut impl FnMut(&Out<'_>) -> Result<(), E>) -> Result<(), E> {
    let mut keys = Vec::new();
    let mut bytes = 0;
    for (key, object) in slot {
        let mut more = object.value().pieces(SNAPSHOT_SECTION_BYTES).skip(1).peekable();
        if more.peek().is_none() {
            keys.push((key, Piece::Whole(object)));
            bytes += key.len() + object.value().weight();
        } else if let Some(first) = object.value().pieces(SNAPSHOT_SECTION_BYTES).next() {
            keys.push((
                key,
                Piece::First(Object::new(first, object.expires(), object.version)),
            ));
            bytes += SNAPSHOT_SECTION_BYTES;
        }
        if bytes >= SNAPSHOT_SECTION_BYTES {
            write(&Section::Keys(&keys))?;
            keys.clear();
            bytes = 0;
        }
        for piece in more {
            write(&Section::More((key, piece)))?;
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    write(&Section::Keys(&keys))
}

/// Builds a state from the bytes of a snapshot, as they come.
#[derive(Debug, Default)]
pub struct Thaw {
    buffer: Vec<u8>,
    versioned: bool,
    head: Option<Head>,
    coordinator: Option<Coordinator>,
    keyspace: Keyspace,
    libraries: Libraries,
}

impl Thaw {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// Sections that do not decode, or another format.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        type In = Section<Vec<(Key, Object)>, Head, Coordinator, (Key, Value), Libraries>;
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(length) = self.buffer.get(at..at + 8) {
            let length: [u8; 8] = length.try_into().map_err(|_| "a section's length is cut off")?;
            let length = usize::try_from(u64::from_le_bytes(length)).map_err(|e| e.to_string())?;
            let Some(body) = self.buffer.get(at + 8..(at + 8).saturating_add(length)) else {
                break;
            };
            let section: In = codec::decode_whole(body).map_err(|e| e.to_string())?;
            at += 8 + length;
            match section {
                Section::Format(FORMAT_OLDEST..=FORMAT_VERSION) => self.versioned = true,
                Section::Format(other) => return Err(format!("snapshot format {other} is not known here")),
                Section::Shard(head) => self.head = Some(head),
                Section::Coordinator(coordinator) => self.coordinator = Some(coordinator),
                Section::Keys(keys) => self.keyspace.load(keys)?,
                Section::More((key, piece)) => self.keyspace.load_more(&key, piece)?,
                Section::Libraries(libraries) => self.libraries = libraries,
            }
        }
        self.buffer.drain(..at);
        Ok(())
    }

    /// The state, once all bytes are in.
    ///
    /// # Errors
    /// A stream that ends early or lacks its head.
    pub fn finish(self) -> Result<Machine, String> {
        if !self.buffer.is_empty() || !self.versioned {
            return Err("the snapshot ends in the middle of a section".into());
        }
        match (self.head, self.coordinator) {
            (Some(head), None) => {
                let shard = Shard::from_parts(self.keyspace, head, self.libraries);
                Ok(Machine::Shard(Box::new(shard)))
            }
            (None, Some(coordinator)) => Ok(Machine::Coordinator(Box::new(coordinator))),
            _ => Err("the snapshot has not exactly one head".into()),
        }
    }
}
