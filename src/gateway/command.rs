//! `COMMAND`: what commands there are, and where their keys lie.

use bytes::Bytes;

use super::facts::{self, Begin, Fact, Find, KeySpec, Nowhere};
use super::table::{OWN, fits, own};
use crate::base::Reply;
use crate::base::limits::COMMAND_NAMES_MAX;
use crate::machine::commands::{COMMANDS, Flag, find as find_spec};
use crate::machine::glob;

/// Since when what Redis does not have is here.
const OWN_SINCE: &str = concat!("quorate ", env!("CARGO_PKG_VERSION"));

/// Subcommands of Redis that are not here, though others of their command are.
pub const ABSENT: &[&str] = &[
    "acl|deluser",
    "acl|dryrun",
    "acl|genpass",
    "acl|getuser",
    "acl|help",
    "acl|load",
    "acl|log",
    "acl|save",
    "acl|setuser",
    "config|rewrite",
];

/// A command of this program, with what is known of it.
struct Entry {
    name: &'static str,
    arity: i64,
    summary: Option<&'static str>,
    group: &'static str,
    /// Of a command that Redis does not have.
    flag: Option<Flag>,
    fact: Option<&'static Fact>,
}

fn entries() -> impl Iterator<Item = Entry> {
    // A subcommand that has data of its own is shown with its command.
    let whole = COMMANDS.iter().filter(|spec| !spec.name.contains('|'));
    let data = whole.map(|spec| Entry {
        name: spec.name,
        arity: spec.arity,
        summary: Some(spec.summary),
        group: spec.group,
        flag: Some(spec.flag),
        fact: facts::find(spec.name),
    });
    let own = OWN.iter().map(|own| {
        let fact = facts::find(own.name);
        Entry {
            name: own.name,
            arity: own.arity,
            summary: Some(own.summary),
            group: fact.map_or("server", |fact| fact.group),
            flag: None,
            fact,
        }
    });
    data.chain(own)
}

fn subcommands(name: &str) -> impl Iterator<Item = Entry> {
    let here = facts::subcommands(name).filter(|fact| !ABSENT.contains(&fact.name));
    here.map(|fact| Entry {
        name: fact.name,
        arity: fact.arity,
        summary: None,
        group: fact.group,
        flag: None,
        fact: Some(fact),
    })
}

/// By name, of a subcommand with its command's: `client|id`.
fn entry(name: &[u8]) -> Option<Entry> {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    match name.split_once('|') {
        Some((command, _)) => {
            entry(command.as_bytes())?;
            subcommands(command).find(|entry| entry.name == name)
        }
        None => entries().find(|entry| entry.name == name),
    }
}

