//! Replies to bytes. Scalars by `redis-protocol`; aggregates by their header, so that maps keep their order.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use redis_protocol::error::RedisProtocolError;
use redis_protocol::resp2::encode::extend_encode_borrowed as extend2;
use redis_protocol::resp2::types::BorrowedFrame as Frame2;
use redis_protocol::resp3::encode::complete::extend_encode_borrowed as extend3;
use redis_protocol::resp3::types::{BorrowedFrame as Frame3, VerbatimStringFormat};

use crate::base::Reply;
use crate::base::float::general;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Appends `reply` to `out`.
///
/// # Errors
/// None for replies that this crate makes; the crate's own otherwise.
pub fn encode(reply: &Reply, protocol: Protocol, out: &mut BytesMut) -> Result<(), RedisProtocolError> {
    match (reply, protocol) {
        (Reply::Array(items), _) => {
            header(out, '*', items.len());
            items.iter().try_for_each(|item| encode(item, protocol, out))
        }
        (Reply::Map(pairs), _) => {
            match protocol {
                Protocol::Resp2 => header(out, '*', pairs.len() * 2),
                Protocol::Resp3 => header(out, '%', pairs.len()),
            }
            pairs.iter().try_for_each(|(key, value)| {
                encode(key, protocol, out)?;
                encode(value, protocol, out)
            })
        }
        (Reply::Push(items), _) => {
            let mark = if protocol == Protocol::Resp2 { '*' } else { '>' };
            header(out, mark, items.len());
            items.iter().try_for_each(|item| encode(item, protocol, out))
        }
        (Reply::Set(items), _) => {
            header(
                out,
                if protocol == Protocol::Resp2 { '*' } else { '~' },
                items.len(),
            );
            items.iter().try_for_each(|item| encode(item, protocol, out))
        }
        (Reply::Pairs(all) | Reply::Keyed(all), _) => {
            let keyed = matches!(reply, Reply::Keyed(_));
            pairs(all, keyed, protocol, out)
        }
        (Reply::Number(text) | Reply::BigNumber(text) | Reply::Formatted(_, text), Protocol::Resp2) => {
            encode(&Reply::Bulk(text.clone()), protocol, out)
        }
        (Reply::Number(text), _) => marked(out, b",", text),
        (Reply::BigNumber(text), _) => marked(out, b"(", text),
        (Reply::Formatted(format, text), _) => {
            header(out, '=', format.len() + 1 + text.len());
            marked(out, &[format.as_slice(), b":"].concat(), text)
        }
        (Reply::Double(number), Protocol::Resp3) => marked(out, b",", general(*number).as_bytes()),
        (Reply::Bool(yes), Protocol::Resp2) => marked(out, b":", if *yes { b"1" } else { b"0" }),
        (Reply::Bool(yes), Protocol::Resp3) => marked(out, b"#", if *yes { b"t" } else { b"f" }),
        (Reply::NilArray, Protocol::Resp2) => marked(out, b"*", b"-1"),
        // What this program says in words of its own, `OK` above all.
        (Reply::Simple(Cow::Borrowed(text)), _) => marked(out, b"+", text.as_bytes()),
        (Reply::Error(text), _) => error(out, &line(text), protocol),
        (Reply::Double(number), Protocol::Resp2) => {
            let text = general(*number);
            extend2(out, &Frame2::BulkString(text.as_bytes()), false).map(drop)
        }
        (scalar, Protocol::Resp2) => extend2(out, &scalar2(scalar), false).map(drop),
        (scalar, Protocol::Resp3) => extend3(out, &scalar3(scalar), false).map(drop),
    }
}

fn header(out: &mut BytesMut, kind: char, len: usize) {
    // It has room for whatever is written.
    let _ = write!(out, "{kind}{len}\r\n");
}

fn pairs(
    pairs: &[(Reply, Reply)],
    keyed: bool,
    protocol: Protocol,
    out: &mut BytesMut,
) -> Result<(), RedisProtocolError> {
    let flat = keyed == (protocol == Protocol::Resp3);
    let mark = if keyed && flat { '%' } else { '*' };
    let doubled = flat && !keyed;
    header(out, mark, if doubled { pairs.len() * 2 } else { pairs.len() });
    pairs.iter().try_for_each(|(first, second)| {
        if !flat {
            header(out, '*', 2);
        }
        encode(first, protocol, out)?;
        encode(second, protocol, out)
    })
}

