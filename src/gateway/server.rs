//! A whole node in threads of its own: listeners, cluster node, sessions, admin port.
//!
//! On few processors one thread, whose tasks take turns: measured faster than a pool on two (`docs/performance.md`). Otherwise a pool
//! (`threads`), where any two tasks may run at the same moment; nothing may rely on turns. A node can be dropped like a crash, which
//! tests do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::accept::{Accepting, Face};
use super::admin;
use super::clients::Clients;
use super::large::Large;
use super::latency::Latency;
use super::memcached;
use super::monitor::Monitors;
use super::pause::Pause;
use super::slowlog::Slowlog;
use super::stats::{self, Stats};
use crate::base::{Millis, NodeId};
use crate::cluster::{Env, Node, NodeOptions, StartError};
use crate::config::{Config, NodeSection};
use crate::host::Listener;

/// How long sessions may take to finish their last requests when the node stops.
const DRAIN: Duration = Duration::from_secs(1);
/// How long tasks and blocking work may take to notice that the node has ended. Until they do, its directory is in use.
const CUT_OFF: Duration = Duration::from_secs(10);
/// Of the threads that scripts run on, among others. Lua calls C functions that call Lua functions up to 200 times, with some 10 KiB for each
/// (`string.gsub`), and `cjson` goes 1,000 tables deep. It is taken as it is used.
const STACK_BYTES: usize = 16 << 20;
/// How long a node may start before its starter is told that it only waits for peers.
const ALONE: Duration = Duration::from_millis(300);

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {what} address {address}: {source}")]
    Bind {
        what: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("the node has stopped: {0}")]
    Fatal(String),
}

/// What a server needs.
pub struct ServerOptions {
    pub config: Arc<Config>,
    pub node: NodeId,
    pub env: Env,
}

/// What sessions and the admin port share.
pub struct Shared {
    pub(super) connections: AtomicUsize,
    started: Instant,
    /// By the node's clock.
    started_at: Millis,
    save: Mutex<Save>,
    pub stats: Stats,
    pub slowlog: Slowlog,
    pub latency: Latency,
    pub monitors: Monitors,
    pub pause: Pause,
    pub large: Large,
    pub clients: Clients,
    pub memcached: memcached::Stats,
    /// Connections are numbered, whatever they speak.
    pub(super) next_client: AtomicU64,
    /// Told once, when a client wants the node to stop in order.
    pub shutdown: Notify,
}

/// What the server counts.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    pub connections: usize,
    pub accepted: u64,
    /// Connections that wait in a command.
    pub waiting: usize,
    pub commands: u64,
    pub uptime_s: u64,
}

/// The only one who writes snapshots because a client wants it, until this is dropped.
pub struct Saving(Arc<Shared>);

impl Saving {
    /// It has ended.
    pub fn ended<E>(self, how: &Result<(), E>) {
        self.0.save.lock().failed = how.is_err();
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        self.0.save.lock().begun = None;
    }
}

/// Of the snapshots that clients have asked for.
#[derive(Debug, Clone, Copy)]
pub struct SaveShown {
    /// How long the one under way has taken until now.
    pub running: Option<Duration>,
    /// The last one has.
    pub failed: bool,
}

#[derive(Debug, Default)]
struct Save {
    begun: Option<Instant>,
    failed: bool,
}

impl Shared {
    fn new(started_at: Millis) -> Shared {
        Shared {
            connections: AtomicUsize::new(0),
            started: Instant::now(),
            started_at,
            save: Mutex::default(),
            stats: Stats::new(),
            slowlog: Slowlog::default(),
            latency: Latency::default(),
            monitors: Monitors::default(),
            pause: Pause::default(),
            large: Large::default(),
            clients: Clients::default(),
            memcached: memcached::Stats::default(),
            next_client: AtomicU64::new(1),
            shutdown: Notify::new(),
        }
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.load(Ordering::Relaxed),
            accepted: self.stats.accepted.get(),
            commands: self.stats.commands.get(),
            waiting: self.clients.waiting(),
            uptime_s: self.started.elapsed().as_secs(),
        }
    }

    #[must_use]
    pub fn started_at(&self) -> Millis {
        self.started_at
    }

    /// `None`: somebody else does.
    #[must_use]
    pub fn saving(self: &Arc<Self>) -> Option<Saving> {
        let mut save = self.save.lock();
        let free = save.begun.is_none();
        save.begun.get_or_insert_with(Instant::now);
        free.then(|| Saving(Arc::clone(self)))
    }

    #[must_use]
    pub fn save_asked_for(&self) -> SaveShown {
        let save = self.save.lock();
        SaveShown {
            running: save.begun.map(|begun| begun.elapsed()),
            failed: save.failed,
        }
    }
}

