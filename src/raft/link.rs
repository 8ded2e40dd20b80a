//! The one TCP link per pair of nodes: Raft, forwarding and transactions, multiplexed by call id.
//!
//! ```text
//!  lower id ──dials──▶ higher id;  hello ⇄ hello;  then frames both ways until it breaks; then again, with jitter
//! ```
//!
//! A side that has nothing to send sends an empty frame every [`BEAT`]; who hears nothing for [`SILENCE`] takes the link
//! for broken. A connection whose packets vanish would else count as one for minutes: peers would be asked, and handed
//! leadership, that nobody can reach.
//!
//! Calls are handed to the node in the order in which they came (each is polled once before the next is read); a long one comes
//! when its last piece does (`framing.rs`). A full queue refuses a call instead of holding it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::framing::{self, Incoming, Outgoing};
use super::greeting::{self, greet};
use super::wire::{Call, Frame, Hello, LinkError, Return, WIRE_VERSION};
use crate::base::limits::{FRAME_BYTES_MAX, LINK_QUEUE_MAX};
use crate::base::{NodeId, codec};
use crate::host::{Listener, Network, ReadHalf, Stream, WriteHalf, chance};

const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// For a connection to be made. Left to itself TCP asks ever more seldom, and sleeps through the network's return.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const BEAT: Duration = Duration::from_millis(250);
const SILENCE: Duration = Duration::from_millis(1500);
const DIAL_MIN_MS: u64 = 20;
const DIAL_MAX_MS: u64 = 1000;

/// Takes a service message for the floor above. Must not wait for anything: the link's next call comes after it.
pub type ServiceHandler = Arc<dyn Fn(NodeId, Bytes, Responder) + Send + Sync>;

/// Sends one answer to a peer. Dropped instead, the peer sees a time-out.
pub struct Responder {
    answers: mpsc::WeakSender<Bytes>,
    id: u64,
}

impl Responder {
    /// Answers a service message.
    pub fn send(self, message: Bytes) {
        self.respond(Return::Service(message));
    }

    pub(super) fn respond(self, body: Return) {
        let Some(queue) = self.answers.upgrade() else {
            return;
        };
        match codec::encode(&Frame::Response { id: self.id, body }) {
            // A full or closed queue: the peer sees a time-out, as if the network had lost it.
            Ok(bytes) if bytes.len() <= FRAME_BYTES_MAX => drop(queue.try_send(bytes.into())),
            // Replies are bounded where commands run, so there is none.
            Ok(bytes) => tracing::error!(bytes = bytes.len(), "an answer to a peer exceeds the frame limit"),
            Err(e) => tracing::warn!("an answer to a peer cannot be encoded: {e}"),
        }
    }
}

/// Who this node is, and where its peers listen.
#[derive(Clone)]
pub struct LinkOptions {
    pub node: NodeId,
    pub network: Arc<dyn Network>,
    pub peers: BTreeMap<NodeId, String>,
    pub layout: String,
    pub reads: String,
}

/// What a peer said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHello {
    pub cluster_id: Option<u128>,
    pub formed: bool,
    /// Both cluster ids are known, and differ.
    pub foreign: bool,
}

pub(super) trait Dispatch: Send + Sync {
    /// Everything but service messages.
    fn call(&self, from: NodeId, call: Call) -> BoxFuture<'static, Return>;

    fn service(&self, from: NodeId, message: Bytes, answer: Responder);
}

/// All links of a node. Clones share them.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    options: LinkOptions,
    hello: Mutex<Hello>,
    conns: Mutex<BTreeMap<NodeId, Conn>>,
    next_call: AtomicU64,
    next_conn: AtomicU64,
    dispatch: OnceLock<Arc<dyn Dispatch>>,
    hellos: watch::Sender<BTreeMap<NodeId, PeerHello>>,
    /// Changes with every link that is made, and when we say who we are.
    linked: watch::Sender<()>,
}

type Pending = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Return>>>>;

#[derive(Clone)]
struct Conn {
    number: u64,
    queue: mpsc::Sender<Bytes>,
    pending: Pending,
}

