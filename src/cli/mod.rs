//! Floor 7: the command line. No logic of the cluster lives here.

mod bench;
mod clock;
mod run;
mod status;
mod txn;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Quorate: a Raft-replicated, transactional key-value cache that any Redis client can use.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Start with `quorate dev`, then `redis-cli -p 7001`."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogOptions,
}

#[derive(Debug, Clone, Args)]
struct LogOptions {
    /// What to log: error, warn, info, debug, trace, or a filter such as `quorate::raft=debug`.
    #[arg(
        long,
        global = true,
        env = "QUORATE_LOG",
        default_value = "warn,openraft=off,quorate=info"
    )]
    log: String,
    /// How to write the log (to standard error).
    #[arg(long, global = true, env = "QUORATE_LOG_FORMAT", default_value = "human")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster in this process, for development. Data is kept.
    Dev(DevOptions),
    /// Run one node of a cluster that a config file describes.
    Server(ServerOptions),
    /// Show nodes, groups, leaders and the ring.
    Status(status::StatusOptions),
    /// Show transactions under way, tell what became of one, have one decided.
    Txn(txn::TxnOptions),
    /// Put load on a server that speaks RESP, and measure it.
    Bench(bench::BenchOptions),
}

#[derive(Debug, Args)]
struct DevOptions {
    /// Client ports are this, this + 1, …; peer ports from + 100; admin ports from + 200; memcached clients' from + 300.
    #[arg(long, default_value_t = 7001)]
    base_port: u16,
    /// Where the nodes keep their data.
    #[arg(long, default_value = "./quorate-data")]
    data_dir: PathBuf,
    /// Nodes; from 3 on every group has 3 replicas, below that 1.
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// Shards; fixed once there is data.
    #[arg(long, default_value_t = 4)]
    shards: u16,
    /// Throw away what earlier runs left in the data directory.
    #[arg(long)]
    fresh: bool,
}

#[derive(Debug, Args)]
struct ServerOptions {
    /// The cluster's config file; see cluster-configs/.
    #[arg(long)]
    config: PathBuf,
    /// Which of its nodes to run.
    #[arg(long)]
    node: u64,
    /// This node's own data directory, instead of `<data_dir>/node-<id>` from the config.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Test builds only: a file with the milliseconds to add to this node's clock, read again at every change.
    #[arg(long, hide = true)]
    clock_offset_file: Option<PathBuf>,
}

/// Parses the arguments and does what they say. Exit code 2: bad arguments or config; 1: it went wrong.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(why) = start_log(&cli.log) {
        eprintln!("quorate: --log: {why}");
        return ExitCode::from(2);
    }
    quorate::host::use_small_pages();
    match cli.command {
        Command::Dev(options) => run::dev(&options),
        Command::Server(options) => run::server(&options),
        Command::Status(options) => status::run(&options),
        Command::Txn(options) => txn::run(&options),
        Command::Bench(options) => bench::run(&options),
    }
}

fn start_log(options: &LogOptions) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(&options.log).map_err(|e| e.to_string())?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Human => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
