//! A connection's socket: requests in, replies out, and what happens while a command waits.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::burst::{self, Item};
use super::client::text;
use super::clients::Signal;
use super::large::{STALLED, Ticket};
use super::pubsub::shown;
use super::session::Session;
use super::stats::Place;
use super::tracking::ToRemember;
use crate::base::Reply;
use crate::base::limits::{BURST_BYTES_MAX, BURST_COMMANDS_MAX, LARGE_BYTES};
use crate::cluster::{Listener, Message, on_behalf};
use crate::host::Stream;
use crate::machine::Command;
use crate::machine::commands::{Spec, Waits};
use crate::resp::RequestReader;

/// Bytes of replies after which they are written before more requests are taken.
const WRITE_BYTES: usize = 256 << 10;

/// Bytes that a connection reads at a time, as a rule.
const BUFFER_BYTES: usize = 16 << 10;

/// Requests that a connection keeps room for.
const REQUESTS_KEPT: usize = 32;

/// Bytes that a client may send ahead while a command of its own waits. Beyond, its end is noticed late.
const AHEAD_BYTES: usize = 64 << 10;
/// Whoever waits for longer has heard from the leader by then.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// What has come from the socket.
struct Input {
    reader: RequestReader,
    buffer: BytesMut,
    ticket: Option<Ticket>,
    had_ticket: bool,
}

impl Input {
    /// Takes whole requests, as many as are taken at a time; says what is wrong with the next.
    fn take(&mut self, requests: &mut VecDeque<Vec<Bytes>>) -> Option<String> {
        requests.shrink_to(REQUESTS_KEPT);
        let mut taken = 0;
        while requests.len() < BURST_COMMANDS_MAX && taken < BURST_BYTES_MAX {
            match self.reader.next(&mut self.buffer) {
                Ok(Some(request)) => {
                    taken += request.iter().map(Bytes::len).sum::<usize>();
                    requests.push_back(request);
                }
                Ok(None) => break,
                Err(error) => return Some(error.to_string()),
            }
        }
        if !requests.is_empty() {
            // The ticket was for the first of these; what has begun behind it needs one of its own.
            self.had_ticket |= self.ticket.take().is_some();
        }
        None
    }
}

/// A command that may have to wait, and for what.
pub struct Blocking {
    pub place: Place,
    pub command: Command,
    pub waits: Waits,
    /// Under this name Redis knows whether it reads.
    pub name: &'static str,
}

impl Blocking {
    pub fn of(spec: &'static Spec, command: &Command) -> Option<Blocking> {
        Some(Blocking {
            place: Place::of(spec),
            waits: command.waits()?,
            command: command.clone(),
            name: spec.name,
        })
    }
}

/// Why requests are not run any further for now.
pub enum Stop {
    /// The one that was taken last may have to wait.
    Waits(Blocking),
    /// The next one may not run while clients are paused.
    Paused { may_write: bool },
}

/// How a wait went on.
enum Waited {
    Answered(Reply),
    /// Clients are paused no more.
    Passed,
    /// The client is gone, or told to go.
    Gone,
}

impl Session {
    /// Serves the connection until either side closes it.
    ///
    /// # Errors
    /// The socket's.
    pub async fn serve(mut self, mut stream: Stream) -> io::Result<()> {
        let mut input = Input {
            reader: RequestReader::default(),
            buffer: BytesMut::with_capacity(BUFFER_BYTES),
            ticket: None,
            had_ticket: false,
        };
        let mut requests = VecDeque::new();
        loop {
            // What it has asked since is not done; and who sends without end never waits for a signal.
            if self.client.is_killed() {
                return stream.shutdown().await;
            }
            let failed = input.take(&mut requests);
            let idle = requests.is_empty();
            while !requests.is_empty()
                && let Some(stop) = self.run(&mut requests).await
            {
                self.write(&mut stream).await?;
                let waited = match stop {
                    Stop::Waits(blocking) => self.wait(blocking, &mut stream, &mut input.buffer).await?,
                    Stop::Paused { may_write } => {
                        self.pass(may_write, &mut stream, &mut input.buffer).await?
                    }
                };
                match waited {
                    Waited::Answered(reply) => self.reply(&reply),
                    Waited::Passed => {}
                    Waited::Gone => return stream.shutdown().await,
                }
            }
            // Also to who sends so much that nothing else is ever waited for.
            if self.client.inbox.has_some() {
                self.tell_stale();
            }
            if let Some(message) = next_message(&mut self.listener).now_or_never() {
                self.closing |= !self.hear(message);
            }
            if let Some(error) = failed {
                self.reply(&Reply::err(error));
                self.closing = true;
            }
            self.write(&mut stream).await?;
            if self.closing {
                return stream.shutdown().await;
            }
            if idle && !self.read(&mut stream, &mut input).await? {
                return Ok(());
            }
        }
    }

