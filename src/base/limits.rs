//! Every bound of the system, in one place, with the relations between them asserted.

/// Bytes of one value (Redis allows 512 MiB; a cache entry that large would stall a log).
pub const BULK_BYTES_MAX: usize = 64 << 20;
/// Bytes of what `RESTORE` unpacks and `DUMP` packs; each element counts [`DUMPED_ELEMENT_BYTES`] more than it has.
pub const DUMPED_BYTES_MAX: usize = 256 << 20;
/// What an element costs besides its bytes, roughly.
pub const DUMPED_ELEMENT_BYTES: usize = 32;
/// Bytes of one key.
pub const KEY_BYTES_MAX: usize = 1 << 20;
/// Arguments of one command.
pub const COMMAND_ARGS_MAX: usize = 1 << 20;
/// Commands that one `COMMAND INFO` or `COMMAND DOCS` may name: a row is far longer than a name.
pub const COMMAND_NAMES_MAX: usize = 1024;
/// Bytes of one command on the wire.
pub const COMMAND_BYTES_MAX: usize = 72 << 20;
/// Bytes of a command or a queue of MULTI beyond which it counts as a large one.
pub const LARGE_BYTES: usize = 1 << 20;
/// Bytes of large commands that a node takes from its clients at a time; the next client is read when there is room.
pub const LARGE_COMMANDS_BYTES_MAX: usize = 2 * COMMAND_BYTES_MAX;
/// Bytes of large MULTI queues on a node, all together.
pub const LARGE_QUEUES_BYTES_MAX: usize = 512 << 20;
/// Bytes of an inline command line.
pub const INLINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a memcached client's line that asks for many keys.
pub const MEMCACHED_GETS_BYTES_MAX: usize = 1 << 20;
/// Bytes of any other line of a memcached client.
pub const MEMCACHED_LINE_BYTES_MAX: usize = 16 << 10;
/// Bytes of a memcached client's key.
pub const MEMCACHED_KEY_BYTES_MAX: usize = 250;
/// Commands queued by one MULTI.
pub const TXN_COMMANDS_MAX: usize = 16 << 10;
/// Bytes queued by one MULTI.
pub const TXN_BYTES_MAX: usize = 72 << 20;
/// Keys watched by one connection.
pub const WATCHED_KEYS_MAX: usize = 64 << 10;
/// Bytes of keys watched by one connection.
pub const WATCHED_BYTES_MAX: usize = 8 << 20;
/// Bytes of one transaction: what MULTI has queued or a command that reads first has to write, and the conditions.
pub const WORK_BYTES_MAX: usize = 84 << 20;
/// Bytes of all replies of one request or transaction: a command whose reply would not fit any more replies with an error.
pub const REPLIES_BYTES_MAX: usize = 132 << 20;
/// Commands that a session takes from its socket in one go.
pub const BURST_COMMANDS_MAX: usize = 1024;
/// Bytes that a session takes from its socket in one go, unless one command is larger.
pub const BURST_BYTES_MAX: usize = 1 << 20;

/// Requests in one log entry.
pub const BATCH_REQUESTS_MAX: usize = 1024;
/// Bytes of requests after which a log entry is closed (one larger request makes an entry of its own).
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Log entries a group's proposer keeps under way.
pub const BATCHES_IN_FLIGHT_MAX: usize = 1;
/// Requests that wait for a group's proposer or reader.
pub const GROUP_QUEUE_MAX: usize = 8192;
/// Bytes of one encoded log entry: a request that makes a larger one is refused.
pub const ENTRY_BYTES_MAX: usize = 176 << 20;
/// Bytes of one message between peers.
pub const FRAME_BYTES_MAX: usize = 192 << 20;
/// Bytes of a message between peers that goes in one piece. Longer ones are cut, and others go between the pieces: a heartbeat does not
/// wait for a value of 64 MiB.
pub const FRAGMENT_BYTES: usize = 640 << 10;
/// Frames that wait for one peer link.
pub const LINK_QUEUE_MAX: usize = 16 << 10;
/// Log entries in one append to a follower.
pub const APPEND_ENTRIES_MAX: u64 = 512;
/// Bytes of log entries in one append to a follower (at least one entry always goes).
pub const APPEND_BYTES_MAX: usize = 4 << 20;
/// Bytes of a snapshot in one frame between peers.
pub const SNAPSHOT_FRAME_BYTES: usize = 512 << 10;
/// Bytes of keys and values in one section of a snapshot (at least one key always goes).
pub const SNAPSHOT_SECTION_BYTES: usize = 1 << 20;
/// Bytes of one value in a snapshot's sled (section 10 of DESIGN.md: larger ones become blobs).
pub const SNAPSHOT_CHUNK_BYTES: usize = 6 << 10;
/// Bytes of records after which a frame of the journal is closed.
pub const JOURNAL_FRAME_BYTES: usize = 2 << 20;
/// Bytes of one segment of the journal; a larger frame gets a segment of its own.
pub const JOURNAL_SEGMENT_BYTES: u64 = 4 << 20;
/// Segments that are kept to be written anew.
pub const JOURNAL_FREE_SEGMENTS_MAX: usize = 4;
/// Bytes of the journal beyond twice what is needed of it: what pins more is written again at its head.
pub const JOURNAL_SLACK_BYTES: u64 = 16 << 20;
/// Bytes of a node's log entries in memory; older ones are read back from the journal when a follower asks for them.
pub const JOURNAL_MEMORY_BYTES: usize = 32 << 20;
/// Operations that wait for a node's flusher.
pub const JOURNAL_QUEUE_MAX: usize = 64 << 10;

