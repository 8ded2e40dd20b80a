//! Commands about this node's running: what it is, its snapshots, its replicas, its end.

use std::time::Duration;

use bytes::Bytes;

use super::client::{switch, text};
use super::session::{ALWAYS, Session};
use super::{config, info, memory, refused};
use crate::base::Reply;
use crate::base::limits::WAIT_MS_MAX;
use crate::machine::commands::parse_i64;

/// `MEMORY USAGE` is a command about a key, which has a name of its own.
#[must_use]
pub fn renamed(mut request: Vec<Bytes>) -> Vec<Bytes> {
    let is = |at: usize, word: &[u8]| request.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word));
    if is(0, b"memory") && is(1, b"usage") {
        request.remove(0);
        request[0] = Bytes::from_static(b"memory|usage");
    }
    request
}

impl Session {
    /// `CLIENT PAUSE timeout [WRITE | ALL]`, of this node's clients.
    pub(super) async fn pause(&self, args: &[Bytes]) -> Reply {
        let writes_only = match args.get(1).map(|mode| mode.to_ascii_lowercase()).as_deref() {
            None | Some(b"all") => false,
            Some(b"write") => true,
            Some(_) => return Reply::err("ERR CLIENT PAUSE mode must be WRITE or ALL"),
        };
        let timeout = match args.first().and_then(|timeout| parse_i64(timeout)) {
            None => return Reply::err("ERR timeout is not an integer or out of range"),
            Some(timeout) if timeout < 0 => return Reply::err("ERR timeout is negative"),
            Some(timeout) => Duration::from_millis(timeout.cast_unsigned()),
        };
        let pause = &self.shared.pause;
        pause.begin(timeout, writes_only);
        self.aside(async { pause.settled(self.shared.clients.runs()).await })
            .await;
        Reply::ok()
    }

    /// Has something awaited that changes nothing and may take long: who pauses clients does not wait for it.
    pub(super) async fn aside<T>(&self, waiting: impl Future<Output = T>) -> T {
        self.client.runs.end(&self.shared.pause);
        let done = waiting.await;
        self.client.runs.begin();
        done
    }

    /// `CLIENT NO-EVICT ON | OFF`. Connections are not evicted here in any case.
    pub(super) fn switch_care(&mut self, word: &Bytes) -> Reply {
        let Some(on) = switch(word) else {
            return Reply::syntax();
        };
        self.client.note(|seen| seen.spared = on);
        Reply::ok()
    }

    /// `CLIENT REPLY ON | OFF | SKIP`.
    pub(super) fn switch_replies(&mut self, how: &Bytes) -> Reply {
        match how.to_ascii_lowercase().as_slice() {
            b"on" => self.muted = 0,
            b"off" => self.muted = ALWAYS,
            // Of this one, and of the next.
            b"skip" if self.muted == ALWAYS => {}
            b"skip" => self.muted = 2,
            _ => return Reply::syntax(),
        }
        Reply::ok()
    }

    /// The commands that MULTI queues, and that tell or change something of the server.
    pub(super) async fn server_command(&mut self, name: &str, args: &[Bytes]) -> Reply {
        let node = &self.node;
        match name {
            "info" => info::info(node, &self.shared, args).await,
            "config" => config::config(node, &self.shared, args).await,
            "slowlog" => self.shared.slowlog.command(args),
            "latency" => {
                let threshold = node.settings().latency_monitor_threshold();
                self.shared.latency.command(args, &self.shared.stats, threshold)
            }
            "memory" => memory::memory(node, args).await,
            "debug" => Box::pin(self.debug(args)).await,
            "role" => Reply::Array(vec![
                Reply::bulk("master"),
                Reply::Int(0),
                Reply::Array(Vec::new()),
            ]),
            "lastsave" => {
                let last = node.saved().last.unwrap_or_else(|| self.shared.started_at());
                Reply::Int(i64::try_from(last / 1000).unwrap_or(i64::MAX))
            }
            "bgsave" => self.bgsave(args),
            "bgrewriteaof" => refused::bgrewriteaof(),
            "lolwut" => refused::lolwut(args),
            "acl" => refused::acl(args),
            "swapdb" => refused::swapdb(args),
            "move" => refused::move_key(args),
            "cluster" | "readonly" | "readwrite" | "asking" => refused::cluster(),
            "wait" => self.wait_for_replicas(args, true).await,
            "monitor" => Reply::err("ERR MONITOR isn't allowed for DENY BLOCKING client"),
            _ => Reply::err(format!("ERR {name} cannot be used here")),
        }
    }

