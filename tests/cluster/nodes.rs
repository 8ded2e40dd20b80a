//! Three `quorate server` processes, their config file and their data.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use quorate::config::Config;
use serde_json::Value;

use crate::wire::{Client, Reply};
use crate::{eventually, within};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster-configs/three-nodes.toml");
/// How long a node may take until all of its groups have leaders.
pub const READY: Duration = Duration::from_secs(30);
/// How long a node that cannot start may take to say so.
pub const REFUSAL: Duration = Duration::from_secs(20);
/// How long after an election a transaction may stay undecided, by the promise.
pub const UNPREPARED: Duration = Duration::from_secs(5);
pub const NODES: [u64; 3] = [1, 2, 3];
/// Of a log, printed when a test fails.
const LOG_LINES: usize = 40;

/// Clusters at a time: each mostly waits, for elections and for what has been killed.
const CLUSTERS_MAX: usize = 4;
static CLUSTERS: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// Held while a cluster lives.
struct Turn;

impl Turn {
    fn take() -> Turn {
        let mut clusters = CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner);
        while *clusters >= CLUSTERS_MAX {
            clusters = ENDED.wait(clusters).unwrap_or_else(PoisonError::into_inner);
        }
        *clusters += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

pub struct Nodes {
    pub dir: tempfile::TempDir,
    pub config: Config,
    /// How nodes are started, where it is not the plain way.
    pub launches: BTreeMap<u64, Launch>,
    config_file: PathBuf,
    running: Vec<(u64, Process)>,
    turn: Option<Turn>,
}

/// What a node's process is started with, besides its config.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// A program, with arguments, that becomes the node's process, such as `ip netns exec …`.
    pub inside: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
}

struct Process {
    child: Child,
    ready: Arc<AtomicBool>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either may find that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A config whose transactions have but one coordinator to go to: for tests that say what becomes of its leader.
pub fn one_coordinator(mut text: String) -> String {
    const SHIPPED: &str = "\ncoordinators = 3\n";
    let at = text
        .find(SHIPPED)
        .expect("the shipped config says how many coordinators there are");
    text.replace_range(at..at + SHIPPED.len(), "\ncoordinators = 1\n");
    text
}

impl Nodes {
    /// Writes a config and starts nothing. `edit` changes the shipped file's text.
    pub fn prepare(edit: impl Fn(String) -> String) -> Nodes {
        let turn = Turn::take();
        let mut nodes = Nodes::prepare_another(edit);
        nodes.turn = Some(turn);
        nodes
    }

    /// A further cluster in a test that has one.
    pub fn prepare_another(edit: impl Fn(String) -> String) -> Nodes {
        let dir = tempfile::Builder::new()
            .prefix("quorate-cluster-")
            .tempdir()
            .expect("a temporary directory can be made");
        let config_file = dir.path().join("cluster.toml");
        let text = fs::read_to_string(CONFIG).expect("the shipped config can be read");
        let text = edit(relocate(&text, dir.path()));
        fs::write(&config_file, text).expect("the config can be written");
        let config = Config::load(&config_file).expect("the config is valid");
        Nodes {
            dir,
            config,
            launches: BTreeMap::new(),
            config_file,
            running: Vec::new(),
            turn: None,
        }
    }

    /// A fresh cluster that is ready.
    pub fn start(edit: impl Fn(String) -> String) -> Nodes {
        let mut nodes = Nodes::prepare(edit);
        nodes.start_all();
        nodes
    }

    pub fn start_all(&mut self) {
        for node in NODES {
            self.launch(node, None);
        }
        for node in NODES {
            self.wait_ready(node);
            self.wait_member(node);
        }
    }

    pub fn start_node(&mut self, node: u64) {
        self.launch(node, None);
        self.wait_ready(node);
    }

    pub fn config_file(&self) -> &Path {
        &self.config_file
    }

    pub fn node_dir(&self, node: u64) -> PathBuf {
        self.dir.path().join("data").join(format!("node-{node}"))
    }

    pub fn address(&self, node: u64) -> SocketAddr {
        self.config.node(node).expect("the config has it").client
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        NODES.map(|node| self.address(node)).to_vec()
    }

    pub fn client(&self, node: u64) -> Client {
        Client::open(self.address(node)).expect("a running node takes connections")
    }

    fn log(&self, node: u64) -> PathBuf {
        self.dir.path().join(format!("node-{node}.log"))
    }

