//! The RESP decoder: whatever comes, however it is cut, ends in requests or an error, and in the same ones.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use quorate::base::limits::{COMMAND_ARGS_MAX, COMMAND_BYTES_MAX};
use quorate::resp::RequestReader;

/// The requests, and why there are no more.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<Bytes>>, Option<String>) {
    let (mut reader, mut buffer, mut requests) = (RequestReader::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match reader.next(&mut buffer) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error.to_string())),
            }
        }
        assert!(reader.unfinished() <= COMMAND_BYTES_MAX && reader.expected() <= COMMAND_BYTES_MAX);
        // What a session reserves.
        assert!(reader.missing(&buffer) <= COMMAND_BYTES_MAX);
    }
    (requests, None)
}

fuzz_target!(|data: &[u8]| {
    let whole = read(std::iter::once(data));
    for request in &whole.0 {
        assert!(!request.is_empty() && request.len() <= COMMAND_ARGS_MAX);
    }
    let step = data.first().map_or(1, |byte| usize::from(byte % 7) + 1);
    assert_eq!(read(data.chunks(step)), whole, "cut by {step}");
});
