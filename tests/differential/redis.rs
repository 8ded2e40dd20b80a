//! A Redis of our own: on a free port, in a temporary folder, by a clock that the test owns, ended by its pid.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate::resp::Protocol;
use tempfile::TempDir;

use crate::resp::{Reply, read_reply};

const PATIENCE: Duration = Duration::from_secs(20);
const CLOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/clock.c");

pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    /// What its clock reads (`clock.c`).
    clock: File,
    _folder: TempDir,
}

/// A connection to a server that speaks the protocol.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Server {
    /// `None`: there is no Redis 7.0 here.
    pub fn start() -> Option<Server> {
        let version = Command::new("redis-server").arg("--version").output().ok()?;
        if !String::from_utf8_lossy(&version.stdout).contains("v=7.0.") {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let (library, path) = (folder.path().join("clock.so"), folder.path().join("clock"));
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([library.as_os_str(), CLOCK.as_ref()])
            .status()
            .expect("rustc links with cc, so it is there");
        assert!(built.success(), "cc: {built}");
        let clock = OpenOptions::new().create_new(true).write(true).open(&path);
        let clock = clock.expect("a file for the clock");
        set(&clock, 0, 0);
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = free.local_addr().expect("its address");
        drop(free);
        let child = Command::new("redis-server")
            .args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .env("LD_PRELOAD", library)
            .env("OWNED_CLOCK", path)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let begin = Instant::now();
        while let Err(e) = TcpStream::connect(addr) {
            assert!(begin.elapsed() < PATIENCE, "redis-server does not listen: {e}");
            std::thread::yield_now();
        }
        Some(Server {
            child,
            addr,
            clock,
            _folder: folder,
        })
    }

    /// Its clock stands still at these milliseconds since the epoch.
    pub fn stand_at(&self, now: u64) {
        set(&self.clock, now, 0);
    }

    /// Its clock goes, so many milliseconds ahead of the machine's.
    pub fn be_ahead(&self, by: u64) {
        set(&self.clock, 0, by);
    }
}

fn set(clock: &File, now: u64, ahead: u64) {
    let both = [now, ahead].map(|ms| (ms * 1000).to_ne_bytes());
    clock
        .write_all_at(both.as_flattened(), 0)
        .expect("the clock is set");
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Connection {
    /// In this version of the protocol.
    pub fn open(addr: SocketAddr, protocol: Protocol) -> Connection {
        let stream = TcpStream::connect(addr).expect("the server listens");
        stream.set_nodelay(true).expect("an option of the socket");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("an option of the socket");
        let mut connection = Connection {
            stream: BufReader::new(stream),
        };
        let version = if protocol == Protocol::Resp3 { "3" } else { "2" };
        connection.call(&[b"HELLO".to_vec(), version.into()]);
        connection
    }

    pub fn call(&mut self, args: &[Vec<u8>]) -> Reply {
        let mut out = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
        self.stream
            .get_mut()
            .write_all(&out)
            .expect("the server takes the command");
        read_reply(&mut self.stream).expect("the server replies")
    }

    /// As a command is executed inside MULTI: it does not wait.
    pub fn call_without_waiting(&mut self, args: &[Vec<u8>]) -> Reply {
        self.call(&[b"MULTI".to_vec()]);
        let queued = self.call(args);
        match self.call(&[b"EXEC".to_vec()]) {
            Reply::List(_, replies) => replies.into_iter().next().expect("one was queued"),
            // It was refused.
            _ => queued,
        }
    }
}
