//! A RESP client in the simulation: sends commands, reads replies, and says what is known of the outcome.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::BytesFrame as Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::TcpStream;

/// Longer than any of the nodes' own limits: a node that stays silent past it is gone.
const PATIENCE: Duration = Duration::from_secs(6);

/// What came of commands sent.
#[derive(Debug, Clone)]
pub enum Sent {
    /// One reply a command.
    Replied(Vec<Frame>),
    /// It certainly did not happen: the connection could not be made.
    Never,
    /// The connection broke, or nobody answered.
    Lost,
}

pub struct Client {
    pub node: SocketAddr,
    stream: Option<TcpStream>,
    buffer: BytesMut,
}

/// A command from words.
pub fn command(words: &[&str]) -> Frame {
    let words = words
        .iter()
        .map(|word| Frame::BulkString(Bytes::copy_from_slice(word.as_bytes())));
    Frame::Array(words.collect())
}

impl Client {
    pub fn new(node: SocketAddr) -> Client {
        Client {
            node,
            stream: None,
            buffer: BytesMut::new(),
        }
    }

    /// Turns to another node.
    pub fn turn_to(&mut self, node: SocketAddr) {
        self.node = node;
        self.hang_up();
    }

    fn hang_up(&mut self) {
        self.stream = None;
        self.buffer.clear();
    }

    /// Sends all commands at once and waits for all replies.
    pub async fn send(&mut self, commands: &[Frame]) -> Sent {
        if self.stream.is_none() {
            let connecting = tokio::time::timeout(PATIENCE, TcpStream::connect(self.node));
            match connecting.await {
                Ok(Ok(stream)) => self.stream = Some(stream),
                _ => return Sent::Never,
            }
        }
        match tokio::time::timeout(PATIENCE, self.exchange(commands)).await {
            Ok(Ok(replies)) => Sent::Replied(replies),
            _ => {
                self.hang_up();
                Sent::Lost
            }
        }
    }

    /// Sends one command; its answer, if it was done.
    pub async fn done(&mut self, words: &[&str]) -> Option<Frame> {
        let Sent::Replied(replies) = self.send(&[command(words)]).await else {
            return None;
        };
        match verdict(&replies[0]) {
            Verdict::Done(reply) => Some(reply),
            Verdict::Refused | Verdict::Unknown(_) => None,
        }
    }

    /// Reads a number that only grows: never may a smaller one come than was `acknowledged` before this asks.
    pub async fn get_at_least(&mut self, key: &str, acknowledged: i64) -> Option<i64> {
        let reply = self.done(&["GET", key]).await?;
        let value = number(&reply).unwrap_or(0);
        assert!(
            value >= acknowledged,
            "a stale read, or a lost write: {value}, when {acknowledged} was acknowledged before it"
        );
        Some(value)
    }

    async fn exchange(&mut self, commands: &[Frame]) -> std::io::Result<Vec<Frame>> {
        let stream = self.stream.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
        let mut out = BytesMut::new();
        for command in commands {
            extend_encode(&mut out, command, false).map_err(std::io::Error::other)?;
        }
        stream.write_all(&out).await?;
        let mut replies = Vec::new();
        while replies.len() < commands.len() {
            match decode_bytes_mut(&mut self.buffer).map_err(std::io::Error::other)? {
                Some((reply, _, _)) => replies.push(reply),
                None => {
                    if stream.read_buf(&mut self.buffer).await? == 0 {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
        Ok(replies)
    }
}

/// What a reply says of its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It happened, and answered this.
    Done(Frame),
    /// It did not happen.
    Refused,
    /// Ask for the id.
    Unknown(String),
}

/// Reads an error by its code. A code that no client of this simulation should see ends the run.
pub fn verdict(reply: &Frame) -> Verdict {
    let Frame::Error(error) = reply else {
        return Verdict::Done(reply.clone());
    };
    let (code, rest) = error.split_once(' ').unwrap_or((error, ""));
    match code {
        "TRYAGAIN" | "ABORTED" | "CLUSTERDOWN" => Verdict::Refused,
        "UNKNOWN" => Verdict::Unknown(rest.split(' ').next().unwrap_or("").to_owned()),
        _ => panic!("an error that nobody should see here: {error}"),
    }
}

pub fn text(frame: &Frame) -> Option<String> {
    match frame {
        Frame::BulkString(bytes) | Frame::SimpleString(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        Frame::Integer(n) => Some(n.to_string()),
        _ => None,
    }
}

pub fn number(frame: &Frame) -> Option<i64> {
    text(frame)?.parse().ok()
}
