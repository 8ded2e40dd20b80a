//! bincode with a limit, and with every byte accounted for. The only way in and out of bytes between nodes and on
//! disk, so a hostile length can neither abort the process nor leave a tail unread.

use std::cell::RefCell;

use serde::{Serialize, de::DeserializeOwned};

use super::limits::FRAME_BYTES_MAX;

/// What [`decode_whole`] allocates at the most, should the disk have damaged a length: memory that is not touched costs nothing.
const OWN_BYTES_MAX: usize = 16 << 30;
/// What a thread's scratch may keep.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Values are encoded here first: an own buffer would grow, and move, several times on the way to its size.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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

/// As [`decode`], for what this program wrote to its own disk, and read back whole: a state can be larger than any message.
///
/// # Errors
/// As for [`decode`].
pub fn decode_whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<OWN_BYTES_MAX>();
    all_of(bytes, bincode::serde::decode_from_slice(bytes, config)?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
