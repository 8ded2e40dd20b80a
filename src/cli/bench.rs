//! `quorate bench`: closed-loop load over RESP, on any server that speaks it.
//!
//! Every client sends a pipeline, waits for all its replies, and sends the next; latency is that of the pipeline.

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;

/// Options of `quorate bench`.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// Addresses; clients are spread over them.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:7001")]
    addr: Vec<String>,
    /// What to measure, one after another.
    #[arg(
        short = 't',
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "set,get"
    )]
    tests: Vec<Work>,
    /// Connections.
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Commands (or transactions) sent before replies are awaited.
    #[arg(short = 'P', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pipeline: u32,
    /// Keys that are chosen from, evenly.
    #[arg(short, long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Bytes of a value.
    #[arg(short = 'd', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=8_388_608))]
    value_size: u32,
    /// Seconds that each test is measured, after one second that is not.
    #[arg(short = 's', long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Print one JSON object a test instead of the table.
    #[arg(long)]
    json: bool,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    Ping,
    Set,
    /// SET of a key that expires in an hour.
    Setex,
    Get,
    Incr,
    /// MSET of 4 keys.
    Mset,
    /// MULTI, SET of 2 keys, EXEC.
    Exec2,
    /// MULTI, SET of 4 keys, EXEC.
    Exec4,
    /// MULTI, SET of 2 keys of one hash tag, EXEC.
    Exec1shard,
}

impl Work {
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// Replies to one round of this.
    fn replies(self) -> usize {
        match self {
            Work::Exec2 | Work::Exec1shard => 4,
            Work::Exec4 => 6,
            _ => 1,
        }
    }
}

struct Outcome {
    latency: Histogram<u64>,
    rounds: u64,
    errors: u64,
    first_error: Option<String>,
}

const WARM_UP: Duration = Duration::from_secs(1);

