//! XREAD and XREADGROUP.

use bytes::Bytes;
use smallvec::SmallVec;

use super::info::LAST;
use super::{View, added_up_to, edit_group, entry, has_gaps, id_reply, ids, no_group, read};
use crate::base::{Millis, Reply};
use crate::machine::commands::args::{Args, parse_i64};
use crate::machine::commands::blocking::{Need, Waits};
use crate::machine::commands::table::{self, Movable, Spec};
use crate::machine::commands::{Command, Done};
use crate::machine::values::stream::{Group, Id, Stream};

/// From where on a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// `$`: what comes after this moment.
    Now,
    /// `>`: what the group has not delivered.
    New,
    After(Id),
}

/// The arguments of either command.
#[derive(Debug)]
struct Reading {
    /// Group and consumer.
    group: Option<(Bytes, Bytes)>,
    count: usize,
    timeout_ms: Option<Millis>,
    acknowledged: bool,
    /// What is wrong with an id is said after what is wrong with its group.
    streams: Vec<(Bytes, Result<From, Reply>)>,
}

impl From {
    fn parse(text: &[u8], in_group: bool) -> Result<From, Reply> {
        match (text, in_group) {
            (b"$", false) => Ok(From::Now),
            (b"$", true) => Err(Reply::err(
                "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                 consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return \
                 an empty result set.",
            )),
            (b">", true) => Ok(From::New),
            (b">", false) => Err(Reply::err(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            )),
            (id, _) => ids::exact(id, 0).map(From::After),
        }
    }
}

fn timeout(text: &[u8]) -> Result<Millis, Reply> {
    let ms = parse_i64(text).ok_or_else(|| Reply::err("ERR timeout is not an integer or out of range"))?;
    Millis::try_from(ms).map_err(|_| Reply::err("ERR timeout is negative"))
}

fn only_for_groups(option: &str) -> Reply {
    Reply::err(format!(
        "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
    ))
}

impl Reading {
    fn parse(a: &mut Args<'_>) -> Result<Reading, Reply> {
        let in_group = a.name() == "xreadgroup";
        let mut reading = Reading {
            group: None,
            count: usize::MAX,
            timeout_ms: None,
            acknowledged: false,
            streams: Vec::new(),
        };
        loop {
            match a.word().ok_or_else(Reply::syntax)?.as_str() {
                "BLOCK" => reading.timeout_ms = Some(timeout(a.value()?)?),
                "COUNT" => {
                    let count = parse_i64(a.value()?).ok_or_else(Reply::not_an_integer)?;
                    // Zero and less stand for all.
                    let count = usize::try_from(count).ok().filter(|count| *count > 0);
                    reading.count = count.unwrap_or(usize::MAX);
                }
                "GROUP" if !in_group => return Err(only_for_groups("GROUP")),
                "GROUP" => reading.group = Some((a.value()?.clone(), a.value()?.clone())),
                "NOACK" if !in_group => return Err(only_for_groups("NOACK")),
                "NOACK" => reading.acknowledged = true,
                "STREAMS" => break,
                _ => return Err(Reply::syntax()),
            }
        }
        let rest = a.all();
        if rest.is_empty() {
            return Err(Reply::syntax());
        }
        if !rest.len().is_multiple_of(2) {
            return Err(Reply::err(
                "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
            ));
        }
        if in_group && reading.group.is_none() {
            return Err(Reply::err("ERR Missing GROUP option for XREADGROUP"));
        }
        let (keys, from) = rest.split_at(rest.len() / 2);
        for (key, from) in keys.iter().zip(from) {
            reading.streams.push((key.clone(), From::parse(from, in_group)));
        }
        Ok(reading)
    }
}

/// The arguments up to `STREAMS`, the keys and the ids behind it; `None`: they cannot be told.
fn parts(args: &[Bytes]) -> Option<(&[Bytes], &[Bytes], &[Bytes])> {
    let mut at = 0;
    while let Some(word) = args.get(at) {
        at += match word.to_ascii_uppercase().as_slice() {
            b"STREAMS" => break,
            b"BLOCK" | b"COUNT" => 2,
            b"GROUP" => 3,
            b"NOACK" => 1,
            _ => return None,
        };
    }
    let (options, rest) = args.split_at_checked(at + 1)?;
    let (keys, ids) = rest.split_at(rest.len() / 2);
    (keys.len() == ids.len()).then_some((options, keys, ids))
}

/// Whether an argument says BLOCK, and none before it is wrong.
#[must_use]
pub fn says_block(spec: &Spec, args: &[Bytes]) -> bool {
    let in_group = spec.name == "xreadgroup";
    let mut a = Args::new(spec.name, args);
    while spec.movable == Some(Movable::Streams) {
        let fine = match a.word().as_deref() {
            Some("BLOCK") => return a.remaining() > 0,
            Some("COUNT") => a.value().is_ok_and(|count| parse_i64(count).is_some()),
            Some("GROUP") => in_group && a.value().is_ok() && a.value().is_ok(),
            Some("NOACK") => in_group,
            _ => false,
        };
        if !fine {
            return false;
        }
    }
    false
}

