//! `DEBUG`: what tests of clients use of it. Only with `debug_commands = true` in the config file.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::burst::{self, Item};
use super::client::text;
use super::help;
use super::session::Session;
use crate::base::Reply;
use crate::base::limits::{DEBUG_DIGEST_KEYS_MAX, DEBUG_SLEEP_MS_MAX};
use crate::cluster::{Node, Setting};
use crate::machine::commands::{self, parse_f64, parse_i64};
use crate::machine::glob::matches;
use crate::resp::Protocol;

const OFF: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local \
                   connection, otherwise you need to set this option in the configuration file, and then restart the server.";

const TYPES: &str = "ERR Wrong protocol type name. Please use one of the following: \
                     string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false";

/// Bytes of a string that patterns are matched with.
const MATCHED_BYTES_MAX: i64 = 1 << 20;

impl Session {
    /// `DEBUG SLEEP | OBJECT | SET-ACTIVE-EXPIRE | DIGEST | DIGEST-VALUE | RELOAD | STRINGMATCH-LEN | PROTOCOL | ERROR | LOG | HELP`.
    pub(super) async fn debug(&mut self, args: &[Bytes]) -> Reply {
        if !self.node.config().cluster.debug_commands {
            return Reply::err(OFF);
        }
        let node = &self.node;
        match (args[0].to_ascii_lowercase().as_slice(), &args[1..]) {
            (b"help", []) => help::reply("debug"),
            (b"sleep", [seconds]) => {
                let seconds = parse_f64(seconds).unwrap_or(0.0);
                // Everybody waits for it, as in Redis.
                let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
                let time = time.min(Duration::from_millis(DEBUG_SLEEP_MS_MAX));
                self.shared.pause.begin(time, false);
                tokio::time::sleep(time).await;
                Reply::ok()
            }
            (b"set-active-expire", [on]) => {
                let on = u64::from(parse_i64(on).is_some_and(|on| on != 0));
                node.change_settings(vec![(Setting::ActiveExpire, on)]).await;
                Reply::ok()
            }
            (b"reload", _) => node
                .save()
                .await
                .map_or_else(|why| Reply::err(format!("ERR {why}")), |()| Reply::ok()),
            (b"object", [key]) => object(node, key).await,
            (b"digest", []) => whole_digest(node).await,
            (b"digest-value", keys) => {
                let mut digests = Vec::with_capacity(keys.len());
                for key in keys {
                    digests.push(match value_digest(node, key).await {
                        Ok(digest) => Reply::Simple(hex(digest).into()),
                        Err(reply) => reply,
                    });
                }
                Reply::Array(digests)
            }
            (b"stringmatch-len", [length, pattern]) => {
                let length = parse_i64(length).unwrap_or(0).clamp(0, MATCHED_BYTES_MAX);
                let string = vec![b'A'; usize::try_from(length).unwrap_or(0)];
                Reply::Int(i64::from(matches(pattern, &string)))
            }
            (b"error", [error]) => Reply::err(text(error)),
            (b"log", [message]) => {
                tracing::warn!("DEBUG LOG: {}", text(message));
                Reply::ok()
            }
            (b"protocol", [kind]) => self.protocol_sample(kind),
            _ => help::unknown_or_arity("DEBUG", &text(&args[0])),
        }
    }

    fn protocol_sample(&mut self, kind: &Bytes) -> Reply {
        let numbers = || (0..3).map(Reply::Int);
        let resp3 = self.state.protocol == Protocol::Resp3;
        let truth = |truth: bool| Reply::Int(i64::from(truth));
        match kind.to_ascii_lowercase().as_slice() {
            b"string" => Reply::bulk("Hello World"),
            b"integer" => Reply::Int(12345),
            b"double" => Reply::Number("3.141".into()),
            // Neither big numbers nor truth values nor attributes are ever sent otherwise: as in RESP2.
            b"bignum" => Reply::bulk("1234567999999999999999999999999999999"),
            b"null" => Reply::Nil,
            b"array" => Reply::Array(numbers().collect()),
            b"set" => Reply::Set(numbers().collect()),
            b"map" => Reply::Map(
                numbers()
                    .map(|n| (n.clone(), truth(n == Reply::Int(1))))
                    .collect(),
            ),
            b"attrib" => Reply::bulk("Some real reply following the attribute"),
            b"push" if resp3 => {
                let push = vec![Reply::bulk("server-cpu-usage"), Reply::Int(42)];
                self.reply(&Reply::Push(push));
                Reply::bulk("Some real reply following the push reply")
            }
            b"push" => Reply::err("ERR RESP2 is not supported by this command"),
            b"verbatim" => Reply::Verbatim("This is a verbatim\nstring".into()),
            b"true" => truth(true),
            b"false" => truth(false),
            _ => Reply::err(TYPES),
        }
    }
}

