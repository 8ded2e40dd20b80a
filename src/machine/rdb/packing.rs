//! Blobs that hold elements one after another, between the bytes and number of all and an end mark.

use std::borrow::Cow;

use super::Refused;

pub const END: u8 = 0xff;
/// More elements than this are not counted.
pub const COUNTED_MAX: u16 = u16::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

impl<'a> Element<'a> {
    /// As the element that it stands for.
    pub fn text(self) -> Cow<'a, [u8]> {
        match self {
            Element::Int(number) => Cow::Owned(number.to_string().into_bytes()),
            Element::Bytes(bytes) => Cow::Borrowed(bytes),
        }
    }
}

/// How elements are read.
pub trait Packing {
    /// The first one, and what comes after it.
    fn element<'a>(&mut self, rest: &'a [u8]) -> Option<(Element<'a>, &'a [u8])>;
}

/// Goes over the elements. An error ends it.
#[derive(Debug)]
pub struct Items<'a, P> {
    rest: &'a [u8],
    /// Elements to come; `None`: they were not counted.
    left: Option<u16>,
    packing: P,
}

impl<'a, P: Packing> Items<'a, P> {
    /// Those in `rest`, of a blob that says these of itself.
    ///
    /// # Errors
    /// It has another size, or no end mark.
    pub fn new(
        blob: &[u8],
        size: [u8; 4],
        count: [u8; 2],
        rest: &'a [u8],
        packing: P,
    ) -> Result<Self, Refused> {
        let count = u16::from_le_bytes(count);
        match rest.split_last() {
            Some((&END, rest)) if u32::from_le_bytes(size) as usize == blob.len() => Ok(Items {
                rest,
                left: (count != COUNTED_MAX).then_some(count),
                packing,
            }),
            _ => Err(Refused::Format),
        }
    }

    /// The next, which has to be there.
    pub fn want(&mut self) -> Result<Element<'a>, Refused> {
        self.next().unwrap_or(Err(Refused::Format))
    }

    /// Likewise, a number.
    pub fn want_int(&mut self) -> Result<i64, Refused> {
        match self.want()? {
            Element::Int(number) => Ok(number),
            Element::Bytes(_) => Err(Refused::Format),
        }
    }
}

impl<'a, P: Packing> Iterator for Items<'a, P> {
    type Item = Result<Element<'a>, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        let element = match (self.rest, self.left) {
            ([], None | Some(0)) => return None,
            ([], _) | (_, Some(0)) => None,
            (rest, _) => self.packing.element(rest),
        };
        match element {
            Some((element, rest)) => {
                self.rest = rest;
                self.left = self.left.map(|left| left - 1);
                Some(Ok(element))
            }
            None => {
                (self.rest, self.left) = (&[], None);
                Some(Err(Refused::Format))
            }
        }
    }
}

/// So many bytes, and what comes after them.
pub fn sized(rest: &[u8], len: usize) -> Option<(Element<'_>, &[u8])> {
    let (bytes, rest) = rest.split_at_checked(len)?;
    Some((Element::Bytes(bytes), rest))
}

/// A number of so many bytes (8 at the most), little endian, and what comes after it.
pub fn integer(rest: &[u8], width: usize) -> Option<(Element<'_>, &[u8])> {
    let (bytes, rest) = rest.split_at_checked(width)?;
    Some((Element::Int(widened(bytes)), rest))
}

/// The signed number in up to eight bytes, little endian.
pub fn widened(bytes: &[u8]) -> i64 {
    let mut wide = [0; 8];
    let unused = 8 - bytes.len();
    wide[unused..].copy_from_slice(bytes);
    i64::from_le_bytes(wide) >> (8 * unused)
}
