//! XINFO.

use bytes::Bytes;

use super::groups::wrong_arguments;
use super::{View, added_up_to, entry, has_gaps, id_reply, read};
use crate::base::Reply;
use crate::machine::commands::Done;
use crate::machine::commands::args::{Args, parse_i64, shown, subcommand};
use crate::machine::commands::table::Subcommands;
use crate::machine::values::stream::{Consumer, Group, Id, Stream};

/// Entries that Redis keeps in one node of its tree.
const NODE_ENTRIES: usize = 100;

/// Ours, and no word that a client would say: the last id alone, in an array; or none.
pub const LAST: &str = "\0last";

pub const XINFO: Subcommands = &[
    ("stream", -3),
    ("groups", 3),
    ("consumers", 4),
    ("help", 2),
    (LAST, 3),
];

fn help() -> Reply {
    let lines = [
        "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CONSUMERS <key> <groupname>",
        "GROUPS <key>",
        "STREAM <key> [FULL [COUNT <count>]",
    ];
    Reply::Array(lines.map(|line| Reply::Simple(line.into())).into())
}

fn field(name: &'static str, value: Reply) -> (Reply, Reply) {
    (Reply::Bulk(Bytes::from_static(name.as_bytes())), value)
}

/// Also one that somebody has set so high that it counts round.
fn number(n: u64) -> Reply {
    Reply::Int(n.cast_signed())
}

fn name(name: &[u8]) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(name))
}

/// Entries that the group has yet to read; nil: deleted ones make that unknown.
fn lag(stream: &Stream, group: &Group) -> Reply {
    let read = match group.read {
        _ if stream.added == 0 => Some(0),
        Some(read) if !has_gaps(stream, group.delivered) => Some(read),
        _ => added_up_to(stream, group.delivered),
    };
    read.map_or(Reply::Nil, |read| number(stream.added.wrapping_sub(read)))
}

pub fn xinfo(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (word, given) = subcommand(a, XINFO)?;
    if word == "help" {
        return Ok(help());
    }
    let key = a.key()?;
    let now = view.now();
    if word == LAST {
        let last = read(view, &key)?.map(|stream| id_reply(stream.last));
        return Ok(Reply::Array(last.into_iter().collect()));
    }
    let stream = read(view, &key)?.ok_or_else(|| Reply::err("ERR no such key"))?;
    match word.as_str() {
        "groups" => {
            let groups = stream.groups().map(|(group_name, group)| {
                Reply::Map(vec![
                    field("name", name(group_name)),
                    field("consumers", Reply::count(group.consumers().len())),
                    field("pending", Reply::count(group.pending_len())),
                    field("last-delivered-id", id_reply(group.delivered)),
                    field("entries-read", group.read.map_or(Reply::Nil, number)),
                    field("lag", lag(stream, group)),
                ])
            });
            Ok(Reply::Array(groups.collect()))
        }
        "consumers" => {
            let group_name = a.next()?;
            let group = stream.group(group_name).ok_or_else(|| {
                let (key, group) = (shown(&key), shown(group_name));
                Reply::err(format!(
                    "NOGROUP No such consumer group '{group}' for key name '{key}'"
                ))
            })?;
            let consumers = group.consumers().map(|(consumer_name, consumer)| {
                Reply::Map(vec![
                    field("name", name(consumer_name)),
                    field("pending", Reply::count(consumer.len())),
                    field("idle", number(now.saturating_sub(consumer.seen))),
                ])
            });
            Ok(Reply::Array(consumers.collect()))
        }
        _ => about(stream, &given, a),
    }
}

/// `[FULL [COUNT n]]`
fn about(stream: &Stream, given: &[u8], a: &mut Args<'_>) -> Done {
    let mut full = None;
    if let Some(word) = a.word() {
        if word != "FULL" {
            return Err(wrong_arguments(a, given));
        }
        let count = match (a.word().as_deref(), a.next()) {
            (None, _) => 10,
            (Some("COUNT"), Ok(count)) => parse_i64(count).ok_or_else(Reply::not_an_integer)?,
            _ => return Err(wrong_arguments(a, given)),
        };
        if a.remaining() > 0 {
            return Err(wrong_arguments(a, given));
        }
        full = Some(match usize::try_from(count) {
            Err(_) => 10,
            Ok(0) => usize::MAX,
            Ok(count) => count,
        });
    }
    let nodes = stream.len().div_ceil(NODE_ENTRIES);
    let first = stream.first();
    let mut fields = vec![
        field("length", Reply::count(stream.len())),
        field("radix-tree-keys", Reply::count(nodes)),
        field("radix-tree-nodes", Reply::count(nodes + 1)),
        field("last-generated-id", id_reply(stream.last)),
        field("max-deleted-entry-id", id_reply(stream.max_deleted)),
        field("entries-added", number(stream.added)),
        field(
            "recorded-first-entry-id",
            id_reply(first.map_or(Id::ZERO, |(id, _)| id)),
        ),
    ];
    let Some(count) = full else {
        let edge = |found: Option<(Id, &_)>| found.map_or(Reply::Nil, |(id, fields)| entry(id, fields));
        fields.extend([
            field("groups", Reply::count(stream.groups().len())),
            field("first-entry", edge(first)),
            field("last-entry", edge(stream.newest())),
        ]);
        return Ok(Reply::Map(fields));
    };
    let entries = stream.range(..).take(count).map(|(id, fields)| entry(id, fields));
    let groups = stream
        .groups()
        .map(|(group_name, group)| group_in_full(stream, group_name, group, count));
    fields.extend([
        field("entries", Reply::Array(entries.collect())),
        field("groups", Reply::Array(groups.collect())),
    ]);
    Ok(Reply::Map(fields))
}

fn group_in_full(stream: &Stream, group_name: &[u8], group: &Group, count: usize) -> Reply {
    let pending = group.pending(Id::ZERO).take(count).map(|(id, pending)| {
        Reply::Array(vec![
            id_reply(id),
            name(&pending.consumer),
            number(pending.at),
            number(pending.times),
        ])
    });
    let consumers = group
        .consumers()
        .map(|(consumer_name, consumer)| consumer_in_full(group, consumer_name, consumer, count));
    Reply::Map(vec![
        field("name", name(group_name)),
        field("last-delivered-id", id_reply(group.delivered)),
        field("entries-read", group.read.map_or(Reply::Nil, number)),
        field("lag", lag(stream, group)),
        field("pel-count", Reply::count(group.pending_len())),
        field("pending", Reply::Array(pending.collect())),
        field("consumers", Reply::Array(consumers.collect())),
    ])
}

fn consumer_in_full(group: &Group, consumer_name: &[u8], consumer: &Consumer, count: usize) -> Reply {
    let pending = consumer
        .pending(Id::ZERO)
        .filter_map(|id| Some((id, group.pending_of(id)?)));
    let pending = pending
        .take(count)
        .map(|(id, pending)| Reply::Array(vec![id_reply(id), number(pending.at), number(pending.times)]));
    Reply::Map(vec![
        field("name", name(consumer_name)),
        field("seen-time", number(consumer.seen)),
        field("pel-count", Reply::count(consumer.len())),
        field("pending", Reply::Array(pending.collect())),
    ])
}
