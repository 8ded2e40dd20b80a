//! Putting a node together, and taking it apart.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

use super::contention::Contention;
use super::digests::Digests;
use super::driver::Driver;
use super::env::Env;
use super::forgetting;
use super::housekeeping::Housekeeping;
use super::join;
use super::line::WaiterId;
use super::numbering::Numbering;
use super::opened::Opened;
use super::recovery::Recovery;
use super::router::Router;
use super::volatile::Volatile;
use crate::base::{GroupId, Millis, Mutant, NodeId, RequestId, mutant};
use crate::config::{Config, NodeSection};
use crate::host::{Clock, Listener, Network, chance};
use crate::machine::Command;
use crate::raft::{Confirmer, Group, GroupOptions, Groups, HibernationOptions, LinkOptions, Links, time_for};
use crate::ring::Ring;
use crate::storage::{Identity, IdentityError, Journal, Snapshots, Store};

/// Why a node does not start. Nothing on disk was changed, but for a fresh directory's own files.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("storage: {0}")]
    Storage(String),
    #[error("data directory {dir}: {source}")]
    Identity { dir: PathBuf, source: IdentityError },
    #[error("data directory: {0}")]
    Foreign(#[from] IdentityError),
    #[error("peers belong to different clusters")]
    Disagreement,
    #[error("{0}")]
    Raft(String),
}

/// What a node needs to start.
pub struct NodeOptions {
    pub config: Arc<Config>,
    pub id: NodeId,
    pub env: Env,
    /// Bound before anything on disk is touched.
    pub peers: Listener,
}

/// A running node; cheap to clone.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Config>,
    id: NodeId,
    clock: Clock,
    ring: Ring,
    identity: Identity,
    groups: Arc<Groups>,
    links: Links,
    router: Router,
    numbering: Numbering,
    volatile: Volatile,
    contention: Contention,
    /// How many clients have ever waited in line here.
    waits: AtomicU64,
    boot: u32,
    fatal: watch::Receiver<Option<String>>,
    stopping: Arc<AtomicBool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.groups.clear();
    }
}

fn new_links(config: &Config, node: NodeId, network: Arc<dyn Network>) -> Links {
    let peers = config
        .nodes
        .iter()
        .map(|node| (node.id, node.peer.to_string()))
        .collect();
    Links::new(LinkOptions {
        node,
        network,
        peers,
        layout: config.layout(),
        reads: config.reads(),
    })
}

/// Where leaders answer reads by leases: the node's last process may have granted one just before it ended.
fn keep_to_lease(groups: &Groups, config: &Config) {
    if config.lease_ms().is_some() {
        groups.lease_until(Instant::now() + Duration::from_millis(config.timeouts.election_max_ms));
    }
}

/// The ring by which this node looks for keys.
fn ring(config: &Config, id: NodeId) -> Ring {
    if mutant::is(Mutant::StaleRing) && id == 2 {
        let cluster = &config.cluster;
        return Ring::new(1, cluster.shards, cluster.virtual_nodes + 1);
    }
    config.ring()
}

impl Node {
    /// Opens the data directory, joins the cluster and starts the node's groups. On a cluster's first start this waits
    /// until enough nodes are there to agree on an id.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(options: NodeOptions) -> Result<Node, StartError> {
        let NodeOptions {
            config,
            id,
            env,
            peers,
        } = options;
        let Opened {
            store,
            known,
            journal,
            snapshots,
        } = Opened::from(&env, &config, id)?;
        let formed = !journal.groups().is_empty();
        let links = new_links(&config, id, env.network);
        let refilling = known.as_ref().is_some_and(|identity| identity.refilling);
        let groups = Groups::new(&links, snapshots.clone(), refilling);
        if known.is_some() {
            keep_to_lease(&groups, &config);
        }
        if let Some(identity) = &known {
            links.introduce(identity.cluster_id, formed);
        }
        links.start(peers);
        let identity = join::identify(&store, &links, &config, id).await?;
        if identity.refilling {
            groups.refill();
            keep_to_lease(&groups, &config);
        }
        links.introduce(identity.cluster_id, formed);