impl Links {
    #[must_use]
    pub fn new(options: LinkOptions) -> Links {
        let hello = Hello {
            version: WIRE_VERSION,
            node: options.node,
            cluster_id: None,
            formed: false,
            layout: options.layout.clone(),
            reads: options.reads.clone(),
        };
        Links {
            inner: Arc::new(Inner {
                options,
                hello: Mutex::new(hello),
                conns: Mutex::new(BTreeMap::new()),
                next_call: AtomicU64::new(1),
                next_conn: AtomicU64::new(1),
                dispatch: OnceLock::new(),
                hellos: watch::Sender::new(BTreeMap::new()),
                linked: watch::Sender::new(()),
            }),
        }
    }

    /// Says from now on who we are; links that stand are made anew, so that peers hear it.
    pub fn introduce(&self, cluster_id: u128, formed: bool) {
        let mut hello = self.inner.hello.lock();
        if hello.cluster_id != Some(cluster_id) || hello.formed != formed {
            hello.cluster_id = Some(cluster_id);
            hello.formed = formed;
            drop(hello);
            self.inner.conns.lock().clear();
            self.inner.linked.send_replace(());
        }
    }

    /// Waits until we have said that we belong to a cluster that is formed, and the peers that have ever been linked are so again;
    /// one that may be gone is waited for no longer than `patience`.
    pub async fn settle(&self, patience: Duration) {
        let mut linked = self.inner.linked.subscribe();
        // The sender lives as long as we do.
        let _ = linked.wait_for(|()| self.inner.hello.lock().formed).await;
        let all_there = linked.wait_for(|()| {
            let hellos = self.inner.hellos.borrow();
            let conns = self.inner.conns.lock();
            hellos.keys().all(|peer| conns.contains_key(peer))
        });
        let _ = tokio::time::timeout(patience, all_there).await;
    }

    pub(super) fn set_dispatch(&self, dispatch: Arc<dyn Dispatch>) {
        // A node sets it once, before it listens.
        let _ = self.inner.dispatch.set(dispatch);
    }

    /// What the peers that have ever connected said last.
    #[must_use]
    pub fn hellos(&self) -> watch::Receiver<BTreeMap<NodeId, PeerHello>> {
        self.inner.hellos.subscribe()
    }

    /// Peers connected now.
    #[must_use]
    pub fn connected(&self) -> Vec<NodeId> {
        self.inner.conns.lock().keys().copied().collect()
    }

    /// Starts accepting on `listener` and dialling the peers with higher ids. Runs until the runtime ends.
    pub fn start(&self, listener: Listener) {
        let links = self.clone();
        tokio::spawn(async move { links.accept(listener).await });
        for (&peer, addr) in self.inner.options.peers.range(self.inner.options.node + 1..) {
            let (links, addr) = (self.clone(), addr.clone());
            tokio::spawn(async move { links.dial(peer, addr).await });
        }
    }

