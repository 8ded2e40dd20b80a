//! Lengths and strings, written as Redis 7.0 does.

use super::{Refused, Room, trailer};
use crate::base::limits::BULK_BYTES_MAX;
use crate::machine::commands::parse_i64;

/// No number that is written as such has more digits.
const NUMBER_BYTES_MAX: usize = 11;
/// A string up to this long is not compressed.
const PLAIN_BYTES_MAX: usize = 20;
/// Nor is an element among many: each try clears a table of 256 KiB first.
const PLAIN_ELEMENT_BYTES_MAX: usize = 4 << 10;
/// So much has to be saved.
const SAVED_BYTES_MIN: usize = 4;

#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    pub room: Room,
}

impl Writer {
    pub fn new() -> Writer {
        Writer {
            out: Vec::new(),
            room: Room::new(),
        }
    }

    /// The type that comes.
    pub fn form(&mut self, form: u8) {
        self.out.push(form);
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.out.extend_from_slice(bytes);
        if self.out.len() > BULK_BYTES_MAX {
            return Err(Refused::TooLarge(BULK_BYTES_MAX));
        }
        Ok(())
    }

    pub fn number(&mut self, number: u64) {
        let out = &mut self.out;
        match (u8::try_from(number), u16::try_from(number), u32::try_from(number)) {
            (Ok(small), ..) if small < 1 << 6 => out.push(small),
            (_, Ok(short), _) if short < 1 << 14 => out.extend_from_slice(&(short | 1 << 14).to_be_bytes()),
            (.., Ok(long)) => {
                out.push(0x80);
                out.extend_from_slice(&long.to_be_bytes());
            }
            _ => {
                out.push(0x81);
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
    }

    pub fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    /// A string, or a blob in the form of one.
    pub fn string(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.string_plain_up_to(bytes, PLAIN_BYTES_MAX)
    }

    /// One of the strings that a collection consists of.
    pub fn element(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.room.take(bytes.len())?;
        self.string_plain_up_to(bytes, PLAIN_ELEMENT_BYTES_MAX)
    }

    fn string_plain_up_to(&mut self, bytes: &[u8], plain: usize) -> Result<(), Refused> {
        if bytes.len() <= NUMBER_BYTES_MAX
            && let Some(number) = parse_i64(bytes).and_then(|number| i32::try_from(number).ok())
        {
            return self.integer(number);
        }
        if bytes.len() > plain
            && let Some(packed) = compressed(bytes)
        {
            self.out.push(0xc3);
            self.count(packed.len());
            self.count(bytes.len());
            return self.bytes(&packed);
        }
        self.count(bytes.len());
        self.bytes(bytes)
    }

    fn integer(&mut self, number: i32) -> Result<(), Refused> {
        if let Ok(byte) = i8::try_from(number) {
            self.out.push(0xc0);
            self.bytes(&byte.to_le_bytes())
        } else if let Ok(short) = i16::try_from(number) {
            self.out.push(0xc1);
            self.bytes(&short.to_le_bytes())
        } else {
            self.out.push(0xc2);
            self.bytes(&number.to_le_bytes())
        }
    }

    pub fn finish(self) -> Result<Vec<u8>, Refused> {
        let payload = trailer::seal(self.out);
        if payload.len() > BULK_BYTES_MAX {
            return Err(Refused::TooLarge(BULK_BYTES_MAX));
        }
        Ok(payload)
    }
}

/// `None`: it would save too little.
fn compressed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut packed = vec![0; bytes.len().checked_sub(SAVED_BYTES_MIN)?];
    let len = lzf_rust::compress(bytes, &mut packed).ok()?;
    packed.truncate(len);
    Some(packed)
}
