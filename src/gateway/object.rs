//! `OBJECT IDLETIME` and `OBJECT FREQ`: no state has it, so every replica of the key's shard is asked.

use bytes::Bytes;

use super::burst::{self, Item};
use crate::base::Reply;
use crate::cluster::Node;
use crate::machine::commands;

const NOT_LFU: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
                       between policies at runtime LRU and LFU data will take some time to adjust.";
const NOT_LRU: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
                       policies at runtime LRU and LFU data will take some time to adjust.";

/// Whether it is one of these.
#[must_use]
pub fn is_access(args: &[Bytes]) -> bool {
    let is = |word: &str| args[0].eq_ignore_ascii_case(word.as_bytes());
    args.len() == 2 && (is("idletime") || is("freq"))
}

pub async fn access(node: &Node, args: &[Bytes]) -> Reply {
    let is_there = commands::find(b"object").map(|spec| {
        let args = [Bytes::from_static(b"encoding"), args[1].clone()];
        commands::parse(spec, &args)
    });
    let is_there = match is_there {
        Some(Ok(command)) => burst::run(node, vec![Item::Run(command)], None).await,
        Some(Err(reply)) => return reply,
        None => return Reply::Nil,
    };
    match is_there.into_iter().next() {
        Some(Reply::Bulk(_)) => {}
        other => return other.unwrap_or(Reply::Nil),
    }
    let lfu = node.settings().maxmemory_policy().is_lfu();
    let freq = args[0].eq_ignore_ascii_case(b"freq");
    match (freq, lfu) {
        (true, false) => Reply::err(NOT_LFU),
        (false, true) => Reply::err(NOT_LRU),
        (true, true) => Reply::Int(i64::from(node.access_of(&args[1]).await.1)),
        (false, false) => Reply::Int(i64::from(node.access_of(&args[1]).await.0)),
    }
}
