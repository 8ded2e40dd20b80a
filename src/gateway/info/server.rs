//! Sections about the node.

use super::{Line, Source, line};
use crate::base::REDIS_VERSION;
use crate::cluster::Kind;
use crate::gateway::process::{self, human};

pub fn server(source: &Source<'_>) -> Vec<Line> {
    let (node, counts) = (source.node, source.shared.counts());
    let section = node.config().node(node.id());
    let port = section.map_or(0, |section| section.client.port());
    let program = std::env::current_exe().unwrap_or_default();
    vec![
        line("redis_version", REDIS_VERSION),
        line("redis_git_sha1", "00000000"),
        line("redis_git_dirty", 0),
        line("redis_mode", "standalone"),
        line("os", std::env::consts::OS),
        line("arch_bits", usize::BITS),
        line("quorate_version", env!("CARGO_PKG_VERSION")),
        line("process_id", std::process::id()),
        // Of the node, of any process: 40 digits in hex, as tools expect.
        line("run_id", format!("{:032x}{:08x}", node.cluster_id(), node.id())),
        line("tcp_port", port),
        line("server_time_usec", node.now() * 1000),
        line("uptime_in_seconds", counts.uptime_s),
        line("uptime_in_days", counts.uptime_s / 86_400),
        line("hz", 10),
        line("configured_hz", 10),
        line("executable", program.display()),
        line("config_file", ""),
        line("io_threads_active", 0),
    ]
}

pub fn clients(source: &Source<'_>) -> Vec<Line> {
    let counts = source.shared.counts();
    vec![
        line("connected_clients", counts.connections),
        line("maxclients", source.node.config().limits.connections),
        line("blocked_clients", counts.waiting),
        line("tracking_clients", source.node.tracking().counts().0),
    ]
}

/// What keys take is the node's, the rest the process's: `quorate dev` runs several nodes in one.
pub fn memory(source: &Source<'_>) -> Vec<Line> {
    let memory = process::memory();
    let (used, settings) = (source.node.memory_used(), source.node.settings());
    let peak = source.node.memory_peak();
    let resident = memory.resident;
    let start = process::at_start(resident).min(resident);
    let of = |part: u64, whole: u64| part as f64 * 100.0 / (whole.max(1) as f64);
    let limit = settings.maxmemory();
    vec![
        line("used_memory", used),
        line("used_memory_human", human(used)),
        line("used_memory_rss", resident),
        line("used_memory_rss_human", human(resident)),
        line("used_memory_peak", peak),
        line("used_memory_peak_human", human(peak)),
        line("used_memory_peak_perc", format!("{:.2}%", of(used, peak))),
        line("used_memory_overhead", resident.saturating_sub(used)),
        line("used_memory_startup", start),
        line("used_memory_dataset", used),
        line("used_memory_dataset_perc", format!("{:.2}%", of(used, resident))),
        line("total_system_memory", memory.machine),
        line("total_system_memory_human", human(memory.machine)),
        line("maxmemory", limit),
        line("maxmemory_human", human(limit)),
        line("maxmemory_policy", settings.maxmemory_policy()),
        // The allocator is not asked, so that what it keeps for later counts as resident; and logs and tables are no keys.
        line(
            "mem_fragmentation_ratio",
            format!("{:.2}", of(resident, used) / 100.0),
        ),
        line("mem_fragmentation_bytes", resident.saturating_sub(used)),
        line("mem_allocator", "mimalloc"),
        line("active_defrag_running", 0),
        line("lazyfree_pending_objects", 0),
    ]
}

pub fn persistence(source: &Source<'_>) -> Vec<Line> {
    let (node, saved) = (source.node, source.node.saved());
    let save = source.shared.save_asked_for();
    let last = saved.last.unwrap_or_else(|| source.shared.started_at());
    vec![
        line("loading", u8::from(node.is_refilling())),
        line("async_loading", 0),
        // In bytes of log: a change has no number of its own.
        line("rdb_changes_since_last_save", saved.unsaved_bytes),
        line("rdb_bgsave_in_progress", u8::from(saved.under_way)),
        line("rdb_last_save_time", last / 1000),
        line("rdb_last_bgsave_status", if save.failed { "err" } else { "ok" }),
        line("rdb_last_bgsave_time_sec", saved.took.as_secs()),
        line(
            "rdb_current_bgsave_time_sec",
            save.running.map_or(-1, |time| time.as_secs().cast_signed()),
        ),
        line("aof_enabled", 0),
        line("aof_rewrite_in_progress", 0),
        line("aof_rewrite_scheduled", 0),
        line("aof_last_bgrewrite_status", "ok"),
        line("aof_last_write_status", "ok"),
    ]
}

