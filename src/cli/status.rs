//! `quorate status`: asks every node of a cluster and shows what they say side by side.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use quorate::client::Client;
use quorate::config::Config;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(2);

/// Options of `quorate status`.
#[derive(Debug, Args)]
pub struct StatusOptions {
    /// The cluster's config file; without it, the addresses below are asked.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Client addresses of nodes.
    #[arg(default_values_t = ["127.0.0.1:7001".to_string(), "127.0.0.1:7002".into(), "127.0.0.1:7003".into()])]
    nodes: Vec<String>,
    /// Print what the nodes say as JSON, one object a node.
    #[arg(long)]
    json: bool,
}

/// Shows the cluster. Exit code 1 if a node does not answer or a group has no leader.
pub fn run(options: &StatusOptions) -> ExitCode {
    let addresses = match &options.config {
        None => options.nodes.clone(),
        Some(path) => match Config::load(path) {
            Ok(config) => config.nodes.iter().map(|node| node.client.to_string()).collect(),
            Err(error) => {
                eprintln!("quorate: {error}");
                return ExitCode::from(2);
            }
        },
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("quorate: {e}");
            return ExitCode::FAILURE;
        }
    };
    let asked = addresses
        .iter()
        .map(|address| async move { (address.clone(), ask(address).await) });
    let answers = runtime.block_on(futures::future::join_all(asked));
    if options.json {
        for status in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()) {
            println!("{status}");
        }
    } else {
        print!("{}", table(&answers));
    }
    let healthy = answers.iter().all(|(_, answer)| answer.is_ok()) && leaderless(&answers).is_empty();
    if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn ask(address: &str) -> Result<Value, String> {
    let asking = async {
        let client = Client::connect(&[address]).await.map_err(|e| e.to_string())?;
        let json = client.status().await.map_err(|e| e.to_string())?;
        serde_json::from_str(&json).map_err(|e| e.to_string())
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .map_err(|_| "no answer".to_string())?
}

type Answers = [(String, Result<Value, String>)];

/// What each group's replicas say: (group, term, leader) → node's indexes.
fn groups(answers: &Answers) -> BTreeMap<String, Vec<(u64, &Value)>> {
    let mut groups: BTreeMap<String, Vec<(u64, &Value)>> = BTreeMap::new();
    for status in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()) {
        let node = status["node"].as_u64().unwrap_or(0);
        for group in status["groups"].as_array().into_iter().flatten() {
            let name = group["group"].as_str().unwrap_or("?").to_string();
            groups.entry(name).or_default().push((node, group));
        }
    }
    groups
}

fn leaderless(answers: &Answers) -> Vec<String> {
    let without = |replicas: &[(u64, &Value)]| replicas.iter().all(|(_, group)| group["leader"].is_null());
    groups(answers)
        .into_iter()
        .filter(|(_, replicas)| without(replicas))
        .map(|(name, _)| name)
        .collect()
}

fn table(answers: &Answers) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    for (address, answer) in answers {
        match answer {
            Ok(status) => line(format!(
                "node {}  {address}  version {}  cluster {}  linked to {}{}",
                status["node"],
                status["version"].as_str().unwrap_or("?"),
                status["cluster_id"].as_str().unwrap_or("?"),
                status["connected"],
                if status["refilling"] == true {
                    "  REFILLING"
                } else {
                    ""
                },
            )),
            Err(why) => line(format!("node ?  {address}  {why}")),
        }
    }
    line(String::new());
    line(format!(
        "{:<16} {:>6} {:>6}  {}",
        "group", "leader", "term", "replicas: node role applied/committed/last"
    ));
    for (name, replicas) in groups(answers) {
        let leader = replicas.iter().find_map(|(_, group)| group["leader"].as_u64());
        let term = replicas
            .iter()
            .filter_map(|(_, group)| group["term"].as_u64())
            .max()
            .unwrap_or(0);
        let leader = leader.map_or_else(|| "none".to_string(), |leader| leader.to_string());
        let each: Vec<String> = replicas
            .iter()
            .map(|(node, group)| {
                let role = group["role"].as_str().unwrap_or("?");
                let asleep = if group["asleep"] == true { " asleep" } else { "" };
                format!(
                    "{node} {role}{asleep} {}/{}/{}",
                    group["applied"], group["committed"], group["last_log"]
                )
            })
            .collect();
        line(format!("{name:<16} {leader:>6} {term:>6}  {}", each.join(" · ")));
    }
    if let Some(status) = answers.iter().find_map(|(_, answer)| answer.as_ref().ok()) {
        line(String::new());
        line(format!(
            "{:<16} {:>6} {:>8} {:>10}",
            "shard", "slots", "share", "keys"
        ));
        for share in status["ring"].as_array().into_iter().flatten() {
            let percent = share["share"].as_f64().unwrap_or(0.0);
            let keys = share["keys"]
                .as_u64()
                .map_or_else(|| "-".to_string(), |keys| keys.to_string());
            line(format!(
                "shard-{:<10} {:>6} {percent:>7.2}% {keys:>10}",
                share["shard"], share["slots"]
            ));
        }
    }
    out
}