    async fn write(&mut self, stream: &mut Stream) -> io::Result<()> {
        if !self.out.is_empty() {
            let gone = |why| io::Error::new(io::ErrorKind::ConnectionAborted, why);
            // A client that reads nothing must not keep what it was to be told for ever.
            tokio::select! {
                biased;
                written = stream.write_all(&self.out) => written?,
                () = overflowed(self.listener.as_ref()) => return Err(gone("it takes its messages too slowly")),
                () = self.client.killed() => return Err(gone("killed by another client")),
            }
            self.shared.stats.bytes_out.add(self.out.len());
            self.shared.stats.writes.add(1);
            self.out.clear();
            if self.out.capacity() > 4 * WRITE_BYTES {
                self.out = BytesMut::new();
            }
        }
        Ok(())
    }

    /// Reads more. `false`: there is no more.
    async fn read(&mut self, stream: &mut Stream, input: &mut Input) -> io::Result<bool> {
        if input.reader.unfinished() > LARGE_BYTES {
            if input.ticket.is_none() {
                input.ticket = self.shared.large.ticket(input.reader.expected()).await;
            }
        } else if std::mem::take(&mut input.had_ticket) {
            // The old one has room for a large command.
            let mut usual = BytesMut::with_capacity(BUFFER_BYTES.max(input.buffer.len()));
            usual.extend_from_slice(&input.buffer);
            input.buffer = usual;
        }
        input.buffer.reserve(input.reader.missing(&input.buffer));
        let reading = Ticket::hold(input.ticket.as_ref(), stream.read_buf(&mut input.buffer));
        self.client.note_listening(true);
        let read = tokio::select! {
            biased;
            read = reading => read,
            message = next_message(&mut self.listener) => return Ok(self.hear(message)),
            signal = self.client.signal() => {
                if signal == Signal::Inbox {
                    self.tell_stale();
                }
                return Ok(signal != Signal::Kill);
            }
        };
        self.client.note_listening(false);
        match read {
            Some(Ok(0)) => return Ok(false),
            Some(read) => {
                self.shared.stats.bytes_in.add(read?);
                self.shared.stats.reads.add(1);
            }
            None => {
                self.reply(&Reply::err(STALLED));
                self.closing = true;
                self.write(stream).await?;
                stream.shutdown().await?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Queues messages for the client: this one and what else is there. `false`: it took them too slowly.
    fn hear(&mut self, mut message: Option<Message>) -> bool {
        self.tell_stale();
        loop {
            let Some(heard) = message else {
                tracing::warn!(
                    client = self.state.id,
                    "disconnected: it takes its messages too slowly"
                );
                return false;
            };
            let line = if self.monitors {
                Reply::Simple(text(&heard.message).into())
            } else {
                shown(heard)
            };
            self.send(&line);
            if self.out.len() >= WRITE_BYTES {
                return true;
            }
            match next_message(&mut self.listener).now_or_never() {
                Some(next) => message = next,
                None => return true,
            }
        }
    }

    /// Runs a command when its turn has come, until it finds something or has waited long enough.
    async fn wait(
        &mut self,
        blocking: Blocking,
        stream: &mut Stream,
        buffer: &mut BytesMut,
    ) -> io::Result<Waited> {
        self.client.begin_wait();
        let place = blocking.place;
        let waited = self.wait_in_line(blocking, stream, buffer).await;
        // It has kept nobody busy.
        if let Ok(Waited::Answered(reply)) = &waited {
            self.shared
                .stats
                .ran(&[Some(place)], std::slice::from_ref(reply), Duration::ZERO, false);
        }
        self.client.note(|seen| {
            seen.waits = false;
            seen.at = Instant::now();
        });
        self.forget_caching();
        waited
    }

    /// Waits while clients are paused (`CLIENT PAUSE`).
    async fn pass(
        &mut self,
        may_write: bool,
        stream: &mut Stream,
        buffer: &mut BytesMut,
    ) -> io::Result<Waited> {
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                biased;
                read = stream.read_buf(buffer), if buffer.len() < AHEAD_BYTES => if read? == 0 {
                    return Ok(Waited::Gone);
                },
                signal = self.client.signal() => match signal {
                    Signal::Kill => return Ok(Waited::Gone),
                    Signal::TimeOut | Signal::Unblock => {}
                    Signal::Inbox => {
                        self.tell_stale();
                        self.write(stream).await?;
                    }
                },
                () = shared.pause.pass(may_write) => return Ok(Waited::Passed),
                message = next_message(&mut self.listener) => {
                    if !self.hear(message) {
                        return Ok(Waited::Gone);
                    }
                    self.write(stream).await?;
                }
            }
        }
    }

    async fn wait_in_line(
        &mut self,
        blocking: Blocking,
        stream: &mut Stream,
        buffer: &mut BytesMut,
    ) -> io::Result<Waited> {
        let Blocking {
            command, waits, name, ..
        } = match self.resolve(blocking).await {
            Ok(resolved) => resolved,
            Err(reply) => return Ok(Waited::Answered(reply)),
        };
        let timeout = waits.timeout_ms.map(Duration::from_millis);
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut line = self.node.stand_in_line(&waits);
        // The leader may be farther away than the wait is long. What is there is to be found all the same.
        let mut owed = timeout.is_some_and(|timeout| timeout < SHORT_WAIT);
        loop {
            let group = tokio::select! {
                biased;
                read = stream.read_buf(buffer), if buffer.len() < AHEAD_BYTES => match read? {
                    0 => return Ok(Waited::Gone),
                    _ => continue,
                },
                signal = self.client.signal() => match signal {
                    Signal::Kill => return Ok(Waited::Gone),
                    Signal::TimeOut => return Ok(Waited::Answered(Reply::NilArray)),
                    Signal::Unblock => {
                        let why = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
                        return Ok(Waited::Answered(Reply::err(why)));
                    }
                    Signal::Inbox => {
                        self.tell_stale();
                        self.write(stream).await?;
                        continue;
                    }
                },
                group = line.turn() => Some(group),
                message = next_message(&mut self.listener) => {
                    if !self.hear(message) {
                        return Ok(Waited::Gone);
                    }
                    self.write(stream).await?;
                    continue;
                }
                () = sleep_until(until) => None,
            };
            if group.is_none() && !owed {
                return Ok(Waited::Answered(Reply::NilArray));
            }
            owed = false;
            let replies = self.run_waiting(name, &command).await;
            let reply = replies.into_iter().next().unwrap_or(Reply::Nil);
            if Command::found_nothing(&reply) {
                if let Some(group) = group {
                    line.back_to(group);
                }
                continue;
            }
            let ended = stream.read_buf(buffer).now_or_never();
            if matches!(ended, Some(Ok(0) | Err(_))) || self.client.is_killed() {
                self.put_back(&command, &reply).await;
                return Ok(Waited::Gone);
            }
            return Ok(Waited::Answered(reply));
        }
    }

    async fn run_waiting(&mut self, name: &str, command: &Command) -> Vec<Reply> {
        let mut remember = ToRemember::default();
        remember.add(self.tracking.as_ref(), name, command);
        let asker = self.asker(&remember).await;
        let items = vec![Item::Run(command.clone())];
        on_behalf(asker, burst::run(&self.node, items, Some(&mut self.wrote))).await
    }

    /// Looks up what the command calls "now", so that it means the same moment however often the command is run.
    async fn resolve(&self, blocking: Blocking) -> Result<Blocking, Reply> {
        let looks = blocking.command.looks_before_waiting();
        if looks.is_empty() {
            return Ok(blocking);
        }
        let replies = burst::run(&self.node, looks.into_iter().map(Item::Run).collect(), None).await;
        let place = blocking.place;
        let command = blocking.command.resolved(replies)?;
        let (waits, name) = (command.waits().ok_or_else(Reply::syntax)?, blocking.name);
        Ok(Blocking {
            place,
            command,
            waits,
            name,
        })
    }

    /// The client went away while its command took something: it goes back to where it was.
    async fn put_back(&self, command: &Command, reply: &Reply) {
        let Some(undo) = command.undone(reply) else { return };
        let replies = burst::run(&self.node, vec![Item::Run(undo)], None).await;
        if let Some(Reply::Error(why)) = replies.first() {
            tracing::warn!("what a client had popped that went away at this moment is lost: {why}");
        }
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Waits until messages are lost, if the connection listens to anything.
async fn overflowed(listener: Option<&Listener>) {
    match listener {
        Some(listener) => listener.overflowed().await,
        None => std::future::pending().await,
    }
}

/// Waits for a message, if the connection listens to anything.
async fn next_message(listener: &mut Option<Listener>) -> Option<Message> {
    match listener {
        Some(listener) => listener.next().await,
        None => std::future::pending().await,
    }
}