/// The keys among the arguments; none if they cannot be told.
pub fn keys(args: &[Bytes]) -> SmallVec<[&Bytes; 2]> {
    parts(args).map_or_else(SmallVec::new, |(_, keys, _)| keys.iter().collect())
}

/// The same arguments with the stream at this place alone; `None`: not of these commands.
pub fn share(spec: &Spec, args: &[Bytes], at: usize) -> Option<Vec<Bytes>> {
    if spec.movable != Some(Movable::Streams) {
        return None;
    }
    let (options, keys, ids) = parts(args)?;
    let stream = [keys.get(at)?, ids.get(at)?];
    Some(options.iter().chain(stream).cloned().collect())
}

impl Command {
    /// What tells the last ids of the streams that are read from this moment on, before the command may wait.
    #[must_use]
    pub fn looks_before_waiting(&self) -> Vec<Command> {
        let Command::Call(call) = self else {
            return Vec::new();
        };
        let ("xread", args) = call.parts() else {
            return Vec::new();
        };
        let Some((_, keys, ids)) = parts(args) else {
            return Vec::new();
        };
        let unknown = keys.iter().zip(ids).filter(|(_, id)| **id == "$");
        unknown.filter_map(|(key, _)| last_id(key)).collect()
    }

    /// The same command with those ids, from what the looks have replied.
    ///
    /// # Errors
    /// The reply to whoever asked, if the ids cannot be told.
    pub fn resolved(&self, looks: Vec<Reply>) -> Result<Command, Reply> {
        let Command::Call(call) = self else {
            return Ok(self.clone());
        };
        let (name, args) = call.parts();
        let mut args = args.to_vec();
        let first = parts(&args).map_or(args.len(), |(_, _, ids)| args.len() - ids.len());
        let unknown = args[first..].iter_mut().filter(|id| **id == "$");
        for (id, look) in unknown.zip(looks) {
            *id = match look {
                Reply::Array(ids) => match ids.into_iter().next() {
                    Some(Reply::Bulk(last)) => last,
                    _ => Bytes::from_static(b"0-0"),
                },
                other => return Err(other),
            };
        }
        let spec = table::find(name.as_bytes()).ok_or_else(Reply::syntax)?;
        table::parse(spec, &args)
    }
}

impl Command {
    /// What tells of each of its streams, in their order, whether the command fails there; none of other commands.
    #[must_use]
    pub fn looks_after_failing(&self) -> Vec<Command> {
        let look = |reading: &Reading| {
            let (group, _) = reading.group.as_ref()?;
            let spec = table::find(b"xpending")?;
            let keys = reading.streams.iter();
            let looks = keys.map(|(key, _)| table::parse(spec, &[key.clone(), group.clone()]).ok());
            looks.collect::<Option<Vec<Command>>>()
        };
        self.group_reading().as_ref().and_then(look).unwrap_or_default()
    }

    /// The first error that these looks have shown. `None`: it would succeed.
    #[must_use]
    pub fn first_failure(&self, looks: Vec<Reply>) -> Option<Reply> {
        let streams = self.group_reading()?.streams.into_iter().zip(looks);
        let mut failures = streams.filter_map(|((_, from), look)| match look {
            Reply::Error(_) => Some(in_group(look)),
            _ => from.err(),
        });
        failures.next()
    }

    fn group_reading(&self) -> Option<Reading> {
        let Command::Call(call) = self else { return None };
        let ("xreadgroup", args) = call.parts() else {
            return None;
        };
        Reading::parse(&mut Args::new("xreadgroup", args)).ok()
    }
}

/// The error of a stream or a group that is not there, as XREADGROUP says it.
fn in_group(error: Reply) -> Reply {
    match error {
        Reply::Error(text) if text.starts_with("NOGROUP") => {
            Reply::Error(format!("{text} in XREADGROUP with GROUP option"))
        }
        other => other,
    }
}

fn last_id(key: &Bytes) -> Option<Command> {
    let spec = table::find(b"xinfo")?;
    let args = [Bytes::from_static(LAST.as_bytes()), key.clone()];
    table::parse(spec, &args).ok()
}

/// What a command waits for; `None`: it never waits with these arguments.
pub fn waits(name: &str, args: &[Bytes]) -> Option<Waits> {
    let reading = Reading::parse(&mut Args::new(name, args)).ok()?;
    let timeout_ms = reading.timeout_ms?;
    let need = |from: &Result<From, Reply>| match (from.as_ref().ok()?, &reading.group) {
        (From::New, Some((group, _))) => Some(Need::Undelivered(Bytes::copy_from_slice(group))),
        (From::After(id), None) => Some(Need::After(*id)),
        (From::Now, None) => Some(Need::After(Id::MAX)),
        // A consumer's history is there or not.
        _ => None,
    };
    let keys = reading.streams.iter();
    let keys = keys.map(|(key, from)| need(from).map(|need| (key.clone(), need)));
    Some(Waits {
        keys: keys.collect::<Option<_>>()?,
        timeout_ms: (timeout_ms > 0).then_some(timeout_ms),
    })
}

