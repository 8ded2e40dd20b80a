//! The floors of DESIGN.md, section 3, as a test. It reads `src/**/*.rs` as tokens (comments, strings and character
//! literals are dropped, so prose may say anything) and fails with `file:line: [rule] what is wrong: what to do`.
//!
//! Not here: name resolution. A path hidden behind `use std as s`, a macro that pastes names together or a `#[path]`
//! module passes; `clippy.toml` bans clocks, RNG and unbounded channels by what a name resolves to.
//! `architecture/planted.rs` shows of each rule that it catches a breach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use rust_tokens::{functions, paths, test_modules, test_spans, text, tokens};

#[path = "architecture/planted.rs"]
mod planted;
#[path = "architecture/rust_tokens.rs"]
mod rust_tokens;

const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("storage", 1),
    ("machine", 2),
    ("txn", 3),
    ("ring", 3),
    ("script", 3),
    ("raft", 4),
    ("cluster", 5),
    ("gateway", 6),
    ("cli", 7),
];
/// Side rooms, with what each may name besides itself.
const SIDE_ROOMS: &[(&str, &[&str])] = &[
    ("config", &["base", "ring"]),
    ("client", &["base", "host", "resp"]),
    ("host", &["base"]),
    ("resp", &["base"]),
    ("checker", &[]),
];
/// From this floor on a module may name the side rooms `config` and `resp`; `client` is for `cli` alone.
const SIDE_ROOMS_OPEN_FROM: u8 = 5;
/// The lowest floor that knows sockets and chance.
const HOST_OPEN_FROM: u8 = 4;
/// `main.rs` counts as `cli`. `cli` and `testing` may name everything; nothing else may name `testing`.
const TOP: &[&str] = &["cli", "testing"];

/// Floors and side rooms whose code is a function of its arguments. They may not name `storage` either: it does disk I/O.
const PURE: &[&str] = &["base", "machine", "txn", "ring", "script", "checker"];
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "return an effect and let cluster/ perform it"),
    ("tokio_util", "return an effect and let cluster/ perform it"),
    ("tokio_stream", "return an effect and let cluster/ perform it"),
    ("std::net", "sockets belong to raft/ and above; pass ids or bytes"),
    ("std::fs", "the disk belongs to storage/; pass bytes"),
    ("SystemTime", "time arrives in the entry or event"),
    ("Instant::now", "time arrives in the entry or event"),
    ("rand", "the leader stamps a seed into the entry"),
    ("thread_rng", "the leader stamps a seed into the entry"),
    (
        "HashMap",
        "its order is random: use BTreeMap, or a map with a fixed seed listed in IMPURE_ALLOWED",
    ),
    (
        "HashSet",
        "its order is random: use BTreeSet, or a set with a fixed seed listed in IMPURE_ALLOWED",
    ),
    ("RandomState", "hash seeds are fixed"),
];
/// `(file, word)` pairs that may stay, each with its reason. An entry that is no longer needed fails the test.
const IMPURE_ALLOWED: &[(&str, &str)] = &[
    // Millions of look-ups, with a fixed seed; nothing iterates.
    ("src/checker/linear/lifetimes.rs", "HashMap"),
    ("src/checker/linear/memo.rs", "HashSet"),
    ("src/checker/linear/starvation.rs", "HashMap"),
];

/// Crates that one floor alone may name, also by their `name_…` sisters.
const HOMES: &[(&str, &str)] = &[("openraft", "raft"), ("sled", "storage"), ("mlua", "script")];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// The ratchet: `("src/raft/log.rs", 612)`. Numbers may be lowered and entries removed, never the reverse.
const LONG_FILES: &[(&str, usize)] = &[];
/// The ratchet: `("src/raft/log.rs::append", 84)`; the longest counts where a file has several of the name.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

#[test]
fn imports_go_down_only() {
    report(sources().iter().flat_map(imports).collect());
}

#[test]
fn openraft_and_sled_have_one_home() {
    report(sources().iter().flat_map(homes).collect());
}

#[test]
fn pure_floors_know_no_outside_world() {
    report(purity(&sources(), IMPURE_ALLOWED));
}

#[test]
fn files_and_functions_stay_short() {
    let sources = sources();
    report(ratchet(
        &file_lengths(&sources),
        FILE_LINES_MAX,
        LONG_FILES,
        "LONG_FILES",
    ));
    report(ratchet(
        &function_lengths(&sources),
        FUNCTION_LINES_MAX,
        LONG_FUNCTIONS,
        "LONG_FUNCTIONS",
    ));
}

