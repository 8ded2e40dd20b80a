//! `FUNCTION`: libraries of functions.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::client::{arity, text};
use crate::base::limits::{FUNCTIONS_BYTES_MAX, FUNCTIONS_RESTORE_MS_MAX};
use crate::base::{Error, Reply};
use crate::cluster::Node;
use crate::machine::glob;
use crate::machine::{Function, FunctionChange, Library, RestorePolicy, dumped_codes, too_much};
use crate::script;

/// What fails with a reply, however it fails.
type Answer = Result<Reply, Reply>;

/// Subcommands: their least and most arguments.
const SUBCOMMANDS: &[(&str, usize, usize)] = &[
    ("load", 1, usize::MAX),
    ("delete", 1, 1),
    ("list", 0, usize::MAX),
    ("dump", 0, 0),
    ("restore", 1, usize::MAX),
    ("flush", 0, usize::MAX),
    ("kill", 0, 0),
    ("stats", 0, 0),
    ("help", 0, 0),
];

/// `FUNCTION LOAD [REPLACE] code | DELETE name | LIST … | DUMP | RESTORE bytes [policy] | FLUSH [ASYNC|SYNC] | KILL | STATS | HELP`.
pub async fn function(node: &Node, args: &[Bytes]) -> Reply {
    let (sub, rest) = (text(&args[0].to_ascii_lowercase()), &args[1..]);
    let known = SUBCOMMANDS.iter().find(|(name, ..)| *name == sub);
    let Some(&(_, least, most)) = known else {
        return Reply::err(format!(
            "ERR unknown subcommand '{}'. Try FUNCTION HELP.",
            text(&args[0])
        ));
    };
    if rest.len() < least || rest.len() > most {
        return arity(&format!("function|{sub}"));
    }
    let done = match sub.as_str() {
        "load" => load(node, rest).await,
        "delete" => {
            let name = rest[0].clone();
            change(node, FunctionChange::Delete { name }).await
        }
        "list" => list(node, rest).await,
        "dump" => dump(node).await,
        "restore" => restore(node, args).await,
        "flush" => flush(node, args).await,
        "stats" => stats(node).await,
        "kill" => Ok(match node.scripts().kill(true) {
            0 => Reply::err("NOTBUSY No scripts in execution right now."),
            _ => Reply::ok(),
        }),
        _ => Ok(help()),
    };
    done.unwrap_or_else(|refused| refused)
}

/// Whether it changes nothing.
#[must_use]
pub fn only_looks(args: &[Bytes]) -> bool {
    let looks = ["list", "dump", "stats", "help"];
    args.first()
        .is_some_and(|sub| looks.iter().any(|name| sub.eq_ignore_ascii_case(name.as_bytes())))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: Error) -> Reply {
    Reply::err(error.to_string())
}

async fn change(node: &Node, change: FunctionChange) -> Answer {
    node.change_libraries(change).await.map_err(failed)
}

async fn load(node: &Node, args: &[Bytes]) -> Answer {
    let Some((code, options)) = args.split_last() else {
        return Err(Reply::err("ERR Function code is missing"));
    };
    let unknown = options
        .iter()
        .find(|option| !option.eq_ignore_ascii_case(b"replace"));
    if let Some(option) = unknown {
        return Err(Reply::err(format!("ERR Unknown option given: {}", text(option))));
    }
    let replace = !options.is_empty();
    if !replace {
        // Said before what is wrong with the code, as Redis does; the log decides.
        let name = script::library_name(code)?;
        if node.libraries().await.map_err(failed)?.get(&name).is_some() {
            return Err(Reply::err(format!("ERR Library '{name}' already exists")));
        }
    }
    let library = try_library(node, code).await?;
    change(node, FunctionChange::Load { library, replace }).await
}

async fn try_library(node: &Node, code: &Bytes) -> Result<Library, Reply> {
    // Copied: a slice of a request's buffer would keep the whole buffer alive.
    let code = Bytes::copy_from_slice(code);
    node.try_library(code).await.map_err(failed)?
}

async fn list(node: &Node, args: &[Bytes]) -> Answer {
    let (mut pattern, mut with_code) = (None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if !with_code && arg.eq_ignore_ascii_case(b"withcode") {
            with_code = true;
        } else if pattern.is_none() && arg.eq_ignore_ascii_case(b"libraryname") {
            let given = args.next();
            pattern = Some(given.ok_or_else(|| Reply::err("ERR library name argument was not given"))?);
        } else {
            return Err(Reply::err(format!("ERR Unknown argument {}", text(arg))));
        }
    }
    let libraries = node.libraries().await.map_err(failed)?;
    let matches = |library: &Library| pattern.is_none_or(|pattern| fits(pattern, library));
    let listed = libraries
        .iter()
        .filter(|library| matches(library))
        .map(|library| listed(library, with_code));
    Ok(Reply::Array(listed.collect()))
}

