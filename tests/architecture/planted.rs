//! Plants a breach of each rule and looks that it is found, and beside it the nearest lawful code, which must pass.

use crate::{
    FILE_LINES_MAX, FUNCTION_LINES_MAX, Finding, Source, file_lengths, function_lengths, homes, imports,
    purity, ratchet, unfinished,
};

fn file(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

/// `line: what` of each finding.
fn told(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| format!("{}: {}", finding.line, finding.what))
        .collect()
}

#[track_caller]
fn breach(findings: &[Finding], line: usize, word: &str) {
    let hit = matches!(findings, [one] if one.line == line && one.what.contains(word));
    assert!(
        hit,
        "wanted one finding at line {line} about {word}, got {:#?}",
        told(findings)
    );
}

#[track_caller]
fn lawful(findings: &[Finding]) {
    assert!(
        findings.is_empty(),
        "lawful code was blamed: {:#?}",
        told(findings)
    );
}

#[test]
fn an_import_that_goes_up_is_found_however_it_is_written() {
    for (path, text, word) in [
        ("src/base/ids.rs", "use crate::machine::State;", "`machine`"),
        ("src/storage/log.rs", "use crate::{base::Id, raft};", "`raft`"),
        (
            "src/machine/apply.rs",
            "use crate::{base::{Id, Term}, txn::Step as S};",
            "`txn`",
        ),
        (
            "src/machine/apply.rs",
            "use super::super::cluster::Node;",
            "`cluster`",
        ),
        (
            "src/machine/apply.rs",
            "use super::{Overlay, super::cluster};",
            "`cluster`",
        ),
        (
            "src/machine.rs",
            "fn f() -> super::raft::Handle { g() }",
            "`raft`",
        ),
        (
            "src/machine/mod.rs",
            "mod inner { mod deep {} use super::super::gateway::X; }",
            "`gateway`",
        ),
        (
            "src/raft/mod.rs",
            "fn f(x: Vec<crate::gateway::Session>) {}",
            "`gateway`",
        ),
        (
            "src/raft/mod.rs",
            "macro_rules! m { () => { $crate::cluster::go() } }",
            "`cluster`",
        ),
        ("src/raft/mod.rs", "use quorate::cluster::Node;", "`cluster`"),
        (
            "src/raft/mod.rs",
            "#[cfg(test)] mod tests { use crate::cluster::Node; }",
            "`cluster`",
        ),
    ] {
        breach(&imports(&file(path, text)), 1, word);
    }
}

#[test]
fn siblings_side_rooms_and_the_top_are_closed_to_those_who_may_not_enter() {
    for (from, to) in [
        ("txn", "ring"),
        ("ring", "txn"),
        ("machine", "storage"),
        ("txn", "storage"),
        ("base", "config"),
        ("raft", "config"),
        ("raft", "resp"),
        ("cluster", "client"),
        ("gateway", "client"),
        ("gateway", "testing"),
        ("gateway", "cli"),
        ("config", "machine"),
        ("client", "config"),
        ("client", "gateway"),
        ("client", "testing"),
        ("resp", "config"),
        ("checker", "base"),
        ("gateway", "checker"),
    ] {
        let planted = file(&format!("src/{from}/x.rs"), &format!("\nuse crate::{to}::X;"));
        breach(&imports(&planted), 2, &format!("`{from}` may not name `{to}`"));
    }
}

#[test]
fn a_path_or_file_that_is_on_no_floor_is_found() {
    breach(
        &imports(&file("src/cluster/x.rs", "use crate::Error;")),
        1,
        "names no floor",
    );
    breach(
        &imports(&file("src/cluster/x.rs", "use crate::*;")),
        1,
        "names no floor",
    );
    breach(
        &imports(&file("src/cluster/mod.rs", "use super::*;")),
        1,
        "names no floor",
    );
    breach(
        &imports(&file("src/cluster/x.rs", "use crate::{self as root};")),
        1,
        "names no floor",
    );
    breach(&imports(&file("src/helpers.rs", "")), 1, "on no floor");
    breach(&imports(&file("src/bin/tool.rs", "")), 1, "on no floor");
}

#[test]
fn lawful_imports_pass() {
    for (path, text) in [
        ("src/lib.rs", "pub use crate::cluster::Node; pub mod base;"),
        (
            "src/main.rs",
            "use quorate::{client::Client, gateway}; mod cli; fn main() { crate::cli::run() }",
        ),
        (
            "src/cli/dev.rs",
            "use crate::{config, resp, client, cluster::Node};",
        ),
        ("src/testing.rs", "use crate::{cli, client, cluster, gateway};"),
        (
            "src/gateway/session.rs",
            "use crate::{base, cluster::{Node, Router}, config, machine, resp, ring, txn};",
        ),
        (
            "src/raft/apply.rs",
            "use crate::{base::Id, machine, ring, storage, txn};",
        ),
        (
            "src/machine/apply.rs",
            "use super::{Overlay, locks}; use crate::machine::x; use self::y::z; use crate::base;",
        ),
        (
            "src/machine/mod.rs",
            "pub(super) mod a { use super::b; } pub(in crate::machine) mod b {} fn f(&self) {}",
        ),
        (
            "src/machine/x.rs",
            "//! crate::raft\n/* use crate::raft; /* nested */ crate::raft */ const S: &str = \"crate::raft\";",
        ),
        (
            "src/machine/x.rs",
            "const S: &str = r#\"\" crate::raft::x\"#; const T: &str = \"\\\" crate::raft::x\";",
        ),
        ("src/config/mod.rs", "use crate::{base, ring};"),
        ("src/client/mod.rs", "use crate::{base, resp};"),
    ] {
        lawful(&imports(&file(path, text)));
    }
}