/// A mark, what it is of, and the end of the line.
#[expect(clippy::unnecessary_wraps, reason = "the arms of a match are of one type")]
fn marked(out: &mut BytesMut, mark: &[u8], text: &[u8]) -> Result<(), RedisProtocolError> {
    out.put_slice(mark);
    out.put_slice(text);
    out.put_slice(b"\r\n");
    Ok(())
}

/// Error lines must stay lines, whatever a user's argument in them contains.
fn line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

fn error(out: &mut BytesMut, data: &str, protocol: Protocol) -> Result<(), RedisProtocolError> {
    let attributes = None;
    match protocol {
        Protocol::Resp2 => extend2(out, &Frame2::Error(data), false),
        Protocol::Resp3 => extend3(out, &Frame3::SimpleError { data, attributes }, false),
    }
    .map(drop)
}

fn scalar2(reply: &Reply) -> Frame2<'_> {
    match reply {
        Reply::Simple(text) => Frame2::SimpleString(text.as_bytes()),
        Reply::Int(n) => Frame2::Integer(*n),
        Reply::Bulk(bytes) | Reply::Verbatim(bytes) => Frame2::BulkString(bytes),
        _ => Frame2::Null,
    }
}

fn scalar3(reply: &Reply) -> Frame3<'_> {
    let attributes = None;
    match reply {
        Reply::Simple(text) => Frame3::SimpleString {
            data: text.as_bytes(),
            attributes,
        },
        Reply::Int(data) => Frame3::Number {
            data: *data,
            attributes,
        },
        Reply::Bulk(data) => Frame3::BlobString { data, attributes },
        Reply::Verbatim(data) => Frame3::VerbatimString {
            data,
            format: VerbatimStringFormat::Text,
            attributes,
        },
        _ => Frame3::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: &Reply, protocol: Protocol) -> String {
        let mut out = BytesMut::new();
        encode(reply, protocol, &mut out).expect("encodes");
        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn each_reply_has_its_form_in_both_versions() {
        let map = Reply::Map(vec![
            (Reply::bulk("b"), Reply::Int(1)),
            (Reply::bulk("a"), Reply::Nil),
        ]);
        let pairs = Reply::Pairs(vec![(Reply::bulk("b"), Reply::Double(0.5))]);
        let cases = [
            (Reply::Set(vec![Reply::Int(1)]), "*1\r\n:1\r\n", "~1\r\n:1\r\n"),
            (
                pairs,
                "*2\r\n$1\r\nb\r\n$3\r\n0.5\r\n",
                "*1\r\n*2\r\n$1\r\nb\r\n,0.5\r\n",
            ),
            (Reply::ok(), "+OK\r\n", "+OK\r\n"),
            (Reply::Simple("a b".to_owned().into()), "+a b\r\n", "+a b\r\n"),
            (Reply::Double(0.5), "$3\r\n0.5\r\n", ",0.5\r\n"),
            (Reply::err("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (Reply::Int(-7), ":-7\r\n", ":-7\r\n"),
            (Reply::bulk("a\0b"), "$3\r\na\0b\r\n", "$3\r\na\0b\r\n"),
            (Reply::Nil, "$-1\r\n", "_\r\n"),
            (Reply::NilArray, "*-1\r\n", "_\r\n"),
            (
                Reply::Array(vec![Reply::Nil, Reply::Int(1)]),
                "*2\r\n$-1\r\n:1\r\n",
                "*2\r\n_\r\n:1\r\n",
            ),
            (
                map,
                "*4\r\n$1\r\nb\r\n:1\r\n$1\r\na\r\n$-1\r\n",
                "%2\r\n$1\r\nb\r\n:1\r\n$1\r\na\r\n_\r\n",
            ),
            (Reply::Verbatim("x".into()), "$1\r\nx\r\n", "=5\r\ntxt:x\r\n"),
            (
                Reply::Formatted(*b"mkd", "x".into()),
                "$1\r\nx\r\n",
                "=5\r\nmkd:x\r\n",
            ),
            (Reply::BigNumber("12".into()), "$2\r\n12\r\n", "(12\r\n"),
            (Reply::Bool(true), ":1\r\n", "#t\r\n"),
            (Reply::Bool(false), ":0\r\n", "#f\r\n"),
        ];
        for (reply, two, three) in cases {
            assert_eq!(text(&reply, Protocol::Resp2), two);
            assert_eq!(text(&reply, Protocol::Resp3), three);
        }
    }
}
