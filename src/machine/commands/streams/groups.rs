//! XGROUP, XACK, XPENDING.

use bytes::Bytes;

use super::{View, edit, edit_group, id_reply, ids, no_group, read};
use crate::base::Reply;
use crate::machine::commands::Done;
use crate::machine::commands::args::{Args, parse_i64, shown, subcommand};
use crate::machine::commands::table::Subcommands;
use crate::machine::values::Kind;
use crate::machine::values::stream::{self, Group, Id, Stream};

/// Arguments that the subcommand `given` does not have.
pub(super) fn wrong_arguments(a: &Args<'_>, given: &[u8]) -> Reply {
    let (given, name) = (shown(given), a.name().to_ascii_uppercase());
    Reply::err(format!(
        "ERR unknown subcommand or wrong number of arguments for '{given}'. Try {name} HELP."
    ))
}

fn needs_key() -> Reply {
    Reply::err(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM \
         option to create an empty stream automatically.",
    )
}

/// `id|$ [MKSTREAM] [ENTRIESREAD n]`
struct Position {
    /// Not read yet: Redis looks for the stream and the group first.
    id: Bytes,
    make: bool,
    read: Option<u64>,
}

impl Position {
    fn parse(a: &mut Args<'_>, given: &[u8], may_make: bool) -> Result<Position, Reply> {
        let id = a.key()?;
        let (mut make, mut read) = (false, None);
        while let Some(word) = a.word() {
            match word.as_str() {
                "MKSTREAM" if may_make => make = true,
                "ENTRIESREAD" => {
                    let count = a.next().map_err(|_| wrong_arguments(a, given))?;
                    let count = parse_i64(count).ok_or_else(Reply::not_an_integer)?;
                    if count < -1 {
                        return Err(Reply::err("ERR value for ENTRIESREAD must be positive or -1"));
                    }
                    read = u64::try_from(count).ok();
                }
                _ => return Err(wrong_arguments(a, given)),
            }
        }
        Ok(Position { id, make, read })
    }

    /// `None`: the stream's last.
    fn id(&self) -> Result<Option<Id>, Reply> {
        match &self.id[..] {
            b"$" => Ok(None),
            id => ids::exact(id, 0).map(Some),
        }
    }
}

fn help() -> Reply {
    let lines = [
        "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CREATE <key> <groupname> <id|$> [MKSTREAM] [ENTRIESREAD entries_read]",
        "CREATECONSUMER <key> <groupname> <consumer>",
        "DELCONSUMER <key> <groupname> <consumer>",
        "DESTROY <key> <groupname>",
        "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    ];
    Reply::Array(lines.map(|line| Reply::Simple(line.into())).into())
}

pub const XGROUP: Subcommands = &[
    ("create", -5),
    ("setid", -5),
    ("destroy", 4),
    ("createconsumer", 5),
    ("delconsumer", 5),
    ("help", 2),
];

pub fn xgroup(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (word, given) = subcommand(a, XGROUP)?;
    if word == "help" {
        return Ok(help());
    }
    let (key, group) = (a.key()?, a.key()?);
    if word == "create" {
        let position = Position::parse(a, &given, true)?;
        return create(view, &key, &group, &position);
    }
    let position = match word.as_str() {
        "setid" => Some(Position::parse(a, &given, false)?),
        _ => None,
    };
    let stream = read(view, &key)?.ok_or_else(needs_key)?;
    if word == "destroy" {
        let there = stream.group(&group).is_some();
        if there {
            edit(view, &key, |stream| (stream.remove_group(&group), true))?;
        }
        return Ok(Reply::Int(i64::from(there)));
    }
    if stream.group(&group).is_none() {
        let (key, group) = (shown(&key), shown(&group));
        return Err(Reply::err(format!(
            "NOGROUP No such consumer group '{group}' for key name '{key}'"
        )));
    }
    let now = view.now();
    let (consumer, position) = match position {
        Some(position) => (Bytes::new(), Some((position.id()?, position.read))),
        None => (a.key()?, None),
    };
    let changed = edit_group(view, &key, &group, |stream, group| match position {
        Some((id, read)) => {
            group.delivered = id.unwrap_or(stream.last);
            group.read = read;
            Reply::ok()
        }
        None if word == "delconsumer" => Reply::count(group.remove_consumer(&consumer).unwrap_or(0)),
        None if group.consumer(&consumer).is_some() => Reply::Int(0),
        None => Reply::Int(i64::from(group.see(&consumer, now))),
    })?;
    changed.ok_or_else(needs_key)
}

fn create(view: View<'_, '_>, key: &Bytes, group: &Bytes, position: &Position) -> Done {
    let stream = read(view, key)?;
    if stream.is_none() && !position.make {
        return Err(needs_key());
    }
    let id = position.id()?;
    if stream.is_some_and(|stream| stream.group(group).is_some()) {
        return Err(Reply::err("BUSYGROUP Consumer Group name already exists"));
    }
    view.edit_or_new(key, Kind::Stream, |value| {
        let stream = stream::of_mut(value);
        let from = id.unwrap_or(stream.last);
        (stream.add_group(group, Group::new(from, position.read)), true)
    })?;
    Ok(Reply::ok())
}

pub fn xack(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, group) = (a.key()?, a.key()?);
    let known = read(view, &key)?.is_some_and(|stream| stream.group(&group).is_some());
    if !known {
        return Ok(Reply::Int(0));
    }
    let ids: Vec<Id> = a
        .all()
        .iter()
        .map(|id| ids::exact(id, 0))
        .collect::<Result<_, _>>()?;
    let acknowledged = edit(view, &key, |stream| {
        let acknowledge =
            |_: &Stream, group: &mut Group| ids.iter().filter(|id| group.acknowledge(**id)).count();
        let count = stream.edit_group(&group, acknowledge).unwrap_or(0);
        (count, count > 0)
    })?;
    Ok(Reply::count(acknowledged.unwrap_or(0)))
}

