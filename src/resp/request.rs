//! Requests from bytes, as they come. Lengths are checked before anything is reserved for them.

use bytes::{Buf, Bytes, BytesMut};

use crate::base::limits::{BULK_BYTES_MAX, COMMAND_ARGS_MAX, COMMAND_BYTES_MAX, INLINE_BYTES_MAX};

/// Longest header line (`*1048576`, `$8388608`).
const HEADER_BYTES_MAX: usize = 32;

/// So many cannot overflow.
const PLAIN_DIGITS: usize = 9;

/// [`COMMAND_ARGS_MAX`] as headers count.
const COMMAND_ARGS_LIMIT: i64 = 1 << 20;
const _: () = assert!(COMMAND_ARGS_LIMIT as usize == COMMAND_ARGS_MAX);

/// Arguments that there is room for before they come; most requests have fewer.
const ARGS_RESERVED: usize = 8;

/// What a client did wrong; it is told, and disconnected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ERR Protocol error: {0}")]
pub struct ProtocolError(String);

fn fail<T>(why: impl Into<String>) -> Result<T, ProtocolError> {
    Err(ProtocolError(why.into()))
}

/// Takes requests from a buffer; keeps its place in an unfinished one, so that no byte is looked at twice.
#[derive(Debug, Default)]
pub struct RequestReader {
    args: Vec<Bytes>,
    /// Arguments still to come.
    left: usize,
    /// Length of the argument being read, once its header is in.
    bulk: Option<usize>,
    bytes: usize,
}

impl RequestReader {
    /// The next whole request, its name first; `None` if more bytes are needed. Empty requests are skipped.
    ///
    /// # Errors
    /// [`ProtocolError`]; the stream cannot be read on.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if self.left == 0 {
                match buffer.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        let Some(count) = header(buffer, "invalid multibulk length")? else {
                            return Ok(None);
                        };
                        if count > COMMAND_ARGS_LIMIT {
                            return fail("invalid multibulk length");
                        }
                        // Zero and negative counts are empty requests.
                        self.left = usize::try_from(count).unwrap_or(0);
                        self.args.reserve_exact(self.left.min(ARGS_RESERVED));
                        self.bytes = 0;
                        continue;
                    }
                    Some(_) => match inline(buffer)? {
                        None => return Ok(None),
                        Some(args) if args.is_empty() => continue,
                        Some(args) => return Ok(Some(args)),
                    },
                }
            }
            if !self.argument(buffer)? {
                return Ok(None);
            }
            if self.left == 0 {
                return Ok(Some(std::mem::take(&mut self.args)));
            }
        }
    }

    /// Bytes that the arguments of the unfinished request have, with the one that is being read.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        if self.left == 0 { 0 } else { self.bytes }
    }

    /// The most that these can be when it is finished.
    #[must_use]
    pub fn expected(&self) -> usize {
        if self.left == 1 {
            self.bytes
        } else {
            COMMAND_BYTES_MAX
        }
    }

    /// Bytes that the argument being read lacks.
    #[must_use]
    pub fn missing(&self, buffer: &BytesMut) -> usize {
        self.bulk
            .map_or(0, |length| (length + 2).saturating_sub(buffer.len()))
    }

    fn argument(&mut self, buffer: &mut BytesMut) -> Result<bool, ProtocolError> {
        let length = match self.bulk {
            Some(length) => length,
            None => {
                match buffer.first() {
                    None => return Ok(false),
                    Some(b'$') => {}
                    Some(&other) => return fail(format!("expected '$', got '{}'", char::from(other))),
                }
                let Some(length) = header(buffer, "invalid bulk length")? else {
                    return Ok(false);
                };
                let length = usize::try_from(length)
                    .ok()
                    .filter(|&length| length <= BULK_BYTES_MAX);
                let Some(length) = length else {
                    return fail(format!(
                        "invalid bulk length (an argument may have {BULK_BYTES_MAX} bytes at the most)"
                    ));
                };
                self.bytes += length;
                if self.bytes > COMMAND_BYTES_MAX {
                    return fail(format!(
                        "a command may have {COMMAND_BYTES_MAX} bytes at the most"
                    ));
                }
                self.bulk = Some(length);
                length
            }
        };
        if buffer.len() < length + 2 {
            return Ok(false);
        }
        self.args.push(buffer.split_to(length).freeze());
        buffer.advance(2);
        self.bulk = None;
        self.left -= 1;
        Ok(true)
    }
}

/// A header line's number, consumed; `None` if the line is not whole yet.
fn header(buffer: &mut BytesMut, wrong: &str) -> Result<Option<i64>, ProtocolError> {
    if let Some((number, bytes)) = plain_header(buffer) {
        buffer.advance(bytes);
        return Ok(Some(number));
    }
    let Some(end) = buffer.iter().take(HEADER_BYTES_MAX).position(|&b| b == b'\n') else {
        return if buffer.len() >= HEADER_BYTES_MAX {
            fail(wrong)
        } else {
            Ok(None)
        };
    };
    let line = &buffer[1..end];
    let digits = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line));
    let number = digits.ok().and_then(|digits| digits.parse().ok());
    buffer.advance(end + 1);
    number.map_or_else(|| fail(wrong), |number| Ok(Some(number)))
}

