//! Ways in for `fuzz/`: what a peer may send. Each ends in a value or an error.

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::framing::{Incoming, codec};
use super::wire::{Frame, Hello};
use crate::base::codec::decode;
use crate::machine::Batch;

/// The bytes of a link.
pub fn link(bytes: &[u8]) {
    let (mut frames, mut incoming, mut buffer) = (codec(), Incoming::default(), BytesMut::from(bytes));
    while let Ok(Some(frame)) = frames.decode(&mut buffer) {
        match incoming.take(frame) {
            Ok(whole) => whole.iter().for_each(|message| self::message(message)),
            Err(_) => return,
        }
    }
}

/// One message.
pub fn message(bytes: &[u8]) {
    let _ = decode::<Hello>(bytes);
    let _ = decode::<Frame>(bytes);
}

/// An entry of a log, and what one of a group has in it.
pub fn entry(bytes: &[u8]) {
    let _ = super::entry::decode(&Bytes::copy_from_slice(bytes));
    let _ = decode::<Batch>(bytes);
}
