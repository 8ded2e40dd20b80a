//! What every payload ends in: the version of the format (2 bytes) and the checksum of all before itself (8), both little endian.

/// That of Redis 7.0, which reads no later one.
const WRITTEN: u16 = 10;
/// That of Redis 7.2.
const READ_MAX: u16 = 11;

const VERSION_BYTES: usize = 2;
const CHECKSUM_BYTES: usize = 8;

/// Puts the trailer behind a body.
#[must_use]
pub fn seal(mut body: Vec<u8>) -> Vec<u8> {
    body.extend_from_slice(&WRITTEN.to_le_bytes());
    let sum = crc64::crc64(0, &body);
    body.extend_from_slice(&sum.to_le_bytes());
    body
}

/// The body before a trailer; `None`: there is none, the version is a later one than is read, or the checksum another.
#[must_use]
pub fn open(payload: &[u8]) -> Option<&[u8]> {
    let (summed, sum) = payload.split_last_chunk::<CHECKSUM_BYTES>()?;
    let (body, version) = summed.split_last_chunk::<VERSION_BYTES>()?;
    let known = u16::from_le_bytes(*version) <= READ_MAX;
    (known && crc64::crc64(0, summed) == u64::from_le_bytes(*sum)).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_is_that_of_redis_and_keeps_what_is_before_it() {
        // SET k 7, DUMP k of Redis 7.0.
        let seven = b"\x00\xc0\x07\x0a\x00\x74\xcd\x48\xa2\x83\xab\xce\x92";
        assert_eq!(open(seven).map(<[u8]>::len), Some(3));
        assert_eq!(seal(vec![0, 0xc0, 7]), seven);
        for at in 0..seven.len() {
            let mut damaged = seven.to_vec();
            damaged[at] ^= 1;
            assert_eq!(open(&damaged), None, "byte {at}");
            assert_eq!(open(&seven[..at]), None, "cut at {at}");
        }
        let mut later = vec![0, 0xc0, 7, 12, 0];
        later.extend_from_slice(&crc64::crc64(0, &later).to_le_bytes());
        assert_eq!(open(&later), None);
    }
}
