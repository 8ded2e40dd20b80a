//! One memcached client's connection.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::encode::Encoder;
use super::input::Reader;
use super::meta::Kind;
use super::stats::{self, Counter};
use super::{Asked, Form, writing};
use crate::base::Reply;
use crate::base::limits::{BURST_BYTES_MAX, BURST_COMMANDS_MAX, LARGE_BYTES};
use crate::cluster::Node;
use crate::gateway::burst::{self, Item};
use crate::gateway::clients::{Client, Signal};
use crate::gateway::large::Ticket;
use crate::gateway::server::Shared;
use crate::host::Stream;
use crate::machine::commands::memcached::{Look, Word};
use crate::machine::{Command, Touches};

/// Bytes that a connection reads at a time, as a rule.
const BUFFER_BYTES: usize = 16 << 10;
/// A larger buffer of replies is not kept.
const KEPT_BYTES: usize = 1 << 20;

pub struct Session {
    node: Node,
    shared: Arc<Shared>,
    /// What others see of this connection.
    client: Arc<Client>,
    reader: Reader,
    buffer: BytesMut,
    ticket: Option<Ticket>,
    had_ticket: bool,
    out: BytesMut,
    closing: bool,
}

/// Requests that are run together.
#[derive(Default)]
struct Burst {
    asked: Vec<Asked>,
    /// Keys that were looked at so that there may be something to write.
    looked: BTreeSet<Bytes>,
}

impl Burst {
    /// Whether the command has to come after what may yet turn out to be a write.
    fn delays(&self, command: &Command) -> bool {
        if self.looked.is_empty() {
            return false;
        }
        match command.touches() {
            Touches::Keys(keys) => keys.into_iter().any(|key| self.looked.contains(key)),
            Touches::Everything | Touches::Shard(_) => true,
        }
    }
}