/// Requests parked on locks in one shard.
pub const PARKED_MAX: usize = 64 << 10;
/// Prepared transactions in one shard.
pub const PREPARED_MAX: usize = 64 << 10;
/// Finished replies that one session may leave unacknowledged in one group.
pub const SESSION_REPLIES_MAX: usize = 64 << 10;
/// Numbers that a gateway gives in one session while one of them stays open; well below [`SESSION_REPLIES_MAX`].
pub const SESSION_NUMBERS_MAX: usize = SESSION_REPLIES_MAX / 4;
/// Sessions a reply table holds; the longest idle one goes first.
pub const SESSIONS_MAX: usize = 64 << 10;
/// Of a session without requests for this long, in replicated time, only the watermark is kept.
pub const SESSION_IDLE_MS: u64 = 10 * 60 * 1000;
/// Transactions that one coordinator leader runs or queues.
pub const TXNS_ACTIVE_MAX: usize = 64 << 10;
/// Bytes of a group's state besides its keys that its digest covers: a few milliseconds of hashing.
pub const DIGEST_REST_BYTES_MAX: usize = 8 << 20;
/// Digests that a replica remembers of one group, for those that come later to compare.
pub const DIGESTS_KEPT: usize = 16;
/// Rows of one group in `TXN LIST`; the rest is counted.
pub const LISTED_ROWS_MAX: usize = 256;
/// What one row of `TXN LIST` names as waited for; the rest is counted.
pub const LISTED_WAITS_MAX: usize = 8;
/// Bytes of a key that `TXN LIST` shows.
pub const LISTED_KEY_BYTES_MAX: usize = 64;
/// Milliseconds that `TXN WAIT` may wait.
pub const TXN_WAIT_MS_MAX: u64 = 60_000;
/// Keys removed by one logged expiry.
pub const EXPIRE_KEYS_MAX: usize = 512;
/// Keys that one entry evicts for what was too much before it.
pub const EVICT_KEYS_MAX: usize = 512;
/// Keys that one entry evicts for what it needs itself, too.
pub const EVICT_FOR_ENTRY_KEYS_MAX: usize = 64 << 10;
/// Keys of a shard that are kept ready to be evicted.
pub const EVICT_POOL_KEYS: usize = 512;
/// Times that an optimistic command (RENAME across shards and the like) runs again on a conflict.
pub const OPTIMISTIC_TRIES_MAX: u32 = 64;
/// Scripts that a node runs at a time; others wait.
pub const SCRIPTS_RUNNING_MAX: usize = 8;
/// Bytes that one script may hold at a time, all of its interpreter's together.
pub const SCRIPT_MEMORY_BYTES_MAX: usize = 128 << 20;
/// Scripts that an interpreter keeps compiled.
pub const SCRIPTS_COMPILED_MAX: usize = 256;
/// Milliseconds that one run of a script may take.
pub const SCRIPT_MS_MAX: u64 = 5_000;
/// Times that a script runs anew because it came upon a key that it had not named.
pub const SCRIPT_ROUNDS_MAX: u32 = 256;
/// Bytes of scripts that a node knows by their names.
pub const SCRIPTS_BYTES_MAX: usize = 64 << 20;
/// Bytes of all libraries of functions together, with what they register.
pub const FUNCTIONS_BYTES_MAX: usize = 16 << 20;
/// Milliseconds that the code of a library may take to register its functions.
pub const FUNCTION_LOAD_MS_MAX: u64 = 2_000;
/// Milliseconds that the libraries of one `FUNCTION RESTORE` may take together.
pub const FUNCTIONS_RESTORE_MS_MAX: u64 = 20_000;
/// Messages, and their bytes, that one listener may leave untaken before it is disconnected.
pub const PUSHES_MAX: usize = 64 << 10;
pub const PUSHES_BYTES_MAX: usize = 32 << 20;
/// Keys of one shard of whose writes one node wants to be told.
pub const TRACKED_KEYS_MAX: usize = 1_000_000;
/// Bytes of keys of which a node's clients keep copies, with who does: beyond, some are given up.
pub const TRACKED_BYTES_MAX: usize = 256 << 20;
/// Prefixes of keys that all clients of a node track.
pub const TRACKED_PREFIXES_MAX: usize = 4096;
/// Writes of clients that do not want to hear of their own, which a node remembers.
pub const TRACKED_WRITES_MAX: usize = 64 << 10;
/// Milliseconds that `WAIT` may wait; it is so long, too, that 0 stands for.
pub const WAIT_MS_MAX: u64 = 60_000;
/// Milliseconds that a leader is asked to wait for its followers at a time.
pub const WAIT_STEP_MS: u64 = 1_000;
/// Entries that the slow log keeps, whatever `slowlog-max-len` says.
pub const SLOWLOG_LEN_MAX: usize = 16 << 10;
/// Arguments of a command that the slow log keeps, and bytes of each.
pub const SLOWLOG_ARGS_MAX: usize = 32;
pub const SLOWLOG_ARG_BYTES_MAX: usize = 128;
/// Samples of each kind of event that `LATENCY` keeps.
pub const LATENCY_SAMPLES_MAX: usize = 160;
/// Kinds of errors that `INFO errorstats` tells apart.
pub const ERROR_KINDS_MAX: usize = 128;
/// Bytes of an error's first word by which it is counted; those with longer ones count as `ERR`.
pub const ERROR_KIND_BYTES_MAX: usize = 32;
/// Milliseconds that `DEBUG SLEEP` may sleep.
pub const DEBUG_SLEEP_MS_MAX: u64 = 60_000;
/// Keys that `DEBUG DIGEST` looks at.
pub const DEBUG_DIGEST_KEYS_MAX: usize = 1 << 20;
/// Connections of one node.
pub const CONNECTIONS_MAX: usize = 10_000;

