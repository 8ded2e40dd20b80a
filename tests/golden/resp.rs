//! RESP2 and RESP3 replies: a reader, and the one-line form they are recorded in.

use std::io::{self, BufRead, Error, ErrorKind};

const LONGEST_BULK: usize = 1 << 26;

pub enum Reply {
    /// A reply with nothing inside, already rendered.
    Text(String),
    Integer(i64),
    Bulk(Vec<u8>),
    /// An array, a set or a push, told apart by the mark.
    List(&'static str, Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
}

fn escape(data: &[u8], quote: &str) -> String {
    let mut out = String::new();
    for &byte in data {
        match byte {
            b'"' => out.push_str(quote),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => out.extend(format!("\\x{byte:02x}").chars()),
        }
    }
    out
}

fn quote(data: &[u8]) -> String {
    format!("\"{}\"", escape(data, "\\\""))
}

/// An error's text, its quotes left bare and a trailing blank made visible.
fn error_text(data: &[u8]) -> String {
    let text = escape(data, "\"");
    match text.strip_suffix(' ') {
        Some(shorter) => format!("(error) {shorter}\\x20"),
        None => format!("(error) {text}"),
    }
}

pub fn render(reply: &Reply) -> String {
    match reply {
        Reply::Text(text) => text.clone(),
        Reply::Integer(integer) => format!("(integer) {integer}"),
        Reply::Bulk(data) => quote(data),
        Reply::List(mark, items) => {
            let items: Vec<String> = items.iter().map(render).collect();
            format!("{mark}[{}]", items.join(", "))
        }
        Reply::Map(pairs) => {
            let pair = |(key, value): &(Reply, Reply)| format!("{}: {}", render(key), render(value));
            let pairs: Vec<String> = pairs.iter().map(pair).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

pub fn malformed(what: &str, data: &[u8]) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{what}: {}", quote(data)))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(text) => Ok(text.to_vec()),
        None if line.is_empty() => Err(Error::new(ErrorKind::UnexpectedEof, "connection closed")),
        None => Err(malformed("an unfinished line", &line)),
    }
}

fn read_blob(reader: &mut impl BufRead, size: usize) -> io::Result<Vec<u8>> {
    let mut data = vec![0; size + 2];
    reader.read_exact(&mut data)?;
    match data.strip_suffix(b"\r\n") {
        Some(text) => Ok(text.to_vec()),
        None => Err(malformed("a string that does not end in CR LF", &data)),
    }
}

pub fn read_reply(reader: &mut impl BufRead) -> io::Result<Reply> {
    let line = read_line(reader)?;
    let wrong = || malformed("not a reply", &line);
    let (&kind, rest) = line.split_first().ok_or_else(wrong)?;
    let number = || -> io::Result<i64> {
        let text = std::str::from_utf8(rest).map_err(|_| wrong())?;
        text.parse().map_err(|_| wrong())
    };
    let size = || match usize::try_from(number()?) {
        Ok(size) if size <= LONGEST_BULK => Ok(size),
        _ => Err(wrong()),
    };
    let text = |text: &str| Ok(Reply::Text(text.to_owned()));
    match (kind, rest) {
        (b'+', word) if !word.is_empty() && word.iter().all(u8::is_ascii_alphabetic) => {
            text(&String::from_utf8_lossy(word))
        }
        (b'+', _) => text(&format!("(simple) {}", quote(rest))),
        (b'-', _) => text(&error_text(rest)),
        (b':', _) => Ok(Reply::Integer(number()?)),
        (b'$', b"-1") => text("(nil)"),
        (b'$', _) => Ok(Reply::Bulk(read_blob(reader, size()?)?)),
        (b'*', b"-1") => text("(nil-array)"),
        (b'*' | b'~' | b'>', _) => {
            let mark = match kind {
                b'~' => "~",
                b'>' => ">",
                _ => "",
            };
            let items = (0..size()?)
                .map(|_| read_reply(reader))
                .collect::<io::Result<_>>()?;
            Ok(Reply::List(mark, items))
        }
        (b'%', _) => {
            let pair = |_| Ok((read_reply(reader)?, read_reply(reader)?));
            Ok(Reply::Map((0..size()?).map(pair).collect::<io::Result<_>>()?))
        }
        (b'_', b"") => text("(null)"),
        (b'#', b"t") => text("(true)"),
        (b'#', b"f") => text("(false)"),
        (b',', _) => text(&format!("(double) {}", escape(rest, "\""))),
        (b'(', _) => text(&format!("(big) {}", escape(rest, "\""))),
        (b'!', _) => text(&format!("(bulk-error) {}", quote(&read_blob(reader, size()?)?))),
        (b'=', _) => text(&format!("(verbatim) {}", quote(&read_blob(reader, size()?)?))),
        _ => Err(wrong()),
    }
}

/// Sorts every array that holds no other array.
pub fn in_order(reply: Reply) -> Reply {
    let Reply::List(mark, mut items) = reply else {
        return reply;
    };
    if items
        .iter()
        .any(|item| matches!(item, Reply::List(..) | Reply::Map(_)))
    {
        items = items.into_iter().map(in_order).collect();
    } else {
        items.sort_by_key(render);
    }
    Reply::List(mark, items)
}

/// Replaces the values of these keys, in a map or an array of pairs.
pub fn masked(mut reply: Reply, keys: &[String]) -> Reply {
    let hide = |key: &Reply, value: &mut Reply| {
        if matches!(key, Reply::Bulk(name) if keys.iter().any(|key| key.as_bytes() == name)) {
            *value = Reply::Text("*".to_owned());
        }
    };
    match &mut reply {
        Reply::Map(pairs) => pairs.iter_mut().for_each(|(key, value)| hide(key, value)),
        Reply::List(_, items) => {
            for pair in items.chunks_exact_mut(2) {
                if let [key, value] = pair {
                    hide(key, value);
                }
            }
        }
        _ => {}
    }
    reply
}
