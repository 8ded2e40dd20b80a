//! A network whose links can be cut: every node, and the clients, in a network namespace of their own, joined by a
//! namespace that routes.
//!
//! ```text
//! clients (this process) 10.77.0.2 ─┐
//! node 1                 10.77.1.2 ─┤
//! node 2                 10.77.2.2 ─┼─ router 10.77.*.1: `ip rule … iif v1 to 10.77.2.2 blackhole` cuts 1 → 2
//! node 3                 10.77.3.2 ─┘
//! ```
//!
//! A rule of type `blackhole` in the router drops without a word, one way, by sender and receiver; neither nft nor
//! iptables nor a qdisc is needed. The process first moves into a fresh network and mount namespace where /run is its
//! own, so all names vanish with its last process, however it ends.

use std::env;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use crate::nodes::NODES;

/// Set in the process that has moved into the namespaces.
const INSIDE: &str = "QUORATE_NEMESIS_INSIDE";
const MOVE: &str = "mount -t tmpfs nemesis /run && exec \"$0\" \"$@\"";
const UNSHARE: [&str; 5] = ["--net", "--mount", "--propagation", "private", "sh"];
/// Who is not a node: the clients.
pub const CLIENTS: u64 = 0;
/// Until a connection that is cut counts as cut.
const SILENCE: Duration = Duration::from_millis(400);

pub struct Network {
    names: Names,
    cut: Vec<(u64, u64)>,
}

/// Names carry the process's id, for whoever meets them in `ip netns` or `ps`.
struct Names(u32);

impl Names {
    fn router(&self) -> String {
        format!("nemesis-{}-router", self.0)
    }

    fn node(&self, node: u64) -> String {
        format!("nemesis-{}-{node}", self.0)
    }
}

fn address(of: u64) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, u8::try_from(of).expect("there are few"), 2)
}

pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Why namespaces cannot be used here, if they cannot.
pub fn hindrance() -> Option<String> {
    let probe = "mount -t tmpfs nemesis /run && ip netns add probe && ip -n probe link set lo up \
                 && ip link add v1 type veth peer name v2 && ip rule add pref 100 iif v1 to 10.77.0.2 blackhole";
    let tried = Command::new("unshare").args(UNSHARE).args(["-c", probe]).output();
    match tried {
        Err(e) => Some(format!("unshare: {e}")),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_string()),
    }
}

/// Starts this program again inside fresh namespaces, in place of this process; returns only if that fails.
pub fn move_inside() -> io::Error {
    let myself = match env::current_exe() {
        Ok(path) => path,
        Err(e) => return e,
    };
    Command::new("unshare")
        .args(UNSHARE)
        .args(["-c", MOVE])
        .arg(myself)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec()
}

impl Network {
    /// Builds it around this process, which has moved inside.
    ///
    /// # Panics
    /// One of the commands fails, though [`hindrance`] had found none.
    pub fn build() -> Network {
        assert!(is_inside(), "the machine's own network is left alone");
        let names = Names(std::process::id());
        let router = names.router();
        let mut script = format!(
            "set -e\nip link set lo up\nip netns add {router}\nip -n {router} link set lo up\n\
             ip netns exec {router} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'\n"
        );
        for place in [CLIENTS].into_iter().chain(NODES) {
            let (name, mine) = (names.node(place), address(place));
            let inside = if place == CLIENTS {
                String::new()
            } else {
                writeln!(script, "ip netns add {name}").expect("a string takes it");
                format!("-n {name}")
            };
            write!(
                script,
                "ip {inside} link set lo up\n\
                 ip {inside} link add eth0 type veth peer name v{place} netns {router}\n\
                 ip -n {router} addr add 10.77.{place}.1/24 dev v{place}\n\
                 ip -n {router} link set v{place} up\n\
                 ip {inside} addr add {mine}/24 dev eth0\n\
                 ip {inside} link set eth0 up\n\
                 ip {inside} route add default via 10.77.{place}.1\n"
            )
            .expect("a string takes it");
        }
        shell(&script);
        Network {
            names,
            cut: Vec::new(),
        }
    }

    /// What starts a node's process in its namespace.
    pub fn inside(&self, node: u64) -> Vec<String> {
        let name = self.names.node(node);
        ["ip", "netns", "exec", &name].map(String::from).to_vec()
    }

    /// A config whose nodes listen at the addresses of their namespaces.
    pub fn move_config(text: &str) -> String {
        let mut node = 0;
        let mut line = |line: &str| {
            if let Some(id) = line.strip_prefix("id = ") {
                node = id.trim().parse().expect("a node's id is a number");
            }
            line.replace("127.0.0.1", &address(node).to_string())
        };
        text.lines().map(|text| line(text) + "\n").collect()
    }

    /// Drops what `from` sends to `to`, and nothing else.
    pub fn cut(&mut self, from: u64, to: u64) {
        if !self.cut.contains(&(from, to)) {
            self.rule("add", from, to);
            self.cut.push((from, to));
        }
    }

    pub fn cut_both(&mut self, one: u64, other: u64) {
        self.cut(one, other);
        self.cut(other, one);
    }

    pub fn heal(&mut self) {
        for (from, to) in std::mem::take(&mut self.cut) {
            self.rule("del", from, to);
        }
    }

    fn rule(&self, verb: &str, from: u64, to: u64) {
        let (router, target) = (self.names.router(), address(to));
        let preference = 100 + 10 * from + to;
        shell(&format!(
            "ip -n {router} rule {verb} pref {preference} iif v{from} to {target} blackhole"
        ));
    }

    /// Shows for every pair that a cut cuts that pair alone, and that healing heals. `listening`: a port of each node.
    ///
    /// # Panics
    /// It does not.
    pub fn check(&mut self, listening: &[(u64, SocketAddr)]) {
        let places: Vec<u64> = [CLIENTS].into_iter().chain(NODES).collect();
        for &(node, at) in listening {
            assert_eq!(
                at.ip(),
                IpAddr::V4(address(node)),
                "node {node} listens elsewhere"
            );
            for &from in places.iter().filter(|&&from| from != node) {
                assert!(self.connects(from, at), "{from} does not reach {node}");
                self.cut(from, node);
                assert!(!self.connects(from, at), "{from} reaches {node} over a cut link");
                let other = places.iter().find(|&&place| place != from && place != node);
                let other = *other.expect("there are four places");
                assert!(self.connects(other, at), "{other} is cut off from {node} too");
                self.heal();
                assert!(self.connects(from, at), "{from} does not reach {node} again");
            }
        }
    }

    fn connects(&self, from: u64, to: SocketAddr) -> bool {
        if from == CLIENTS {
            return TcpStream::connect_timeout(&to, SILENCE).is_ok();
        }
        let mut inside = self.inside(from).into_iter();
        let (program, seconds) = (inside.next().expect("a program"), SILENCE.as_secs_f64());
        let connect = format!("exec 3<>/dev/tcp/{}/{}", to.ip(), to.port());
        let status = Command::new(program)
            .args(inside)
            .args(["timeout", &seconds.to_string(), "bash", "-c", &connect])
            .status();
        status.expect("ip can be run").success()
    }
}

fn shell(script: &str) {
    let output = Command::new("sh")
        .args(["-c", script])
        .output()
        .expect("sh can be run");
    assert!(
        output.status.success(),
        "{script}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