    /// `BGSAVE [SCHEDULE]`.
    fn bgsave(&self, args: &[Bytes]) -> Reply {
        match args {
            [] => {}
            [word] if word.eq_ignore_ascii_case(b"schedule") => {}
            _ => return Reply::syntax(),
        }
        let Some(turn) = self.shared.saving() else {
            return Reply::err("ERR Background save already in progress");
        };
        let node = self.node.clone();
        tokio::spawn(async move {
            let saved = node.save().await;
            if let Err(why) = &saved {
                tracing::error!("BGSAVE: {why}");
            }
            turn.ended(&saved);
        });
        Reply::Simple("Background saving started".into())
    }

    /// `SAVE`: returns when the snapshots are on disk.
    pub(super) async fn save(&self) -> Reply {
        let Some(turn) = self.shared.saving() else {
            return Reply::err("ERR Background save already in progress");
        };
        let saved = self.aside(self.node.save()).await;
        turn.ended(&saved);
        match saved {
            Ok(()) => Reply::ok(),
            Err(why) => Reply::err(format!("ERR {why}")),
        }
    }

    /// `WAIT numreplicas timeout`: how many other replicas have all that this connection has written, in each of the shards that it
    /// has written to; the least of them. A write that was acknowledged is on a majority already.
    pub(super) async fn wait_for_replicas(&self, args: &[Bytes], at_once: bool) -> Reply {
        let Some(wanted) = parse_i64(&args[0]) else {
            return Reply::not_an_integer();
        };
        let timeout = match parse_i64(&args[1]) {
            None => return Reply::err("ERR timeout is not an integer or out of range"),
            Some(timeout) if timeout < 0 => return Reply::err("ERR timeout is negative"),
            Some(0) => WAIT_MS_MAX,
            Some(timeout) => timeout.cast_unsigned().min(WAIT_MS_MAX),
        };
        let patience = Duration::from_millis(if at_once { 0 } else { timeout });
        let least = usize::try_from(wanted).unwrap_or(0);
        let shards = if self.wrote.is_empty() {
            (0..self.node.ring().shards()).collect()
        } else {
            self.wrote.clone()
        };
        let counting = async {
            tokio::select! {
                biased;
                () = self.client.killed() => Reply::Int(0),
                have = self.node.replicated(&shards, least, patience) => Reply::count(have),
            }
        };
        self.aside(counting).await
    }

    /// `SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]`: ends this node in order. Whoever asked is told nothing: the connection closes.
    pub(super) async fn shut_down(&mut self, args: &[Bytes]) -> Reply {
        let mut words: Vec<String> = args.iter().map(|arg| text(&arg.to_ascii_lowercase())).collect();
        words.sort_unstable();
        let known = |word: &String| ["abort", "force", "nosave", "now", "save"].contains(&word.as_str());
        let has = |word: &str| words.iter().any(|other| other == word);
        if !words.iter().all(known) || (has("save") && has("nosave")) || (has("abort") && words.len() > 1) {
            return Reply::syntax();
        }
        if has("abort") {
            return Reply::err("ERR No shutdown in progress.");
        }
        // What was acknowledged is on disk in any case.
        if has("save") {
            let saved = self.save().await;
            if saved.is_error() && !has("force") {
                return Reply::err("ERR Errors trying to SHUTDOWN. Check logs.");
            }
        }
        tracing::info!(client = self.state.id, "SHUTDOWN: stopping");
        self.muted = 1;
        self.closing = true;
        self.shared.shutdown.notify_one();
        Reply::Nil
    }
}
