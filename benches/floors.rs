//! What one step of each floor costs, without network or Raft: `cargo bench`, or `cargo bench -- apply` for some.
//!
//! Numbers of whole clusters come from `quorate bench`.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate::base::{GroupId, Reply, RequestId, codec};
use quorate::machine::{
    Batch, Body, Command, Machine, Mode, Origin, Read, Request, Vote, commands, scope_of,
};
use quorate::resp::{Protocol, RequestReader, encode};
use quorate::ring::Ring;
use quorate::storage::{Directory, Journal, Record, Store};
use quorate::txn::{Coordinator, Effect, Part, Txn};

const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 100;

/// Keys in an order without a pattern: an LCG (Knuth's constants) is enough for that.
struct Keys(u64);

impl Keys {
    fn next(&mut self) -> Bytes {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Bytes::from(format!("key:{:012}", (self.0 >> 33) % KEYS))
    }
}

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn parse(words: &[Bytes]) -> Command {
    let spec = commands::find(&words[0]).expect("a command");
    commands::parse(spec, &words[1..]).expect("it parses")
}

fn set(key: Bytes) -> Command {
    parse(&[
        Bytes::from_static(b"SET"),
        key,
        Bytes::from(vec![b'v'; VALUE_BYTES]),
    ])
}

fn run(seq: u64, command: Command) -> Request {
    Request {
        id: Some(RequestId { session: 1, seq }),
        below: seq,
        deadline: u64::MAX,
        body: Body::Run {
            commands: vec![command],
            conditions: Vec::new(),
            mode: Mode::Each,
        },
    }
}

fn batch(index: u64, requests: Vec<Request>) -> Batch {
    Batch {
        origin: Origin {
            node: 1,
            nonce: index,
        },
        time: index,
        seed: index,
        requests,
    }
}

/// A shard that holds all keys, and how far its log has come.
fn filled() -> (Machine, u64) {
    let mut machine = Machine::new(GroupId::Shard(0));
    for n in 0..KEYS {
        let key = Bytes::from(format!("key:{n:012}"));
        black_box(machine.apply(n + 1, batch(n + 1, vec![run(n + 1, set(key))])));
    }
    (machine, KEYS)
}

