//! XCLAIM, XAUTOCLAIM: what is pending changes its consumer.

use bytes::Bytes;

use super::{View, edit_group, entry, id_reply, ids, no_group, read};
use crate::base::{Millis, Reply};
use crate::machine::commands::Done;
use crate::machine::commands::args::{Args, parse_i64, shown};
use crate::machine::values::Key;
use crate::machine::values::stream::{Group, Id, Pending, Stream};

/// How many pending entries are looked at for each that may be claimed.
const LOOKED_AT: usize = 10;

/// How entries are claimed, and what of them is replied.
struct Claim {
    consumer: Bytes,
    min_idle: Millis,
    /// What is to count as the time of delivery.
    at: Millis,
    times: Option<u64>,
    ids_only: bool,
    now: Millis,
}

impl Claim {
    /// Whether it has been idle for long enough.
    fn is_due(&self, pending: &Pending) -> bool {
        self.now.saturating_sub(pending.at) >= self.min_idle
    }

    /// Gives an entry that is there to the consumer.
    fn take(&self, stream: &Stream, group: &mut Group, id: Id, before: &Pending) -> Option<Reply> {
        let fields = stream.get(id)?;
        let counted = before.times + u64::from(!self.ids_only);
        group.see(&self.consumer, self.now);
        let pending = Pending {
            consumer: Key::from(&self.consumer[..]),
            at: self.at,
            times: self.times.unwrap_or(counted),
        };
        group.set(id, pending);
        Some(if self.ids_only {
            id_reply(id)
        } else {
            entry(id, fields)
        })
    }
}

fn min_idle(a: &mut Args<'_>) -> Result<Millis, Reply> {
    let name = a.name().to_ascii_uppercase();
    let idle = parse_i64(a.next()?)
        .ok_or_else(|| Reply::err(format!("ERR Invalid min-idle-time argument for {name}")))?;
    Ok(Millis::try_from(idle).unwrap_or(0))
}

fn check_group(view: &View<'_, '_>, key: &Bytes, group: &Bytes) -> Result<(), Reply> {
    let known = read(view, key)?.is_some_and(|stream| stream.group(group).is_some());
    if known { Ok(()) } else { Err(no_group(key, group)) }
}

/// The options of XCLAIM behind the ids.
struct Options {
    force: bool,
    last: Id,
}

fn options(first: Option<Bytes>, a: &mut Args<'_>, claim: &mut Claim) -> Result<Options, Reply> {
    let mut options = Options {
        force: false,
        last: Id::ZERO,
    };
    let mut next = first;
    while let Some(given) = next {
        let invalid = |option: &str| Reply::err(format!("ERR Invalid {option} option argument for XCLAIM"));
        let mut number = |option: &str| {
            parse_i64(a.next().map_err(|_| unrecognized(&given))?).ok_or_else(|| invalid(option))
        };
        match given.to_ascii_uppercase().as_slice() {
            b"FORCE" => options.force = true,
            b"JUSTID" => claim.ids_only = true,
            b"IDLE" => {
                claim.at = past(
                    claim.now.checked_add_signed(number("IDLE")?.saturating_neg()),
                    claim.now,
                );
            }
            b"TIME" => claim.at = past(Millis::try_from(number("TIME")?).ok(), claim.now),
            b"RETRYCOUNT" => claim.times = u64::try_from(number("RETRYCOUNT")?).ok(),
            b"LASTID" => options.last = ids::exact(a.next().map_err(|_| unrecognized(&given))?, 0)?,
            _ => return Err(unrecognized(&given)),
        }
        next = a.next().ok().cloned();
    }
    Ok(options)
}

fn unrecognized(option: &[u8]) -> Reply {
    let option = shown(option);
    Reply::err(format!("ERR Unrecognized XCLAIM option '{option}'"))
}

/// A time that is given; one that cannot be is now.
fn past(at: Option<Millis>, now: Millis) -> Millis {
    at.filter(|at| *at <= now).unwrap_or(now)
}

pub fn xclaim(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, group, consumer) = (a.key()?, a.key()?, a.key()?);
    check_group(&view, &key, &group)?;
    let now = view.now();
    let mut claim = Claim {
        consumer,
        min_idle: min_idle(a)?,
        at: now,
        times: None,
        ids_only: false,
        now,
    };
    let mut claimed = Vec::new();
    let first = loop {
        match a.next().ok() {
            None => break None,
            Some(given) => match ids::exact(given, 0) {
                Ok(id) => claimed.push(id),
                Err(_) => break Some(given.clone()),
            },
        }
    };
    let options = options(first, a, &mut claim)?;
    let taken = edit_group(view, &key, &group, |stream, group| {
        group.delivered = group.delivered.max(options.last);
        let mut taken = Vec::new();
        for id in claimed {
            let there = stream.get(id).is_some();
            match group.pending_of(id).cloned() {
                Some(_) if !there => drop(group.acknowledge(id)),
                Some(pending) if claim.is_due(&pending) => {
                    taken.extend(claim.take(stream, group, id, &pending));
                }
                None if options.force && there => {
                    let consumer = Key::from(&claim.consumer[..]);
                    let fresh = Pending {
                        consumer,
                        at: now,
                        times: 1,
                    };
                    taken.extend(claim.take(stream, group, id, &fresh));
                }
                _ => {}
            }
        }
        taken
    })?;
    Ok(Reply::Array(taken.unwrap_or_default()))
}

pub fn xautoclaim(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, group, consumer) = (a.key()?, a.key()?, a.key()?);
    let now = view.now();
    let mut claim = Claim {
        consumer,
        min_idle: min_idle(a)?,
        at: now,
        times: None,
        ids_only: false,
        now,
    };
    let start = ids::start(a.next()?)?;
    let mut count = 100;
    while let Some(word) = a.word() {
        match word.as_str() {
            "JUSTID" => claim.ids_only = true,
            "COUNT" => {
                let most = parse_i64(a.value()?).and_then(|most| usize::try_from(most).ok());
                let most = most.filter(|most| (1..=COUNT_MAX).contains(most));
                count = most.ok_or_else(|| Reply::err("ERR COUNT must be > 0"))?;
            }
            _ => return Err(Reply::syntax()),
        }
    }
    check_group(&view, &key, &group)?;
    let reply = edit_group(view, &key, &group, |stream, group| {
        let (mut taken, mut deleted, mut left) = (Vec::new(), Vec::new(), count);
        let looked_at: Vec<(Id, Pending)> = group
            .pending(start)
            .take(count.saturating_mul(LOOKED_AT))
            .map(|(id, pending)| (id, pending.clone()))
            .collect();
        let mut next = Some(start);
        for (id, pending) in looked_at {
            if left == 0 {
                break;
            }
            next = id.next();
            if stream.get(id).is_none() {
                group.acknowledge(id);
                deleted.push(id_reply(id));
                left -= 1;
            } else if claim.is_due(&pending) {
                taken.extend(claim.take(stream, group, id, &pending));
                left -= 1;
            }
        }
        let rest = next.and_then(|next| group.pending(next).next());
        let cursor = rest.map_or(Id::ZERO, |(id, _)| id);
        Reply::Array(vec![id_reply(cursor), Reply::Array(taken), Reply::Array(deleted)])
    })?;
    reply.ok_or_else(|| no_group(&key, &group))
}

/// As Redis bounds it: what is looked at must be a number of 63 bits, each with two words.
const COUNT_MAX: usize = (i64::MAX as usize) / 16;
