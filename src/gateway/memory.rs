//! `MEMORY`, but for `USAGE`, which is a command about a key.

use bytes::Bytes;

use super::process;
use super::{client::text, help};
use crate::base::Reply;
use crate::cluster::{Node, Size};

const CALM: &str = "Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on this base.\n";
const NEAR: &str = "Sam, I detected a few issues in this Quorate node's memory:\n\n * It uses more than nine tenths of the machine's \
                    memory: set maxmemory, spread the keys over more nodes, or delete some.\n";

/// As `INFO` has them: what keys take is the node's, the rest the process's.
fn stats(node: &Node, size: Option<Size>) -> Reply {
    let resident = process::memory().resident;
    let (used, peak) = (node.memory_used(), node.memory_peak());
    let start = process::at_start(resident).min(resident);
    let keys = size.map_or(0, |size| size.keys);
    let int = |n: u64| Reply::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let of = |part: u64, whole: u64| Reply::Double(part as f64 * 100.0 / (whole.max(1) as f64));
    let database = vec![
        (Reply::bulk("overhead.hashtable.main"), Reply::Int(0)),
        (Reply::bulk("overhead.hashtable.expires"), Reply::Int(0)),
    ];
    let fields = [
        ("peak.allocated", int(peak)),
        ("total.allocated", int(used)),
        ("startup.allocated", int(start)),
        ("replication.backlog", Reply::Int(0)),
        ("clients.slaves", Reply::Int(0)),
        ("clients.normal", Reply::Int(0)),
        ("aof.buffer", Reply::Int(0)),
        ("db.0", Reply::Map(database)),
        ("overhead.total", int(resident.saturating_sub(used))),
        ("keys.count", int(keys)),
        ("keys.bytes-per-key", int(used / keys.max(1))),
        ("dataset.bytes", int(used)),
        ("dataset.percentage", of(used, resident)),
        ("peak.percentage", of(used, peak)),
        (
            "fragmentation",
            Reply::Double(resident as f64 / used.max(1) as f64),
        ),
        ("fragmentation.bytes", int(resident.saturating_sub(used))),
    ];
    Reply::Map(fields.map(|(name, value)| (Reply::bulk(name), value)).into())
}

/// `MEMORY DOCTOR | MALLOC-STATS | PURGE | STATS | HELP`, of the process.
pub async fn memory(node: &Node, args: &[Bytes]) -> Reply {
    let sub = args[0].to_ascii_lowercase();
    match sub.as_slice() {
        b"help" => help::reply("memory"),
        b"doctor" => {
            let memory = process::memory();
            let near = memory.resident > memory.machine / 10 * 9;
            Reply::Verbatim(if near { NEAR } else { CALM }.into())
        }
        // The allocator gives memory back by itself.
        b"purge" => Reply::ok(),
        b"malloc-stats" => {
            let memory = process::memory();
            let told = format!(
                "mimalloc: resident {} bytes, {} at the most; it is not asked for more\n",
                memory.resident, memory.peak
            );
            Reply::Verbatim(told.into())
        }
        b"stats" => stats(node, node.size().await),
        _ => help::unknown("MEMORY", &text(&args[0])),
    }
}
