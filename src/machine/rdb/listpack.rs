//! Listpacks: elements one after another, each behind a byte or more that tell its kind and length, and before its own length for
//! those who come from the end.

use smallvec::{SmallVec, smallvec};

use super::Refused;
use super::packing::{COUNTED_MAX, END, Element, Items, Packing, integer, sized};
use crate::machine::commands::parse_i64;

/// Bytes of all, and how many elements.
const HEAD_BYTES: usize = 6;

/// What stands behind an element of so many bytes: groups of seven bits, the highest first, all but the first marked.
fn backward(len: usize) -> SmallVec<[u8; 5]> {
    // The limits are Redis's: one less than would fit.
    let groups = match len {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    let mut all: SmallVec<[u8; 5]> = smallvec![];
    for group in (0..groups).rev() {
        let bits = (len >> (7 * group)) as u8 & 0x7f;
        all.push(if all.is_empty() { bits } else { bits | 0x80 });
    }
    all
}

/// How its elements are read.
#[derive(Debug)]
pub struct Listpack;

/// # Errors
/// It is not framed as one.
pub fn items(blob: &[u8]) -> Result<Items<'_, Listpack>, Refused> {
    let (size, rest) = blob.split_first_chunk::<4>().ok_or(Refused::Format)?;
    let (count, rest) = rest.split_first_chunk::<2>().ok_or(Refused::Format)?;
    Items::new(blob, *size, *count, rest, Listpack)
}

impl Packing for Listpack {
    fn element<'a>(&mut self, all: &'a [u8]) -> Option<(Element<'a>, &'a [u8])> {
        let (&first, rest) = all.split_first()?;
        let (element, rest) = match first {
            0..0x80 => (Element::Int(first.into()), rest),
            0x80..0xc0 => sized(rest, usize::from(first & 0x3f))?,
            0xc0..0xe0 => {
                let (&low, rest) = rest.split_first()?;
                let bits = i16::from_be_bytes([first & 0x1f, low]);
                (Element::Int(i64::from(bits << 3 >> 3)), rest)
            }
            0xe0..0xf0 => {
                let (&low, rest) = rest.split_first()?;
                sized(rest, usize::from(u16::from_be_bytes([first & 0x0f, low])))?
            }
            0xf0 => {
                let (len, rest) = rest.split_first_chunk()?;
                sized(rest, u32::from_le_bytes(*len) as usize)?
            }
            0xf1 => integer(rest, 2)?,
            0xf2 => integer(rest, 3)?,
            0xf3 => integer(rest, 4)?,
            0xf4 => integer(rest, 8)?,
            _ => return None,
        };
        let len = all.len() - rest.len();
        Some((element, rest.strip_prefix(&backward(len)[..])?))
    }
}

/// A listpack that grows at its end.
#[derive(Debug)]
pub struct Builder {
    bytes: Vec<u8>,
    count: usize,
}

impl Builder {
    pub fn new() -> Builder {
        Builder {
            bytes: vec![0; HEAD_BYTES],
            count: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that it has when it is finished.
    pub fn len(&self) -> usize {
        self.bytes.len() + 1
    }

    /// As a number if it is one.
    pub fn push(&mut self, element: &[u8]) {
        if let Some(number) = parse_i64(element) {
            return self.push_int(number);
        }
        let start = self.bytes.len();
        match element.len() {
            len @ 0..64 => self.bytes.push(0x80 | len as u8),
            len @ 64..4096 => self.bytes.extend([0xe0 | (len >> 8) as u8, len as u8]),
            len => {
                self.bytes.push(0xf0);
                self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(element);
        self.end(start);
    }

    pub fn push_int(&mut self, number: i64) {
        let start = self.bytes.len();
        let wide = number.to_le_bytes();
        match number {
            0..=127 => self.bytes.push(wide[0]),
            -4096..=4095 => self.bytes.extend([0xc0 | wide[1] & 0x1f, wide[0]]),
            _ => {
                let (kind, bytes) = match number {
                    -0x8000..=0x7fff => (0xf1, 2),
                    -0x80_0000..=0x7f_ffff => (0xf2, 3),
                    -0x8000_0000..=0x7fff_ffff => (0xf3, 4),
                    _ => (0xf4, 8),
                };
                self.bytes.push(kind);
                self.bytes.extend_from_slice(&wide[..bytes]);
            }
        }
        self.end(start);
    }

    fn end(&mut self, start: usize) {
        let len = self.bytes.len() - start;
        self.bytes.extend(backward(len));
        self.count += 1;
    }

    /// Puts another number, below 128, where the first element is such a one.
    pub fn set_first(&mut self, number: u8) {
        self.bytes[HEAD_BYTES] = number & 0x7f;
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let size = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let count = u16::try_from(self.count).unwrap_or(COUNTED_MAX);
        self.bytes[..4].copy_from_slice(&size.to_le_bytes());
        self.bytes[4..HEAD_BYTES].copy_from_slice(&count.to_le_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_kind_and_length_come_back() {
        let numbers = [
            0,
            127,
            128,
            -1,
            4095,
            4096,
            -4096,
            -4097,
            32767,
            32768,
            -32769,
            8_388_607,
            8_388_608,
            -8_388_609,
            2_147_483_647,
            2_147_483_648,
            -2_147_483_649,
            i64::MAX,
            i64::MIN,
        ];
        let lengths = [
            0, 1, 63, 64, 126, 127, 128, 4095, 4096, 16_381, 16_382, 16_383, 70_000, 2_097_150,
        ];
        let mut all: Vec<Vec<u8>> = numbers.map(|n: i64| n.to_string().into_bytes()).into();
        all.extend(lengths.map(|len| vec![b'x'; len]));
        let mut builder = Builder::new();
        for element in &all {
            builder.push(element);
        }
        let len = builder.len();
        let blob = builder.finish();
        assert_eq!(blob.len(), len);
        let read: Result<Vec<_>, _> = items(&blob).expect("a listpack").collect();
        let read: Vec<_> = read.expect("elements").into_iter().map(Element::text).collect();
        assert!(read == all);
        assert!(items(&blob[..len - 1]).is_err());
    }

    #[test]
    fn one_that_says_another_count_or_ends_early_is_an_error() {
        let mut builder = Builder::new();
        builder.push(b"abc");
        builder.push(b"7");
        let blob = builder.finish();
        for count in [0, 1, 3] {
            let mut lying = blob.clone();
            lying[4] = count;
            assert!(
                items(&lying).expect("framed").any(|item| item.is_err()),
                "{count}"
            );
        }
        let mut long = blob.clone();
        long[6] = 0xa8;
        let read: Vec<_> = items(&long).expect("framed").collect();
        assert_eq!(read, [Err(Refused::Format)], "and it ends");
    }
}
