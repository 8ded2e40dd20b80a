//! The connections of this node, as `CLIENT LIST` shows them and `CLIENT KILL` and `CLIENT UNBLOCK` reach them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::client::{arity, text};
use super::pause::Runs;
use crate::base::Reply;
use crate::cluster::Inbox;
use crate::machine::commands::{parse_i64, shown};
use crate::resp::Protocol;

/// What one connection is told by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Kill,
    /// To end a wait as if its time had passed.
    TimeOut,
    /// To end a wait with an error.
    Unblock,
    /// There is something in its inbox.
    Inbox,
}

/// One connection, as others see it.
#[derive(Debug)]
pub struct Client {
    id: u64,
    address: String,
    here: String,
    since: Instant,
    seen: Mutex<Seen>,
    signal: Mutex<Option<Signal>>,
    /// It waits for its client to say something.
    listens: AtomicBool,
    /// There is a signal, or something in the inbox.
    signalled: Arc<Notify>,
    /// What its client is told of copies that it keeps.
    pub inbox: Arc<Inbox>,
    /// Of its requests.
    pub runs: Arc<Runs>,
}

/// What changes of a connection.
#[derive(Debug, Clone)]
pub struct Seen {
    pub name: Bytes,
    pub library: (Bytes, Bytes),
    pub protocol: Protocol,
    pub command: &'static str,
    pub at: Instant,
    /// Commands queued by MULTI; `None`: outside of it.
    pub queued: Option<usize>,
    pub waits: bool,
    /// To so many channels, patterns and shard channels.
    pub listens: [usize; 3],
    /// It tracks: whom else to tell instead (0: nobody), and whether by prefixes.
    pub tracks: Option<(u64, bool)>,
    pub monitors: bool,
    /// `CLIENT NO-EVICT`.
    pub spared: bool,
}

impl Client {
    /// Notes what is to be shown.
    pub fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock());
    }

    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Notes whether it waits for its client to say something.
    pub fn note_listening(&self, listens: bool) {
        self.listens.store(listens, Ordering::Release);
    }

    /// Whether it has sent nothing for so long, and waits for nothing either.
    fn is_idle(&self, timeout: Duration) -> bool {
        if !self.listens.load(Ordering::Acquire) {
            return false;
        }
        let seen = self.seen.lock();
        let listens = seen.monitors || seen.listens.iter().any(|count| *count > 0);
        !seen.waits && !listens && seen.at.elapsed() > timeout
    }

    fn send(&self, told: Signal) {
        let mut signal = self.signal.lock();
        if *signal != Some(Signal::Kill) {
            *signal = Some(told);
        }
        drop(signal);
        self.signalled.notify_one();
    }

    /// Waits for a word of others. To be killed is told again and again; of an inbox, until it has been emptied.
    pub async fn signal(&self) -> Signal {
        loop {
            if let Some(told) = self.told() {
                return told;
            }
            self.signalled.notified().await;
        }
    }

    fn told(&self) -> Option<Signal> {
        let mut signal = self.signal.lock();
        let told = *signal;
        if told != Some(Signal::Kill) {
            *signal = None;
        }
        told.or_else(|| self.inbox.has_some().then_some(Signal::Inbox))
    }

    /// Waits until another connection kills this one.
    pub async fn killed(&self) {
        while !self.is_killed() {
            self.signalled.notified().await;
        }
    }

    /// Notes that it waits in a command from now on.
    pub fn begin_wait(&self) {
        let mut seen = self.seen.lock();
        seen.waits = true;
        // A word that came too late for the wait it was meant for.
        let mut signal = self.signal.lock();
        if *signal != Some(Signal::Kill) {
            *signal = None;
        }
    }

    /// `false`: it does not wait. What it is told is for the wait in which it was seen, or for none.
    fn unblock(&self, told: Signal) -> bool {
        let seen = self.seen.lock();
        if seen.waits {
            self.send(told);
        }
        seen.waits
    }

    #[must_use]
    pub fn is_killed(&self) -> bool {
        *self.signal.lock() == Some(Signal::Kill)
    }

    fn is(&self, kind: Option<Kind>) -> bool {
        let listens = self.seen.lock().listens.iter().any(|count| *count > 0);
        match kind {
            None => true,
            Some(Kind::Normal) => !listens,
            Some(Kind::PubSub) => listens,
            Some(Kind::Other) => false,
        }
    }

    fn describe(&self) -> String {
        let seen = self.seen.lock().clone();
        let resp = if seen.protocol == Protocol::Resp3 { 3 } else { 2 };
        let (age, idle) = (self.since.elapsed().as_secs(), seen.at.elapsed().as_secs());
        let listens = seen.listens.iter().any(|count| *count > 0);
        let of = [
            (seen.monitors, 'O'),
            (listens, 'P'),
            (seen.queued.is_some(), 'x'),
            (seen.waits, 'b'),
            (seen.tracks.is_some(), 't'),
            (seen.tracks.is_some_and(|(_, broadcast)| broadcast), 'B'),
            (seen.spared, 'e'),
        ];
        let mut flags: String = of.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect();
        if flags.is_empty() {
            flags.push('N');
        }
        let redirect = seen
            .tracks
            .map_or(-1, |(to, _)| i64::try_from(to).unwrap_or(i64::MAX));
        let [sub, psub, ssub] = seen.listens;
        let multi = seen
            .queued
            .map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX));
        let Client {
            id, address, here, ..
        } = self;
        let (name, command) = (text(&seen.name), seen.command);
        let (lib, version) = (text(&seen.library.0), text(&seen.library.1));
        format!(
            "id={id} addr={address} laddr={here} name={name} age={age} idle={idle} flags={flags} db=0 sub={sub} psub={psub} ssub={ssub} \
             multi={multi} cmd={command} user=default redir={redirect} resp={resp} lib-name={lib} lib-ver={version}"
        )
    }
}

