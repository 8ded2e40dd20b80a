//! Lengths and strings, read from a body that may come from anybody.

use std::borrow::Cow;

use super::packing::{Items, Packing};
use super::{Refused, Room};
use crate::base::limits::BULK_BYTES_MAX;

/// No byte of LZF stands for more: three bytes copy 264 at the most.
const LZF_EXPANSION_MAX: usize = 264 / 3;

#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    pub room: Room,
}

/// What stands before a string: its length, or how it is written.
enum Prefix {
    Length(u64),
    Special(u8),
}

impl<'a> Reader<'a> {
    pub fn new(body: &'a [u8]) -> Reader<'a> {
        Reader {
            rest: body,
            room: Room::new(),
        }
    }

    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Refused> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(Refused::Format)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Refused::Format)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub fn byte(&mut self) -> Result<u8, Refused> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn prefix(&mut self) -> Result<Prefix, Refused> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match first >> 6 {
            0 => Prefix::Length(low.into()),
            1 => Prefix::Length(u64::from(low) << 8 | u64::from(self.byte()?)),
            2 => match first {
                0x80 => Prefix::Length(u32::from_be_bytes(self.array()?).into()),
                0x81 => Prefix::Length(u64::from_be_bytes(self.array()?)),
                _ => return Err(Refused::Format),
            },
            _ => Prefix::Special(low),
        })
    }

    /// A number: of bytes, of elements, or any that is not negative.
    pub fn number(&mut self) -> Result<u64, Refused> {
        match self.prefix()? {
            Prefix::Length(number) => Ok(number),
            Prefix::Special(_) => Err(Refused::Format),
        }
    }

    /// A number of bytes that fit into memory.
    fn size(&mut self) -> Result<usize, Refused> {
        usize::try_from(self.number()?).map_err(|_| Refused::Format)
    }

    /// A string: plain, a number, or compressed.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>, Refused> {
        let number = match self.prefix()? {
            Prefix::Length(len) => {
                let len = usize::try_from(len).map_err(|_| Refused::Format)?;
                return Ok(Cow::Borrowed(self.bytes(len)?));
            }
            Prefix::Special(0) => i32::from(i8::from_le_bytes(self.array()?)),
            Prefix::Special(1) => i32::from(i16::from_le_bytes(self.array()?)),
            Prefix::Special(2) => i32::from_le_bytes(self.array()?),
            Prefix::Special(3) => return self.compressed().map(Cow::Owned),
            Prefix::Special(_) => return Err(Refused::Format),
        };
        Ok(Cow::Owned(number.to_string().into_bytes()))
    }

    /// One of the strings that a collection consists of.
    pub fn element(&mut self) -> Result<Cow<'a, [u8]>, Refused> {
        let element = self.string()?;
        self.room.take(element.len())?;
        Ok(element)
    }

    /// Hands over each element of a blob that was read.
    pub fn each<P: Packing>(
        &mut self,
        items: Items<'_, P>,
        take: &mut impl FnMut(&[u8]) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        for item in items {
            let element = item?.text();
            self.room.take(element.len())?;
            take(&element)?;
        }
        Ok(())
    }

    fn compressed(&mut self) -> Result<Vec<u8>, Refused> {
        let (packed, whole) = (self.size()?, self.size()?);
        let packed = self.bytes(packed)?;
        if whole > packed.len().saturating_mul(LZF_EXPANSION_MAX) {
            return Err(Refused::Format);
        }
        if whole > BULK_BYTES_MAX {
            return Err(Refused::TooLarge(BULK_BYTES_MAX));
        }
        lzf_rust::decompress_into_vec(packed, whole).map_err(|_| Refused::Format)
    }
}