#[test]
fn nothing_is_left_unfinished() {
    report(unfinished(&sources()));
}

struct Source {
    /// With forward slashes, from the crate's root: `src/raft/log.rs`.
    path: String,
    text: String,
}

struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.what)
    }
}

fn report(mut findings: Vec<Finding>) {
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} breach(es) of the architecture:\n{}\n",
        lines.len(),
        lines.join("\n")
    );
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (Vec::new(), vec![root.join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src/ is readable") {
            let path = entry.expect("src/ is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root)
                    .expect("found below the root")
                    .to_string_lossy();
                let text = fs::read_to_string(&path).expect("a source file is UTF-8");
                found.push(Source {
                    path: name.replace('\\', "/"),
                    text,
                });
            }
        }
    }
    assert!(
        found.iter().any(|source| source.path == "src/lib.rs"),
        "the scan must find src/lib.rs"
    );
    found
}

/// The floor or side room that a file belongs to: `src/raft/log.rs` to `raft`, `src/main.rs` to `cli`.
fn room(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let top = inside.split('/').next().unwrap_or(inside);
    if top == "main.rs" {
        "cli"
    } else {
        top.strip_suffix(".rs").unwrap_or(top)
    }
}

/// The module that a file is: `src/raft/log.rs` is `[raft, log]`, `src/raft/mod.rs` is `[raft]`.
fn module(path: &str) -> Vec<&str> {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let mut parts: Vec<&str> = inside.strip_suffix(".rs").unwrap_or(inside).split('/').collect();
    if matches!(parts.last(), Some(&("mod" | "main" | "lib"))) {
        parts.pop();
    }
    parts
}

fn look_up<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table
        .iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| *value)
}

fn is_known(name: &str) -> bool {
    look_up(FLOORS, name).is_some() || look_up(SIDE_ROOMS, name).is_some() || TOP.contains(&name)
}

fn may_name(from: &str, to: &str) -> bool {
    if from == to || TOP.contains(&from) {
        return is_known(to);
    }
    if let Some(allowed) = look_up(SIDE_ROOMS, from) {
        return allowed.contains(&to);
    }
    let Some(floor) = look_up(FLOORS, from) else {
        return false;
    };
    match (look_up(FLOORS, to), to) {
        (Some(target), _) => target < floor && !(PURE.contains(&from) && to == "storage"),
        (None, "host") => floor >= HOST_OPEN_FROM,
        (None, "config" | "resp") => floor >= SIDE_ROOMS_OPEN_FROM,
        (None, _) => false,
    }
}

/// Rule (a). Holds for test code inside `src/` too: a test that needs a higher floor belongs into `tests/`.
fn imports(source: &Source) -> Vec<Finding> {
    let from = room(&source.path);
    if source.path == "src/lib.rs" {
        return Vec::new();
    }
    let finding = |line, what| Finding {
        path: source.path.clone(),
        line,
        rule: "floors",
        what,
    };
    if !is_known(from) {
        let what =
            format!("`{from}` is on no floor: add it to DESIGN.md section 3 and to FLOORS, or move the file");
        return vec![finding(1, what)];
    }
    let mut found = Vec::new();
    for path in paths(&tokens(&source.text), &module(&source.path)) {
        let Some(target) = path.top_module() else { continue };
        if !is_known(target) {
            let what = format!(
                "`{}` names no floor: write the path by its floor, not by a re-export or glob",
                path.text()
            );
            found.push(finding(path.line, what));
        } else if !may_name(from, target) {
            let what = format!(
                "`{from}` may not name `{target}` (`{}`): move the code up, or hand the data down as an argument",
                path.text()
            );
            found.push(finding(path.line, what));
        }
    }
    found
}

/// Rule (b).
fn homes(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for token in tokens(&source.text) {
        for (name, home) in HOMES {
            let is_named = token
                .text
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
            if is_named && room(&source.path) != *home {
                let what = format!(
                    "only src/{home}/ may name `{}`: go through a type of {home}'s own",
                    token.text
                );
                found.push(Finding {
                    path: source.path.clone(),
                    line: token.line,
                    rule: "one home",
                    what,
                });
            }
        }
    }
    found
}

