//! What two nodes say to each other first, and whether they go together.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wire::{Hello, WIRE_VERSION};
use crate::base::codec;
use crate::host::Stream;

const HELLO_BYTES_MAX: usize = 4096;

/// Says who we are and hears who they are.
pub async fn greet(stream: &mut Stream, mine: &Hello) -> io::Result<Hello> {
    let hello = codec::encode(mine).map_err(io::Error::other)?;
    let length = u32::try_from(hello.len()).map_err(io::Error::other)?;
    stream.write_u32(length).await?;
    stream.write_all(&hello).await?;
    let length = stream.read_u32().await? as usize;
    if length > HELLO_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a quorate peer: its hello is too long",
        ));
    }
    let mut theirs = vec![0; length];
    stream.read_exact(&mut theirs).await?;
    codec::decode(&theirs).map_err(io::Error::other)
}

/// Whether both were built and configured for the same.
///
/// # Errors
/// What they differ in.
pub fn compare(mine: &Hello, theirs: &Hello) -> Result<(), String> {
    let node = theirs.node;
    if theirs.version != WIRE_VERSION {
        return Err(format!(
            "node {node} speaks wire version {}, we {WIRE_VERSION}",
            theirs.version
        ));
    }
    if theirs.layout != mine.layout {
        return Err(format!(
            "node {node} is configured with '{}', we with '{}'",
            theirs.layout, mine.layout
        ));
    }
    if theirs.reads != mine.reads {
        return Err(format!(
            "node {node} is configured with reads by {}, we by {}",
            theirs.reads, mine.reads
        ));
    }
    Ok(())
}
