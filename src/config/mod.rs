//! Cluster configuration: TOML in, checked, every error with file, key and reason. `cluster-configs/` documents it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base::{GroupId, NodeId, Policy};
use crate::ring::{Placement, Ring, VIRTUAL_NODES_DEFAULT, place};

mod check;
mod memory;
mod threads;

/// Groups hibernate where `election_max_ms` is at least this.
const HIBERNATION_ELECTION_MS_MIN: u64 = 500;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {key}: {reason}")]
pub struct ConfigError {
    pub file: String,
    pub key: String,
    pub reason: String,
}

/// A whole cluster, as the file says it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub cluster: ClusterSection,
    #[serde(default)]
    pub timeouts: Timeouts,
    #[serde(default)]
    pub limits: LimitsSection,
    #[serde(rename = "node")]
    pub nodes: Vec<NodeSection>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSection {
    pub name: String,
    #[serde(default = "default_shards")]
    pub shards: u16,
    #[serde(default = "default_coordinators")]
    pub coordinators: u16,
    #[serde(default = "default_replication")]
    pub replication: usize,
    #[serde(default = "default_virtual_nodes")]
    pub virtual_nodes: u32,
    #[serde(default)]
    pub reads: Reads,
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    #[serde(default)]
    pub leaders: Leading,
    /// Whether clients may use `DEBUG`.
    #[serde(default)]
    pub debug_commands: bool,
}

/// How a leader makes sure that it still leads before it answers a read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// A majority is asked, once for all reads that wait at that moment.
    #[default]
    Index,
    /// The majority's last word counts for a while: right as long as monotonic clocks run equally fast, within 10 %.
    Lease,
}

/// Where groups are led.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leading {
    /// At the node whose clients write to the group, while three quarters of many writes come from there; else spread.
    #[default]
    Near,
    /// Spread evenly over the nodes.
    Spread,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    pub id: NodeId,
    pub client: SocketAddr,
    pub peer: SocketAddr,
    pub admin: SocketAddr,
    /// `None`: memcached clients are not served.
    pub memcached: Option<SocketAddr>,
    pub zone: Option<String>,
    /// Threads that serve clients and groups; 0: by the machine.
    #[serde(default)]
    pub threads: usize,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    pub election_max_ms: u64,
    pub request_ms: u64,
    pub txn_ms: u64,
    pub recovery_ms: u64,
    pub digest_ms: u64,
    /// 0: never.
    pub hibernate_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    pub connections: usize,
    pub snapshot_log_bytes: u64,
    /// Bytes of keys and values a node; 0: no limit.
    #[serde(deserialize_with = "memory::bytes")]
    pub maxmemory: u64,
    #[serde(deserialize_with = "memory::policy")]
    pub maxmemory_policy: Policy,
    /// Bytes of an item that memcached's clients store.
    #[serde(deserialize_with = "memory::bytes")]
    pub memcached_item_bytes: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            heartbeat_ms: 100,
            election_min_ms: 400,
            election_max_ms: 800,
            request_ms: 10_000,
            txn_ms: 5_000,
            recovery_ms: 1_000,
            digest_ms: 5_000,
            hibernate_ms: 5_000,
        }
    }
}

impl Default for LimitsSection {
    fn default() -> Self {
        LimitsSection {
            connections: crate::base::limits::CONNECTIONS_MAX,
            snapshot_log_bytes: 16 << 20,
            maxmemory: 0,
            maxmemory_policy: Policy::NoEviction,
            memcached_item_bytes: 1 << 20,
        }
    }
}

fn default_shards() -> u16 {
    4
}

fn default_coordinators() -> u16 {
    3
}

fn default_replication() -> usize {
    3
}

