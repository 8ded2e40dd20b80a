//! bincode with a limit, and with every byte accounted for. The only way in and out of bytes between nodes and on
//! disk, so a hostile length can neither abort the process nor leave a tail unread.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};

use super::limits::FRAME_BYTES_MAX;

/// What [`decode_whole`] allocates at the most, should the disk have damaged a length: memory that is not touched costs nothing.
const OWN_BYTES_MAX: usize = 16 << 30;
/// What a thread's scratch may keep.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Values are encoded here first: an own buffer would grow, and move, several times on the way to its size.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// What [`decode_shared`] decodes.
    static SHARED: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
}

/// Why bytes were not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("cannot encode: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    #[error("cannot decode: {0}")]
    Decode(#[from] bincode::error::DecodeError),
    #[error("cannot decode: {0} bytes left over after the value")]
    Trailing(usize),
}

/// Encodes `value`.
///
/// # Errors
/// Only if the type itself cannot be written by bincode (a sequence of unknown length).
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let encoded = encode_onto(value, &mut scratch).map(|()| scratch.as_slice().to_vec());
    scratch.shrink_to(SCRATCH_BYTES_MAX);
    SCRATCH.set(scratch);
    encoded
}

/// Encodes `value` behind what `buffer` holds already.
///
/// # Errors
/// As [`encode`].
pub fn encode_onto<T: Serialize>(value: &T, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, buffer, bincode::config::standard())?;
    Ok(())
}

/// Encodes `value` into a writer.
///
/// # Errors
/// As [`encode`]; and the writer's.
pub fn encode_to<T: Serialize>(value: &T, writer: &mut impl std::io::Write) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, writer, bincode::config::standard())?;
    Ok(())
}

/// Decodes exactly one value from all of `bytes`; at most [`FRAME_BYTES_MAX`] are allocated on the way.
///
/// # Errors
/// Malformed, truncated, oversized or over-long input.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    all_of(bytes, decode_prefix(bytes)?)
}

fn all_of<T>(bytes: &[u8], (value, used): (T, usize)) -> Result<T, CodecError> {
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}

/// Decodes one value from the front of `bytes` and says how many bytes it took.
///
/// # Errors
/// Malformed, truncated or oversized input.
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    let config = bincode::config::standard().with_limit::<FRAME_BYTES_MAX>();
    Ok(bincode::serde::decode_from_slice(bytes, config)?)
}

/// As [`decode`]; fields that are read by [`shared`] are slices of `bytes`, and keep all of them in memory.
///
/// # Errors
/// As for [`decode`].
pub fn decode_shared<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<FRAME_BYTES_MAX>();
    let before = SHARED.replace(bytes.clone());
    let decoded = bincode::serde::borrow_decode_from_slice(bytes, config);
    SHARED.set(before);
    all_of(bytes, decoded?)
}

/// Decodes what `bytes` begin with, such as the first field of a struct.
///
/// # Errors
/// As for [`decode`].
pub fn decode_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<FRAME_BYTES_MAX>();
    let (first, _) = bincode::serde::borrow_decode_from_slice(bytes, config)?;
    Ok(first)
}

/// Reads a field for `#[serde(deserialize_with = "codec::shared")]`: see [`decode_shared`]; elsewhere it is copied.
///
/// # Errors
/// The deserializer's.
pub fn shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    deserializer.deserialize_bytes(Shared)
}

struct Shared;

impl Visitor<'_> for Shared {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(SHARED.with_borrow(|whole| {
            let (whole_at, at) = (whole.as_ptr_range(), bytes.as_ptr_range());
            if whole_at.start <= at.start && at.end <= whole_at.end {
                whole.slice_ref(bytes)
            } else {
                Bytes::copy_from_slice(bytes)
            }
        }))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(bytes.into())
    }
}

/// As [`decode`], for what this program wrote to its own disk, and read back whole: a state can be larger than any message.
///
/// # Errors
/// As for [`decode`].
pub fn decode_whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    all_of(bytes, decode_front(bytes)?)
}

/// As [`decode_prefix`], for what this program wrote to its own disk.
///
/// # Errors
/// As for [`decode_prefix`].
pub fn decode_front<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    let config = bincode::config::standard().with_limit::<OWN_BYTES_MAX>();
    Ok(bincode::serde::decode_from_slice(bytes, config)?)
}

/// Bytes that a length takes in front of what is so long (bincode's variable encoding).
#[must_use]
pub fn length_bytes(length: usize) -> usize {
    match length {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, serde::Deserialize)]
    struct Field(#[serde(deserialize_with = "shared")] Bytes);

    #[test]
    fn shared_fields_are_slices_of_what_is_decoded_and_copies_elsewhere() {
        let fields = || vec![Field("one".into()), Field(Bytes::new()), Field("three".into())];
        let encoded = Bytes::from(encode(&fields()).expect("encodes"));
        let within = |field: &Field| encoded.as_ptr_range().contains(&field.0.as_ptr());
        let shared: Vec<Field> = decode_shared(&encoded).expect("decodes");
        let copied: Vec<Field> = decode(&encoded).expect("decodes");
        for (decoded, is_shared) in [(&shared, true), (&copied, false)] {
            let texts: Vec<&[u8]> = decoded.iter().map(|field| &field.0[..]).collect();
            assert_eq!(texts, [&b"one"[..], b"", b"three"]);
            assert_eq!((within(&decoded[0]), within(&decoded[2])), (is_shared, is_shared));
        }
        assert!(decode_shared::<Vec<Field>>(&encoded.slice(..encoded.len() - 1)).is_err());
        assert!(SHARED.with_borrow(Bytes::is_empty), "nothing is kept");
    }

    #[test]
    fn a_hostile_length_is_an_error_and_a_tail_is_one_too() {
        let mut huge = vec![253];
        huge.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Vec<u8>>(&huge).is_err());
        let mut two = encode(&7u32).expect("encodes");
        two.push(0);
        assert!(matches!(decode::<u32>(&two), Err(CodecError::Trailing(1))));
    }
}
