//! One client connection.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::burst::{self, Burst, Item};
use super::client::{self, ClientState};
use super::clients::{self, Client};
use super::command;
use super::multi::{Multi, Queued};
use super::serve::{Blocking, Stop};
use super::server::Shared;
use super::stats::Place;
use super::table::{self, Own};
use super::tracking::{On, ToRemember};
use super::txn;
use super::unknown;
use super::{control, functions, object, pubsub, scripts};
use crate::base::{Reply, RequestId};
use crate::cluster::{Listener, Node, Outcome, Wish, on_behalf};
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
    /// Whether it watches all requests (`MONITOR`); the listener is for that, then.
    pub(super) monitors: bool,
    /// So many replies are not to be sent (`CLIENT REPLY`).
    pub(super) muted: u8,
    /// Shards that it has written to.
    pub(super) wrote: BTreeSet<u16>,
    /// The last request was refused before it could run.
    refused: bool,
}

/// No reply is sent, however many there are.
pub const ALWAYS: u8 = u8::MAX;

/// What spoils a transaction.
const NOT_IN_MULTI: &[&str] = &["save", "shutdown"];

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
            monitors: false,
            muted: 0,
            wrote: BTreeSet::new(),
            refused: false,
        }
    }

    /// Answers a request.
    pub(super) fn reply(&mut self, reply: &Reply) {
        if let Reply::Error(why) = reply {
            self.shared.stats.error(why);
        }
        match self.muted {
            // What confirms that it listens is never left out.
            _ if matches!(reply, Reply::Push(_)) => {
                self.send(reply);
                self.muted -= u8::from((1..ALWAYS).contains(&self.muted));
            }
            0 => self.send(reply),
            ALWAYS => {}
            _ => self.muted -= 1,
        }
    }

    /// Sends what was not asked for, too.
    pub(super) fn send(&mut self, reply: &Reply) {
        if let Err(e) = encode(reply, self.state.protocol, &mut self.out) {
            tracing::error!("a reply cannot be encoded: {e}");
            self.closing = true;
        }
    }

    /// Runs requests in order; data commands in a row run together. Stops at one that may have to wait.
    pub(super) async fn run(&mut self, requests: &mut VecDeque<Vec<Bytes>>) -> Option<Stop> {
        self.client.runs.begin();
        let stop = self.run_until(requests).await;
        self.client.runs.end(&self.shared.pause);
        stop
    }

    async fn run_until(&mut self, requests: &mut VecDeque<Vec<Bytes>>) -> Option<Stop> {
        let mut burst = Burst::for_requests(requests.len());
        let mut command = None;
        let mut count = 0;
        let mut stop = None;
        while let Some(request) = requests.pop_front() {
            if self.closing {
                break;
            }
            let Some(name) = request.first() else {
                continue;
            };
            if self.shared.is_looked_after() {
                self.flush(&mut burst).await;
                stop = self.is_held_up(&request);
                if stop.is_some() {
                    requests.push_front(request);
                    break;
                }
                self.show_to_monitors(&request);
            }
            count += 1;
            if self.multi.is_none()
                && self.once.is_none()
                && !self.only_listens()
                && !self.monitors
                && let Some(spec) = commands::find(name)
            {
                command = Some(spec.name);
                stop = self.take(spec, request, &mut burst).await;
                if stop.is_some() {
                    break;
                }
                self.forget_caching();
                continue;
            }
            self.flush(&mut burst).await;
            let request = control::renamed(request);
            command = table::own(&request[0]).map_or(command, |own| Some(own.name));
            self.show(command);
            self.answer(&request).await;
            if self.multi.is_none() && !request[0].eq_ignore_ascii_case(b"client") {
                self.forget_caching();
            }
        }
        self.shared.stats.commands.add(count);
        let now = self.show(command);
        self.flush_since(now, &mut burst).await;
        stop
    }

    /// Takes a data command into the burst, unless it may have to wait.
    async fn take(
        &mut self,
        spec: &'static commands::Spec,
        request: Vec<Bytes>,
        burst: &mut Burst,
    ) -> Option<Stop> {
        let (place, args) = (Place::of(spec), &request[1..]);
        if let Err(reply) = commands::check_arity(spec, args) {
            self.shared.stats.rejected(place);
            burst.push(Item::Ready(reply), None, request);
            return None;
        }
        scripts::look_up(&self.node, spec, args).await;
        if spec.name == "object" && object::is_access(args) {
            self.flush(burst).await;
            let reply = object::access(&self.node, args).await;
            burst.push(Item::Ready(reply), Some(place), request);
            return None;
        }
        let parsed = self.parse(spec, args);
        if let Ok(command) = &parsed {
            if let Some(blocking) = Blocking::of(spec, command) {
                return Some(Stop::Waits(blocking));
            }
            burst.remember.add(self.tracking.as_ref(), spec.name, command);
        }
        burst.push(parsed.map_or_else(Item::Ready, Item::Run), Some(place), request);
        None
    }

    /// One request by itself: answered, and counted unless it was only queued.
    async fn answer(&mut self, request: &[Bytes]) {
        let (begun, queues) = (Instant::now(), self.multi.is_some());
        let reply = self.dispatch(request).await;
        let took = begun.elapsed();
        let args = &request[1..];
        let place = match (commands::find(&request[0]), table::own(&request[0])) {
            (Some(spec), _) => Some(Place::of(spec)),
            (None, own) => own.map(|own| Place::of_own(own.name, args)),
        };
        if std::mem::take(&mut self.refused) {
            if let Some(place) = place {
                self.shared.stats.rejected(place);
            }
        } else if !(queues && self.multi.is_some()) {
            self.count(&[place], std::slice::from_ref(&reply), took);
            self.note_if_slow(request, 0, took);
        }
        self.reply(&reply);
    }

    /// What `CLIENT LIST` is to show of this connection from now on.
    fn show(&self, command: Option<&'static str>) -> Instant {
        let now = Instant::now();
        self.client.note(|seen| {
            seen.command = command.unwrap_or(seen.command);
            seen.at = now;
            seen.queued = self.multi.as_ref().map(Multi::len);
        });
        now
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

    async fn flush(&mut self, burst: &mut Burst) {
        if !burst.items.is_empty() {
            self.flush_since(Instant::now(), burst).await;
        }
    }

    /// Runs the data commands that have come together; `begun`: now.
    async fn flush_since(&mut self, begun: Instant, burst: &mut Burst) {
        if burst.items.is_empty() {
            return;
        }
        let items = std::mem::take(&mut burst.items);
        let remember = std::mem::take(&mut burst.remember);
        let replies = self.run_items(items, remember).await;
        let took = begun.elapsed();
        self.count(&burst.places, &replies, took);
        self.note_if_slow(&burst.first, burst.places.len() - 1, took);
        burst.places.clear();
        for reply in replies {
            self.reply(&reply);
        }
    }

    /// One request that is not simply a data command: in MULTI, numbered, or the gateway's own.
    async fn dispatch(&mut self, request: &[Bytes]) -> Reply {
        let (name, args) = (&request[0], &request[1..]);
        let data = commands::find(name);
        let own = table::own(name);
        let arity = match (data, own) {
            (Some(spec), _) => commands::check_arity(spec, args),
            (None, Some(own)) if own.name == "client" => {
                table::check(own, args).and_then(|()| clients::check(args))
            }
            (None, Some(own)) if own.name == "multi" => Multi::check(args),
            (None, Some(own)) => table::check(own, args),
            (None, None) => Err(unknown::unknown_command(name, args)),
        };
        if let Err(reply) = arity {
            return self.refuse(own, reply);
        }
        if self.monitors && (data.is_some() || own.is_some_and(|own| own.name.ends_with("subscribe"))) {
            return Reply::err("ERR Replica can't interact with the keyspace");
        }
        if self.only_listens() && !own.is_some_and(|own| pubsub::LISTENERS_MAY.contains(&own.name)) {
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
            (None, Some(own)) if self.multi.is_some() && NOT_IN_MULTI.contains(&own.name) => {
                self.spoil();
                Reply::err("ERR Command not allowed inside a transaction")
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
        self.refused = true;
        if own.is_some_and(|own| own.name == "exec") {
            self.end_multi();
            let why = if let Reply::Error(text) = &reply {
                text.trim_start_matches("ERR ")
            } else {
                ""
            };
            return Reply::err(format!("EXECABORT Transaction discarded because of: {why}"));
        }
        self.spoil();
        reply
    }

    fn spoil(&mut self) {
        if let Some(multi) = &mut self.multi {
            multi.spoil();
        }
    }

    async fn run_numbered(&mut self, name: &str, command: Command) -> Reply {
        let mut remember = ToRemember::default();
        remember.add(self.tracking.as_ref(), name, &command);
        let asker = self.asker(&remember).await;
        burst::note_writes(&self.node, std::slice::from_ref(&command), &mut self.wrote);
        let wish = Wish {
            commands: vec![command],
            id: self.once.take(),
            ..Wish::default()
        };
        match on_behalf(asker, self.node.execute(wish)).await {
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
                self.stop_monitoring();
                self.stop_listening();
                self.track_no_more();
                self.muted = 0;
                self.state.reset();
                self.show_state();
                Reply::Simple("RESET".into())
            }
            "monitor" => self.monitor(),
            "save" => self.save().await,
            "shutdown" => self.shut_down(args).await,
            "wait" => self.wait_for_replicas(args, false).await,
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
            "client" | "pubsub" | "script" if command::is_help(args) => command::help_on(name),
            "client" => self.client_command(args).await,
            "command" => command::command(args),
            "script" => scripts::script(&self.node, args).await,
            "function" => functions::function(&self.node, args).await,
            "publish" | "spublish" => pubsub::publish(&self.node, name, args).await,
            "pubsub" => pubsub::pubsub(&self.node, args).await,
            "time" => scripts::time(&self.node),
            "unwatch" => {
                self.watched.clear();
                Reply::ok()
            }
            "txn" => txn::txn(&self.node, args).await,
            "quorate" => self.quorate(args),
            _ => self.server_command(name, args).await,
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
            b"pause" => self.pause(rest).await,
            b"unpause" => {
                self.shared.pause.end();
                Reply::ok()
            }
            b"reply" => self.switch_replies(&args[1]),
            b"no-evict" => self.switch_care(&args[1]),
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
}