/// Handle to a node's threads.
pub struct Server {
    id: NodeId,
    stop: Option<oneshot::Sender<Stop>>,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
    ready: watch::Receiver<bool>,
}

enum Stop {
    Gracefully,
    Now,
}

/// What the node's tasks run on.
fn runtime(options: &ServerOptions) -> io::Result<Runtime> {
    // That there is no such node is said by who starts it.
    let threads = options.config.node(options.node).map_or(1, NodeSection::threads);
    let mut builder = if threads > 1 {
        Builder::new_multi_thread()
    } else {
        Builder::new_current_thread()
    };
    builder
        .worker_threads(threads)
        .thread_stack_size(STACK_BYTES)
        .thread_name(format!("quorate-node-{}", options.node))
        .enable_all()
        .build()
}

impl Server {
    /// Binds the node's addresses and starts it. Returns when it listens; it may still wait for its peers.
    ///
    /// # Errors
    /// An address in use, a data directory that cannot be used.
    pub fn start(options: ServerOptions) -> Result<Server, ServerError> {
        let id = options.node;
        let (stop, stopped) = oneshot::channel();
        let (bound, binding) = std_mpsc::sync_channel(1);
        let (ready_tx, ready) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name(format!("quorate-node-{id}"))
            .spawn(move || {
                let runtime = runtime(&options).map_err(ServerError::Thread)?;
                let result = runtime.block_on(run(options, stopped, &bound, &ready_tx));
                // Whatever still runs is cut off, as by a crash: what counts is on disk.
                runtime.shutdown_timeout(CUT_OFF);
                result
            });
        let thread = thread.map_err(ServerError::Thread)?;
        let mut server = Server {
            id,
            stop: Some(stop),
            thread: Some(thread),
            ready,
        };
        match binding.recv() {
            Ok(()) => Ok(server),
            Err(_) => Err(server
                .join()
                .err()
                .unwrap_or_else(|| ServerError::Fatal("ended at once".into()))),
        }
    }

    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Becomes true when all groups of the node have a leader and have caught up with it.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Whether the node's thread has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops the node in order.
    ///
    /// # Errors
    /// What it had ended with before.
    pub fn stop(mut self) -> Result<(), ServerError> {
        self.signal(Stop::Gracefully);
        self.join()
    }

    /// Ends the node without a word, as a crash of its process would.
    pub fn kill(mut self) {
        self.signal(Stop::Now);
        if let Err(e) = self.join() {
            tracing::debug!(node = self.id, "had ended: {e}");
        }
    }

    fn signal(&mut self, how: Stop) {
        if let Some(stop) = self.stop.take() {
            // Gone if the node has ended by itself.
            let _ = stop.send(how);
        }
    }

    fn join(&mut self) -> Result<(), ServerError> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(ServerError::Fatal("its thread has panicked".into())),
            None => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Stop::Now);
        if let Err(e) = self.join() {
            tracing::debug!(node = self.id, "had ended: {e}");
        }
    }
}

/// Runs a node in the caller's task until it cannot go on; `ready` becomes true when all of its groups have leaders. For
/// simulations: [`Server`] gives a node a thread of its own.
///
/// # Errors
/// As for [`Server::start`], and what the node ended with.
pub async fn serve(options: ServerOptions, ready: &watch::Sender<bool>) -> Result<(), ServerError> {
    let (_stop, stopped) = oneshot::channel();
    let (bound, _binding) = std_mpsc::sync_channel(1);
    run(options, stopped, &bound, ready).await
}