impl Asked {
    /// The look that may turn out to be a write.
    fn look(&self) -> Option<&Look> {
        match &self.form {
            Form::Meta(meta) => match &meta.kind {
                Kind::Get(look) => Some(look).filter(|look| !look.writes),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Session {
    #[must_use]
    pub fn new(node: Node, shared: Arc<Shared>, client: Arc<Client>) -> Session {
        client.note(|seen| seen.library.0 = Bytes::from_static(b"memcached"));
        let item_max = node.config().limits.memcached_item_bytes;
        let item_max = usize::try_from(item_max).unwrap_or(usize::MAX);
        Session {
            node,
            shared,
            client,
            reader: Reader::new(item_max),
            buffer: BytesMut::with_capacity(BUFFER_BYTES),
            ticket: None,
            had_ticket: false,
            out: BytesMut::new(),
            closing: false,
        }
    }

    /// Serves the connection until either side closes it.
    ///
    /// # Errors
    /// The socket's.
    pub async fn serve(mut self, mut stream: Stream) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.memcached.entered();
        let ended = self.serve_on(&mut stream).await;
        shared.memcached.left();
        ended
    }

    async fn serve_on(&mut self, stream: &mut Stream) -> io::Result<()> {
        loop {
            // What it has asked since is not done; and who sends without end never waits for a signal.
            if self.client.is_killed() {
                return stream.shutdown().await;
            }
            let asked = self.take();
            let idle = asked.is_empty();
            self.run(asked).await;
            self.write(stream).await?;
            if self.closing {
                return stream.shutdown().await;
            }
            if idle && !self.read(stream).await? {
                return Ok(());
            }
        }
    }

    /// Whole requests, as many as are taken at a time.
    fn take(&mut self) -> Vec<Asked> {
        let mut all = Vec::new();
        let (mut commands, mut bytes) = (0, 0);
        while all.len() < BURST_COMMANDS_MAX && commands < BURST_COMMANDS_MAX && bytes < BURST_BYTES_MAX {
            let Some(asked) = self.reader.next(&mut self.buffer) else {
                break;
            };
            commands += asked.commands.len();
            bytes += asked.commands.iter().map(Command::weight).sum::<usize>();
            let last = matches!(asked.form, Form::Close(_));
            all.push(asked);
            if last {
                break;
            }
        }
        if !all.is_empty() {
            // The ticket was for the first of these; what has begun behind it needs one of its own.
            self.had_ticket |= self.ticket.take().is_some();
        }
        all
    }

    async fn run(&mut self, all: Vec<Asked>) {
        if !all.is_empty() {
            self.client.runs.begin();
            self.run_all(all).await;
            self.client.runs.end(&self.shared.pause);
        }
    }

    async fn run_all(&mut self, all: Vec<Asked>) {
        self.shared.stats.commands.add(all.len());
        self.client.note(|seen| seen.at = Instant::now());
        let mut burst = Burst::default();
        for asked in all {
            if self.shared.pause.is_on() {
                self.flush(std::mem::take(&mut burst)).await;
                if !self.pass(asked.commands.iter().any(Command::is_write)).await {
                    self.closing = true;
                    return;
                }
            }
            if asked.commands.iter().any(|command| burst.delays(command)) {
                self.flush(std::mem::take(&mut burst)).await;
            }
            burst.looked.extend(asked.look().map(|look| look.key.clone()));
            burst.asked.push(asked);
        }
        self.flush(burst).await;
    }

    /// Waits while clients are paused (`CLIENT PAUSE`). `false`: this one is killed.
    async fn pass(&self, may_write: bool) -> bool {
        let pause = &self.shared.pause;
        while pause.holds(may_write) {
            self.client.runs.end(pause);
            let passed = tokio::select! {
                biased;
                () = self.client.killed() => false,
                () = pause.pass(may_write) => true,
            };
            self.client.runs.begin();
            if !passed {
                return false;
            }
        }
        true
    }

    /// Runs what has been asked for, and says what has come of it.
    async fn flush(&mut self, Burst { mut asked, .. }: Burst) {
        let mut counts = Vec::with_capacity(asked.len());
        let mut items = Vec::with_capacity(asked.len());
        for asked in &mut asked {
            counts.push(asked.commands.len());
            items.extend(asked.commands.drain(..).map(Item::Run));
        }
        let mut replies = run(&self.node, items).await;
        self.write_what_was_seen(&asked, &counts, &mut replies).await;
        let mut rest = &replies[..];
        for (asked, count) in asked.iter().zip(counts) {
            let (mine, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            self.answer(asked, mine);
        }
    }

    /// Runs the looks that may write, for those that have shown that there is something to write.
    async fn write_what_was_seen(&self, asked: &[Asked], counts: &[usize], replies: &mut [Reply]) {
        let (mut places, mut items) = (Vec::new(), Vec::new());
        let mut at = 0;
        for (asked, count) in asked.iter().zip(counts) {
            let seen = replies.get(at).and_then(Word::of);
            if let (Some(look), Some(Word::Writes)) = (asked.look(), seen) {
                places.push(at);
                items.push(Item::Run(writing(look)));
            }
            at += count;
        }
        if !items.is_empty() && self.shared.pause.is_on() && !self.pass(true).await {
            return;
        }
        for (place, reply) in places.into_iter().zip(run(&self.node, items).await) {
            replies[place] = reply;
        }
    }

    fn answer(&mut self, asked: &Asked, replies: &[Reply]) {
        let text = match (&asked.form, replies) {
            (Form::Stats, [Reply::Int(keys)]) => Some(stats::general(&self.node, &self.shared, *keys)),
            (Form::Settings, _) => Some(stats::settings(&self.node)),
            (Form::ResetStats, _) => {
                self.shared.memcached.reset();
                Some("RESET".into())
            }
            _ => None,
        };
        self.closing |= matches!(asked.form, Form::Close(_));
        let mut encoder = Encoder {
            out: &mut self.out,
            stats: &self.shared.memcached,
        };
        match text {
            Some(text) => encoder.answer(&Asked::text(text), replies),
            None => encoder.answer(asked, replies),
        }
    }

    async fn write(&mut self, stream: &mut Stream) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.shared.memcached.add(Counter::BytesWritten, self.out.len());
        self.shared.stats.bytes_out.add(self.out.len());
        self.shared.stats.writes.add(1);
        // A client that reads nothing must not keep what it was to be told for ever.
        tokio::select! {
            biased;
            written = stream.write_all(&self.out) => written?,
            () = self.client.killed() => {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "killed by another client"));
            }
        }
        self.out.clear();
        if self.out.capacity() > KEPT_BYTES {
            self.out = BytesMut::new();
        }
        Ok(())
    }

    /// Reads more. `false`: there is no more.
    async fn read(&mut self, stream: &mut Stream) -> io::Result<bool> {
        let wanted = self.reader.unfinished();
        if wanted > LARGE_BYTES {
            if self.ticket.is_none() {
                self.ticket = self.shared.large.ticket(wanted).await;
            }
        } else if std::mem::take(&mut self.had_ticket) {
            // The old one has room for large data.
            let mut usual = BytesMut::with_capacity(BUFFER_BYTES.max(self.buffer.len()));
            usual.extend_from_slice(&self.buffer);
            self.buffer = usual;
        }
        self.buffer.reserve(self.reader.missing(&self.buffer).max(1));
        let reading = Ticket::hold(self.ticket.as_ref(), stream.read_buf(&mut self.buffer));
        self.client.note_listening(true);
        let read = tokio::select! {
            biased;
            read = reading => read,
            signal = self.client.signal() => {
                // Others may redirect to it, and it has no form for what they would have it told.
                drop(self.client.inbox.take());
                return Ok(signal != Signal::Kill);
            }
        };
        self.client.note_listening(false);
        let Some(read) = read else {
            let why = "SERVER_ERROR data of more than 1 MiB must not pause for 10 s, nor take 120 s";
            self.answer(&Asked::close(Some(why)), &[]);
            self.write(stream).await?;
            stream.shutdown().await?;
            return Ok(false);
        };
        let read = read?;
        self.shared.memcached.add(Counter::BytesRead, read);
        self.shared.stats.bytes_in.add(read);
        self.shared.stats.reads.add(1);
        Ok(read > 0)
    }
}

async fn run(node: &Node, items: Vec<Item>) -> Vec<Reply> {
    if items.is_empty() {
        return Vec::new();
    }
    burst::run(node, items, None).await
}
