//! Messages of a link as frames: short ones whole, long ones in pieces, between which others go.
//!
//! ```text
//!  frame: length (u32), kind, bytes        kind: WHOLE, or PIECE … PIECE LAST of the one long message under way
//!  empty frame: nothing to say, but still here
//! ```
//!
//! So a short message may overtake a long one that was sent before it. Nothing depends on the order of two messages that are under way
//! at the same time: a group sends one append at a time to a follower.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::LengthDelimitedCodec;

use crate::base::limits::{FRAGMENT_BYTES, FRAME_BYTES_MAX};

const WHOLE: u8 = 0;
const PIECE: u8 = 1;
const LAST: u8 = 2;

/// What a slow network and disk may take for so many bytes: 10 MiB a second.
#[must_use]
pub fn time_for(bytes: usize) -> Duration {
    Duration::from_secs(1).mul_f64(bytes as f64 / f64::from(10 << 20))
}

/// Splits a link's bytes into frames, for [`Incoming`].
pub(super) fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(FRAGMENT_BYTES + 1)
        .new_codec()
}

fn put_frame(kind: u8, bytes: &[u8], out: &mut BytesMut) -> io::Result<()> {
    out.put_u32(u32::try_from(bytes.len() + 1).map_err(io::Error::other)?);
    out.put_u8(kind);
    out.put_slice(bytes);
    Ok(())
}

/// What goes out on a link.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Of a piece.
    bytes: usize,
    long: VecDeque<Bytes>,
}

impl Outgoing {
    pub fn new(piece_bytes: usize) -> Outgoing {
        Outgoing {
            bytes: piece_bytes.min(FRAGMENT_BYTES),
            long: VecDeque::new(),
        }
    }

    /// Whether long messages wait for [`Outgoing::put_piece`].
    pub fn is_empty(&self) -> bool {
        self.long.is_empty()
    }

    /// Puts a message on its way: a short one into `out`.
    ///
    /// # Errors
    /// None in practice: a length beyond `u32`.
    pub fn put(&mut self, message: Bytes, out: &mut BytesMut) -> io::Result<()> {
        if message.len() > self.bytes {
            self.long.push_back(message);
            return Ok(());
        }
        put_frame(WHOLE, &message, out)
    }

    /// Puts the next piece of the long message under way, if there is one.
    ///
    /// # Errors
    /// As for [`Outgoing::put`].
    pub fn put_piece(&mut self, out: &mut BytesMut) -> io::Result<()> {
        let Some(message) = self.long.front_mut() else {
            return Ok(());
        };
        let piece = message.split_to(self.bytes.min(message.len()));
        if message.is_empty() {
            self.long.pop_front();
            return put_frame(LAST, &piece, out);
        }
        put_frame(PIECE, &piece, out)
    }

    /// Puts the sign that says nothing but that this side is there.
    pub fn put_beat(out: &mut BytesMut) {
        out.put_u32(0);
    }
}

/// Puts what comes in together again.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    long: BytesMut,
}

impl Incoming {
    /// The message that this frame completes, if it does.
    ///
    /// # Errors
    /// A kind of frame that there is not, or a message that grows too long.
    pub fn take(&mut self, mut frame: BytesMut) -> io::Result<Option<Bytes>> {
        if frame.is_empty() {
            return Ok(None);
        }
        match frame.get_u8() {
            WHOLE => Ok(Some(frame.freeze())),
            kind @ (PIECE | LAST) => {
                if self.long.len() + frame.len() > FRAME_BYTES_MAX {
                    let why = format!("a message of more than {FRAME_BYTES_MAX} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                self.long.extend_from_slice(&frame);
                Ok((kind == LAST).then(|| std::mem::take(&mut self.long).freeze()))
            }
            other => {
                let why = format!("a frame of unknown kind {other}");
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::codec::Decoder;

    use super::*;

    fn receive(sent: &mut BytesMut) -> Vec<Bytes> {
        let (mut codec, mut incoming, mut heard) = (codec(), Incoming::default(), Vec::new());
        while let Some(frame) = codec.decode(sent).expect("whole frames") {
            heard.extend(incoming.take(frame).expect("known kinds"));
        }
        heard
    }

    #[test]
    fn short_messages_go_between_the_pieces_of_long_ones() {
        let (mut outgoing, mut out) = (Outgoing::new(usize::MAX), BytesMut::new());
        let long: Bytes = (0..=255).cycle().take(2 * FRAGMENT_BYTES + 7).collect();
        let other = Bytes::from(vec![9; FRAGMENT_BYTES + 1]);
        let short = |byte: u8| Bytes::from(vec![byte; FRAGMENT_BYTES.min(1000 * usize::from(byte))]);
        for message in [&long, &other, &short(1)] {
            outgoing.put(message.clone(), &mut out).expect("it fits");
        }
        let mut turns = 0;
        while !outgoing.is_empty() {
            outgoing.put_piece(&mut out).expect("it fits");
            turns += 1;
            outgoing.put(short(turns + 1), &mut out).expect("it fits");
            Outgoing::put_beat(&mut out);
        }
        assert_eq!(turns, 5, "three pieces and two");
        let heard = receive(&mut out);
        let expected = [
            short(1),
            short(2),
            short(3),
            long,
            short(4),
            short(5),
            other,
            short(6),
        ];
        assert!(
            heard == expected,
            "{:?}",
            heard.iter().map(Bytes::len).collect::<Vec<_>>()
        );
    }

    #[test]
    fn nonsense_is_an_error_and_a_message_without_end_as_well() {
        let mut incoming = Incoming::default();
        assert!(incoming.take(BytesMut::from(&[7, 1][..])).is_err());
        let mut piece = BytesMut::from(&[PIECE][..]);
        piece.resize(FRAME_BYTES_MAX / 2, 0);
        assert_eq!(incoming.take(piece.clone()).ok(), Some(None));
        assert_eq!(incoming.take(piece.clone()).ok(), Some(None));
        assert!(incoming.take(piece).is_err());
    }
}
