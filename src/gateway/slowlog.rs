//! `SLOWLOG`: the commands that took longest of late. Commands that came together ran together, so one entry stands for all of them:
//! the first, and how many more there were.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::client::text;
use super::help;
use crate::base::limits::{SLOWLOG_ARG_BYTES_MAX, SLOWLOG_ARGS_MAX, SLOWLOG_LEN_MAX};
use crate::base::{Millis, Reply};
use crate::machine::commands::parse_i64;

#[derive(Debug)]
struct Entry {
    id: u64,
    at: Millis,
    took: Duration,
    args: Vec<Bytes>,
    address: String,
    name: Bytes,
}

#[derive(Debug, Default)]
pub struct Slowlog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    entries: VecDeque<Entry>,
}

/// A request without what it tells of secrets: what follows `AUTH`.
fn redacted(request: &[Bytes]) -> Cow<'_, [Bytes]> {
    let is = |arg: &Bytes, word: &[u8]| arg.eq_ignore_ascii_case(word);
    let from = match request {
        [name, ..] if is(name, b"auth") => 1,
        [name, args @ ..] if is(name, b"hello") => match args.iter().position(|arg| is(arg, b"auth")) {
            Some(at) => at + 2,
            None => return Cow::Borrowed(request),
        },
        _ => return Cow::Borrowed(request),
    };
    let secret = |(at, arg): (usize, &Bytes)| match at {
        at if at >= from => Bytes::from_static(b"(redacted)"),
        _ => arg.clone(),
    };
    request.iter().enumerate().map(secret).collect()
}

/// What is kept of a request.
fn kept(request: &[Bytes], others: usize) -> Vec<Bytes> {
    let request = redacted(request);
    let shown = if request.len() > SLOWLOG_ARGS_MAX {
        SLOWLOG_ARGS_MAX - 1
    } else {
        request.len()
    };
    let cut = |arg: &Bytes| match arg.len().checked_sub(SLOWLOG_ARG_BYTES_MAX) {
        None | Some(0) => Bytes::copy_from_slice(arg),
        Some(more) => {
            let mut cut = arg[..SLOWLOG_ARG_BYTES_MAX].to_vec();
            cut.extend(format!("... ({more} more bytes)").into_bytes());
            cut.into()
        }
    };
    let mut args: Vec<Bytes> = request[..shown].iter().map(cut).collect();
    if shown < request.len() {
        args.push(format!("... ({} more arguments)", request.len() - shown).into());
    }
    if others > 0 {
        args.push(format!("... ({others} more commands that ran with it)").into());
    }
    args
}

impl Slowlog {
    /// Notes a request that took long, and how many others ran with it.
    pub fn note(
        &self,
        request: &[Bytes],
        others: usize,
        took: Duration,
        at: Millis,
        who: (&str, &Bytes),
        most: usize,
    ) {
        let most = most.min(SLOWLOG_LEN_MAX);
        let mut inner = self.inner.lock();
        let entry = Entry {
            id: inner.next,
            at,
            took,
            args: kept(request, others),
            address: who.0.to_owned(),
            name: who.1.clone(),
        };
        inner.next += 1;
        inner.entries.push_front(entry);
        inner.entries.truncate(most);
    }

    fn get(&self, count: usize) -> Reply {
        let shown = |entry: &Entry| {
            let int = |n: u64| Reply::Int(i64::try_from(n).unwrap_or(i64::MAX));
            Reply::Array(vec![
                int(entry.id),
                int(entry.at / 1000),
                int(entry.took.as_micros() as u64),
                Reply::Array(entry.args.iter().cloned().map(Reply::Bulk).collect()),
                Reply::bulk(entry.address.clone()),
                Reply::Bulk(entry.name.clone()),
            ])
        };
        let inner = self.inner.lock();
        Reply::Array(inner.entries.iter().take(count).map(shown).collect())
    }

    /// `SLOWLOG GET [count] | LEN | RESET | HELP`.
    pub fn command(&self, args: &[Bytes]) -> Reply {
        match (args[0].to_ascii_lowercase().as_slice(), &args[1..]) {
            (b"help", []) => help::reply("slowlog"),
            (b"reset", []) => {
                self.inner.lock().entries.clear();
                Reply::ok()
            }
            (b"len", []) => Reply::count(self.inner.lock().entries.len()),
            (b"get", []) => self.get(10),
            (b"get", [count]) => match parse_i64(count) {
                Some(-1) => self.get(usize::MAX),
                Some(count) if count >= 0 => self.get(usize::try_from(count).unwrap_or(usize::MAX)),
                _ => Reply::err("ERR count should be greater than or equal to -1"),
            },
            _ => help::unknown_or_arity("SLOWLOG", &text(&args[0])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_requests_are_cut_and_old_entries_go() {
        let log = Slowlog::default();
        let mut request = vec![Bytes::from_static(b"SET"), Bytes::from(vec![b'x'; 200])];
        request.resize(40, Bytes::from_static(b"y"));
        for n in 0..5 {
            log.note(
                &request,
                n,
                Duration::from_micros(7),
                1000,
                ("a:1", &Bytes::new()),
                3,
            );
        }
        let Reply::Array(entries) = log.command(&[Bytes::from_static(b"get")]) else {
            unreachable!("an array");
        };
        assert_eq!(entries.len(), 3);
        let Reply::Array(newest) = &entries[0] else {
            unreachable!("an array");
        };
        assert_eq!(newest[..3], [Reply::Int(4), Reply::Int(1), Reply::Int(7)]);
        let Reply::Array(args) = &newest[3] else {
            unreachable!("an array");
        };
        assert_eq!(args.len(), SLOWLOG_ARGS_MAX + 1);
        let cut = format!("{}... (72 more bytes)", "x".repeat(128));
        assert_eq!(args[1], Reply::bulk(cut));
        assert_eq!(args[31], Reply::bulk("... (9 more arguments)"));
        assert_eq!(args[32], Reply::bulk("... (4 more commands that ran with it)"));
    }
}
