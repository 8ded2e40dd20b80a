//! Ziplists, which Redis wrote before 7.0: elements one after another, each behind the length of the one before it. Read only.

use super::Refused;
use super::packing::{END, Element, Items, Packing, integer, sized};

/// From here on a length takes four bytes more.
const LONG: u8 = 0xfe;

/// How its elements are read.
#[derive(Debug, Default)]
pub struct Ziplist {
    /// Bytes of the element before.
    before: usize,
}

/// # Errors
/// It is not framed as one.
pub fn items(blob: &[u8]) -> Result<Items<'_, Ziplist>, Refused> {
    let (size, rest) = blob.split_first_chunk::<4>().ok_or(Refused::Format)?;
    let (_tail, rest) = rest.split_first_chunk::<4>().ok_or(Refused::Format)?;
    let (count, rest) = rest.split_first_chunk::<2>().ok_or(Refused::Format)?;
    Items::new(blob, *size, *count, rest, Ziplist::default())
}

impl Packing for Ziplist {
    fn element<'a>(&mut self, all: &'a [u8]) -> Option<(Element<'a>, &'a [u8])> {
        let (&before, mut rest) = all.split_first()?;
        let before = match before {
            LONG => {
                let (long, after) = rest.split_first_chunk()?;
                rest = after;
                u32::from_le_bytes(*long) as usize
            }
            END => return None,
            short => usize::from(short),
        };
        if before != self.before {
            return None;
        }
        let (&kind, rest) = rest.split_first()?;
        let (element, rest) = match kind {
            0..0x40 => sized(rest, usize::from(kind))?,
            0x40..0x80 => {
                let (&low, rest) = rest.split_first()?;
                sized(rest, usize::from(u16::from_be_bytes([kind & 0x3f, low])))?
            }
            0x80..0xc0 => {
                let (len, rest) = rest.split_first_chunk()?;
                sized(rest, u32::from_be_bytes(*len) as usize)?
            }
            0xc0 => integer(rest, 2)?,
            0xd0 => integer(rest, 4)?,
            0xe0 => integer(rest, 8)?,
            0xf0 => integer(rest, 3)?,
            0xfe => integer(rest, 1)?,
            0xf1..=0xfd => (Element::Int(i64::from(kind & 0x0f) - 1), rest),
            _ => return None,
        };
        self.before = all.len() - rest.len();
        Some((element, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_kind_are_read() {
        let long = [b'y'; 300];
        let mut body: Vec<u8> = Vec::new();
        let mut before = 0_usize;
        let mut push = |entry: &[u8]| {
            let start = body.len();
            match u8::try_from(before) {
                Ok(short) if short < LONG => body.push(short),
                _ => {
                    body.push(LONG);
                    body.extend_from_slice(&u32::try_from(before).expect("short").to_le_bytes());
                }
            }
            body.extend_from_slice(entry);
            before = body.len() - start;
        };
        push(b"\x03abc");
        push(&[&[0x41, 0x2c][..], &long].concat());
        push(&[&[0x80, 0, 0, 1, 0x2c][..], &long].concat());
        push(&[0xc0, 0xff, 0xff]);
        push(&[0xd0, 0, 0, 0, 0x80]);
        push(&[0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80]);
        push(&[0xf0, 0, 0, 0x80]);
        push(&[0xfe, 0x80]);
        push(&[0xf1]);
        push(&[0xfd]);
        let mut blob = (u32::try_from(body.len() + 11).expect("short"))
            .to_le_bytes()
            .to_vec();
        blob.extend_from_slice(&[0, 0, 0, 0, 10, 0]);
        blob.extend_from_slice(&body);
        blob.push(END);
        let read: Result<Vec<_>, _> = items(&blob).expect("a ziplist").collect();
        let ints = [-1, i64::from(i32::MIN), i64::MIN, -0x80_0000, -128, 0, 12].map(Element::Int);
        let mut all = vec![
            Element::Bytes(b"abc"),
            Element::Bytes(&long),
            Element::Bytes(&long),
        ];
        all.extend(ints);
        assert_eq!(read, Ok(all));
        blob[8] = 9;
        assert!(items(&blob).expect("framed").any(|item| item.is_err()));
    }
}