        let placement = config.placement();
        let volatile = Volatile::new(Arc::clone(&env.clock), &config, id, &placement);
        let router = Router::new(
            id,
            Arc::clone(&groups),
            links.clone(),
            placement,
            volatile.clone(),
        );
        // Tells this process's proposals from those of earlier ones.
        let boot = chance() as u32;
        let (fatal_tx, fatal) = watch::channel(None);
        let node = Node {
            inner: Arc::new(Inner {
                ring: ring(&config, id),
                numbering: Numbering::new(id),
                config,
                id,
                clock: env.clock,
                identity,
                groups,
                links,
                router,
                volatile,
                contention: Contention::default(),
                waits: AtomicU64::new(0),
                boot,
                fatal,
                stopping: Arc::default(),
            }),
        };
        node.start_groups(&journal, &snapshots).await?;
        node.start_tasks(store, fatal_tx);
        Ok(node)
    }

    async fn start_groups(&self, journal: &Journal, snapshots: &Snapshots) -> Result<(), StartError> {
        let inner = &self.inner;
        let timeouts = &inner.config.timeouts;
        let mine = inner
            .config
            .placement()
            .into_iter()
            .filter(|(_, replicas)| replicas.contains(&inner.id));
        let patience = Duration::from_millis(timeouts.election_max_ms);
        let confirmer = Confirmer::start(inner.links.clone(), patience);
        let gathering = Arc::default();
        let starting = mine.map(|(group, replicas)| {
            let options = GroupOptions {
                node: inner.id,
                members: replicas.into_iter().collect(),
                heartbeat_ms: timeouts.heartbeat_ms,
                election_min_ms: timeouts.election_min_ms,
                election_max_ms: timeouts.election_max_ms,
                hibernation: HibernationOptions {
                    after: inner.config.hibernate_ms().map(Duration::from_millis),
                    election_max: Duration::from_millis(timeouts.election_max_ms),
                },
                lease: inner.config.lease_ms().map(Duration::from_millis),
                clock: Arc::clone(&inner.clock),
                admission: Arc::new(inner.volatile.memory.clone()),
                used: inner.volatile.memory.used(),
                latest: inner.groups.latest(),
                gathering: Arc::clone(&gathering),
                boot: inner.boot,
            };
            Group::start(
                group,
                options,
                journal.clone(),
                snapshots.clone(),
                inner.links.clone(),
                confirmer.clone(),
            )
        });
        for started in join_all(starting).await {
            inner.groups.insert(started.map_err(StartError::Raft)?);
        }
        Ok(())
    }

    fn start_tasks(&self, store: Store, fatal: watch::Sender<Option<String>>) {
        let inner = &self.inner;
        let (groups, router, clock) = (&inner.groups, &inner.router, &inner.clock);
        for group in groups.all() {
            if let GroupId::Coordinator(_) = group.id() {
                let (groups, clock) = (Arc::clone(groups), Arc::clone(clock));
                let lasting: Clock = Arc::new(move || clock().max(groups.time()));
                Driver::spawn(group, router.clone(), lasting);
            } else {
                inner.volatile.follow(&group, router);
            }
        }
        inner.volatile.run(router, inner.id);
        let answering = router.clone();
        groups.set_service(Arc::new(move |from, message, responder| {
            answering.answer_encoded(from, &message, responder);
        }));
        let placement = inner.config.placement();
        let (links, cluster_id) = (inner.links.clone(), inner.identity.cluster_id);
        if inner.identity.refilling {
            let refill = join::refill(Arc::clone(groups), router.clone(), store, inner.identity.clone());
            tokio::spawn(async move {
                refill.await;
                links.introduce(cluster_id, true);
            });
        } else {
            let (me, placement) = (inner.id, placement.clone());
            let preferred =
                move |group: &Group| placement.get(&group.id()).and_then(|r| r.first()) == Some(&me);
            let patience = Duration::from_millis(inner.config.timeouts.election_max_ms * 5);
            let form = join::form(Arc::clone(groups), preferred, patience);
            let voting = Arc::clone(groups);
            tokio::spawn(async move { join::vote(&voting).await });
            tokio::spawn(async move {
                form.await;
                // From now on a peer that comes with an empty directory has lost something.
                links.introduce(cluster_id, true);
            });
        }
        tokio::spawn(join::watch_for_foreign(inner.links.clone(), fatal.clone()));
        let recovery = Recovery {
            groups: Arc::clone(groups),
            router: router.clone(),
            patience_ms: inner.config.timeouts.recovery_ms,
        };
        tokio::spawn(recovery.run());
        tokio::spawn(forgetting::run(Arc::clone(groups), router.clone()));
        let housekeeping = Housekeeping {
            me: inner.id,
            groups: Arc::clone(groups),
            links: inner.links.clone(),
            clock: Arc::clone(clock),
            volatile: inner.volatile.clone(),
            router: router.clone(),
            placement,
            snapshot_log_bytes: inner.config.limits.snapshot_log_bytes,
            leaders: inner.config.cluster.leaders,
            sweeping: Arc::default(),
            stopping: Arc::clone(&inner.stopping),
            fatal,
        };
        tokio::spawn(housekeeping.run());
        let memory = inner.volatile.memory.clone();
        tokio::spawn(memory.run(Arc::clone(groups), router.clone(), inner.id));
        self.start_digests();
    }

    fn start_digests(&self) {
        let inner = &self.inner;
        let digests = Digests {
            me: inner.id,
            groups: Arc::clone(&inner.groups),
            router: inner.router.clone(),
            every: Duration::from_millis(inner.config.timeouts.digest_ms),
            stopping: Arc::clone(&inner.stopping),
        };
        tokio::spawn(digests.run());
    }

    #[must_use]
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// That serve its clients and groups.
    #[must_use]
    pub fn threads(&self) -> usize {
        let section = self.inner.config.node(self.inner.id);
        section.map_or(1, NodeSection::threads)
    }

    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.inner.ring
    }

    #[must_use]
    pub fn cluster_id(&self) -> u128 {
        self.inner.identity.cluster_id
    }

    /// The node's wall clock, but never below replicated time: after a clock somewhere was ahead for a moment, groups stay
    /// ahead, and a deadline by the wall clock would be past before it is set.
    #[must_use]
    pub fn now(&self) -> Millis {
        (self.inner.clock)().max(self.inner.groups.time())
    }

    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<Group> {
        self.inner.groups.get(id)
    }

    /// Groups with a replica here.
    #[must_use]
    pub fn local_groups(&self) -> Vec<Group> {
        self.inner.groups.all()
    }

    /// Every group of the cluster.
    #[must_use]
    pub fn all_groups(&self) -> Vec<GroupId> {
        self.inner.config.groups()
    }

    #[must_use]
    pub fn connected(&self) -> Vec<NodeId> {
        self.inner.links.connected()
    }

    #[must_use]
    pub fn is_refilling(&self) -> bool {
        self.inner.groups.is_refilling()
    }

    /// Becomes `Some` when the node cannot go on.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.inner.fatal.clone()
    }

    /// Whether all groups with a replica here have a leader, as far as is known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let groups = self.local_groups();
        !groups.is_empty() && groups.iter().all(|group| group.leader().0.is_some())
    }

    /// Waits until a leader of every group with a replica here has confirmed itself, and the replica has caught up. What
    /// a restart finds on disk about leaders is no such word.
    pub async fn caught_up(&self) {
        let groups = self.local_groups();
        join_all(
            groups
                .iter()
                .map(|group| join::catch_up(group, &self.inner.router)),
        )
        .await;
        if !self.is_refilling() {
            self.inner.links.settle(join::SETTLES).await;
        }
    }

    /// Stops the groups, in order. What was acknowledged is on disk in any case.
    pub async fn stop(&self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
        let groups = self.local_groups();
        join_all(groups.iter().map(Group::shutdown)).await;
    }

    pub(super) fn router(&self) -> &Router {
        &self.inner.router
    }

    pub(super) fn volatile(&self) -> &Volatile {
        &self.inner.volatile
    }

    pub(super) fn contention(&self) -> &Contention {
        &self.inner.contention
    }

    /// A name for a client that is about to wait in line.
    pub(super) fn new_waiter(&self) -> WaiterId {
        WaiterId {
            node: self.inner.id,
            boot: self.inner.boot,
            number: self.inner.waits.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(super) fn numbering(&self) -> &Numbering {
        &self.inner.numbering
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.inner.config.timeouts.request_ms)
    }

    /// Until when these commands may take: longer, if they are large.
    pub(super) fn deadline_for(&self, commands: &[Command]) -> Instant {
        let bytes = commands.iter().map(Command::weight).sum();
        Instant::now() + self.request_timeout() + time_for(bytes)
    }

    pub(super) fn txn_timeout(&self) -> Duration {
        Duration::from_millis(self.inner.config.timeouts.txn_ms)
    }

    /// The coordinator of a transaction over `shards`. A client's retry must find the same one.
    pub(super) fn coordinator_of(&self, id: Option<RequestId>, shards: impl Iterator<Item = u16>) -> GroupId {
        let count = self.inner.config.cluster.coordinators;
        let chosen = match id {
            Some(id) => u16::try_from((id.session ^ u128::from(id.seq)) % u128::from(count)).unwrap_or(0),
            None => self.router().nearest_coordinator(count, shards),
        };
        GroupId::Coordinator(chosen)
    }
}