/// Rule (c). Holds for test code inside `src/` too.
fn purity(sources: &[Source], allowed: &[(&str, &str)]) -> Vec<Finding> {
    let (mut found, mut used) = (Vec::new(), BTreeSet::new());
    for source in sources.iter().filter(|source| PURE.contains(&room(&source.path))) {
        for path in paths(&tokens(&source.text), &module(&source.path)) {
            let whole = format!("::{}::", path.text());
            for (word, advice) in IMPURE
                .iter()
                .filter(|(word, _)| whole.contains(&format!("::{word}::")))
            {
                if allowed.contains(&(source.path.as_str(), word)) {
                    used.insert((source.path.as_str(), *word));
                    continue;
                }
                let what = format!(
                    "pure floor `{}` may not name `{word}`: {advice}",
                    room(&source.path)
                );
                found.push(Finding {
                    path: source.path.clone(),
                    line: path.line,
                    rule: "purity",
                    what,
                });
            }
        }
    }
    for (path, word) in allowed.iter().filter(|entry| !used.contains(*entry)) {
        let what = format!("no longer names `{word}`: remove the entry from IMPURE_ALLOWED");
        found.push(Finding {
            path: (*path).to_owned(),
            line: 1,
            rule: "purity",
            what,
        });
    }
    found
}

/// By key (a file, or `file::function`): where it begins and how many lines it has.
type Lengths = BTreeMap<String, (usize, usize)>;

fn file_lengths(sources: &[Source]) -> Lengths {
    sources
        .iter()
        .map(|source| (source.path.clone(), (1, source.text.lines().count())))
        .collect()
}

fn function_lengths(sources: &[Source]) -> Lengths {
    let mut lengths = Lengths::new();
    for source in sources {
        for (name, line, length) in functions(&tokens(&source.text)) {
            let longest = lengths
                .entry(format!("{}::{name}", source.path))
                .or_insert((line, length));
            if length > longest.1 {
                *longest = (line, length);
            }
        }
    }
    lengths
}

/// Rule (d).
fn ratchet(lengths: &Lengths, limit: usize, exceptions: &[(&str, usize)], list: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut push = |key: &str, line: usize, what: String| {
        let path = key.split("::").next().unwrap_or(key).to_owned();
        found.push(Finding {
            path,
            line,
            rule: "length",
            what: format!("{key} {what}"),
        });
    };
    for (key, (line, length)) in lengths {
        match look_up(exceptions, key) {
            None if *length > limit => {
                push(key, *line, format!("has {length} lines, over {limit}: split it"));
            }
            Some(most) if *length > most => {
                push(
                    key,
                    *line,
                    format!("has {length} lines, over its {most} in {list}: split it; the list only shrinks"),
                );
            }
            _ => {}
        }
    }
    for (key, _) in exceptions {
        let (line, length) = lengths.get(*key).copied().unwrap_or((1, 0));
        if length <= limit {
            push(
                key,
                line,
                format!("has {length} lines and needs no exception: remove it from {list}"),
            );
        }
    }
    found
}

/// Rule (e). Code under `#[cfg(test)]`, in line or in a file of its own, may do as it likes.
fn unfinished(sources: &[Source]) -> Vec<Finding> {
    let tests: Vec<Vec<&str>> = sources
        .iter()
        .flat_map(|source| test_modules(&tokens(&source.text), &module(&source.path)))
        .collect();
    let is_test = |source: &Source| tests.iter().any(|test| module(&source.path).starts_with(test));
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !is_test(source)) {
        let tokens = tokens(&source.text);
        let spans = test_spans(&tokens);
        let inside_test = |at: usize| spans.iter().any(|(first, last)| (*first..=*last).contains(&at));
        for (at, token) in tokens.iter().enumerate() {
            let (before, after) = (text(&tokens, at.wrapping_sub(1)), text(&tokens, at + 1));
            let advice = match token.text {
                "todo" | "unimplemented" if after == "!" => "finish it, or return an error",
                "dbg" if after == "!" => "remove it, or log through tracing",
                "unwrap" if matches!(before, "." | "::") => {
                    "return an error, or `expect` with why it cannot be"
                }
                _ => continue,
            };
            if !inside_test(at) {
                let what = format!("`{}` outside #[cfg(test)]: {advice}", token.text);
                found.push(Finding {
                    path: source.path.clone(),
                    line: token.line,
                    rule: "unfinished",
                    what,
                });
            }
        }
    }
    found
}
