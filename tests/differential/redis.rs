//! A Redis of our own: on a free port, in a temporary folder, ended by its pid.

use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate::resp::Protocol;
use tempfile::TempDir;

use crate::resp::{Reply, read_reply};

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    child: Child,
    pub addr: SocketAddr,
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
        while let Err(e) = TcpStream::connect(addr) {
            assert!(begin.elapsed() < PATIENCE, "redis-server does not listen: {e}");
            std::thread::yield_now();
        }
        Some(Server {
            child,
            addr,
            _folder: folder,
        })
    }
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
}
