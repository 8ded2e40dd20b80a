//! Requests from bytes, as they come: lines, and the data that some announce. What is not wanted is counted, not kept.

use bytes::{Buf, Bytes, BytesMut};

use super::Asked;
use super::line::{Head, Line, parse};
use crate::base::limits::{MEMCACHED_GETS_BYTES_MAX, MEMCACHED_LINE_BYTES_MAX};

/// The first byte of a request of the binary protocol.
const BINARY: u8 = 0x80;
const TOO_LONG: &str = "CLIENT_ERROR line too long";
/// Blanks that may stand before a command.
const BLANKS_MAX: usize = 100;

/// Takes requests from a buffer; keeps its place in an unfinished one.
#[derive(Debug)]
pub(super) struct Reader {
    /// Bytes that an item may have.
    item_max: usize,
    /// A command that waits for its data.
    head: Option<Box<Head>>,
    /// Bytes to pass over.
    swallow: usize,
    /// Bytes of an unfinished line that have been looked at.
    looked: usize,
}

impl Reader {
    pub(super) fn new(item_max: usize) -> Reader {
        Reader {
            item_max,
            head: None,
            swallow: 0,
            looked: 0,
        }
    }

    /// The next whole request; `None` if more bytes are needed.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Option<Asked> {
        loop {
            let passed = self.swallow.min(buffer.len());
            buffer.advance(passed);
            self.swallow -= passed;
            if self.swallow > 0 {
                return None;
            }
            if let Some(head) = self.head.take() {
                if buffer.len() < head.length + 2 {
                    self.head = Some(head);
                    return None;
                }
                let mut data = buffer.split_to(head.length + 2);
                let end = data.split_off(head.length);
                return Some(head.with(data.freeze(), end.as_ref() == b"\r\n"));
            }
            let line = match self.line(buffer)? {
                Ok(line) => line,
                Err(why) => return Some(Asked::close(Some(why))),
            };
            match parse(&line) {
                Line::Asked(asked) => return Some(asked),
                Line::Refused(asked, length) => {
                    self.swallow = length + 2;
                    return Some(asked);
                }
                Line::Head(head) if head.length > self.item_max => {
                    self.swallow = head.length + 2;
                    return Some(head.too_large());
                }
                Line::Head(head) => self.head = Some(head),
            }
        }
    }

    /// The next line, without its end; or why there can be none.
    fn line(&mut self, buffer: &mut BytesMut) -> Option<Result<Bytes, &'static str>> {
        if buffer.first() == Some(&BINARY) {
            return Some(Err("CLIENT_ERROR the binary protocol is not spoken here"));
        }
        let most = longest(buffer);
        let end = buffer[self.looked..].iter().position(|&byte| byte == b'\n');
        let Some(end) = end.map(|end| self.looked + end) else {
            self.looked = buffer.len();
            return (self.looked > most).then_some(Err(TOO_LONG));
        };
        self.looked = 0;
        if end > most {
            return Some(Err(TOO_LONG));
        }
        let line = buffer.split_to(end + 1).freeze();
        let kept = if line[..end].ends_with(b"\r") {
            end - 1
        } else {
            end
        };
        Some(Ok(line.slice(..kept)))
    }

    /// Bytes of the data that the unfinished request waits for.
    pub(super) fn unfinished(&self) -> usize {
        self.head.as_ref().map_or(0, |head| head.length)
    }

    /// Bytes that these lack.
    pub(super) fn missing(&self, buffer: &BytesMut) -> usize {
        let head = self.head.as_ref();
        head.map_or(0, |head| (head.length + 2).saturating_sub(buffer.len()))
    }
}

/// Bytes that the line may have that the buffer begins with.
fn longest(buffer: &[u8]) -> usize {
    let blanks = buffer
        .iter()
        .take(BLANKS_MAX)
        .take_while(|&&byte| byte == b' ')
        .count();
    let line = &buffer[blanks..];
    if line.starts_with(b"get ") || line.starts_with(b"gets ") {
        MEMCACHED_GETS_BYTES_MAX
    } else {
        MEMCACHED_LINE_BYTES_MAX
    }
}