async fn bind(env: &Env, what: &'static str, address: SocketAddr) -> Result<Listener, ServerError> {
    env.network
        .bind(address)
        .await
        .map_err(|source| ServerError::Bind {
            what,
            address,
            source,
        })
}

async fn run(
    options: ServerOptions,
    mut stopped: oneshot::Receiver<Stop>,
    bound: &std_mpsc::SyncSender<()>,
    ready: &watch::Sender<bool>,
) -> Result<(), ServerError> {
    let ServerOptions {
        config,
        node: id,
        env,
    } = options;
    let section = config
        .node(id)
        .map_err(|e| ServerError::Fatal(e.to_string()))?
        .clone();
    let clients = bind(&env, "client", section.client).await?;
    let peers = bind(&env, "peer", section.peer).await?;
    let admin_port = bind(&env, "admin", section.admin).await?;
    let memcached = match section.memcached {
        Some(address) => Some(bind(&env, "memcached", address).await?),
        None => None,
    };
    let shared = Arc::new(Shared::new((env.clock)()));
    let permits = Arc::new(Semaphore::new(config.limits.connections));
    let starting = Node::start(NodeOptions {
        config,
        id,
        env,
        peers,
    });
    let Some(node) = start(starting, bound, &mut stopped).await? else {
        return Ok(());
    };
    if let Listener::Tcp(port) = admin_port {
        tokio::spawn(admin::serve(port, node.clone(), Arc::clone(&shared)));
    }
    tokio::spawn(look_after(node.clone(), Arc::clone(&shared)));
    let accepting = Accepting {
        node: node.clone(),
        shared: Arc::clone(&shared),
        permits: Arc::clone(&permits),
    };
    if let Some(listener) = memcached {
        tokio::spawn(accepting.clone().accept(listener, Face::Memcached));
    }
    tokio::spawn(accepting.accept(clients, Face::Redis));
    let mut fatal = node.fatal();
    let ended = tokio::select! {
        biased;
        how = stopped => {
            if matches!(how, Ok(Stop::Gracefully)) {
                stop(&permits, &node).await;
            }
            Ok(())
        }
        () = shared.shutdown.notified() => {
            stop(&permits, &node).await;
            Ok(())
        }
        // The sender lives as long as the node.
        Ok(why) = fatal.wait_for(Option::is_some) => Err(ServerError::Fatal(why.clone().unwrap_or_default())),
        () = announce(&node, ready) => Ok(()),
    };
    // Their threads are waited for.
    node.scripts().stop();
    ended
}

async fn stop(permits: &Semaphore, node: &Node) {
    permits.close();
    // Requests that are in flight get their answers; idle connections are just closed.
    let _ = tokio::time::timeout(DRAIN, node.stop()).await;
}

/// Samples the counters, and disconnects clients that have been idle for too long.
async fn look_after(node: Node, shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(stats::SAMPLE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        shared.stats.sample();
        shared.pause.end_if_over();
        if let Some(timeout) = node.settings().timeout() {
            shared.clients.kill_idle(timeout);
        }
    }
}

/// Waits for the node to start, and tells the starter as soon as only its peers can hold it up. `None`: stopped.
async fn start(
    starting: impl Future<Output = Result<Node, StartError>>,
    bound: &std_mpsc::SyncSender<()>,
    stopped: &mut oneshot::Receiver<Stop>,
) -> Result<Option<Node>, ServerError> {
    tokio::pin!(starting);
    // An unusable directory is known at once; peers may take long.
    let first = tokio::time::timeout(ALONE, &mut starting).await;
    let started = if let Ok(node) = first { Some(node?) } else { None };
    // The starter waits for this and nothing else.
    let _ = bound.send(());
    match started {
        Some(node) => Ok(Some(node)),
        None => tokio::select! {
            biased;
            node = &mut starting => Ok(Some(node?)),
            _ = stopped => Ok(None),
        },
    }
}

/// Says when all groups have leaders and have caught up; then goes on for ever.
async fn announce(node: &Node, ready: &watch::Sender<bool>) {
    node.caught_up().await;
    ready.send_replace(true);
    std::future::pending::<()>().await;
}
