//! `SUBSCRIBE` and its like, `PUBLISH`, `PUBSUB`.

use bytes::Bytes;

use super::client::{arity, text};
use super::session::Session;
use crate::base::Reply;
use crate::cluster::{Kind, Listener, Message, Node};
use crate::machine::glob::matches;
use crate::resp::Protocol;

/// Of these the count in a confirmation is the sum.
const PLAIN: &[Kind] = &[Kind::Channel, Kind::Pattern];
const SHARD: &[Kind] = &[Kind::ShardChannel];

fn counted(kind: Kind) -> &'static [Kind] {
    if kind == Kind::ShardChannel { SHARD } else { PLAIN }
}

pub fn push(word: &'static str, parts: impl IntoIterator<Item = Reply>) -> Reply {
    Reply::Push(std::iter::once(Reply::bulk(word)).chain(parts).collect())
}

/// A message as its listener sees it.
pub fn shown(message: Message) -> Reply {
    let (channel, text) = (Reply::Bulk(message.channel), Reply::Bulk(message.message));
    match (message.pattern, message.kind) {
        (Some(pattern), _) => push("pmessage", [Reply::Bulk(pattern), channel, text]),
        (None, Kind::ShardChannel) => push("smessage", [channel, text]),
        (None, _) => push("message", [channel, text]),
    }
}

/// What a connection may send that listens to anything, in RESP2.
pub(super) const LISTENERS_MAY: &[&str] = &[
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
    "ping",
    "quit",
    "reset",
];

impl Session {
    /// Whether commands about data are out of place: RESP2 has no way to tell their replies from messages.
    pub(super) fn only_listens(&self) -> bool {
        self.state.protocol == Protocol::Resp2 && self.listener.as_ref().is_some_and(|l| !l.to.is_empty())
    }

    /// The commands that change what the connection listens to; each name is confirmed by itself.
    pub(super) fn listen(&mut self, name: &str, args: &[Bytes]) -> Reply {
        if self.multi.is_some() {
            return Reply::err(format!(
                "ERR {} inside MULTI is not allowed",
                name.to_ascii_uppercase()
            ));
        }
        let (kind, subscribes) = match name {
            "subscribe" => (Kind::Channel, true),
            "psubscribe" => (Kind::Pattern, true),
            "ssubscribe" => (Kind::ShardChannel, true),
            "unsubscribe" => (Kind::Channel, false),
            "punsubscribe" => (Kind::Pattern, false),
            _ => (Kind::ShardChannel, false),
        };
        let word = match (kind, subscribes) {
            (Kind::Channel, true) => "subscribe",
            (Kind::Pattern, true) => "psubscribe",
            (Kind::ShardChannel, true) => "ssubscribe",
            (Kind::Channel, false) => "unsubscribe",
            (Kind::Pattern, false) => "punsubscribe",
            (Kind::ShardChannel, false) => "sunsubscribe",
        };
        let (node, id) = (&self.node, self.state.id);
        let listener = self.listener.get_or_insert_with(|| node.pubsub().listen(id));
        let mut replies = Vec::new();
        let mut confirm = |listener: &Listener, name: Reply| {
            replies.push(push(word, [name, Reply::count(listener.count(counted(kind)))]));
        };
        if subscribes {
            for name in args {
                listener.subscribe(kind, &Bytes::copy_from_slice(name));
                confirm(listener, Reply::Bulk(name.clone()));
            }
        } else {
            let of_kind = listener.to.iter().filter(|(other, _)| *other == kind);
            let all: Vec<Bytes> = of_kind.map(|(_, name)| name.clone()).collect();
            let names = if args.is_empty() { &all[..] } else { args };
            for name in names {
                listener.unsubscribe(kind, name);
                confirm(listener, Reply::Bulk(name.clone()));
            }
            if names.is_empty() {
                confirm(listener, Reply::Nil);
            }
        }
        self.show_listening();
        let last = replies.pop().unwrap_or(Reply::Nil);
        for reply in &replies {
            self.send(reply);
        }
        last
    }

    /// Listens to nothing any more.
    pub(super) fn stop_listening(&mut self) {
        self.listener = None;
        self.show_listening();
    }

    fn show_listening(&self) {
        let count = |kind| {
            self.listener
                .as_ref()
                .map_or(0, |listener| listener.count(&[kind]))
        };
        self.client.note(|seen| {
            seen.listens = [Kind::Channel, Kind::Pattern, Kind::ShardChannel].map(count);
        });
    }
}

/// `PUBLISH channel message`, `SPUBLISH channel message`.
pub async fn publish(node: &Node, name: &str, args: &[Bytes]) -> Reply {
    let kind = if name == "spublish" {
        Kind::ShardChannel
    } else {
        Kind::Channel
    };
    let received = node.publish(kind, &args[0], &args[1]).await;
    Reply::Int(i64::try_from(received).unwrap_or(i64::MAX))
}

/// `PUBSUB CHANNELS [pattern] | NUMSUB [channel …] | NUMPAT | SHARDCHANNELS [pattern] | SHARDNUMSUB [channel …]`, of the whole cluster.
pub async fn pubsub(node: &Node, args: &[Bytes]) -> Reply {
    let (sub, rest) = (args[0].to_ascii_lowercase(), &args[1..]);
    let kind = if sub.starts_with(b"shard") {
        Kind::ShardChannel
    } else {
        Kind::Channel
    };
    match (sub.as_slice(), rest) {
        (b"channels" | b"shardchannels", [] | [_]) => {
            let all = node.listening(kind).await.into_keys();
            let wanted = all.filter(|name| rest.first().is_none_or(|pattern| matches(pattern, name)));
            Reply::Array(wanted.map(Reply::Bulk).collect())
        }
        (b"numsub" | b"shardnumsub", names) => {
            let all = node.listening(kind).await;
            let count = |name: &Bytes| {
                let count = all.get(name).copied().unwrap_or(0);
                [
                    Reply::Bulk(name.clone()),
                    Reply::Int(i64::try_from(count).unwrap_or(i64::MAX)),
                ]
            };
            Reply::Array(names.iter().flat_map(count).collect())
        }
        (b"numpat", []) => Reply::count(node.listening(Kind::Pattern).await.len()),
        (b"channels" | b"shardchannels" | b"numpat", _) => arity(&format!("pubsub|{}", text(&sub))),
        _ => Reply::err(format!(
            "ERR unknown subcommand '{}'. Try PUBSUB HELP.",
            text(&args[0])
        )),
    }
}