/// Runs the tests. Exit code 1 if the server cannot be reached or answered with errors.
pub fn run(options: &BenchOptions) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("quorate: {e}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = false;
    if !options.json {
        println!(
            "{:<10} {:>7} {:>4} {:>12} {:>9} {:>9} {:>9} {:>9} {:>7}",
            "test", "clients", "pipe", "per second", "p50 µs", "p99 µs", "p99.9 µs", "max µs", "errors"
        );
    }
    for &work in &options.tests {
        match runtime.block_on(LocalSet::new().run_until(measure(options, work))) {
            Ok(outcome) => {
                failed |= outcome.errors > 0;
                report(options, work, &outcome);
            }
            Err(why) => {
                eprintln!("quorate: {}: {why}", work.name());
                failed = true;
            }
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn report(options: &BenchOptions, work: Work, outcome: &Outcome) {
    let rate = outcome.rounds as f64 / options.seconds as f64;
    let at = |quantile: f64| outcome.latency.value_at_quantile(quantile);
    let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), outcome.latency.max());
    if options.json {
        let line = serde_json::json!({
            "test": work.name(), "clients": options.clients, "pipeline": options.pipeline, "keys": options.keys,
            "value_size": options.value_size, "seconds": options.seconds, "per_second": rate.round(),
            "p50_us": p50, "p99_us": p99, "p999_us": p999, "max_us": max, "errors": outcome.errors,
        });
        println!("{line}");
    } else {
        let (name, clients, pipeline, errors) =
            (work.name(), options.clients, options.pipeline, outcome.errors);
        println!(
            "{name:<10} {clients:>7} {pipeline:>4} {rate:>12.0} {p50:>9} {p99:>9} {p999:>9} {max:>9} {errors:>7}"
        );
    }
    if let Some(error) = &outcome.first_error {
        eprintln!("quorate: first error: {error}");
    }
}

async fn measure(options: &BenchOptions, work: Work) -> Result<Outcome, String> {
    let value: Rc<[u8]> = vec![b'x'; options.value_size as usize].into();
    let start = Instant::now() + WARM_UP;
    let end = start + Duration::from_secs(options.seconds);
    let mut clients = Vec::new();
    for i in 0..options.clients as usize {
        let address = options.addr[i % options.addr.len()].clone();
        let stream = TcpStream::connect(&address)
            .await
            .map_err(|e| format!("{address}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let client = Client {
            work,
            pipeline: options.pipeline as usize,
            keys: options.keys,
            value: Rc::clone(&value),
            random: (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        };
        clients.push(tokio::task::spawn_local(client.run(stream, start, end)));
    }
    let bar = progress(options, work);
    while Instant::now() < end && !bar.is_finished() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let done = Instant::now().saturating_duration_since(start);
        bar.set_position(done.as_secs().min(options.seconds));
    }
    bar.finish_and_clear();
    let mut total = Outcome {
        latency: histogram(),
        rounds: 0,
        errors: 0,
        first_error: None,
    };
    for client in clients {
        let outcome = client.await.map_err(|e| e.to_string())??;
        total.latency.add(&outcome.latency).map_err(|e| e.to_string())?;
        total.rounds += outcome.rounds;
        total.errors += outcome.errors;
        total.first_error = total.first_error.or(outcome.first_error);
    }
    Ok(total)
}

fn progress(options: &BenchOptions, work: Work) -> ProgressBar {
    if options.json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(options.seconds).with_message(work.name());
    match ProgressStyle::with_template("{msg:10} [{bar:40}] {pos}/{len} s") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn histogram() -> Histogram<u64> {
    // Three digits, microseconds, growing as needed: these parameters are always valid.
    Histogram::new(3).unwrap_or_else(|_| unreachable!("3 significant digits are valid"))
}

struct Client {
    work: Work,
    pipeline: usize,
    keys: u64,
    value: Rc<[u8]>,
    random: u64,
}

impl Client {
    async fn run(mut self, mut stream: TcpStream, start: Instant, end: Instant) -> Result<Outcome, String> {
        let mut outcome = Outcome {
            latency: histogram(),
            rounds: 0,
            errors: 0,
            first_error: None,
        };
        let (mut out, mut input) = (BytesMut::new(), BytesMut::new());
        loop {
            let begun = Instant::now();
            if begun >= end {
                return Ok(outcome);
            }
            out.clear();
            for _ in 0..self.pipeline {
                self.round(&mut out);
            }
            stream.write_all(&out).await.map_err(|e| e.to_string())?;
            let mut left = self.pipeline * self.work.replies();
            while left > 0 {
                match decode_bytes_mut(&mut input) {
                    Ok(Some((frame, _, _))) => {
                        left -= 1;
                        if let BytesFrame::Error(text) = frame {
                            outcome.errors += 1;
                            outcome.first_error.get_or_insert(text.to_string());
                        }
                    }
                    Ok(None) => {
                        if stream.read_buf(&mut input).await.map_err(|e| e.to_string())? == 0 {
                            return Err("the server closed the connection".into());
                        }
                    }
                    Err(e) => return Err(e.to_string()),
                }
            }
            if begun >= start {
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                outcome.latency.record(micros).map_err(|e| e.to_string())?;
                outcome.rounds += self.pipeline as u64;
            }
        }
    }

    fn key(&mut self) -> u64 {
        // xorshift64 (Marsaglia, 2003): cheap, and good enough to choose keys.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % self.keys
    }

    fn round(&mut self, out: &mut BytesMut) {
        let value = Rc::clone(&self.value);
        let name = |n: u64| format!("key:{n:012}");
        match self.work {
            Work::Ping => request(out, &[b"PING"]),
            Work::Get => request(out, &[b"GET", name(self.key()).as_bytes()]),
            Work::Set => request(out, &[b"SET", name(self.key()).as_bytes(), &value]),
            Work::Setex => {
                let key = name(self.key());
                request(out, &[b"SET", key.as_bytes(), &value, b"EX", b"3600"]);
            }
            Work::Incr => request(out, &[b"INCR", format!("counter:{:012}", self.key()).as_bytes()]),
            Work::Mset => {
                let keys: Vec<String> = (0..4).map(|_| name(self.key())).collect();
                let mut args: Vec<&[u8]> = vec![b"MSET"];
                for key in &keys {
                    args.extend([key.as_bytes(), &value]);
                }
                request(out, &args);
            }
            Work::Exec2 | Work::Exec4 | Work::Exec1shard => {
                let count = if self.work == Work::Exec4 { 4 } else { 2 };
                let tag = self.key();
                request(out, &[b"MULTI"]);
                for i in 0..count {
                    let key = if self.work == Work::Exec1shard {
                        format!("{{{tag}}}:{i}")
                    } else {
                        name(self.key())
                    };
                    request(out, &[b"SET", key.as_bytes(), &value]);
                }
                request(out, &[b"EXEC"]);
            }
        }
    }
}

fn request(out: &mut BytesMut, args: &[&[u8]]) {
    out.put_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.put_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.put_slice(arg);
        out.put_slice(b"\r\n");
    }
}