const _: () = assert!(COMMAND_BYTES_MAX > BULK_BYTES_MAX + MEMCACHED_LINE_BYTES_MAX);
const _: () =
    assert!(MEMCACHED_GETS_BYTES_MAX <= LARGE_BYTES && MEMCACHED_LINE_BYTES_MAX < MEMCACHED_GETS_BYTES_MAX);
const _: () = assert!(DUMPED_BYTES_MAX >= BULK_BYTES_MAX + DUMPED_ELEMENT_BYTES);
const _: () = assert!(TXN_BYTES_MAX >= COMMAND_BYTES_MAX && REPLIES_BYTES_MAX > 2 * BULK_BYTES_MAX);
const _: () = assert!(TXN_BYTES_MAX + WATCHED_BYTES_MAX + WATCHED_KEYS_MAX * 32 < WORK_BYTES_MAX);
// Commands and conditions, and the keys of both once more; or all replies.
const _: () = assert!(2 * WORK_BYTES_MAX + BATCH_BYTES_MAX < ENTRY_BYTES_MAX);
const _: () = assert!(REPLIES_BYTES_MAX + BATCH_BYTES_MAX < ENTRY_BYTES_MAX);
const _: () = assert!(SNAPSHOT_FRAME_BYTES < FRAGMENT_BYTES);
const _: () = assert!(ENTRY_BYTES_MAX + APPEND_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(SNAPSHOT_FRAME_BYTES > SNAPSHOT_CHUNK_BYTES && SNAPSHOT_FRAME_BYTES < FRAME_BYTES_MAX);
const _: () = assert!(JOURNAL_SLACK_BYTES >= 2 * JOURNAL_SEGMENT_BYTES);
const _: () = assert!(JOURNAL_MEMORY_BYTES >= 2 * APPEND_BYTES_MAX);
const _: () = assert!(BURST_COMMANDS_MAX <= BATCH_REQUESTS_MAX);
