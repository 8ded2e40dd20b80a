//! `quorate dev` and `quorate server`: start nodes, say when they are ready, wait for the end.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use quorate::cluster::Env;
use quorate::config::{Config, ConfigError};
use quorate::gateway::{Server, ServerOptions};
use quorate::host::{Clock, system_clock};
use tokio::signal::unix::{SignalKind, signal};

use super::clock;

/// How often ended nodes are looked for.
const WATCH: Duration = Duration::from_millis(200);

fn bad_config(error: &ConfigError) -> ExitCode {
    eprintln!("quorate: {error}");
    ExitCode::from(2)
}

pub fn dev(options: &super::DevOptions) -> ExitCode {
    let dir = &options.data_dir;
    if options.fresh
        && let Err(e) = remove(dir)
    {
        eprintln!("quorate: cannot clear {}: {e}", dir.display());
        return ExitCode::FAILURE;
    }
    match Config::dev(options.nodes, options.shards, options.base_port, dir.clone()) {
        Ok(config) => {
            let nodes: Vec<u64> = config.nodes.iter().map(|node| node.id).collect();
            run(config, &nodes, None, &system_clock())
        }
        Err(error) => bad_config(&error),
    }
}

/// Removes what nodes have written, and nothing else that may lie there.
fn remove(dir: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("node-") && entry.path().join("store").is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

pub fn server(options: &super::ServerOptions) -> ExitCode {
    let config = match Config::load(&options.config) {
        Ok(config) => config,
        Err(error) => return bad_config(&error),
    };
    if let Err(mut error) = config.node(options.node) {
        error.file = options.config.display().to_string();
        return bad_config(&error);
    }
    let clock = match options.clock_offset_file.as_deref().map(clock::with_offset) {
        None => system_clock(),
        Some(Ok(clock)) => clock,
        Some(Err(why)) => {
            eprintln!("quorate: --clock-offset-file: {why}");
            return ExitCode::from(2);
        }
    };
    run(config, &[options.node], options.data_dir.as_deref(), &clock)
}

fn run(config: Config, ids: &[u64], own_dir: Option<&Path>, clock: &Clock) -> ExitCode {
    let config = Arc::new(config);
    let mut servers = Vec::new();
    for &node in ids {
        let dir = own_dir.map_or_else(
            || config.cluster.data_dir.join(format!("node-{node}")),
            Path::to_path_buf,
        );
        match Server::start(ServerOptions {
            config: Arc::clone(&config),
            node,
            env: Env {
                clock: Arc::clone(clock),
                ..Env::real(&dir)
            },
        }) {
            Ok(server) => servers.push(server),
            Err(error) => {
                eprintln!("quorate: node {node}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("quorate: {e}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(wait(&config, &servers));
    let mut code = ExitCode::SUCCESS;
    if let Err(e) = ended {
        eprintln!("quorate: {e}");
        code = ExitCode::FAILURE;
    }
    // All at once: a node that is left alone would wait for its peers.
    let stopping: Vec<_> = servers
        .into_iter()
        .map(|server| (server.id(), std::thread::spawn(move || server.stop())))
        .collect();
    for (node, stopped) in stopping {
        if let Ok(Err(error)) = stopped.join() {
            eprintln!("quorate: node {node}: {error}");
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Says when all is ready; returns at a signal, or when a node has ended by itself.
async fn wait(config: &Config, servers: &[Server]) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let ready = async {
        for server in servers {
            // An error means that the node has ended, which is noticed below.
            let _ = server.ready().wait_for(|&ready| ready).await;
        }
        let mine = |id: u64| servers.iter().any(|server| server.id() == id);
        let nodes = config.nodes.iter().filter(|node| mine(node.id));
        let clients: Vec<String> = nodes.map(|node| node.client.to_string()).collect();
        let shards = config.cluster.shards;
        println!(
            "ready: {} serve Redis clients ({shards} shards); Ctrl-C stops",
            clients.join(" ")
        );
        std::future::pending::<()>().await;
    };
    let ended = async {
        while !servers.iter().any(Server::has_ended) {
            tokio::time::sleep(WATCH).await;
        }
    };
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("interrupted: stopping"),
        _ = terminate.recv() => tracing::info!("terminated: stopping"),
        () = ended => {}
        () = ready => {}
    }
    Ok(())
}
