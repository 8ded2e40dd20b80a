//! Real clusters: three processes from `cluster-configs/three-nodes.toml`, on free ports and in a temporary directory,
//! that are killed with `kill -9`, die at failpoints, lose their disks and get wrong ones.
//!
//! Four clusters at a time: they mostly wait. `QUORATE_TEST_SECONDS` lengthens the bank.
//! A test that fails prints the ends of its nodes' logs.

#![expect(
    clippy::panic,
    reason = "a test fails by panicking; the message says more than an assertion would"
)]

#[path = "cluster/applications.rs"]
mod applications;
#[path = "cluster/bad_configs.rs"]
mod bad_configs;
#[path = "cluster/bad_starts.rs"]
mod bad_starts;
#[path = "cluster/bank.rs"]
mod bank;
#[path = "cluster/blocking.rs"]
mod blocking;
#[path = "cluster/digests.rs"]
mod digests;
#[path = "cluster/disk.rs"]
mod disk;
#[path = "cluster/events.rs"]
mod events;
#[path = "cluster/eviction.rs"]
mod eviction;
#[path = "cluster/exactly_once.rs"]
mod exactly_once;
#[path = "cluster/failpoints.rs"]
mod failpoints;
#[path = "cluster/functions.rs"]
mod functions;
#[path = "cluster/hibernation.rs"]
mod hibernation;
#[path = "cluster/jobs.rs"]
mod jobs;
#[path = "cluster/kill_all.rs"]
mod kill_all;
#[path = "cluster/large.rs"]
mod large;
#[path = "cluster/leading.rs"]
mod leading;
#[path = "cluster/nodes.rs"]
mod nodes;
#[path = "cluster/paused.rs"]
mod paused;
#[path = "cluster/power_loss.rs"]
mod power_loss;
#[path = "cluster/pubsub.rs"]
mod pubsub;
#[path = "cluster/quorum_reads.rs"]
mod quorum_reads;
#[path = "cluster/reads.rs"]
mod reads;
#[path = "cluster/refill.rs"]
mod refill;
#[path = "cluster/rereads.rs"]
mod rereads;
#[path = "cluster/scanning.rs"]
mod scanning;
#[path = "cluster/scripts.rs"]
mod scripts;
#[path = "cluster/server.rs"]
mod server;
#[path = "cluster/steer.rs"]
mod steer;
#[path = "cluster/streams.rs"]
mod streams;
#[path = "cluster/strict.rs"]
mod strict;
#[path = "cluster/tracking.rs"]
mod tracking;
#[path = "cluster/wait.rs"]
mod wait;
#[path = "cluster/wire.rs"]
mod wire;

use wait::{eventually, now, within};
