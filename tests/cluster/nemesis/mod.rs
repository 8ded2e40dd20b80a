//! Real faults on real processes under load, and a judgement of everything that clients saw.
//!
//! A run is a row of epochs. In each, clients work on keys of their own while the faults come in turn; after each fault
//! the load is held for a moment, everything in the air must come to its end within [`RESOLVE`], and the load goes on.
//! At an epoch's end all keys are read once more and the histories are checked.
//!
//! Not here: disks that fail or lose writes (`power_loss.rs`), nodes that lie, more nodes than three.

mod bank;
mod counters;
mod epoch;
mod expiry;
mod faults;
mod judge;
mod lists;
mod network;
mod options;
mod probes;
mod registers;
mod report;
mod unknowns;
mod world;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::SeedableRng;
use rand::rngs::StdRng;

use self::faults::Patient;
use self::network::Network;
use self::options::{Kind, Options};
use self::report::Report;
use crate::nodes::{Launch, NODES, Nodes};
use crate::wait::now;

/// How long after quorum anything may stay undecided: a transaction, a lock, an unknown outcome, a client's request.
pub const RESOLVE: Duration = Duration::from_secs(5);

/// The whole program.
pub fn main() -> ExitCode {
    let mut options = match Options::parse(std::env::args().skip(1), some_seed()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("nemesis: test");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("nemesis: {why}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    if options.kinds.contains(&Kind::Partition) && !network::is_inside() {
        match network::hindrance() {
            None => {
                eprintln!("nemesis: {}", network::move_inside());
                return ExitCode::FAILURE;
            }
            Some(why) if options.kinds_named => {
                eprintln!("nemesis: partitions need root and network namespaces: {why}");
                return ExitCode::FAILURE;
            }
            Some(why) => {
                println!("no partitions: they need root and network namespaces ({why})");
                options.kinds.retain(|kind| *kind != Kind::Partition);
            }
        }
    }
    run(&options)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a seed that nobody gave; it is printed, and can be given"
)]
fn some_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs() % 1_000_000
}

fn run(options: &Options) -> ExitCode {
    let kinds: Vec<&str> = options.kinds.iter().map(|kind| kind.name()).collect();
    println!(
        "seed {}, {:?} of {}",
        options.seed,
        options.duration,
        kinds.join(", ")
    );
    let network = options.kinds.contains(&Kind::Partition).then(Network::build);
    let mut patient = start(network, options.seed);
    let (begun, mut report) = (now(), Report::default());
    let mut number = 0;
    while number == 0 || begun.elapsed() < options.duration {
        number += 1;
        let left = options.duration.saturating_sub(begun.elapsed());
        let findings = epoch::run(&mut patient, options, number, left, &mut report);
        if !findings.is_empty() {
            println!("{report}");
            println!("FAILED in epoch {number}, seed {}:", options.seed);
            for finding in findings {
                println!("- {finding}");
            }
            keep_logs(&patient.nodes);
            return ExitCode::FAILURE;
        }
    }
    println!("{report}");
    let rate = report.rate();
    if rate < options.min_rate {
        println!(
            "FAILED: {rate:.0} transactions a second between faults, not {:.0}",
            options.min_rate
        );
        return ExitCode::FAILURE;
    }
    println!("nemesis: ok");
    ExitCode::SUCCESS
}

/// What makes a node die with this process, however that ends; nothing where there is no `setpriv`.
fn dying_with_us() -> Vec<String> {
    let words = ["setpriv", "--pdeathsig", "KILL"];
    let tried = Command::new(words[0]).args(&words[1..]).arg("true").output();
    match tried {
        Ok(output) if output.status.success() => words.map(String::from).to_vec(),
        _ => Vec::new(),
    }
}

fn keep_logs(nodes: &Nodes) {
    for node in NODES {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nemesis-node-{node}.log"));
        match fs::write(&file, nodes.said(node)) {
            Ok(()) => println!("- node {node} said {}", file.display()),
            Err(e) => println!("- what node {node} said cannot be kept: {e}"),
        }
    }
}

/// A cluster that is ready. Gateways give up early, so that clients hear of unknown outcomes while faults last.
fn start(network: Option<Network>, seed: u64) -> Patient {
    let mut nodes = Nodes::prepare(|text| {
        let text = text
            .replace("# request_ms = 10000", "request_ms = 3000")
            .replace("# txn_ms = 5000", "txn_ms = 2000");
        if network.is_some() {
            Network::move_config(&text)
        } else {
            text
        }
    });
    assert_eq!(
        (nodes.config.timeouts.request_ms, nodes.config.timeouts.txn_ms),
        (3000, 2000),
        "the shipped config has other defaults"
    );
    for node in NODES {
        faults::set_clock(&nodes, node, 0);
        let file = faults::clock_file(&nodes, node).display().to_string();
        let mut inside = dying_with_us();
        inside.extend(network.iter().flat_map(|network| network.inside(node)));
        let launch = Launch {
            inside,
            args: vec!["--clock-offset-file".into(), file],
            env: std::env::var("NEMESIS_LOG")
                .into_iter()
                .map(|log| ("QUORATE_LOG".into(), log))
                .collect(),
        };
        nodes.launches.insert(node, launch);
    }
    nodes.start_all();
    let mut patient = Patient::new(nodes, network, StdRng::seed_from_u64(seed));
    let listening: Vec<_> = NODES.map(|node| (node, patient.nodes.address(node))).to_vec();
    if let Some(network) = &mut patient.network {
        network.check(&listening);
    }
    patient
}