#[test]
fn openraft_and_sled_are_found_outside_their_homes() {
    breach(
        &homes(&file("src/cluster/x.rs", "\n\nuse openraft::Raft;")),
        3,
        "src/raft/",
    );
    breach(
        &homes(&file("src/cluster/x.rs", "use openraft_rt::X;")),
        1,
        "openraft_rt",
    );
    breach(&homes(&file("src/lib.rs", "pub use sled;")), 1, "src/storage/");
    breach(
        &homes(&file("src/raft/x.rs", "type D = sled::Db;")),
        1,
        "src/storage/",
    );
    lawful(&homes(&file(
        "src/raft/x.rs",
        "use openraft::Raft; // unlike sled",
    )));
    lawful(&homes(&file(
        "src/storage/x.rs",
        "use sled::Db; /* not openraft */ const W: &str = \"openraft\";",
    )));
    lawful(&homes(&file("src/cluster/x.rs", "struct Sled; let sleds = 1;")));
}

#[test]
fn the_outside_world_is_found_on_pure_floors_only() {
    for (text, word) in [
        ("use tokio::sync::mpsc;", "tokio"),
        ("use std::{fmt, net::IpAddr};", "std::net"),
        ("use std::time::{Duration, SystemTime};", "SystemTime"),
        ("let t = std::time::Instant::now();", "Instant::now"),
        ("let t = Instant::now();", "Instant::now"),
        ("let x: u64 = rand::random();", "rand"),
        ("let x = thread_rng();", "thread_rng"),
        ("let x = std::fs::read(p);", "std::fs"),
        ("use std::{fs::{self, File as F}};", "std::fs"),
        ("use std::collections::{BTreeMap, HashMap};", "HashMap"),
        ("let x = collect::<HashSet<u8>>();", "HashSet"),
    ] {
        for floor in ["base", "machine", "txn", "ring"] {
            let planted = [file(&format!("src/{floor}/x.rs"), text)];
            let found = purity(&planted, &[]);
            assert!(
                found.iter().any(|one| one.what.contains(word)),
                "{floor}: `{text}` was not blamed for {word}"
            );
        }
        lawful(&purity(&[file("src/raft/x.rs", text)], &[]));
    }
    let pure = "use std::{collections::BTreeMap, time::Duration}; /// tokio, rand::random\nfn operand(x: Instant) {}";
    lawful(&purity(&[file("src/machine/x.rs", pure)], &[]));
}

#[test]
fn an_allowed_impurity_passes_and_is_dropped_when_no_longer_needed() {
    let allowed = [("src/base/map.rs", "HashMap")];
    lawful(&purity(
        &[file("src/base/map.rs", "use std::collections::HashMap;")],
        &allowed,
    ));
    breach(
        &purity(
            &[file(
                "src/base/map.rs",
                "use std::collections::HashSet; type A = HashMap<u8, u8>;",
            )],
            &allowed,
        ),
        1,
        "HashSet",
    );
    breach(
        &purity(
            &[file("src/base/map.rs", "use std::collections::BTreeMap;")],
            &allowed,
        ),
        1,
        "remove the entry",
    );
    breach(
        &purity(&[file("src/base/other.rs", "")], &allowed),
        1,
        "remove the entry",
    );
}

#[test]
fn the_length_ratchet_turns_one_way() {
    let long = [file("src/raft/log.rs", &"\n".repeat(FILE_LINES_MAX + 1))];
    let short = [file("src/raft/log.rs", &"\n".repeat(FILE_LINES_MAX))];
    let check = |sources: &[Source], exceptions: &[(&str, usize)]| {
        ratchet(&file_lengths(sources), FILE_LINES_MAX, exceptions, "LONG_FILES")
    };
    lawful(&check(&short, &[]));
    breach(&check(&long, &[]), 1, "has 501 lines, over 500");
    lawful(&check(&long, &[("src/raft/log.rs", 501)]));
    breach(
        &check(&long, &[("src/raft/log.rs", 500)]),
        1,
        "over its 500 in LONG_FILES",
    );
    breach(
        &check(&short, &[("src/raft/log.rs", 501)]),
        1,
        "remove it from LONG_FILES",
    );
    breach(
        &check(&short, &[("src/gone.rs", 900)]),
        1,
        "remove it from LONG_FILES",
    );
}

