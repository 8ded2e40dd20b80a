//! One client connection.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::burst::{self, Item};
use super::client::{self, ClientState};
use super::clients::{self, Client};
use super::info;
use super::multi::{Multi, Queued};
use super::server::Shared;
use super::table::{self, Own};
use super::tracking::{On, ToRemember};
use super::txn;
use super::unknown;
use super::{pubsub, scripts};
use crate::base::limits::{KEY_BYTES_MAX, WATCHED_BYTES_MAX, WATCHED_KEYS_MAX};
use crate::base::{Reply, RequestId, gateway_of};
use crate::cluster::{Listener, Node, Outcome, Wish};
use crate::machine::commands::Waits;
use crate::machine::{Command, Condition, commands};
use crate::resp::encode;

pub struct Session {
    pub(super) node: Node,
    pub(super) shared: Arc<Shared>,
    /// What others see of this connection.
    pub(super) client: Arc<Client>,
    pub(super) state: ClientState,
    pub(super) multi: Option<Multi>,
    pub(super) listener: Option<Listener>,
    pub(super) watched: Vec<Condition>,
    /// Its client keeps copies of what it reads.
    pub(super) tracking: Option<On>,
    /// The client's number for its next write.
    pub(super) once: Option<(RequestId, u64)>,
    pub(super) out: BytesMut,
    pub(super) closing: bool,
}

