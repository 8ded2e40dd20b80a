//! A Redis of our own: on a free port, in a temporary folder, ended by its pid.

use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate::resp::Protocol;
use tempfile::TempDir;

use crate::resp::{Reply, read_reply};

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    child: Child,
    stream: BufReader<TcpStream>,
    _folder: TempDir,
}

impl Server {
    /// `None`: there is no Redis 7.0 here.
    pub fn start() -> Option<Server> {
        let version = Command::new("redis-server").arg("--version").output().ok()?;
        if !String::from_utf8_lossy(&version.stdout).contains("v=7.0.") {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = free.local_addr().expect("its address");
        drop(free);
        let child = Command::new("redis-server")
            .args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let begin = Instant::now();
        let stream = loop {
            match TcpStream::connect(addr) {
                Ok(stream) => break stream,
                Err(e) => assert!(begin.elapsed() < PATIENCE, "redis-server does not listen: {e}"),
            }
            std::thread::yield_now();
        };
        stream.set_nodelay(true).expect("an option of the socket");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("an option of the socket");
        Some(Server {
            child,
            stream: BufReader::new(stream),
            _folder: folder,
        })
    }

    /// Empty, and in this version of the protocol.
    pub fn begin(&mut self, protocol: Protocol) {
        let version = if protocol == Protocol::Resp3 { "3" } else { "2" };
        self.call(&[b"HELLO".to_vec(), version.into()]);
        self.call(&[b"FLUSHALL".to_vec()]);
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
            .expect("Redis takes the command");
        read_reply(&mut self.stream).expect("Redis replies")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