/// In any case, as in Redis.
fn fits(pattern: &[u8], library: &Library) -> bool {
    let lower = pattern.to_ascii_lowercase();
    glob::matches(&lower, library.name.to_ascii_lowercase().as_bytes())
}

fn field(name: &'static str, value: Reply) -> (Reply, Reply) {
    (Reply::bulk(name), value)
}

fn listed(library: &Library, with_code: bool) -> Reply {
    let function = |function: &Function| {
        let description = function.description.clone().map_or(Reply::Nil, Reply::Bulk);
        let flags = function.flags.iter();
        let flags = flags.map(|flag| Reply::Simple(flag.name().into())).collect();
        Reply::Map(vec![
            field("name", Reply::bulk(function.name.clone())),
            field("description", description),
            field("flags", Reply::Set(flags)),
        ])
    };
    let functions = library.functions.iter().map(function).collect();
    let mut fields = vec![
        field("library_name", Reply::bulk(library.name.clone())),
        field("engine", Reply::bulk("LUA")),
        field("functions", Reply::Array(functions)),
    ];
    if with_code {
        fields.push(field("library_code", Reply::Bulk(library.code.clone())));
    }
    Reply::Map(fields)
}

async fn dump(node: &Node) -> Answer {
    Ok(Reply::bulk(node.libraries().await.map_err(failed)?.dump()))
}

/// With what was wrong, as `FUNCTION` says it of too many arguments.
fn too_many(args: &[Bytes]) -> Reply {
    let sub = text(&args[0]);
    Reply::err(format!(
        "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try FUNCTION HELP."
    ))
}

async fn restore(node: &Node, args: &[Bytes]) -> Answer {
    let policy = match args {
        [_, _] => RestorePolicy::Append,
        [_, _, word] if word.eq_ignore_ascii_case(b"append") => RestorePolicy::Append,
        [_, _, word] if word.eq_ignore_ascii_case(b"replace") => RestorePolicy::Replace,
        [_, _, word] if word.eq_ignore_ascii_case(b"flush") => RestorePolicy::Flush,
        [_, _, _] => {
            return Err(Reply::err(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
        _ => return Err(too_many(args)),
    };
    let (mut libraries, mut bytes) = (Vec::new(), 0);
    let end = Instant::now() + Duration::from_millis(FUNCTIONS_RESTORE_MS_MAX);
    for code in dumped_codes(&args[1])? {
        if Instant::now() > end {
            return Err(Reply::err("ERR the libraries take too long to load"));
        }
        let library = try_library(node, &code).await?;
        bytes += library.weight();
        if bytes > FUNCTIONS_BYTES_MAX {
            return Err(too_much());
        }
        libraries.push(library);
    }
    change(node, FunctionChange::Restore { libraries, policy }).await
}

async fn flush(node: &Node, args: &[Bytes]) -> Answer {
    match args {
        [_] => {}
        [_, word] if word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync") => {}
        [_, _] => return Err(Reply::err("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")),
        _ => return Err(too_many(args)),
    }
    change(node, FunctionChange::Flush).await
}

async fn stats(node: &Node) -> Answer {
    let libraries = node.libraries().await.map_err(failed)?;
    let functions = libraries.iter().map(|library| library.functions.len()).sum();
    let running = node.scripts().running_function().map(|(eval, since)| {
        let name = eval.function.clone().unwrap_or_default();
        let command = if eval.read_only { "FCALL_RO" } else { "FCALL" };
        let head = [command.into(), name.clone(), eval.keys.len().to_string().into()];
        let command = head.into_iter().chain(eval.keys).chain(eval.args);
        let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Reply::Map(vec![
            field("name", Reply::Bulk(name)),
            field("command", Reply::Array(command.map(Reply::Bulk).collect())),
            field("duration_ms", Reply::Int(ms)),
        ])
    });
    let counts = Reply::Map(vec![
        field("libraries_count", Reply::count(libraries.iter().count())),
        field("functions_count", Reply::count(functions)),
    ]);
    Ok(Reply::Map(vec![
        field("running_script", running.unwrap_or(Reply::Nil)),
        field("engines", Reply::Map(vec![field("LUA", counts)])),
    ]))
}

fn help() -> Reply {
    let lines = HELP.iter().map(|line| Reply::Simple((*line).into()));
    Reply::Array(lines.collect())
}

const HELP: &[&str] = &[
    "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "LOAD [REPLACE] <FUNCTION CODE>",
    "    Create a new library with the given library name and code.",
    "DELETE <LIBRARY NAME>",
    "    Delete the given library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Return general information on all the libraries.",
    "STATS",
    "    Return the function that is running on this node, and how many there are.",
    "KILL",
    "    Kill the functions that are running on this node.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all the libraries.",
    "DUMP",
    "    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
    "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
    "    Restore the libraries represented by the given payload (default APPEND):",
    "    * FLUSH: delete all existing libraries.",
    "    * APPEND: on collision, abort.",
    "    * REPLACE: on collision, replace the old libraries with the new libraries.",
    "HELP",
    "    Print this help.",
];