/// All connections of a node.
#[derive(Debug, Default)]
pub struct Clients {
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    pub fn enter(&self, id: u64, address: String, here: String) -> Arc<Client> {
        let now = Instant::now();
        let signalled = Arc::new(Notify::new());
        let client = Arc::new(Client {
            id,
            address,
            here,
            since: now,
            seen: Mutex::new(Seen {
                name: Bytes::new(),
                library: (Bytes::new(), Bytes::new()),
                protocol: Protocol::Resp2,
                command: "NULL",
                at: now,
                queued: None,
                waits: false,
                listens: [0; 3],
                tracks: None,
                monitors: false,
                spared: false,
            }),
            signal: Mutex::new(None),
            listens: AtomicBool::new(true),
            inbox: Arc::new(Inbox::new(Arc::clone(&signalled))),
            signalled,
            runs: Arc::default(),
        });
        self.all.lock().insert(id, Arc::clone(&client));
        client
    }

    pub fn leave(&self, id: u64) {
        if let Some(client) = self.all.lock().remove(&id) {
            client.inbox.close();
        }
    }

    /// Where a connection is told of copies; `None`: there is no such connection.
    pub fn inbox(&self, id: u64) -> Option<Arc<Inbox>> {
        self.all.lock().get(&id).map(|client| Arc::clone(&client.inbox))
    }

    /// Disconnects those that have sent nothing for so long.
    pub fn kill_idle(&self, timeout: Duration) {
        self.kill_where(|client| client.is_idle(timeout));
    }

    /// Of the requests of all of them.
    #[must_use]
    pub fn runs(&self) -> Vec<Arc<Runs>> {
        let all = self.all.lock();
        all.values().map(|client| Arc::clone(&client.runs)).collect()
    }

