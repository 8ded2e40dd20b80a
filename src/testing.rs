//! An embedded cluster, for tests of programs that use Quorate.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = quorate::testing::Cluster::start(3, 4)?;
//! let mut connection = std::net::TcpStream::connect(cluster.addrs()[0])?;
//! # use std::io::{Read, Write};
//! connection.write_all(b"PING\r\n")?;
//! let mut answer = [0; 7];
//! connection.read_exact(&mut answer)?;
//! assert_eq!(&answer, b"+PONG\r\n");
//! # Ok(()) }
//! ```

mod cutting;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cutting::Cutting;

use crate::base::NodeId;
use crate::cluster::Env;
use crate::config::{Config, ConfigError};
use crate::gateway::{Server, ServerError, ServerOptions};
use crate::host::{Clock, system_clock};

/// How long a cluster may take to elect its leaders.
const READY: Duration = Duration::from_secs(30);
/// Times to look for free ports: another process may take one between finding and using it.
const PORT_TRIES: usize = 5;
/// Threads of the nodes, over and over: programs are tested with nodes whose tasks take turns, and others.
const THREADS: [usize; 3] = [2, 1, 3];

/// Why a cluster does not start.
#[derive(Debug, thiserror::Error)]
pub enum TestingError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("no leaders after {READY:?}")]
    NotReady,
}

/// Nodes in this process, each with threads and a runtime of its own, on free ports and in a temporary directory.
/// Dropping it ends the nodes and removes their data.
pub struct Cluster {
    config: Arc<Config>,
    servers: BTreeMap<NodeId, Server>,
    networks: BTreeMap<NodeId, Cutting>,
    /// Milliseconds that every node's clock is ahead of the machine's.
    skew: Arc<AtomicI64>,
    dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts `nodes` nodes with `shards` shards and waits until all groups have leaders.
    ///
    /// # Errors
    /// [`TestingError`].
    pub fn start(nodes: u16, shards: u16) -> Result<Cluster, TestingError> {
        Cluster::start_with(nodes, shards, |_| {})
    }

    /// As [`Cluster::start`], with a configuration changed by `edit`.
    ///
    /// # Errors
    /// [`TestingError`].
    pub fn start_with(nodes: u16, shards: u16, edit: impl Fn(&mut Config)) -> Result<Cluster, TestingError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let dir = tempfile::Builder::new().prefix("quorate-test-").tempdir()?;
            let mut config = Config::dev(nodes, shards, 1, dir.path().to_path_buf())?;
            assign_free_ports(&mut config)?;
            for (node, threads) in config.nodes.iter_mut().zip(THREADS.into_iter().cycle()) {
                node.threads = threads;
            }
            edit(&mut config);
            let networks = config
                .nodes
                .iter()
                .map(|node| (node.id, Cutting::new(node.peer)))
                .collect();
            let mut cluster = Cluster {
                config: Arc::new(config),
                networks,
                servers: BTreeMap::new(),
                skew: Arc::new(AtomicI64::new(0)),
                dir,
            };
            let started = (1..=NodeId::from(nodes)).try_for_each(|node| cluster.start_node(node));
            match started {
                Err(TestingError::Server(ServerError::Bind { .. })) if tries < PORT_TRIES => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    cluster.wait_ready()?;
                    return Ok(cluster);
                }
            }
        }
    }

    /// The client addresses of all nodes, those of stopped ones included.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.config.nodes.iter().map(|node| node.client).collect()
    }

    /// Where memcached clients connect, likewise; of the nodes that serve any.
    #[must_use]
    pub fn memcached_addrs(&self) -> Vec<SocketAddr> {
        self.config
            .nodes
            .iter()
            .filter_map(|node| node.memcached)
            .collect()
    }

    /// Where the nodes keep their data.
    #[must_use]
    pub fn node_dir(&self, node: NodeId) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sets all nodes' clocks ahead of the machine's (or behind), from now on.
    pub fn skew_clocks(&self, milliseconds: i64) {
        self.skew.store(milliseconds, Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let (system, skew) = (system_clock(), Arc::clone(&self.skew));
        Arc::new(move || system().saturating_add_signed(skew.load(Ordering::Relaxed)))
    }

    /// Starts a node that is not running, on the data it left.
    ///
    /// # Errors
    /// As for any node.
    pub fn start_node(&mut self, node: NodeId) -> Result<(), TestingError> {
        let mut env = Env {
            clock: self.clock(),
            ..Env::real(&self.node_dir(node))
        };
        if let Some(network) = self.networks.get(&node) {
            env.network = Arc::new(network.clone());
        }
        let options = ServerOptions {
            config: Arc::clone(&self.config),
            node,
            env,
        };
        self.servers.insert(node, Server::start(options)?);
        Ok(())
    }

    /// Stops a node in order.
    ///
    /// # Errors
    /// What the node had ended with before.
    pub fn stop_node(&mut self, node: NodeId) -> Result<(), TestingError> {
        self.servers
            .remove(&node)
            .map_or(Ok(()), Server::stop)
            .map_err(TestingError::from)
    }

    /// Ends a node without a word, as `kill -9` would.
    pub fn kill_node(&mut self, node: NodeId) {
        if let Some(server) = self.servers.remove(&node) {
            server.kill();
        }
    }

    /// Cuts a node off from all others, both ways, or lets it through again. Clients reach it all the time.
    pub fn cut_off(&self, node: NodeId, cut: bool) {
        if let Some(network) = self.networks.get(&node) {
            network.cut(cut);
        }
    }

    /// Waits until all groups of all running nodes have leaders.
    ///
    /// # Errors
    /// It takes longer than 30 seconds.
    pub fn wait_ready(&self) -> Result<(), TestingError> {
        let all = async {
            for server in self.servers.values() {
                // An ended node is never ready: that runs into the time limit.
                if server.ready().wait_for(|&ready| ready).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        // In a thread of its own, since callers may be in a runtime themselves.
        let waiting = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let limited = async { tokio::time::timeout(READY, all).await };
            runtime.block_on(limited).map_err(|_| TestingError::NotReady)
        };
        let waited = std::thread::scope(|scope| scope.spawn(waiting).join());
        waited.unwrap_or(Err(TestingError::NotReady))
    }
}

/// Free ports, found by binding them all at the same time and letting go. Below the range from which systems number
/// outgoing connections: one of those could take the port of a node that is down for a while.
fn assign_free_ports(config: &mut Config) -> std::io::Result<()> {
    let mut held = Vec::new();
    let mut free = || -> std::io::Result<SocketAddr> {
        loop {
            #[expect(
                clippy::disallowed_methods,
                reason = "tests of several processes must not meet"
            )]
            let port = 10_000 + rand::random::<u16>() % 20_000;
            match TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => {
                    let address = listener.local_addr()?;
                    held.push(listener);
                    return Ok(address);
                }
                Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(e) => return Err(e),
            }
        }
    };
    for node in &mut config.nodes {
        node.client = free()?;
        node.peer = free()?;
        node.admin = free()?;
        node.memcached = Some(free()?);
    }
    Ok(())
}