fn machine(c: &mut Criterion) {
    let (mut machine, mut index) = filled();
    let mut keys = Keys(1);
    let mut group = c.benchmark_group("apply");
    for size in [1, 16, 64] {
        group.throughput(Throughput::Elements(size));
        let mut next = |index: &mut u64| {
            let requests = (0..size)
                .map(|at| run(*index * 64 + at, set(keys.next())))
                .collect();
            *index += 1;
            codec::encode(&batch(*index, requests)).expect("it encodes")
        };
        // As a replica does it: from the bytes of the log entry.
        group.bench_function(BenchmarkId::new("SET", size), |b| {
            b.iter_batched(
                || {
                    let entry = next(&mut index);
                    (index, entry)
                },
                |(index, entry)| machine.apply(index, codec::decode(&entry).expect("it decodes")),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    let read = |key| Read::Run {
        commands: vec![Command::Get { key }],
        conditions: Vec::new(),
        seed: 1,
        versions: false,
        misses: false,
    };
    c.bench_function("read/GET", |b| {
        b.iter_batched(
            || read(keys.next()),
            |read| machine.read(&read, 1, index),
            BatchSize::SmallInput,
        );
    });
}

fn ring(c: &mut Criterion) {
    let ring = Ring::new(1, 64, 3072);
    let mut keys = Keys(1);
    c.bench_function("ring/shard_of", |b| {
        b.iter_batched(|| keys.next(), |key| ring.shard_of(&key), BatchSize::SmallInput);
    });
}

fn resp(c: &mut Criterion) {
    let mut group = c.benchmark_group("resp");
    let one = format!(
        "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n${VALUE_BYTES}\r\n{}\r\n",
        "v".repeat(VALUE_BYTES)
    );
    for pipeline in [1, 16] {
        let bytes = one.repeat(pipeline);
        group.throughput(Throughput::Elements(pipeline as u64));
        group.bench_function(BenchmarkId::new("decode+parse SET", pipeline), |b| {
            b.iter_batched(
                || (RequestReader::default(), BytesMut::from(bytes.as_str())),
                |(mut reader, mut buffer)| {
                    while let Some(words) = reader.next(&mut buffer).expect("it is well formed") {
                        black_box(parse(&words));
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    let reply = Reply::Bulk(Bytes::from(vec![b'v'; VALUE_BYTES]));
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode bulk", |b| {
        let mut out = BytesMut::with_capacity(1 << 10);
        b.iter(|| {
            out.clear();
            encode(black_box(&reply), Protocol::Resp2, &mut out).expect("it encodes");
        });
    });
    group.finish();
}

/// Until it is on disk, so this is mostly the disk's.
fn journal(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let directory = Directory::open(dir.path()).expect("it opens");
    let store = Store::open(Arc::new(directory)).expect("a store");
    let journal = Journal::open(store).expect("a journal");
    let entry = Bytes::from(vec![b'e'; 2 * VALUE_BYTES]);
    let mut first = 1;
    let mut group = c.benchmark_group("journal");
    for writers in [1, 16] {
        group.throughput(Throughput::Elements(writers));
        group.bench_function(BenchmarkId::new("append, synced", writers), |b| {
            b.iter(|| {
                let (done, synced) = mpsc::sync_channel(writers as usize);
                for _ in 0..writers {
                    let record = Record::Append {
                        group: 1,
                        first,
                        entries: vec![entry.clone()],
                    };
                    first += 1;
                    let done = done.clone();
                    let told = Box::new(move |result| drop(done.send(result)));
                    journal.append(vec![record], Some(told)).expect("it is taken");
                }
                for _ in 0..writers {
                    let result: std::io::Result<()> = synced.recv().expect("it is told");
                    result.expect("it is synced");
                }
            });
        });
    }
    group.finish();
}

/// Whatever the coordinator wants done is done at once, and all agree.
fn agree(coordinator: &mut Coordinator, now: u64, mut wanted: Vec<Effect>) {
    while let Some(effect) = wanted.pop() {
        wanted.extend(match effect {
            Effect::Prepare { shard, prepare } => {
                let vote = Vote::Yes(vec![Reply::ok()]);
                coordinator.vote(prepare.attempt, shard, vote, now)
            }
            Effect::Stage { stage, .. } => coordinator.staged(stage.staged.attempt, &stage.staged, now),
            Effect::Finish { shard, finish } => coordinator.told(finish.attempt, shard),
            Effect::Decide { decide, .. } => coordinator.decided(decide.txn, &decide.decision, now),
            other => {
                black_box(other);
                Vec::new()
            }
        });
    }
}

/// A transaction over two shards at its coordinator, from its beginning to its record: all but messages and logs.
fn txn(c: &mut Criterion) {
    let mut coordinator = Coordinator::new(GroupId::Coordinator(0), 1);
    let mut keys = Keys(1);
    let mut seq = 0;
    let mut begin = || {
        seq += 1;
        let part = |shard, commands: Vec<Command>| Part {
            shard: GroupId::Shard(shard),
            scope: scope_of(&commands, &[]),
            conditions: Vec::new(),
            commands,
        };
        Txn {
            id: RequestId { session: 1, seq },
            below: seq,
            started: seq,
            deadline: u64::MAX,
            parts: vec![part(0, vec![set(keys.next())]), part(1, vec![set(keys.next())])],
            strict: false,
        }
    };
    c.bench_function("txn/2 shards", |b| {
        b.iter_batched(
            &mut begin,
            |txn| {
                let now = txn.started;
                let wanted = coordinator.begin(txn, now);
                agree(&mut coordinator, now, wanted);
                // A leader's clock ticks once for many transactions.
                if now % 64 == 0 {
                    let wanted = coordinator.tick(now);
                    agree(&mut coordinator, now, wanted);
                }
            },
            BatchSize::SmallInput,
        );
    });
    assert_eq!(coordinator.active(), 0, "all have ended");
}

criterion_group! {
    name = floors;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = machine, ring, resp, journal, txn
}
criterion_main!(floors);