    /// How many wait in a command.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let all = self.all.lock();
        all.values().filter(|client| client.seen.lock().waits).count()
    }

    /// `CLIENT LIST [TYPE type] [ID id …]`.
    pub fn list(&self, args: &[Bytes]) -> Reply {
        let mut wanted = None;
        let ids = match args {
            [] => None,
            [option, kind] if option.eq_ignore_ascii_case(b"type") => match kind_of(kind) {
                Ok(kind) => {
                    wanted = Some(kind);
                    None
                }
                Err(reply) => return reply,
            },
            [option, ids @ ..] if option.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
                let ids = ids
                    .iter()
                    .map(|id| parse_i64(id).and_then(|id| u64::try_from(id).ok()));
                match ids.collect::<Option<Vec<u64>>>() {
                    Some(ids) => Some(ids),
                    None => return Reply::err("ERR Invalid client ID"),
                }
            }
            _ => return Reply::syntax(),
        };
        let mut lines = String::new();
        for (id, client) in self.all.lock().iter() {
            if client.is(wanted) && ids.as_ref().is_none_or(|ids| ids.contains(id)) {
                // Writing to a string does not fail.
                let _ = writeln!(lines, "{}", client.describe());
            }
        }
        Reply::Verbatim(lines.into())
    }

    /// `CLIENT INFO`.
    pub fn info(&self, id: u64) -> Reply {
        let client = self.all.lock().get(&id).cloned();
        let line = client.map_or_else(String::new, |client| format!("{}\n", client.describe()));
        Reply::Verbatim(line.into())
    }

    /// `CLIENT UNBLOCK id [TIMEOUT | ERROR]`.
    pub fn unblock(&self, args: &[Bytes]) -> Reply {
        let Some(id) = args.first().and_then(|id| parse_i64(id)) else {
            return Reply::not_an_integer();
        };
        let signal = match args.get(1).map(|reason| reason.to_ascii_lowercase()).as_deref() {
            None | Some(b"timeout") => Signal::TimeOut,
            Some(b"error") => Signal::Unblock,
            Some(_) => return Reply::err("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        };
        let client = u64::try_from(id)
            .ok()
            .and_then(|id| self.all.lock().get(&id).cloned());
        Reply::Int(i64::from(client.is_some_and(|client| client.unblock(signal))))
    }

    /// `CLIENT KILL address` or `CLIENT KILL [ID id] [ADDR address] [LADDR address] [USER name] [TYPE type] [SKIPME yes|no]`; says
    /// whether the asker `me` is among them, too.
    pub fn kill(&self, args: &[Bytes], me: u64) -> (Reply, bool) {
        if let [address] = args {
            let found = self.kill_where(|client| client.address.as_bytes() == address.as_ref());
            return match found.as_slice() {
                [] => (Reply::err("ERR No such client"), false),
                killed => (Reply::ok(), killed.contains(&me)),
            };
        }
        let filters = match filters(args) {
            Ok(filters) => filters,
            Err(reply) => return (reply, false),
        };
        let killed = self.kill_where(|client| {
            let skipped = filters.skip_me && client.id == me;
            !skipped && client.is(filters.kind) && filters.wanted.iter().all(|wanted| wanted.fits(client))
        });
        (Reply::count(killed.len()), killed.contains(&me))
    }

    fn kill_where(&self, which: impl Fn(&Client) -> bool) -> Vec<u64> {
        let all = self.all.lock();
        let killed = all.values().filter(|client| which(client));
        killed
            .map(|client| {
                client.send(Signal::Kill);
                client.id
            })
            .collect()
    }
}

enum Wanted {
    Id(u64),
    Address(Bytes),
    Here(Bytes),
}

impl Wanted {
    fn fits(&self, client: &Client) -> bool {
        match self {
            Wanted::Id(id) => client.id == *id,
            Wanted::Address(address) => client.address.as_bytes() == address.as_ref(),
            Wanted::Here(here) => client.here.as_bytes() == here.as_ref(),
        }
    }
}

struct Filters {
    wanted: Vec<Wanted>,
    skip_me: bool,
    kind: Option<Kind>,
}

fn filters(args: &[Bytes]) -> Result<Filters, Reply> {
    let mut filters = Filters {
        wanted: Vec::new(),
        skip_me: true,
        kind: None,
    };
    for pair in args.chunks(2) {
        let [option, value] = pair else {
            return Err(Reply::syntax());
        };
        match option.to_ascii_lowercase().as_slice() {
            b"id" => {
                let id = parse_i64(value)
                    .and_then(|id| u64::try_from(id).ok())
                    .filter(|id| *id > 0);
                let id = id.ok_or_else(|| Reply::err("ERR client-id should be greater than 0"))?;
                filters.wanted.push(Wanted::Id(id));
            }
            b"addr" => filters.wanted.push(Wanted::Address(value.clone())),
            b"laddr" => filters.wanted.push(Wanted::Here(value.clone())),
            b"user" if value.as_ref() == b"default" => {}
            b"user" => return Err(Reply::err(format!("ERR No such user '{}'", text(value)))),
            b"type" => filters.kind = Some(kind_of(value)?),
            b"skipme" if value.eq_ignore_ascii_case(b"yes") => filters.skip_me = true,
            b"skipme" if value.eq_ignore_ascii_case(b"no") => filters.skip_me = false,
            _ => return Err(Reply::syntax()),
        }
    }
    Ok(filters)
}

/// What Redis calls the type of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    PubSub,
    /// Of its replication: there are none here.
    Other,
}

fn kind_of(kind: &Bytes) -> Result<Kind, Reply> {
    match kind.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Kind::Normal),
        b"pubsub" => Ok(Kind::PubSub),
        b"master" | b"replica" | b"slave" => Ok(Kind::Other),
        _ => Err(Reply::err(format!("ERR Unknown client type '{}'", text(kind)))),
    }
}

/// How many arguments each subcommand of `CLIENT` may have, itself included.
///
/// # Errors
/// Another number, or no such subcommand.
pub fn check(args: &[Bytes]) -> Result<(), Reply> {
    let sub = args
        .first()
        .map(|sub| sub.to_ascii_lowercase())
        .unwrap_or_default();
    let wanted = match sub.as_slice() {
        b"id" | b"getname" | b"info" | b"getredir" | b"trackinginfo" | b"unpause" | b"help" => 1..=1,
        b"setname" | b"no-evict" | b"reply" | b"caching" => 2..=2,
        b"setinfo" => 3..=3,
        b"unblock" | b"pause" => 2..=3,
        b"list" => 1..=usize::MAX,
        b"kill" | b"tracking" => 2..=usize::MAX,
        _ => {
            let sub = args.first().map(|sub| shown(sub)).unwrap_or_default();
            return Err(Reply::err(format!(
                "ERR unknown subcommand '{sub}'. Try CLIENT HELP."
            )));
        }
    };
    if wanted.contains(&args.len()) {
        Ok(())
    } else {
        Err(arity(&format!("client|{}", text(&sub))))
    }
}