    async fn accept(&self, listener: Listener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let links = self.clone();
                    tokio::spawn(async move {
                        if let Err(e) = links.run(stream, None).await {
                            tracing::debug!(%from, "peer connection ended: {e}");
                        }
                    });
                }
                Err(e) => {
                    tracing::warn!("cannot accept a peer: {e}");
                    tokio::time::sleep(Duration::from_millis(DIAL_MAX_MS)).await;
                }
            }
        }
    }

    async fn dial(&self, peer: NodeId, addr: String) {
        let mut delay = DIAL_MIN_MS;
        loop {
            let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.inner.options.network.connect(&addr));
            match connecting
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            {
                Ok(stream) => match self.run(stream, Some(peer)).await {
                    Ok(()) => delay = DIAL_MIN_MS,
                    Err(e) => {
                        if delay == DIAL_MAX_MS {
                            tracing::info!(peer, %addr, "link refused: {e}");
                        }
                    }
                },
                Err(e) => tracing::debug!(peer, %addr, "cannot connect: {e}"),
            }
            // So that peers do not dial in step.
            let jitter = chance() % delay;
            tokio::time::sleep(Duration::from_millis(delay / 2 + jitter)).await;
            delay = (delay * 2).min(DIAL_MAX_MS);
        }
    }

    /// Greets, then serves the link until it breaks. `Ok` if it stood at all.
    async fn run(&self, mut stream: Stream, expected: Option<NodeId>) -> io::Result<()> {
        let mine = self.inner.hello.lock().clone();
        let theirs = tokio::time::timeout(HELLO_TIMEOUT, greet(&mut stream, &mine))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no hello in time"))??;
        self.check(&mine, &theirs, expected)?;
        let peer = theirs.node;
        let (read, mut write) = stream.into_split();
        let (queue, mut frames) = mpsc::channel::<Bytes>(LINK_QUEUE_MAX);
        let number = self.inner.next_conn.fetch_add(1, Ordering::Relaxed);
        let conn = Conn {
            number,
            queue: queue.clone(),
            pending: Pending::default(),
        };
        let pending = Arc::clone(&conn.pending);
        self.inner.conns.lock().insert(peer, conn);
        if *self.inner.hello.lock() != mine {
            // We were introduced while we greeted, and the links that stood have been cleared already.
            self.leave(peer, number);
            return Ok(());
        }
        self.inner.linked.send_replace(());
        tracing::debug!(peer, "linked");
        let writer = self.write_frames(&mut frames, &mut write);
        let reader = self.read_frames(
            peer,
            FramedRead::new(read, framing::codec()),
            queue.downgrade(),
            &pending,
        );
        // The queue's strong senders live in `conns`: replacing the connection ends the writer, and with it this.
        drop(queue);
        let ended = tokio::select! { biased; r = writer => r, r = reader => r };
        if let Err(e) = ended {
            tracing::debug!(peer, "link broke: {e}");
        }
        // In this order: a call that is still queued is pending, and is told.
        frames.close();
        pending.lock().clear();
        self.leave(peer, number);
        Ok(())
    }

    /// A link is no more, unless another has taken its place.
    fn leave(&self, peer: NodeId, number: u64) {
        let mut conns = self.inner.conns.lock();
        if conns.get(&peer).is_some_and(|conn| conn.number == number) {
            conns.remove(&peer);
        }
    }

    /// Whether the peer is who should be there and belongs to our cluster; notes what it says.
    fn check(&self, mine: &Hello, theirs: &Hello, expected: Option<NodeId>) -> io::Result<()> {
        let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        let node = theirs.node;
        greeting::compare(mine, theirs).or_else(refuse)?;
        let known = self.inner.options.peers.contains_key(&node) && node != mine.node;
        if !known || expected.is_some_and(|peer| peer != node) {
            return refuse(format!("node {node} is not who should be there ({expected:?})"));
        }
        let foreign =
            theirs.cluster_id.is_some() && mine.cluster_id.is_some() && theirs.cluster_id != mine.cluster_id;
        let said = PeerHello {
            cluster_id: theirs.cluster_id,
            formed: theirs.formed,
            foreign,
        };
        self.inner
            .hellos
            .send_if_modified(|all| all.insert(node, said.clone()) != Some(said));
        if foreign {
            return refuse(format!("node {node} belongs to another cluster"));
        }
        Ok(())
    }

    async fn write_frames(
        &self,
        frames: &mut mpsc::Receiver<Bytes>,
        write: &mut WriteHalf,
    ) -> io::Result<()> {
        let mut batch = Vec::new();
        let mut buffer = BytesMut::new();
        let mut outgoing = Outgoing::new(self.inner.options.network.fragment_bytes());
        loop {
            if outgoing.is_empty() {
                match tokio::time::timeout(BEAT, frames.recv_many(&mut batch, 256)).await {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(_) => Outgoing::put_beat(&mut buffer),
                }
            }
            // What is about to be queued goes out with the same write.
            tokio::task::yield_now().await;
            while batch.len() < 256
                && let Ok(more) = frames.try_recv()
            {
                batch.push(more);
            }
            for message in batch.drain(..) {
                outgoing.put(message, &mut buffer)?;
            }
            outgoing.put_piece(&mut buffer)?;
            write.write_all(&buffer).await?;
            buffer.clear();
        }
    }

    async fn read_frames(
        &self,
        peer: NodeId,
        mut frames: FramedRead<ReadHalf, LengthDelimitedCodec>,
        answers: mpsc::WeakSender<Bytes>,
        pending: &Pending,
    ) -> io::Result<()> {
        let mut incoming = Incoming::default();
        loop {
            let heard = tokio::time::timeout(SILENCE, frames.next()).await;
            let Some(frame) = heard.map_err(|_| io::ErrorKind::TimedOut)? else {
                return Ok(());
            };
            let Some(message) = incoming.take(frame?)? else {
                continue;
            };
            match codec::decode_shared::<Frame>(&message).map_err(io::Error::other)? {
                Frame::Response { id, body } => {
                    let waiter = pending.lock().remove(&id);
                    if let Some(waiter) = waiter {
                        // Nobody waits any more: the caller timed out.
                        let _ = waiter.send(body);
                    }
                }
                Frame::Request { id, body } => {
                    let Some(dispatch) = self.inner.dispatch.get() else {
                        continue;
                    };
                    let answers = answers.clone();
                    let responder = Responder { answers, id };
                    let body = match body {
                        Call::Service(message) => {
                            dispatch.service(peer, message, responder);
                            continue;
                        }
                        body => body,
                    };
                    let mut call = dispatch.call(peer, body);
                    match (&mut call).now_or_never() {
                        Some(answer) => responder.respond(answer),
                        None => drop(tokio::spawn(async move { responder.respond(call.await) })),
                    }
                }
            }
        }
    }

    /// Sends a call now, in order with other calls; the future is its answer.
    ///
    /// # Errors
    /// At once: not connected, full, too large. Later: broken, refused.
    pub(super) fn call(
        &self,
        peer: NodeId,
        body: Call,
    ) -> Result<impl Future<Output = Result<Return, LinkError>> + Send + use<>, LinkError> {
        let conn = self
            .inner
            .conns
            .lock()
            .get(&peer)
            .cloned()
            .ok_or(LinkError::NotConnected(peer))?;
        let id = self.inner.next_call.fetch_add(1, Ordering::Relaxed);
        let refused = |why: String| LinkError::Refused { node: peer, why };
        let bytes = codec::encode(&Frame::Request { id, body }).map_err(|e| refused(e.to_string()))?;
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(LinkError::TooLarge {
                bytes: bytes.len(),
                max: FRAME_BYTES_MAX,
            });
        }
        let (tx, rx) = oneshot::channel();
        conn.pending.lock().insert(id, tx);
        if let Err(e) = conn.queue.try_send(bytes.into()) {
            conn.pending.lock().remove(&id);
            return Err(match e {
                mpsc::error::TrySendError::Full(_) => LinkError::Full(peer),
                mpsc::error::TrySendError::Closed(_) => LinkError::NotConnected(peer),
            });
        }
        let guard = PendingCall {
            id,
            pending: conn.pending,
        };
        Ok(async move {
            let answer = rx.await.map_err(|_| LinkError::Broken(peer));
            drop(guard);
            match answer? {
                Return::Refused(why) => Err(LinkError::Refused { node: peer, why }),
                answer => Ok(answer),
            }
        })
    }

    /// Sends a message of the floor above and waits for the answer.
    ///
    /// # Errors
    /// [`LinkError`]; [`LinkError::not_sent`] tells whether the peer can have seen it.
    pub fn service(
        &self,
        peer: NodeId,
        message: Bytes,
    ) -> impl Future<Output = Result<Bytes, LinkError>> + Send + use<> {
        let answer = self.call(peer, Call::Service(message));
        async move {
            match answer?.await? {
                Return::Service(answer) => Ok(answer),
                other => Err(LinkError::Refused {
                    node: peer,
                    why: format!("unexpected answer {other:?}"),
                }),
            }
        }
    }
}

/// Forgets a call whose caller does not wait any more, so that timed-out calls do not pile up.
struct PendingCall {
    id: u64,
    pending: Pending,
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.pending.lock().remove(&self.id);
    }
}