fn words(words: &[&'static str]) -> Reply {
    Reply::Set(words.iter().map(|word| Reply::Simple((*word).into())).collect())
}

fn map<const N: usize>(pairs: [(&'static str, Reply); N]) -> Reply {
    Reply::Map(pairs.map(|(key, value)| (Reply::bulk(key), value)).into())
}

impl Entry {
    fn flags(&self) -> Vec<&'static str> {
        match (self.fact, self.flag) {
            (Some(fact), _) => fact.flags.clone(),
            (None, Some(Flag::Write)) => vec!["write"],
            (None, Some(Flag::ReadOnly)) => vec!["readonly"],
            (None, None) => vec!["noscript", "loading", "stale"],
        }
    }

    fn categories(&self) -> Vec<&'static str> {
        self.fact
            .map_or_else(|| vec!["slow"], |fact| fact.categories.clone())
    }

    /// As `COMMAND INFO` shows it.
    fn row(&self) -> Reply {
        let categories = self.categories().into_iter();
        let categories = categories.map(|category| Reply::Simple(format!("@{category}").into()));
        let tips = self.fact.map_or(&[][..], |fact| &fact.tips);
        let specs = self.fact.map_or(&[][..], |fact| &fact.specs);
        let (first, last, step) = self.fact.map_or((0, 0, 0), |fact| fact.keys);
        Reply::Array(vec![
            Reply::bulk(self.name),
            Reply::Int(self.arity),
            words(&self.flags()),
            Reply::Int(first),
            Reply::Int(last),
            Reply::Int(step),
            Reply::Set(categories.collect()),
            Reply::Set(tips.iter().map(|tip| Reply::bulk(*tip)).collect()),
            Reply::Set(specs.iter().map(key_spec).collect()),
            Reply::Set(subcommands(self.name).map(|sub| sub.row()).collect()),
        ])
    }

    /// As `COMMAND DOCS` shows it.
    fn docs(&self) -> (Reply, Reply) {
        let since = self.fact.map_or(OWN_SINCE, |fact| fact.since);
        let summary = self.summary.map(|summary| ("summary", Reply::bulk(summary)));
        let mut pairs = Vec::from_iter(summary);
        pairs.push(("since", Reply::bulk(since)));
        pairs.push(("group", Reply::bulk(self.group)));
        let subs: Vec<_> = subcommands(self.name).map(|sub| sub.docs()).collect();
        if !subs.is_empty() {
            pairs.push(("subcommands", Reply::Map(subs)));
        }
        let pairs = pairs.into_iter().map(|(key, value)| (Reply::bulk(key), value));
        (Reply::bulk(self.name), Reply::Map(pairs.collect()))
    }
}

fn key_spec(spec: &KeySpec) -> Reply {
    let typed = |kind: &'static str, about| map([("type", Reply::bulk(kind)), ("spec", about)]);
    let begin = match spec.begin {
        Begin::Index(at) => typed("index", map([("index", Reply::Int(at))])),
        Begin::Keyword(word, from) => {
            let about = [("keyword", Reply::bulk(word)), ("startfrom", Reply::Int(from))];
            typed("keyword", map(about))
        }
        Begin::Unknown => typed("unknown", map([])),
    };
    let find = match spec.find {
        Find::Range { last, step, limit } => typed(
            "range",
            map([
                ("lastkey", Reply::Int(last)),
                ("keystep", Reply::Int(step)),
                ("limit", Reply::Int(limit)),
            ]),
        ),
        Find::Counted { at, first, step } => typed(
            "keynum",
            map([
                ("keynumidx", Reply::Int(at)),
                ("firstkey", Reply::Int(first)),
                ("keystep", Reply::Int(step)),
            ]),
        ),
        Find::Unknown => typed("unknown", map([])),
    };
    map([
        ("flags", words(&spec.flags)),
        ("begin_search", begin),
        ("find_keys", find),
    ])
}

/// `COMMAND` and its subcommands.
#[must_use]
pub fn command(args: &[Bytes]) -> Reply {
    let all = || Reply::Array(entries().map(|entry| entry.row()).collect());
    let Some((given, rest)) = args.split_first() else {
        return all();
    };
    let sub = String::from_utf8_lossy(given).to_ascii_lowercase();
    let Some(fact) = facts::find(&format!("command|{sub}")) else {
        let given = String::from_utf8_lossy(given);
        return Reply::err(format!("ERR unknown subcommand '{given}'. Try COMMAND HELP."));
    };
    if !fits(fact.arity, args.len()) {
        return Reply::err(format!(
            "ERR wrong number of arguments for '{}' command",
            fact.name
        ));
    }
    if matches!(sub.as_str(), "info" | "docs") && rest.len() > COMMAND_NAMES_MAX {
        return Reply::err(format!(
            "ERR COMMAND {} names {} commands, and may name {COMMAND_NAMES_MAX}",
            sub.to_ascii_uppercase(),
            rest.len()
        ));
    }
    match sub.as_str() {
        "count" => Reply::count(entries().count()),
        "list" => list(rest),
        "info" if rest.is_empty() => all(),
        "info" => {
            let row = |name: &Bytes| entry(name).map_or(Reply::NilArray, |entry| entry.row());
            Reply::Array(rest.iter().map(row).collect())
        }
        "docs" if rest.is_empty() => Reply::Map(entries().map(|entry| entry.docs()).collect()),
        "docs" => {
            let known = rest.iter().filter_map(|name| entry(name));
            Reply::Map(known.map(|entry| entry.docs()).collect())
        }
        "getkeys" => keys(rest, |key, _| Reply::Bulk(key.clone())),
        "getkeysandflags" => keys(rest, |key, flags| {
            Reply::Array(vec![Reply::Bulk(key.clone()), words(flags)])
        }),
        _ => help(),
    }
}

/// Whether a command's arguments are `HELP` alone.
#[must_use]
pub fn is_help(args: &[Bytes]) -> bool {
    matches!(args, [word] if word.eq_ignore_ascii_case(b"help"))
}

/// `HELP` of a command: its subcommands.
#[must_use]
pub fn help_on(name: &str) -> Reply {
    let title = format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        name.to_ascii_uppercase()
    );
    let subs = subcommands(name).filter_map(|sub| sub.name.split_once('|'));
    let lines = std::iter::once(title).chain(subs.map(|(_, sub)| sub.to_ascii_uppercase()));
    Reply::Array(lines.map(|line| Reply::Simple(line.into())).collect())
}

fn help() -> Reply {
    let lines = [
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)",
        "    All commands with their arity, flags and keys.",
        "COUNT",
        "    How many there are.",
        "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
        "    Their names.",
        "INFO [<command-name> ...]",
        "    These with their arity, flags and keys.",
        "DOCS [<command-name> ...]",
        "    What these do, and since when they are there.",
        "GETKEYS <full-command>",
        "    The keys of a command.",
        "GETKEYSANDFLAGS <full-command>",
        "    The keys of a command, and what becomes of each.",
        "HELP",
        "    This.",
    ];
    Reply::Array(lines.map(|line| Reply::Simple(line.into())).into())
}