fn default_virtual_nodes() -> u32 {
    VIRTUAL_NODES_DEFAULT
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("./quorate-data")
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`]: unreadable, malformed, unknown keys, values that do not go together.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
            file: file.clone(),
            key: "(file)".into(),
            reason: format!("cannot be read: {e}"),
        })?;
        Config::parse(&text, &file)
    }

    /// Reads and checks a text; `file` is for errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
        let fail = |key: &str, reason: String| ConfigError {
            file: file.into(),
            key: key.into(),
            reason,
        };
        let config: Config = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|span| text[..span.start].matches('\n').count() + 1);
            let place = line.map_or_else(|| "(file)".to_string(), |line| format!("line {line}"));
            fail(&place, e.message().to_string())
        })?;
        config.check().map_err(|(key, reason)| fail(&key, reason))?;
        Ok(config)
    }

    /// The configuration that `quorate dev` runs: `nodes` nodes on this machine, ports from `base`.
    ///
    /// # Errors
    /// Ports that run past 65535, too many nodes, and what [`Config::parse`] checks.
    pub fn dev(nodes: u16, shards: u16, base: u16, data_dir: PathBuf) -> Result<Config, ConfigError> {
        let fail = |key: &str, reason: String| ConfigError {
            file: "(dev)".into(),
            key: key.into(),
            reason,
        };
        if nodes == 0 || nodes > 99 {
            return Err(fail("nodes", format!("{nodes}: 1 to 99 are possible")));
        }
        if base == 0 || base.checked_add(300 + nodes).is_none() {
            return Err(fail(
                "base-port",
                format!("{base}: ports up to base + 300 + nodes are used"),
            ));
        }
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let section = |i: u16| NodeSection {
            id: NodeId::from(i) + 1,
            client: at(base + i),
            peer: at(base + 100 + i),
            admin: at(base + 200 + i),
            memcached: Some(at(base + 300 + i)),
            zone: None,
            threads: 0,
        };
        let config = Config {
            cluster: ClusterSection {
                name: "dev".into(),
                shards,
                // Each node leads one.
                coordinators: nodes.min(64),
                replication: if nodes >= 3 { 3 } else { 1 },
                virtual_nodes: VIRTUAL_NODES_DEFAULT,
                reads: Reads::default(),
                leaders: Leading::default(),
                data_dir,
                debug_commands: false,
            },
            timeouts: Timeouts::default(),
            limits: LimitsSection::default(),
            nodes: (0..nodes).map(section).collect(),
        };
        config.check().map_err(|(key, reason)| fail(&key, reason))?;
        Ok(config)
    }

    /// The node with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, id: NodeId) -> Result<&NodeSection, ConfigError> {
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .ok_or_else(|| ConfigError {
                file: "(config)".into(),
                key: "node".into(),
                reason: format!("there is no node {id}"),
            })
    }

    /// All groups: coordinators first.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        let coordinators = (0..self.cluster.coordinators).map(GroupId::Coordinator);
        coordinators
            .chain((0..self.cluster.shards).map(GroupId::Shard))
            .collect()
    }

    #[must_use]
    pub fn ring(&self) -> Ring {
        Ring::new(1, self.cluster.shards, self.cluster.virtual_nodes)
    }

    /// Where every group's replicas live.
    #[must_use]
    pub fn placement(&self) -> Placement {
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| (node.id, node.zone.clone()))
            .collect();
        place(&self.groups(), &nodes, self.cluster.replication)
    }

    /// After how long without use a group hibernates. `None`: never; nor where elections are so quick that the node's look every
    /// 100 ms would be too seldom for beats that are still in time.
    #[must_use]
    pub fn hibernate_ms(&self) -> Option<u64> {
        let t = &self.timeouts;
        (t.hibernate_ms > 0 && t.election_max_ms >= HIBERNATION_ELECTION_MS_MIN).then_some(t.hibernate_ms)
    }

    /// For how long a leader answers reads by the majority's last word; `None`: it asks for each. Voters keep to it for
    /// `election_max_ms`, by clocks of their own: the fifth that is left allows each clock a tenth too fast or too slow.
    #[must_use]
    pub fn lease_ms(&self) -> Option<u64> {
        (self.cluster.reads == Reads::Lease).then_some(self.timeouts.election_max_ms * 4 / 5)
    }

    /// How reads are made sure of, as text: voters that differ would not keep to a leader's lease.
    #[must_use]
    pub fn reads(&self) -> String {
        match self.lease_ms() {
            None => "index".into(),
            Some(_) => format!("lease, election_max_ms = {}", self.timeouts.election_max_ms),
        }
    }

    /// Everything that decides where keys live, as text: two nodes or two starts that differ must not mix.
    #[must_use]
    pub fn layout(&self) -> String {
        let c = &self.cluster;
        let ids: Vec<String> = self.nodes.iter().map(|node| node.id.to_string()).collect();
        format!(
            "{}: {} shards, {} coordinators, {} virtual nodes, {} replicas, nodes {}",
            c.name,
            c.shards,
            c.coordinators,
            c.virtual_nodes,
            c.replication,
            ids.join(",")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(edit: impl Fn(String) -> String) -> Result<Config, ConfigError> {
        let node = |i: u16| {
            format!(
                "[[node]]\nid = {i}\nclient = \"127.0.0.1:700{i}\"\npeer = \"127.0.0.1:710{i}\"\nadmin = \"127.0.0.1:720{i}\"\n"
            )
        };
        let text = format!(
            "[cluster]\nname = \"t\"\n[timeouts]\n[limits]\n{}{}{}",
            node(1),
            node(2),
            node(3)
        );
        Config::parse(&edit(text), "t.toml")
    }

    #[test]
    fn the_smallest_file_is_enough() {
        let config = text(|t| t).expect("valid");
        assert_eq!(
            (
                config.cluster.shards,
                config.cluster.replication,
                config.nodes.len()
            ),
            (4, 3, 3)
        );
    }

    /// What is replaced, by what, and what the error says.
    const MISTAKES: &[(&str, &str, &str)] = &[
        ("name = \"t\"", "name = \"t\"\nshard = 4", "unknown field `shard`"),
        ("name = \"t\"", "name = \"\"", "cluster.name"),
        (
            "name = \"t\"",
            "name = \"t\"\nreplication = 2",
            "cluster.replication: 2: must be odd",
        ),
        (
            "name = \"t\"",
            "name = \"t\"\nreplication = 5",
            "cluster.replication: 5 replicas do not fit",
        ),
        ("name = \"t\"", "name = \"t\"\nshards = 0", "cluster.shards"),
        (
            "name = \"t\"",
            "name = \"t\"\ndata_dir = \"/no/such/dir/data\"",
            "cluster.data_dir",
        ),
        ("id = 2", "id = 1", "node.id: 1 is given twice"),
        (
            "7102",
            "7001",
            "127.0.0.1:7001 is also the address of node 1: client",
        ),
        (
            "id = 3",
            "id = 3\nmemcached = \"127.0.0.1:7202\"",
            "127.0.0.1:7202 is also the address of node 2: admin",
        ),
        ("127.0.0.1:7002", "nonsense", "line "),
        (
            "[timeouts]",
            "[timeouts]\nelection_min_ms = 100",
            "timeouts.election_min_ms",
        ),
        ("[limits]", "[limits]\nconnections = 0", "limits.connections"),
        (
            "[limits]",
            "[limits]\nmaxmemory = \"512zb\"",
            "limits.maxmemory: \"512zb\" is no size",
        ),
        (
            "[limits]",
            "[limits]\nmaxmemory = -1",
            "limits.maxmemory: -1 is no size",
        ),
        ("[limits]", "[limits]\nmaxmemory = true", "limits.maxmemory"),
        (
            "[limits]",
            "[limits]\nmaxmemory_policy = \"lru\"",
            "limits.maxmemory_policy: \"lru\"",
        ),
        (
            "[limits]",
            "[limits]\nmaxmemory_policy = 1",
            "limits.maxmemory_policy",
        ),
        (
            "[limits]",
            "[limits]\nmemcached_item_bytes = \"65mb\"",
            "limits.memcached_item_bytes",
        ),
        (
            "[limits]",
            "[limits]\nmemcached_item_bytes = 100",
            "limits.memcached_item_bytes",
        ),
        ("id = 3", "ident = 3", "unknown field `ident`"),
        ("id = 3", "id = 3\nthreads = 65", "node 3: threads: 65: 0 to 64"),
        (
            "name = \"t\"",
            "name = \"t\"\nreads = \"any\"",
            "unknown variant `any`",
        ),
    ];

    #[test]
    fn each_mistake_is_an_error_that_names_its_key() {
        for (from, to, expected) in MISTAKES {
            let error = text(|t| t.replacen(from, to, 1)).expect_err(expected).to_string();
            assert!(
                error.starts_with("t.toml: ") && error.contains(expected),
                "{expected:?} not in {error:?}"
            );
        }
    }

    #[test]
    fn memory_is_given_in_bytes_or_as_text() {
        let given = |edit: &str| {
            let edited = text(|file| file.replace("[limits]", &format!("[limits]\n{edit}")));
            let limits = edited.expect("a valid file").limits;
            (limits.maxmemory, limits.maxmemory_policy)
        };
        assert_eq!(given(""), (0, Policy::NoEviction));
        assert_eq!(given("maxmemory = 1000"), (1000, Policy::NoEviction));
        let both = "maxmemory = \"512mb\"\nmaxmemory_policy = \"allkeys-lru\"";
        assert_eq!(given(both), (512 << 20, Policy::AllKeysLru));
    }

    #[test]
    fn groups_hibernate_unless_elections_are_quick() {
        let after = |edit: &str| {
            let edited = text(|file| file.replace("[timeouts]", &format!("[timeouts]\n{edit}")));
            edited.expect("a valid file").hibernate_ms()
        };
        assert_eq!(after(""), Some(5000));
        assert_eq!(after("hibernate_ms = 0"), None);
        assert_eq!(after("election_min_ms = 300\nelection_max_ms = 499"), None);
        assert_eq!(after("election_min_ms = 300\nelection_max_ms = 500"), Some(5000));
    }

    #[test]
    fn the_shipped_files_are_valid_and_dev_toml_is_what_dev_runs() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster-configs");
        for (file, nodes) in [("dev.toml", 3), ("three-nodes.toml", 3), ("five-nodes.toml", 5)] {
            let config = Config::load(&dir.join(file)).expect(file);
            assert_eq!(config.nodes.len(), nodes, "{file}");
        }
        let dev = Config::dev(3, 4, 7001, "./quorate-data".into()).expect("valid");
        assert_eq!(Config::load(&dir.join("dev.toml")).expect("valid"), dev);
    }
}