/// One data command, by itself.
async fn ask(node: &Node, name: &str, args: &[&Bytes]) -> Reply {
    let args: Vec<Bytes> = args.iter().map(|&arg| arg.clone()).collect();
    let Some(spec) = commands::find(name.as_bytes()) else {
        return Reply::err(format!("ERR there is no command {name}"));
    };
    let item = commands::parse(spec, &args).map_or_else(Item::Ready, Item::Run);
    let replies = burst::run(node, vec![item], None).await;
    replies.into_iter().next().unwrap_or(Reply::Nil)
}

async fn object(node: &Node, key: &Bytes) -> Reply {
    let encoding = ask(node, "object", &[&Bytes::from_static(b"encoding"), key]).await;
    let bytes = ask(node, "memory|usage", &[key]).await;
    match (encoding, bytes) {
        (Reply::Bulk(encoding), Reply::Int(bytes)) => Reply::Simple(
            format!(
                "Value at:0x0 refcount:1 encoding:{} serializedlength:{bytes} lru:0 lru_seconds_idle:0",
                text(&encoding)
            )
            .into(),
        ),
        (error @ Reply::Error(_), _) | (_, error @ Reply::Error(_)) => error,
        _ => Reply::err("ERR no such key"),
    }
}

type Sum = [u8; 20];

fn hex(sum: Sum) -> String {
    sum.iter().fold(String::with_capacity(40), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn add(sum: &mut Sum, more: &[u8]) {
    sum.iter_mut().zip(more).for_each(|(a, b)| *a ^= b);
}

/// The same for the same content, however it came there; of an absent key zeros.
async fn value_digest(node: &Node, key: &Bytes) -> Result<Sum, Reply> {
    let word = Bytes::from_static;
    let kind = match ask(node, "type", &[key]).await {
        Reply::Simple(kind) => kind,
        other => return Err(other),
    };
    let (from, to, withscores) = (word(b"0"), word(b"-1"), word(b"withscores"));
    let content = match &*kind {
        "none" => return Ok(Sum::default()),
        "string" => ask(node, "get", &[key]).await,
        "list" => ask(node, "lrange", &[key, &from, &to]).await,
        "set" => ask(node, "smembers", &[key]).await,
        "hash" => ask(node, "hgetall", &[key]).await,
        "zset" => ask(node, "zrange", &[key, &from, &to, &withscores]).await,
        _ => ask(node, "xrange", &[key, &word(b"-"), &word(b"+")]).await,
    };
    let mut sum = Sum::default();
    let one = |reply: &Reply| Sha1::digest(format!("{reply:?}").as_bytes());
    match &content {
        Reply::Error(_) => return Err(content),
        // Without an order.
        Reply::Set(members) => members.iter().for_each(|member| add(&mut sum, &one(member))),
        Reply::Map(fields) => {
            for (field, value) in fields {
                let both = Reply::Array(vec![field.clone(), value.clone()]);
                add(&mut sum, &one(&both));
            }
        }
        other => add(&mut sum, &one(other)),
    }
    let expires = ask(node, "pexpiretime", &[key]).await;
    add(
        &mut sum,
        &Sha1::digest(format!("{kind} {}", expires != Reply::Int(-1))),
    );
    Ok(sum)
}

async fn whole_digest(node: &Node) -> Reply {
    let keys = match ask(node, "keys", &[&Bytes::from_static(b"*")]).await {
        Reply::Array(keys) if keys.len() <= DEBUG_DIGEST_KEYS_MAX => keys,
        Reply::Array(_) => return Reply::err("ERR there are too many keys for DEBUG DIGEST"),
        other => return other,
    };
    let mut sum = Sum::default();
    for key in keys {
        let Reply::Bulk(key) = key else { continue };
        match value_digest(node, &key).await {
            Ok(value) => {
                let both = [key.as_ref(), value.as_slice()].concat();
                add(&mut sum, &Sha1::digest(both));
            }
            Err(reply) => return reply,
        }
    }
    Reply::Simple(hex(sum).into())
}
