//! `quorate txn`: asks a node about transactions.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use quorate::base::limits::TXN_WAIT_MS_MAX;
use quorate::client::{Client, Frame, Options};
use serde_json::{Map, Value};

/// Beyond what the node itself may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Exit code where the outcome is not known yet.
const OPEN: u8 = 3;

/// Options of `quorate txn`.
#[derive(Debug, Args)]
pub struct TxnOptions {
    /// Client address of any node.
    #[arg(long, global = true, default_value = "127.0.0.1:7001")]
    node: String,
    /// Print what the node says as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show transactions under way, the oldest first.
    List,
    /// Show all that is known of one.
    Info { id: String },
    /// Say what became of one: committed, aborted or unknown-yet. One that no group knows is refused from now on.
    Status { id: String },
    /// Have one decided now, as far as its participants can be asked.
    Resolve { id: String },
    /// Wait until the outcome is known.
    Wait {
        id: String,
        /// How long, at the most.
        #[arg(long, default_value_t = 10_000)]
        ms: u64,
    },
}

/// Asks and shows. Exit code 1: a group or the node did not answer, or it refused; 3: the outcome is not known yet.
pub fn run(options: &TxnOptions) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("quorate: {e}");
            return ExitCode::FAILURE;
        }
    };
    let said = match runtime.block_on(ask(options)) {
        Ok(said) => said,
        Err(why) => {
            eprintln!("quorate: {}: {why}", options.node);
            return ExitCode::FAILURE;
        }
    };
    if options.json {
        println!("{said}");
    } else {
        match &said {
            Value::Array(rows) => print!("{}", table(rows)),
            Value::Object(fields) => print!("{}", lines(fields)),
            word => println!("{}", cell(word)),
        }
    }
    let rows = said.as_array().or_else(|| said["groups"].as_array());
    if rows.is_some_and(|rows| rows.iter().any(|row| row.get("error").is_some())) {
        ExitCode::FAILURE
    } else if said == "unknown-yet" {
        ExitCode::from(OPEN)
    } else {
        ExitCode::SUCCESS
    }
}

async fn ask(options: &TxnOptions) -> Result<Value, String> {
    let (words, wait) = match &options.what {
        What::List => (vec!["LIST".into()], 0),
        What::Info { id } => (vec!["INFO".into(), id.clone()], 0),
        What::Status { id } => (vec!["STATUS".into(), id.clone()], 0),
        What::Resolve { id } => (vec!["RESOLVE".into(), id.clone()], 0),
        What::Wait { id, ms } => (vec!["WAIT".into(), id.clone(), ms.to_string()], *ms),
    };
    let words: Vec<String> = std::iter::once("TXN".to_string()).chain(words).collect();
    let client = Options {
        timeout: PATIENCE + Duration::from_millis(wait.min(TXN_WAIT_MS_MAX)),
        ..Options::default()
    };
    let client = Client::connect_with(&[&options.node], client).await;
    let client = client.map_err(|e| e.to_string())?;
    let reply = client.command(&words, false).await.map_err(|e| e.to_string())?;
    Ok(value(reply))
}

fn value(frame: Frame) -> Value {
    let text = |data: &[u8]| Value::from(String::from_utf8_lossy(data).into_owned());
    match frame {
        Frame::Array { data, .. } => data.into_iter().map(value).collect(),
        Frame::Map { data, .. } => {
            let field = |(name, field)| (cell(&value(name)), value(field));
            Value::Object(data.into_iter().map(field).collect())
        }
        Frame::Number { data, .. } => Value::from(data),
        Frame::BlobString { data, .. } | Frame::SimpleString { data, .. } => text(&data),
        Frame::Null => Value::Null,
        other => Value::from(format!("{other:?}")),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        Value::Array(all) => all.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// What a transaction waits for stands below its line: it may be long.
fn table(rows: &[Value]) -> String {
    let mut out = vec![format!(
        "{:<36} {:<10} {:>9}  {:<15} {}",
        "id", "state", "age ms", "coordinator", "participants"
    )];
    for row in rows {
        if let Some(group) = row.get("group") {
            let why = row.get("error").map(cell);
            let more = || format!("{} more are not shown", cell(&row["left-out"]));
            out.push(format!("{}: {}", cell(group), why.unwrap_or_else(more)));
            continue;
        }
        out.push(format!(
            "{:<36} {:<10} {:>9}  {:<15} {}",
            cell(&row["id"]),
            cell(&row["state"]),
            cell(&row["age-ms"]),
            cell(&row["coordinator"]),
            cell(&row["participants"]),
        ));
        for wait in row["waits-for"].as_array().into_iter().flatten() {
            out.push(format!("    waits for {}", cell(wait)));
        }
    }
    out.join("\n") + "\n"
}

fn lines(fields: &Map<String, Value>) -> String {
    let mut out = vec![format!("{}  {}", cell(&fields["id"]), cell(&fields["outcome"]))];
    for row in fields["groups"].as_array().into_iter().flatten() {
        if let Some(why) = row.get("error") {
            out.push(format!("{}: {}", cell(&row["group"]), cell(why)));
            continue;
        }
        out.push(format!(
            "{}: {}  attempt {}  age {} ms  deadline {}  coordinator {}  participants {}",
            cell(&row["group"]),
            cell(&row["state"]),
            cell(&row["attempt"]),
            cell(&row["age-ms"]),
            cell(&row["deadline"]),
            cell(&row["coordinator"]),
            cell(&row["participants"]),
        ));
        for wait in row["waits-for"].as_array().into_iter().flatten() {
            out.push(format!("    waits for {}", cell(wait)));
        }
    }
    out.join("\n") + "\n"
}
