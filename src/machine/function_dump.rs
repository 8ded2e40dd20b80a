//! `FUNCTION DUMP` and `RESTORE`: libraries in Redis's own bytes, so that they move between it and Quorate.
//!
//! ```text
//!  0xf5 length code … │ RDB version, 2 bytes │ CRC-64 of all before, 8 bytes
//! ```
//!
//! What is written here is not compressed; what Redis has compressed is read.

use bytes::Bytes;

use super::Libraries;
use crate::base::Reply;
use crate::base::limits::FUNCTIONS_BYTES_MAX;
use crate::machine::rdb::trailer;

/// A library has a name and a function or more besides its code.
const LIBRARY_COST: usize = 64;
/// A library's code follows.
const FUNCTION2: u8 = 0xf5;
/// The compressed length, the length, and LZF follow.
const COMPRESSED: u8 = 0xc3;

impl Libraries {
    /// All libraries, as Redis would dump them.
    #[must_use]
    pub fn dump(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        for library in self.iter() {
            payload.push(FUNCTION2);
            put_length(&mut payload, library.code.len());
            payload.extend_from_slice(&library.code);
        }
        trailer::seal(payload)
    }
}

/// The codes of the libraries in what `FUNCTION DUMP` has given, here or by Redis.
///
/// # Errors
/// In Redis's words.
pub fn dumped_codes(payload: &[u8]) -> Result<Vec<Bytes>, Reply> {
    let sealed = trailer::open(payload);
    let mut rest = sealed.ok_or_else(|| Reply::err("ERR DUMP payload version or checksum are wrong"))?;
    let (mut codes, mut bytes) = (Vec::new(), 0);
    while let Some((&kind, after)) = rest.split_first() {
        if kind != FUNCTION2 {
            return Err(Reply::err("ERR given type is not a function"));
        }
        rest = after;
        let room = FUNCTIONS_BYTES_MAX.saturating_sub(bytes);
        let code = take_string(&mut rest, room);
        let code = code.ok_or_else(|| Reply::err("ERR Failed loading library blob"))?;
        bytes += LIBRARY_COST + code.len();
        if bytes > FUNCTIONS_BYTES_MAX {
            return Err(too_much());
        }
        codes.push(code);
    }
    Ok(codes)
}

/// Why libraries are not taken that are more than there may be.
#[must_use]
pub fn too_much() -> Reply {
    Reply::err(format!(
        "ERR the libraries have more than {FUNCTIONS_BYTES_MAX} bytes, which all together may have"
    ))
}

fn put_length(payload: &mut Vec<u8>, length: usize) {
    match (u8::try_from(length), u16::try_from(length), u32::try_from(length)) {
        (Ok(length @ ..0x40), ..) => payload.push(length),
        (_, Ok(length @ ..0x4000), _) => payload.extend_from_slice(&(0x4000 | length).to_be_bytes()),
        (.., Ok(length)) => {
            payload.push(0x80);
            payload.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            payload.push(0x81);
            payload.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    Some(taken)
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let first = *take(rest, 1)?.first()?;
    let more = match first {
        0x80 => 4,
        0x81 => 8,
        0x40..0x80 => 1,
        0x00..0x40 => 0,
        _ => return None,
    };
    let before = if first < 0x80 {
        usize::from(first & 0x3f)
    } else {
        0
    };
    let bytes = take(rest, more)?;
    Some(
        bytes
            .iter()
            .fold(before, |length, &byte| length << 8 | usize::from(byte)),
    )
}

fn take_string(rest: &mut &[u8], most: usize) -> Option<Bytes> {
    if rest.first() == Some(&COMPRESSED) {
        take(rest, 1)?;
        let (compressed, length) = (take_length(rest)?, take_length(rest)?);
        let compressed = take(rest, compressed)?;
        let mut text = vec![0; Some(length).filter(|&length| length <= most)?];
        let written = lzf_rust::decompress(compressed, &mut text).ok()?;
        return (written == length).then_some(text.into());
    }
    let length = take_length(rest)?;
    let text = take(rest, length).filter(|text| text.len() <= most)?;
    Some(Bytes::copy_from_slice(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_read_as_it_was_written_and_what_is_cut_off_is_not() {
        for length in [0, 1, 63, 64, 16_383, 16_384, 70_000, 1 << 32] {
            let mut payload = Vec::new();
            put_length(&mut payload, length);
            assert_eq!(take_length(&mut &payload[..]), Some(length));
            assert_eq!(take_length(&mut &payload[..payload.len() - 1]), None);
        }
    }

    #[test]
    fn what_is_no_dump_is_refused_and_never_a_panic() {
        let codes = |content: &[u8]| dumped_codes(&trailer::seal(content.to_vec()));
        assert_eq!(codes(b""), Ok(Vec::new()));
        assert_eq!(codes(b"\xf5\x01x\xf5\x00"), Ok(vec!["x".into(), "".into()]));
        // Three bytes, and once more from their beginning.
        assert_eq!(
            codes(b"\xf5\xc3\x06\x06\x02abc\x20\x02"),
            Ok(vec!["abcabc".into()])
        );
        for broken in [
            &b"\x00\x01x"[..],
            b"\xf5",
            b"\xf5\x02x",
            b"\xf5\xc0\x01",
            b"\xf5\xc3\x06\x07\x02abc\x20\x02",
            b"\xf5\xc3\x06\x05\x02abc\x20\x02",
            b"\xf5\xc3\x05\x06\x02abc\x20\x02",
            b"\xf5\xc3\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff\x00",
            b"\xf5\x81\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert!(codes(broken).is_err(), "{broken:?}");
        }
        // They cost little here, and far more once they are loaded.
        let empty = |count| codes(&b"\xf5\x00".repeat(count)).map(|codes| codes.len());
        let most = FUNCTIONS_BYTES_MAX / LIBRARY_COST;
        assert_eq!(empty(most), Ok(most));
        assert_eq!(empty(most + 1), Err(too_much()));
        let whole = trailer::seal(b"\xf5\x01x".to_vec());
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert!(dumped_codes(&other).is_err(), "byte {at}");
            assert!(dumped_codes(&whole[..at]).is_err());
        }
    }
}