/// `COMMAND LIST`: filtered, also subcommands.
fn list(args: &[Bytes]) -> Reply {
    let names = |entries: &mut dyn Iterator<Item = Entry>| {
        Reply::Array(entries.map(|entry| Reply::bulk(entry.name)).collect())
    };
    let (by, wanted) = match args {
        [] => return names(&mut entries()),
        [filter, by, wanted] if filter.eq_ignore_ascii_case(b"filterby") => (by, wanted),
        _ => return Reply::syntax(),
    };
    let wanted = wanted.to_ascii_lowercase();
    let mut all = entries().flat_map(|entry| {
        let subs: Vec<Entry> = subcommands(entry.name).collect();
        std::iter::once(entry).chain(subs)
    });
    match by.to_ascii_lowercase().as_slice() {
        b"module" => Reply::Array(Vec::new()),
        b"aclcat" => names(&mut all.filter(|entry| {
            let mut categories = entry.categories().into_iter();
            categories.any(|category| category.as_bytes() == wanted)
        })),
        b"pattern" => names(
            &mut all
                .by_ref()
                .filter(|entry| glob::matches(&wanted, entry.name.as_bytes())),
        ),
        _ => Reply::syntax(),
    }
}

/// `COMMAND GETKEYS` and the like.
fn keys(args: &[Bytes], shown: impl Fn(&Bytes, &[&'static str]) -> Reply) -> Reply {
    let Some(entry) = called(args) else {
        return Reply::err("ERR Invalid command specified");
    };
    let Some(fact) = entry
        .fact
        .filter(|fact| !fact.specs.iter().all(KeySpec::is_of_channels))
    else {
        return Reply::err("ERR The command has no key arguments");
    };
    if !fits(entry.arity, args.len() - 1) {
        return Reply::err("ERR Invalid number of arguments specified for command");
    }
    match places(fact, args) {
        Ok(found) if !found.is_empty() || fact.flags.contains(&"no_mandatory_keys") => {
            let keys = found
                .iter()
                .filter_map(|(at, flags)| Some(shown(args.get(*at)?, flags)));
            Reply::Array(keys.collect())
        }
        _ => Reply::err("ERR Invalid arguments specified for command"),
    }
}

/// The command, or subcommand, that these words call.
fn called(args: &[Bytes]) -> Option<Entry> {
    let (name, rest) = args.split_first()?;
    let command = match find_spec(name) {
        Some(spec) => entry(spec.name.as_bytes()),
        None => own(name).and_then(|own| entry(own.name.as_bytes())),
    }?;
    if facts::subcommands(command.name).next().is_none() {
        return Some(command);
    }
    let sub = [command.name.as_bytes(), b"|", rest.first()?].concat();
    entry(&sub)
}

type Place = (usize, Vec<&'static str>);

/// Where a command's keys are, and what becomes of each.
fn places(fact: &Fact, args: &[Bytes]) -> Result<Vec<Place>, Nowhere> {
    let word = |at: usize, word: &str| {
        args.get(at)
            .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    let any = |words: &[&str]| (2..args.len()).any(|at| words.iter().any(|it| word(at, it)));
    // What their arguments make of the flags, and where a word need not be one.
    match fact.name {
        "set" if (3..args.len()).any(|at| word(at, "get")) => {
            return Ok(vec![(1, vec!["RW", "access", "update"])]);
        }
        "set" => return Ok(vec![(1, vec!["OW", "update"])]),
        "bitfield" if any(&["set", "incrby"]) => return Ok(vec![(1, vec!["RW", "access", "update"])]),
        "bitfield" => return Ok(vec![(1, vec!["RO", "access"])]),
        "sort" => {
            let stored = sort_store(args).map(|at| (at, vec!["OW", "update"]));
            return Ok([(1, vec!["RO", "access"])].into_iter().chain(stored).collect());
        }
        _ => {}
    }
    let mut all = Vec::new();
    for spec in fact.specs.iter().filter(|spec| !spec.is_of_channels()) {
        match spec.places(args) {
            Ok(places) => all.extend(places.into_iter().map(|at| (at, spec.flags.clone()))),
            Err(Nowhere::NotHere) => {}
            Err(Nowhere::Invalid) => return Err(Nowhere::Invalid),
        }
    }
    Ok(all)
}

/// The key that `SORT` stores in: behind the last `STORE` that is no argument of another word.
fn sort_store(args: &[Bytes]) -> Option<usize> {
    let (mut at, mut found) = (2, None);
    while let Some(word) = args.get(at) {
        at += match word.to_ascii_lowercase().as_slice() {
            b"limit" => 3,
            b"get" | b"by" => 2,
            b"store" if at + 1 < args.len() => {
                found = Some(at + 1);
                1
            }
            _ => 1,
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_asked_about_are_bounded() {
        for sub in ["INFO", "docs"] {
            let named = |count| {
                let names = std::iter::repeat_n(Bytes::from_static(b"client"), count);
                command(
                    &std::iter::once(Bytes::from_static(sub.as_bytes()))
                        .chain(names)
                        .collect::<Vec<_>>(),
                )
            };
            assert!(!named(COMMAND_NAMES_MAX).is_error());
            let too_many = format!(
                "names {} commands, and may name {COMMAND_NAMES_MAX}",
                COMMAND_NAMES_MAX + 1
            );
            assert!(matches!(named(COMMAND_NAMES_MAX + 1), Reply::Error(why) if why.contains(&too_many)));
        }
    }
}