/// All that is pending, in short.
fn summary(group: &Group) -> Reply {
    let Some((first, last)) = group.pending_ends() else {
        return Reply::Array(vec![Reply::Int(0), Reply::Nil, Reply::Nil, Reply::NilArray]);
    };
    let busy = group.consumers().filter(|(_, consumer)| !consumer.is_empty());
    let busy = busy.map(|(name, consumer)| {
        let name = Reply::Bulk(Bytes::copy_from_slice(name));
        Reply::Array(vec![name, Reply::bulk(consumer.len().to_string())])
    });
    let consumers = Reply::Array(busy.collect());
    Reply::Array(vec![
        Reply::count(group.pending_len()),
        id_reply(first),
        id_reply(last),
        consumers,
    ])
}

pub fn xpending(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, name) = (a.key()?, a.key()?);
    let mut min_idle = 0;
    let mut rest = a.all();
    // As in Redis, what is too much is left alone.
    if !(rest.is_empty() || (3..=6).contains(&rest.len())) {
        return Err(Reply::syntax());
    }
    if rest
        .first()
        .is_some_and(|word| word.eq_ignore_ascii_case(b"IDLE"))
    {
        min_idle = parse_i64(&rest[1]).ok_or_else(Reply::not_an_integer)?;
        rest.drain(..2);
    }
    let wanted = match rest.as_slice() {
        [] => None,
        [from, to, count, ..] => {
            let count = parse_i64(count).ok_or_else(Reply::not_an_integer)?;
            let span = (ids::start(from)?, ids::end(to)?);
            Some((span, usize::try_from(count).unwrap_or(0), rest.get(3)))
        }
        _ => return Err(Reply::syntax()),
    };
    let stream = read(view, &key)?;
    let group = stream.and_then(|stream| stream.group(&name));
    let group = group.ok_or_else(|| no_group(&key, &name))?;
    let Some(((from, to), count, consumer)) = wanted else {
        return Ok(summary(group));
    };
    let idle = |at: u64| i64::try_from(view.now().saturating_sub(at)).unwrap_or(i64::MAX);
    let pending: Box<dyn Iterator<Item = Id>> = match consumer.map(|consumer| group.consumer(consumer)) {
        None => Box::new(group.pending(from).map(|(id, _)| id)),
        Some(None) => Box::new(std::iter::empty()),
        Some(Some(consumer)) => Box::new(consumer.pending(from)),
    };
    let pending = pending.take_while(|id| *id <= to);
    let pending = pending.filter_map(|id| Some((id, group.pending_of(id)?)));
    let rows = pending.filter(|(_, pending)| min_idle <= 0 || idle(pending.at) >= min_idle);
    let rows = rows.take(count).map(|(id, pending)| {
        Reply::Array(vec![
            id_reply(id),
            Reply::Bulk(Bytes::copy_from_slice(&pending.consumer)),
            Reply::Int(idle(pending.at)),
            Reply::Int(i64::try_from(pending.times).unwrap_or(i64::MAX)),
        ])
    });
    Ok(Reply::Array(rows.collect()))
}