fn found(streams: Vec<(Reply, Reply)>) -> Reply {
    if streams.is_empty() {
        Reply::NilArray
    } else {
        Reply::Keyed(streams)
    }
}

pub fn xread(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let reading = Reading::parse(a)?;
    for (key, from) in &reading.streams {
        read(view, key)?;
        from.clone()?;
    }
    let mut streams = Vec::new();
    for (key, from) in reading.streams {
        let (Some(stream), From::After(id)) = (read(view, &key)?, from?) else {
            continue;
        };
        let entries: Vec<Reply> = stream
            .after(id)
            .take(reading.count)
            .map(|(id, fields)| entry(id, fields))
            .collect();
        if !entries.is_empty() {
            streams.push((Reply::Bulk(key), Reply::Array(entries)));
        }
    }
    Ok(found(streams))
}

pub fn xreadgroup(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let reading = Reading::parse(a)?;
    let Some((group, consumer)) = &reading.group else {
        return Err(Reply::syntax());
    };
    // Of all streams before any of them is read: an error delivers nothing.
    for (key, from) in &reading.streams {
        let known = read(view, key)?.is_some_and(|stream| stream.group(group).is_some());
        if !known {
            return Err(in_group(no_group(key, group)));
        }
        from.clone()?;
    }
    let now = view.now();
    let mut streams = Vec::new();
    for (key, from) in &reading.streams {
        let delivered = |stream: &Stream| stream.group(group).map(|group| group.delivered);
        let is_new = |stream: &Stream| delivered(stream).is_some_and(|id| stream.after(id).next().is_some());
        // Of a consumer that nothing is delivered to there is no trace.
        if *from == Ok(From::New) && !read(view, key)?.is_some_and(is_new) {
            continue;
        }
        let entries = edit_group(view, key, group, |stream, group| {
            group.see(consumer, now);
            match from {
                Ok(From::After(id)) => again(stream, group, consumer, *id, reading.count, now),
                _ => deliver(stream, group, reading.count, now, consumer, reading.acknowledged),
            }
        })?;
        if let Some(entries) = entries {
            streams.push((Reply::Bulk(key.clone()), Reply::Array(entries)));
        }
    }
    Ok(found(streams))
}

/// What the consumer has pending after `id`, delivered once more. Of what was deleted, the id is left.
fn again(
    stream: &Stream,
    group: &mut Group,
    consumer: &[u8],
    id: Id,
    count: usize,
    now: Millis,
) -> Vec<Reply> {
    let Some(from) = id.next() else { return Vec::new() };
    let known = group.consumer(consumer);
    let ids: Vec<Id> = known
        .into_iter()
        .flat_map(|known| known.pending(from))
        .take(count)
        .collect();
    let mut entries = Vec::new();
    for id in ids {
        let Some(fields) = stream.get(id) else {
            entries.push(Reply::Array(vec![id_reply(id), Reply::NilArray]));
            continue;
        };
        if let Some(mut pending) = group.pending_of(id).cloned() {
            pending.at = now;
            pending.times += 1;
            group.set(id, pending);
        }
        entries.push(entry(id, fields));
    }
    entries
}

/// The next entries that the group has not delivered.
fn deliver(
    stream: &Stream,
    group: &mut Group,
    count: usize,
    now: Millis,
    consumer: &[u8],
    acknowledged: bool,
) -> Vec<Reply> {
    let mut entries = Vec::new();
    for (id, fields) in stream.after(group.delivered).take(count) {
        group.read = match group.read {
            Some(read) if !has_gaps(stream, id) => Some(read.wrapping_add(1)),
            _ => added_up_to(stream, id),
        };
        group.delivered = id;
        if !acknowledged {
            group.deliver(id, consumer, now);
        }
        entries.push(entry(id, fields));
    }
    entries
}

impl Need {
    /// How many commands that need this find something in a stream, one after another.
    pub(in crate::machine) fn served_by_stream(&self, stream: Option<&Stream>) -> usize {
        match (self, stream) {
            (Need::After(id), Some(stream)) if stream.after(*id).next().is_some() => usize::MAX,
            (Need::Undelivered(group), Some(stream)) => match stream.group(group) {
                Some(group) => stream.after(group.delivered).take(CALLED_MAX).count(),
                None => usize::MAX,
            },
            // Without the group each is to be told so.
            (Need::Undelivered(_), None) => usize::MAX,
            _ => 0,
        }
    }
}

/// Consumers called at a time; each may take many entries.
const CALLED_MAX: usize = 64;