    /// All that a node has written to standard error.
    pub fn said(&self, node: u64) -> String {
        fs::read_to_string(self.log(node)).unwrap_or_default()
    }

    /// Starts a node and returns at once. It dies at `failpoint` if one is given.
    pub fn launch(&mut self, node: u64, failpoint: Option<&str>) {
        let plain = Launch::default();
        let how = self.launches.get(&node).unwrap_or(&plain);
        let mut command = server(&self.config_file, node, None, how);
        if let Some(point) = failpoint {
            command.env("FAILPOINTS", format!("{point}=return"));
        }
        self.spawn(node, command);
    }

    /// Starts a node on another data directory than the config's.
    pub fn launch_in(&mut self, node: u64, dir: &Path) {
        let command = server(&self.config_file, node, Some(dir), &Launch::default());
        self.spawn(node, command);
    }

    fn spawn(&mut self, node: u64, mut command: Command) {
        assert!(!self.is_running(node), "node {node} runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(node))
            .expect("a log can be written");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("quorate can be run");
        let stdout = child.stdout.take().expect("it is piped");
        let ready = Arc::new(AtomicBool::new(false));
        let says_so = Arc::clone(&ready);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                says_so.fetch_or(line.starts_with("ready"), Ordering::SeqCst);
            }
        });
        self.running.push((node, Process { child, ready }));
    }

    fn process(&mut self, node: u64) -> &mut Process {
        let found = self.running.iter_mut().find(|(id, _)| *id == node);
        &mut found.expect("the node was started").1
    }

    pub fn is_running(&self, node: u64) -> bool {
        self.running.iter().any(|(id, _)| *id == node)
    }

    pub fn wait_ready(&mut self, node: u64) {
        let log = self.log(node);
        let process = self.process(node);
        eventually(&format!("node {node} is ready"), READY, || {
            let ended = process.child.try_wait().expect("a child can be waited for");
            assert!(
                ended.is_none(),
                "node {node} ended instead of getting ready: {ended:?}\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            process.ready.load(Ordering::SeqCst).then_some(())
        });
    }

    /// How a node has ended by itself, if it has.
    pub fn try_end(&mut self, node: u64) -> Option<ExitStatus> {
        let child = &mut self.process(node).child;
        let status = child.try_wait().expect("a child can be waited for");
        if status.is_some() {
            self.running.retain(|(id, _)| *id != node);
        }
        status
    }

    /// Waits until a node ends by itself.
    pub fn wait_end(&mut self, node: u64, limit: Duration) -> ExitStatus {
        eventually(&format!("node {node} ends"), limit, || self.try_end(node))
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: u64) {
        assert!(self.is_running(node), "node {node} does not run");
        self.running.retain(|(id, _)| *id != node);
    }

    /// Sends a signal by its name: `STOP`, `CONT`.
    #[allow(dead_code, reason = "tests/nemesis.rs pauses nodes")]
    pub fn signal(&mut self, node: u64, signal: &str) {
        let pid = self.process(node).child.id();
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {pid}")])
            .status()
            .expect("sh can be run");
        assert!(sent.success(), "kill -{signal} {pid}: {sent}");
    }

    /// `kill -9` of all, before any is waited for.
    pub fn kill_all(&mut self) {
        for (node, process) in &mut self.running {
            process
                .child
                .kill()
                .unwrap_or_else(|e| panic!("node {node}: {e}"));
        }
        self.running.clear();
    }

    /// Starts a node that is expected to give up: its exit code and what it wrote to standard error.
    pub fn refused(node: u64, config: &Path, dir: Option<&Path>) -> (Option<i32>, String) {
        let mut child = server(config, node, dir, &Launch::default())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("quorate can be run");
        let mut stderr = child.stderr.take().expect("it is piped");
        let reading = thread::spawn(move || std::io::read_to_string(&mut stderr).unwrap_or_default());
        let mut process = Process {
            child,
            ready: Arc::default(),
        };
        let status = within(REFUSAL, || {
            process.child.try_wait().expect("a child can be waited for")
        });
        drop(process);
        let said = reading.join().expect("the reader does not panic");
        let status = status.unwrap_or_else(|| panic!("node {node} still runs after {REFUSAL:?}:\n{said}"));
        (status.code(), said)
    }

    /// `QUORATE STATUS` of a node; `None` while it does not answer.
    pub fn status(&self, node: u64) -> Option<Value> {
        let mut client = Client::open_for(self.address(node), Duration::from_secs(2)).ok()?;
        match client.call(&["QUORATE", "STATUS"]).ok()? {
            Reply::Bulk(json) => serde_json::from_slice(&json).ok(),
            _ => None,
        }
    }

    /// Who leads a group in the eyes of a node.
    pub fn leader(&self, node: u64, group: &str) -> Option<u64> {
        group_of(&self.status(node)?, group)?["leader"].as_u64()
    }

    /// Waits until a node counts as a voter: one that came late to a cluster's first start must be refilled first.
    pub fn wait_member(&self, node: u64) {
        eventually(&format!("node {node} is a voter"), READY, || {
            (self.status(node)?["refilling"] == false).then_some(())
        });
    }

    /// Waits until no shard of a node holds a prepared transaction: with it go all locks.
    pub fn wait_unprepared(&self, node: u64) {
        eventually(
            &format!("node {node} holds no prepared transaction"),
            UNPREPARED,
            || {
                let status = self.status(node)?;
                let shards = status["ring"].as_array()?;
                shards.iter().all(|shard| shard["prepared"] == 0).then_some(())
            },
        );
    }

    /// A key for each shard: `name` with a number that makes it fall there.
    pub fn key_per_shard(&self, name: &str) -> Vec<String> {
        let ring = self.config.ring();
        let key_of = |shard| {
            let mut keys = (0..).map(|i: u32| format!("{name}:{i}"));
            keys.find(|key| ring.shard_of(key.as_bytes()) == shard)
                .expect("there is no end of numbers")
        };
        (0..ring.shards()).map(key_of).collect()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.running.clear();
        // Others may start now that the processes are gone.
        drop(self.turn.take());
        if !thread::panicking() {
            return;
        }
        for node in NODES {
            let log = self.said(node);
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- node {node}, the last of {} lines:", lines.len());
            for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
                eprintln!("{line}");
            }
        }
    }
}