#[test]
fn long_functions_are_found_and_measured_by_their_own_braces() {
    let of_length = |lines: usize| format!("const C: u8 = 1;\nfn long(\n) {{{}}}\n", "\n".repeat(lines - 2));
    let check = |text: &str, exceptions: &[(&str, usize)]| {
        let lengths = function_lengths(&[file("src/raft/log.rs", text)]);
        ratchet(&lengths, FUNCTION_LINES_MAX, exceptions, "LONG_FUNCTIONS")
    };
    lawful(&check(&of_length(70), &[]));
    breach(
        &check(&of_length(71), &[]),
        2,
        "src/raft/log.rs::long has 71 lines, over 70",
    );
    lawful(&check(&of_length(71), &[("src/raft/log.rs::long", 71)]));
    breach(
        &check(
            &of_length(71),
            &[("src/raft/log.rs::short", 71), ("src/raft/log.rs::long", 71)],
        ),
        1,
        "::short has 0",
    );
    breach(
        &check(&of_length(72), &[("src/raft/log.rs::long", 71)]),
        2,
        "over its 71",
    );

    let twice = format!("{}{}fn long() {{}}", of_length(70), of_length(71));
    breach(&check(&twice, &[]), 73, "::long has 71 lines");

    let tricky = "fn a<'b>(f: fn(u8) -> [u8; 2]) -> &'b str\nwhere u8: Copy {\n let c = ('{', '\\'', '\\u{7b}', b'{');\n \
                  \"} \\\" {\"; r##\"}\"# {\"##; /* } /* { */ */ // }\n 'x: loop { break 'x }\n fn inner() {\n }\n}\n\
                  trait T { fn none(&self) -> [u8; 3]; fn more(&self) -> A<'_, { 1 }> {\n} }\nmacro_rules! m { ($n:ident) => { fn $n() {} } }";
    let lengths = function_lengths(&[file("f", tricky)]);
    let told: Vec<_> = lengths
        .iter()
        .map(|(key, (line, length))| (key.as_str(), *line, *length))
        .collect();
    assert_eq!(
        told,
        [
            ("f::a", 1, 8),
            ("f::inner", 6, 2),
            ("f::more", 9, 2),
            ("f::n", 11, 1)
        ]
    );
}

#[test]
fn unfinished_code_is_found_outside_tests() {
    for text in [
        concat!("\nfn f() { to", "do!() }"), // in two pieces: not to be found in this file itself
        concat!("\nunimple", "mented!(\"x\")"),
        concat!("\ndb", "g!(x);"),
        "\na\n.unwrap();",
        "\nx.map(Option::unwrap)",
    ] {
        let found = unfinished(&[file("src/base/x.rs", text)]);
        breach(&found, text.find("\n.").map_or(2, |_| 3), "outside #[cfg(test)]");
    }
    for text in [
        "#[cfg(not(test))] fn f() { x.unwrap() }",
        "#[cfg(any(test, feature = \"x\"))] fn f() { x.unwrap() }",
        "#[cfg(test)] use a::{b, c}; fn f() { x.unwrap() }",
        "#[cfg(test)] mod tests { mod deep {} } fn f() { x.unwrap() }",
        "#[cfg(test)] #[path = \"t.rs\"] mod tests; fn f() { x.unwrap() }",
        "mod a { #![cfg(test)] } fn f() { x.unwrap() }",
        "struct S { #[cfg(test)] a: u8, b: [u8; f().unwrap()] }",
        "#[cfg(test)] const A: [u8; 1] = { [1] }; fn f() { x.unwrap() }",
    ] {
        breach(&unfinished(&[file("src/base/x.rs", text)]), 1, "`unwrap` outside");
    }
}

#[test]
fn tests_and_look_alikes_may_unwrap() {
    for text in [
        concat!(
            "#[cfg(test)] mod tests { #[test] fn t() { x.unwrap(); db",
            "g!(1); to",
            "do!() } }"
        ),
        "#[cfg(all(test, not_windows))] pub(crate) const fn f<A, B>(x: u8) -> u8 { x.unwrap() }",
        "#[cfg(test)] const A: u8 = { 1 } + x.unwrap();",
        "#![allow(x)] #![cfg(test)] fn f() {} fn g() { x.unwrap() }",
        "mod a { #![cfg(test)] fn f() {} fn g() { x.unwrap() } }",
        "fn f() { x.unwrap_or(1); x.unwrap_or_else(g); let todo = 1; unwrap(x); } // x.unwrap()",
        concat!(
            "/// let y = x.unwrap();\nfn f() { \"x.unwrap() to",
            "do!()\"; '\"'; \"x.unwrap()\"; }"
        ),
    ] {
        lawful(&unfinished(&[file("src/base/x.rs", text)]));
    }
    let body = "fn helper() { x.unwrap() }";
    for (parent, child) in [
        ("src/lib.rs", "src/tests.rs"),
        ("src/txn/mod.rs", "src/txn/tests.rs"),
        ("src/txn/a.rs", "src/txn/a/tests/b.rs"),
    ] {
        lawful(&unfinished(&[
            file(parent, "#[cfg(test)]\nmod tests;\n"),
            file(child, body),
        ]));
        breach(
            &unfinished(&[file(parent, "mod tests;\n"), file(child, body)]),
            1,
            "`unwrap` outside",
        );
    }
}