/// What almost all are: a few digits. There is one to each argument. The number, and the line's bytes.
fn plain_header(buffer: &[u8]) -> Option<(i64, usize)> {
    let mut number = 0;
    for (at, &byte) in buffer.iter().enumerate().take(PLAIN_DIGITS + 2).skip(1) {
        match byte {
            b'0'..=b'9' => number = number * 10 + i64::from(byte - b'0'),
            b'\r' if at > 1 && buffer.get(at + 1) == Some(&b'\n') => return Some((number, at + 2)),
            _ => return None,
        }
    }
    None
}

/// An inline request's arguments: words, `"quoted \n text"`, `'quoted text'`.
fn inline(buffer: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
    let Some(end) = buffer.iter().position(|&b| b == b'\n') else {
        return if buffer.len() > INLINE_BYTES_MAX {
            fail("too big inline request")
        } else {
            Ok(None)
        };
    };
    if end > INLINE_BYTES_MAX {
        return fail("too big inline request");
    }
    let line = buffer.split_to(end + 1);
    match split(line[..end].strip_suffix(b"\r").unwrap_or(&line[..end])) {
        Some(args) => Ok(Some(args)),
        None => fail("unbalanced quotes in request"),
    }
}

fn split(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut args = Vec::new();
    let mut rest = line.iter().copied().peekable();
    loop {
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(&first) = rest.peek() else {
            return Some(args);
        };
        let mut arg = Vec::new();
        if first == b'"' || first == b'\'' {
            rest.next();
            loop {
                match rest.next()? {
                    quote if quote == first => break,
                    b'\\' if first == b'"' => arg.push(escape(&mut rest)?),
                    b'\\' if rest.next_if_eq(&b'\'').is_some() => arg.push(b'\''),
                    other => arg.push(other),
                }
            }
            if rest.peek().is_some_and(|b| !b.is_ascii_whitespace()) {
                return None;
            }
        } else {
            while let Some(byte) = rest.next_if(|b| !b.is_ascii_whitespace()) {
                arg.push(byte);
            }
        }
        args.push(arg.into());
    }
}

fn escape(rest: &mut std::iter::Peekable<impl Iterator<Item = u8> + Clone>) -> Option<u8> {
    Some(match rest.next()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        b'x' => {
            let digits: Vec<u8> = rest.clone().take(2).collect();
            let value = std::str::from_utf8(&digits)
                .ok()
                .and_then(|text| u8::from_str_radix(text, 16).ok());
            match value.filter(|_| digits.len() == 2) {
                Some(value) => {
                    rest.next();
                    rest.next();
                    value
                }
                None => b'x',
            }
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8], step: usize) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        let (mut reader, mut buffer, mut found) = (RequestReader::default(), BytesMut::new(), Vec::new());
        for piece in input.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(request) = reader.next(&mut buffer)? {
                found.push(request);
            }
        }
        Ok(found)
    }

    #[test]
    fn requests_are_found_however_they_are_cut() {
        let input =
            b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*0\r\nPING \"a \\x41\\n\" 'b'\r\n\r\n*1\r\n$4\r\nPING\r\n";
        let whole = all(input, input.len()).expect("parses");
        assert_eq!(
            whole,
            [vec!["GET", "a"], vec!["PING", "a A\n", "b"], vec!["PING"]]
        );
        for step in 1..20 {
            assert_eq!(all(input, step).expect("parses"), whole, "cut every {step} bytes");
        }
    }

    #[test]
    fn lengths_are_read_in_whatever_way_they_are_written() {
        for length in ["4", "004", "+4", "0000000000000000004"] {
            for end in ["\r\n", "\n"] {
                let input = format!("*1{end}${length}{end}PING\r\n");
                for step in 1..input.len() {
                    let found = all(input.as_bytes(), step).expect("parses");
                    assert_eq!(found, [vec!["PING"]], "{input:?}, cut every {step} bytes");
                }
            }
        }
    }

    #[test]
    fn nonsense_is_refused_before_memory_is_spent_on_it() {
        for (input, why) in [
            ("*99999999\r\n", "invalid multibulk length"),
            ("*x\r\n", "invalid multibulk length"),
            ("*\r\n", "invalid multibulk length"),
            ("*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
            ("*1\r\n$999999999\r\n", "invalid bulk length"),
            ("*1\r\n$-1\r\n", "invalid bulk length"),
            ("*1\r\n*1\r\n", "expected '$', got '*'"),
            ("PING \"a\r\n", "unbalanced quotes in request"),
        ] {
            let told = all(input.as_bytes(), 3).err().map(|ProtocolError(told)| told);
            assert!(told.is_some_and(|told| told.starts_with(why)), "{input:?}");
        }
        let endless = vec![b'x'; INLINE_BYTES_MAX + 10];
        assert_eq!(all(&endless, 4096), fail("too big inline request"));
    }
}