/// A group's entry in a status.
pub fn group_of<'a>(status: &'a Value, group: &str) -> Option<&'a Value> {
    status["groups"]
        .as_array()?
        .iter()
        .find(|entry| entry["group"] == group)
}

fn server(config: &Path, node: u64, dir: Option<&Path>, how: &Launch) -> Command {
    let words = how.inside.iter().map(String::as_str);
    let mut words = words.chain([env!("CARGO_BIN_EXE_quorate")]);
    let mut command = Command::new(words.next().expect("there is one at least"));
    command
        .args(words)
        .args(["server", "--node", &node.to_string()])
        .arg("--config")
        .arg(config)
        .args(&how.args)
        .env_remove("FAILPOINTS")
        .env("QUORATE_LOG", "warn,openraft=error,quorate=info")
        .envs(how.env.iter().cloned())
        .stdin(Stdio::null());
    if let Some(dir) = dir {
        command.arg("--data-dir").arg(dir);
    }
    command
}

/// The config with free ports and data below `dir`.
fn relocate(text: &str, dir: &Path) -> String {
    let data = dir.join("data");
    fs::create_dir(&data).expect("a directory can be made");
    let mut text = text.replace("\"./quorate-data\"", &format!("{:?}", data.display().to_string()));
    assert!(
        text.contains("/data\""),
        "the shipped config names no data directory to replace"
    );
    for port in [7001, 7002, 7003, 7101, 7102, 7103, 7201, 7202, 7203] {
        let shipped = format!("\"127.0.0.1:{port}\"");
        assert!(text.contains(&shipped), "{shipped} is not in the shipped config");
        text = text.replace(&shipped, &format!("\"127.0.0.1:{}\"", free_port()));
    }
    // One node whose tasks take turns, two whose tasks may run at the same moment.
    for (node, threads) in [(1, 2), (2, 1), (3, 3)] {
        let id = format!("\nid = {node}\n");
        assert!(text.contains(&id), "the shipped config has no node {node}");
        text = text.replace(&id, &format!("{id}threads = {threads}\n"));
    }
    // Tests that end a leader say which node that is, however they write.
    text.replace("# leaders = \"near\"", "leaders = \"spread\"")
}

/// A port that nobody listens on, below those that outgoing connections take: a dead node's must stay free.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 1000).expect("it is small") * 12;
    let ports = std::iter::repeat_with(|| 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000);
    ports
        .take(12_000)
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("some port below 32000 is free")
}
