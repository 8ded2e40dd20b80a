//! One connection of the client: requests out, RESP3 replies in, by `redis-protocol`.

use std::io;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::BytesFrame as Request;
use redis_protocol::resp3::decode::complete::decode_bytes_mut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Frame;
use crate::base::limits::FRAME_BYTES_MAX;
use crate::base::{Error, Result, TxnId};
use crate::host::{Network, Stream};

/// Why a connection gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The request may have been executed.
    #[error("the connection broke: {0}")]
    Sent(io::Error),
}

pub(super) struct Connection {
    stream: Stream,
    buffer: BytesMut,
    /// Replies that were asked for and not read yet: an abandoned call leaves some.
    owed: usize,
}

impl Connection {
    pub async fn open(network: &dyn Network, address: &str) -> io::Result<Connection> {
        let stream = network.connect(address).await?;
        let mut connection = Connection {
            stream,
            buffer: BytesMut::new(),
            owed: 0,
        };
        let hello = vec![Bytes::from_static(b"HELLO"), Bytes::from_static(b"3")];
        match connection.ask(&[hello]).await {
            Ok(Frame::Map { .. }) => Ok(connection),
            Ok(other) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no RESP3 server: {other:?}"),
            )),
            Err(Failure::Sent(e)) => Err(e),
        }
    }

    /// Whether every reply asked for has been read, so that another call may use the connection.
    pub fn is_clean(&self) -> bool {
        self.owed == 0 && self.buffer.is_empty()
    }

    /// Sends all requests at once and returns the last reply. An error reply to an earlier one is returned instead.
    pub async fn ask(&mut self, requests: &[Vec<Bytes>]) -> std::result::Result<Frame, Failure> {
        let mut out = BytesMut::new();
        for request in requests {
            let args = request.iter().cloned().map(Request::BulkString).collect();
            extend_encode(&mut out, &Request::Array(args), false)
                .map_err(|e| Failure::Sent(io::Error::other(e)))?;
        }
        self.owed += requests.len();
        self.stream.write_all(&out).await.map_err(Failure::Sent)?;
        let mut reply = Frame::Null;
        let mut failed = None;
        for _ in requests {
            reply = self.read().await.map_err(Failure::Sent)?;
            self.owed -= 1;
            if failed.is_none() && matches!(reply, Frame::SimpleError { .. }) {
                failed = Some(reply.clone());
            }
        }
        Ok(failed.unwrap_or(reply))
    }

    async fn read(&mut self) -> io::Result<Frame> {
        loop {
            match decode_bytes_mut(&mut self.buffer) {
                Ok(Some((frame, _, _))) => return Ok(frame),
                Ok(None) if self.buffer.len() > FRAME_BYTES_MAX => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply without end"));
                }
                Ok(None) => {}
                Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, e.to_string())),
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Turns an error reply into an error, by its code.
pub(super) fn check(frame: Frame) -> Result<Frame> {
    let Frame::SimpleError { data, .. } = &frame else {
        return Ok(frame);
    };
    let (code, rest) = data.split_once(' ').unwrap_or((data, ""));
    Err(match code {
        "TRYAGAIN" => Error::Retry(rest.into()),
        "ABORTED" => Error::Aborted(rest.into()),
        "CLUSTERDOWN" => Error::Unavailable(rest.into()),
        "UNKNOWN" => {
            let (id, why) = rest.split_once(' ').unwrap_or((rest, ""));
            match id.parse::<TxnId>() {
                Ok(id) => Error::Unknown { id, why: why.into() },
                Err(_) => Error::Stopped(data.to_string()),
            }
        }
        "OOM" => Error::OutOfMemory,
        "ERR" => Error::Invalid(rest.into()),
        _ => Error::Invalid(data.to_string()),
    })
}

fn unexpected(frame: &Frame) -> Error {
    Error::Invalid(format!("the server answered {frame:?}"))
}

pub(super) fn bulk(frame: Frame) -> Result<Option<Bytes>> {
    match frame {
        Frame::Null => Ok(None),
        Frame::BlobString { data, .. }
        | Frame::SimpleString { data, .. }
        | Frame::VerbatimString { data, .. } => Ok(Some(data)),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn bulks(frame: Frame) -> Result<Vec<Option<Bytes>>> {
    match frame {
        Frame::Array { data, .. } => data.into_iter().map(bulk).collect(),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn int(frame: &Frame) -> Result<i64> {
    match frame {
        Frame::Number { data, .. } => Ok(*data),
        other => Err(unexpected(other)),
    }
}

pub(super) fn text(frame: &Frame) -> Result<String> {
    let bytes = bulk(frame.clone())?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