/// What a connection may send that listens to anything, in RESP2.
const LISTENERS_MAY: &[&str] = &[
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

/// A command that may have to wait, and for what.
pub struct Blocking {
    pub command: Command,
    pub waits: Waits,
    /// Under this name Redis knows whether it reads.
    pub name: &'static str,
}

impl Session {
    #[must_use]
    pub fn new(node: Node, shared: Arc<Shared>, id: u64, client: Arc<Client>) -> Session {
        let state = ClientState {
            id,
            ..ClientState::default()
        };
        Session {
            node,
            shared,
            client,
            state,
            multi: None,
            listener: None,
            watched: Vec::new(),
            tracking: None,
            once: None,
            out: BytesMut::new(),
            closing: false,
        }
    }

    pub(super) fn reply(&mut self, reply: &Reply) {
        if let Err(e) = encode(reply, self.state.protocol, &mut self.out) {
            tracing::error!("a reply cannot be encoded: {e}");
            self.closing = true;
        }
    }

    /// Runs requests in order; data commands in a row run together. Stops at one that may have to wait, and returns it.
    pub(super) async fn run(&mut self, requests: &mut VecDeque<Vec<Bytes>>) -> Option<Blocking> {
        let mut items = Vec::new();
        let mut remember = ToRemember::default();
        let mut command = None;
        let mut count = 0;
        let mut blocking = None;
        while let Some(request) = requests.pop_front() {
            if self.closing {
                break;
            }
            let Some((name, args)) = request.split_first() else {
                continue;
            };
            count += 1;
            if self.multi.is_none()
                && self.once.is_none()
                && !self.only_listens()
                && let Some(spec) = commands::find(name)
            {
                command = Some(spec.name);
                scripts::look_up(&self.node, spec, args).await;
                let parsed = commands::check_arity(spec, args.len()).and_then(|()| self.parse(spec, args));
                if let Ok(command) = &parsed
                    && let Some(waits) = command.waits()
                {
                    let (command, name) = (command.clone(), spec.name);
                    blocking = Some(Blocking { command, waits, name });
                    break;
                }
                if let (Some(_), Ok(command)) = (&self.tracking, &parsed) {
                    remember.add(self.tracking.as_ref(), spec.name, command);
                    self.forget_caching();
                }
                items.push(parsed.map_or_else(Item::Ready, Item::Run));
                continue;
            }
            self.flush(&mut items, &mut remember).await;
            command = table::own(name).map_or(command, |own| Some(own.name));
            self.show(command);
            let reply = self.dispatch(&request).await;
            self.reply(&reply);
            if self.multi.is_none() && !name.eq_ignore_ascii_case(b"client") {
                self.forget_caching();
            }
        }
        self.shared.count_commands(count);
        self.show(command);
        self.flush(&mut items, &mut remember).await;
        blocking
    }

    /// What `CLIENT LIST` is to show of this connection.
    fn show(&self, command: Option<&'static str>) {
        self.client.note(|seen| {
            seen.command = command.unwrap_or(seen.command);
            seen.at = Instant::now();
            seen.queued = self.multi.as_ref().map(Multi::len);
        });
    }

    /// What has been asked of the connection itself shows, too.
    fn show_state(&self) {
        self.client.note(|seen| {
            seen.name = self.state.name.clone();
            seen.library = self.state.library.clone();
            seen.protocol = self.state.protocol;
        });
    }

    fn parse(&self, spec: &'static commands::Spec, args: &[Bytes]) -> Result<Command, Reply> {
        let mut command = commands::parse(spec, args)?;
        if let Command::Scan(scan) = &mut command {
            scan.shards = self.node.ring().shards();
        }
        if let Command::Eval(eval) = &mut command {
            scripts::resolve(&self.node, eval)?;
        }
        Ok(command)
    }

    async fn flush(&mut self, items: &mut Vec<Item>, remember: &mut ToRemember) {
        if !items.is_empty() {
            let (items, remember) = (std::mem::take(items), std::mem::take(remember));
            for reply in self.run_items(items, remember).await {
                self.reply(&reply);
            }
        }
    }

    /// One request that is not simply a data command: in MULTI, numbered, or the gateway's own.
    async fn dispatch(&mut self, request: &[Bytes]) -> Reply {
        let (name, args) = (&request[0], &request[1..]);
        let data = commands::find(name);
        let own = table::own(name);
        let arity = match (data, own) {
            (Some(spec), _) => commands::check_arity(spec, args.len()),
            (None, Some(own)) if !table::fits(own.arity, args.len()) => Err(Reply::err(format!(
                "ERR wrong number of arguments for '{}' command",
                own.name
            ))),
            (None, Some(own)) if own.name == "client" => clients::check(args),
            (None, Some(own)) if own.name == "multi" => Multi::check(args),
            (None, Some(_)) => Ok(()),
            (None, None) => Err(unknown::unknown_command(name, args)),
        };
        if let Err(reply) = arity {
            return self.refuse(own, reply);
        }
        if self.only_listens() && !own.is_some_and(|own| LISTENERS_MAY.contains(&own.name)) {
            let name = data
                .map(|spec| spec.name)
                .or(own.map(|own| own.name))
                .unwrap_or_default();
            return Reply::err(format!(
                "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
                 context"
            ));
        }
        match (data, own) {
            (Some(spec), _) => {
                scripts::look_up(&self.node, spec, args).await;
                let command = self.parse(spec, args);
                match &mut self.multi {
                    Some(multi) => {
                        let queued = multi.push(spec.name, command.map_or_else(Queued::Failed, Queued::Data));
                        queued.map_or_else(|reply| reply, |()| Reply::Simple("QUEUED".into()))
                    }
                    None => match command {
                        Ok(command) => self.run_numbered(spec.name, command).await,
                        Err(reply) => reply,
                    },
                }
            }
            (None, Some(own)) if self.multi.is_some() && !own.immediate => match &mut self.multi {
                Some(multi) => {
                    let queued = multi.push(own.name, Queued::Own(request.to_vec()));
                    queued.map_or_else(|reply| reply, |()| Reply::Simple("QUEUED".into()))
                }
                None => Reply::ok(),
            },
            (None, Some(own)) => self.own(own.name, args).await,
            (None, None) => unknown::unknown_command(name, args),
        }
    }

    /// A request that was not accepted spoils the transaction it was meant for.
    fn refuse(&mut self, own: Option<&Own>, reply: Reply) -> Reply {
        if own.is_some_and(|own| own.name == "exec") {
            self.end_multi();
            let why = if let Reply::Error(text) = &reply {
                text.trim_start_matches("ERR ")
            } else {
                ""
            };
            return Reply::err(format!("EXECABORT Transaction discarded because of: {why}"));
        }
        if let Some(multi) = &mut self.multi {
            multi.spoil();
        }
        reply
    }

    async fn run_numbered(&mut self, name: &str, command: Command) -> Reply {
        let mut remember = ToRemember::default();
        remember.add(self.tracking.as_ref(), name, &command);
        let wish = Wish {
            commands: vec![command],
            id: self.once.take(),
            ..Wish::default()
        };
        match self.as_asker(&remember, self.node.execute(wish)).await {
            Ok(Outcome::Replies(replies)) => replies.into_iter().next().unwrap_or(Reply::Nil),
            Ok(Outcome::Conflict) => Reply::Nil,
            Ok(Outcome::Failed(_, reply)) => reply,
            Err(error) => Reply::err(error.to_string()),
        }
    }

    pub(super) fn end_multi(&mut self) -> Option<Multi> {
        self.watched.clear();
        self.multi.take()
    }

    async fn own(&mut self, name: &'static str, args: &[Bytes]) -> Reply {
        match name {
            "multi" if self.multi.is_some() => Reply::err("ERR MULTI calls can not be nested"),
            "multi" => {
                self.multi = Some(Multi::new(!args.is_empty(), self.shared.large.clone()));
                Reply::ok()
            }
            "exec" => self.exec().await,
            "discard" if self.multi.is_none() => Reply::err("ERR DISCARD without MULTI"),
            "discard" => {
                self.end_multi();
                Reply::ok()
            }
            "watch" if self.multi.is_some() => Reply::err("ERR WATCH inside MULTI is not allowed"),
            "watch" => self.watch(args).await,
            "subscribe" | "psubscribe" | "ssubscribe" | "unsubscribe" | "punsubscribe" | "sunsubscribe" => {
                self.listen(name, args)
            }
            "quit" => {
                self.closing = true;
                Reply::ok()
            }
            "reset" => {
                self.end_multi();
                self.once = None;
                self.stop_listening();
                self.track_no_more();
                self.state.reset();
                self.show_state();
                Reply::Simple("RESET".into())
            }
            _ => self.simple(name, args).await,
        }
    }

    /// The commands that MULTI queues; EXEC runs them here.
    pub(super) async fn simple(&mut self, name: &str, args: &[Bytes]) -> Reply {
        match name {
            "ping" if self.only_listens() => {
                let message = args.first().cloned().unwrap_or_default();
                Reply::Array(vec![Reply::bulk("pong"), Reply::Bulk(message)])
            }
            "ping" => match args {
                [] => Reply::Simple("PONG".into()),
                [message] => Reply::Bulk(message.clone()),
                _ => Reply::err("ERR wrong number of arguments for 'ping' command"),
            },
            "echo" => Reply::Bulk(args[0].clone()),
            "hello" => {
                let reply = self.state.hello(args);
                self.show_state();
                reply
            }
            "auth" => client::auth(args),
            "select" => client::select(&args[0]),
            "client" => self.client_command(args).await,
            "command" => table::command(args),
            "script" => scripts::script(&self.node, args).await,
            "publish" | "spublish" => pubsub::publish(&self.node, name, args).await,
            "pubsub" => pubsub::pubsub(&self.node, args).await,
            "time" => scripts::time(&self.node),
            "info" => {
                let size = burst::run(&self.node, vec![Item::Run(Command::DbSize)]).await;
                let keys = if let Some(Reply::Int(keys)) = size.first() {
                    Some(*keys)
                } else {
                    None
                };
                info::info(&self.node, self.shared.counts(), keys, args)
            }
            "unwatch" => {
                self.watched.clear();
                Reply::ok()
            }
            "txn" => txn::txn(&self.node, args).await,
            _ => self.quorate(args),
        }
    }

    async fn client_command(&mut self, args: &[Bytes]) -> Reply {
        let rest = args.get(1..).unwrap_or_default();
        let clients = &self.shared.clients;
        match args[0].to_ascii_lowercase().as_slice() {
            b"list" => clients.list(rest),
            b"info" => clients.info(self.state.id),
            b"unblock" => clients.unblock(rest),
            b"tracking" => self.track(rest).await,
            b"caching" => self.caching(&rest[0]),
            b"getredir" => self.redirect(),
            b"trackinginfo" => self.tracking_info(),
            b"kill" => {
                let (reply, me) = clients.kill(rest, self.state.id);
                self.closing |= me;
                reply
            }
            _ => {
                let reply = self.state.client(args);
                self.show_state();
                reply
            }
        }
    }

    fn quorate(&mut self, args: &[Bytes]) -> Reply {
        let number = |arg: &Bytes| std::str::from_utf8(arg).ok()?.parse::<u64>().ok();
        match args {
            [sub] if sub.eq_ignore_ascii_case(b"status") => match serde_json::to_vec(&self.node.status()) {
                Ok(json) => Reply::bulk(json),
                Err(e) => Reply::err(format!("ERR {e}")),
            },
            [sub] if sub.eq_ignore_ascii_case(b"digest") => digests(&self.node),
            [sub, session, seq, below] if sub.eq_ignore_ascii_case(b"once") => {
                let session = std::str::from_utf8(session)
                    .ok()
                    .and_then(|s| u128::from_str_radix(s, 16).ok());
                match (session, number(seq), number(below)) {
                    // Which groups can execute a gateway's id is read from it.
                    (Some(session), ..)
                        if gateway_of(session)
                            .is_some_and(|(node, _)| self.node.config().node(node).is_ok()) =>
                    {
                        Reply::err("ERR ONCE wants a session of the client's own: that one is a gateway's")
                    }
                    (Some(session), Some(seq), Some(below)) if below <= seq => {
                        self.once = Some((RequestId { session, seq }, below));
                        Reply::ok()
                    }
                    _ => Reply::err("ERR ONCE wants a session in hex, a number, and a number not above that"),
                }
            }
            _ => Reply::err("ERR unknown subcommand or wrong number of arguments for 'quorate'"),
        }
    }

    async fn watch(&mut self, keys: &[Bytes]) -> Reply {
        if self.watched.len() + keys.len() > WATCHED_KEYS_MAX {
            return Reply::err(format!(
                "ERR a connection may watch {WATCHED_KEYS_MAX} keys at the most"
            ));
        }
        let bytes = self
            .watched
            .iter()
            .filter_map(Condition::key)
            .chain(keys)
            .map(Bytes::len);
        if bytes.sum::<usize>() > WATCHED_BYTES_MAX || keys.iter().any(|key| key.len() > KEY_BYTES_MAX) {
            return Reply::err(format!(
                "ERR a key may have {KEY_BYTES_MAX} bytes at the most, and all that a connection watches {WATCHED_BYTES_MAX}"
            ));
        }
        match self.node.versions(keys).await {
            Ok(conditions) => {
                // A key watched before keeps its older version: a change in between must count.
                let known = self.watched.clone();
                let watched = |new: &Condition| known.iter().any(|old| old.key() == new.key());
                self.watched
                    .extend(conditions.into_iter().filter(|condition| !watched(condition)));
                Reply::ok()
            }
            Err(error) => Reply::err(error.to_string()),
        }
    }
}

/// `QUORATE DIGEST`: group, last applied index, checksum of the state there, for each replica on this node.
fn digests(node: &Node) -> Reply {
    let row = |group: crate::raft::Group| match group.digest() {
        Ok((index, digest)) => Reply::Array(vec![
            Reply::bulk(group.id().to_string()),
            Reply::Int(i64::try_from(index).unwrap_or(i64::MAX)),
            Reply::Int(i64::from(digest)),
        ]),
        Err(e) => Reply::err(format!("ERR {e}")),
    };
    Reply::Array(node.local_groups().into_iter().map(row).collect())
}