pub fn stats(source: &Source<'_>) -> Vec<Line> {
    let (node, stats) = (source.node, &source.shared.stats);
    let tallies = node.tallies();
    let sum = |count: fn(&crate::machine::Tally) -> u64| tallies.iter().map(|t| count(t)).sum::<u64>();
    let [commands, bytes_in, bytes_out] = stats.rates();
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    let (_, tracked) = node.tracking().counts();
    let names = |kind| node.pubsub().names(kind);
    vec![
        line("total_connections_received", stats.accepted.get()),
        line("total_commands_processed", stats.commands.get()),
        line("instantaneous_ops_per_sec", commands),
        line("total_net_input_bytes", stats.bytes_in.get()),
        line("total_net_output_bytes", stats.bytes_out.get()),
        line("instantaneous_input_kbps", kilobytes(bytes_in)),
        line("instantaneous_output_kbps", kilobytes(bytes_out)),
        line("rejected_connections", stats.refused.get()),
        line("sync_full", 0),
        line("sync_partial_ok", 0),
        line("sync_partial_err", 0),
        line("expired_keys", sum(|tally| tally.expired.get())),
        line("evicted_keys", sum(|tally| tally.evicted.get())),
        line("evicted_clients", 0),
        line("keyspace_hits", sum(|tally| tally.hits.get())),
        line("keyspace_misses", sum(|tally| tally.misses.get())),
        line("pubsub_channels", names(Kind::Channel)),
        line("pubsub_patterns", names(Kind::Pattern)),
        line("pubsubshard_channels", names(Kind::ShardChannel)),
        line("latest_fork_usec", 0),
        line("total_forks", 0),
        line("tracking_total_keys", tracked),
        line("total_error_replies", stats.error_replies.get()),
        line("total_reads_processed", stats.reads.get()),
        line("total_writes_processed", stats.writes.get()),
    ]
}

/// As of a primary without replicas: those of Raft are no replicas that a client could follow.
pub fn replication(source: &Source<'_>) -> Vec<Line> {
    vec![
        line("role", "master"),
        line("connected_slaves", 0),
        line("master_failover_state", "no-failover"),
        line(
            "master_replid",
            format!("{:032x}{:08x}", source.node.cluster_id(), 0),
        ),
        line("master_replid2", "0".repeat(40)),
        line("master_repl_offset", 0),
        line("second_repl_offset", -1),
        line("repl_backlog_active", 0),
        line("repl_backlog_size", 0),
        line("repl_backlog_first_byte_offset", 0),
        line("repl_backlog_histlen", 0),
    ]
}

pub fn cpu(_: &Source<'_>) -> Vec<Line> {
    let (system, user) = process::cpu();
    vec![
        line("used_cpu_sys", format!("{system:.6}")),
        line("used_cpu_user", format!("{user:.6}")),
        line("used_cpu_sys_children", "0.000000"),
        line("used_cpu_user_children", "0.000000"),
    ]
}

/// Of the whole cluster; nothing if a shard has no leader that answers.
pub fn keyspace(source: &Source<'_>) -> Vec<Line> {
    let size = source.size.filter(|size| size.keys > 0);
    let row = size.map(|size| {
        let ttl = size.average_ttl(source.node.now());
        let shown = format!("keys={},expires={},avg_ttl={ttl}", size.keys, size.expiring);
        line("db0", shown)
    });
    row.into_iter().collect()
}

pub fn quorate(source: &Source<'_>) -> Vec<Line> {
    let (node, status) = (source.node, source.node.status());
    let leads = status
        .groups
        .iter()
        .filter(|group| group.leader == Some(status.node))
        .count();
    vec![
        line("node", status.node),
        line("cluster_id", &status.cluster_id),
        line("connected_nodes", status.connected.len()),
        line("replicas", status.groups.len()),
        line("leads", leads),
        line("in_line", node.in_line()),
        line("refilling", u8::from(status.refilling)),
    ]
}
