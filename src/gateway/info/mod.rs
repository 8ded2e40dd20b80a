//! `INFO`: sections and fields as Redis names them, with what is true here, and `# Quorate`. Fields that mean nothing here are zero
//! where tools insist on them, and absent otherwise.

mod commands;
mod server;

use std::fmt::Write;

use bytes::Bytes;

use super::server::Shared;
use crate::base::Reply;
use crate::cluster::{Node, Size};

type Line = (String, String);

/// What sections are made from.
struct Source<'a> {
    node: &'a Node,
    shared: &'a Shared,
    size: Option<Size>,
}

/// Name, whether it is shown when nothing is asked for, and what is in it.
struct Section {
    name: &'static str,
    is_default: bool,
    lines: fn(&Source<'_>) -> Vec<Line>,
}

const fn section(name: &'static str, is_default: bool, lines: fn(&Source<'_>) -> Vec<Line>) -> Section {
    Section {
        name,
        is_default,
        lines,
    }
}

/// In Redis's order.
const SECTIONS: &[Section] = &[
    section("Server", true, server::server),
    section("Clients", true, server::clients),
    section("Memory", true, server::memory),
    section("Persistence", true, server::persistence),
    section("Stats", true, server::stats),
    section("Replication", true, server::replication),
    section("CPU", true, server::cpu),
    section("Modules", true, |_| Vec::new()),
    section("Commandstats", false, commands::commandstats),
    section("Errorstats", true, commands::errorstats),
    section("Latencystats", false, commands::latencystats),
    section("Cluster", true, |_| vec![line("cluster_enabled", 0)]),
    section("Keyspace", true, server::keyspace),
    section("Quorate", true, server::quorate),
];

#[expect(
    clippy::needless_pass_by_value,
    reason = "a table of values reads better without &"
)]
fn line(name: &str, value: impl ToString) -> Line {
    (name.to_owned(), value.to_string())
}

impl Section {
    fn is_wanted(&self, wanted: &[Bytes]) -> bool {
        let fits = |word: &Bytes| match word.to_ascii_lowercase().as_slice() {
            b"everything" => true,
            b"all" => self.name != "Modules",
            b"default" => self.is_default,
            name => self.name.as_bytes().eq_ignore_ascii_case(name),
        };
        if wanted.is_empty() {
            self.is_default
        } else {
            wanted.iter().any(fits)
        }
    }
}

/// `INFO [section …]`.
pub async fn info(node: &Node, shared: &Shared, wanted: &[Bytes]) -> Reply {
    let sections = SECTIONS.iter().filter(|section| section.is_wanted(wanted));
    let sections: Vec<&Section> = sections.collect();
    let counts_keys = sections.iter().any(|section| section.name == "Keyspace");
    let size = if counts_keys { node.size().await } else { None };
    let source = Source { node, shared, size };
    let mut text = String::new();
    for section in sections {
        let gap = if text.is_empty() { "" } else { "\r\n" };
        // Writing to a string does not fail.
        let _ = write!(text, "{gap}# {}\r\n", section.name);
        for (name, value) in (section.lines)(&source) {
            let _ = write!(text, "{name}:{value}\r\n");
        }
    }
    Reply::Verbatim(text.into())
}
