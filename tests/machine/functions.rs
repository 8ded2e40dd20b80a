//! Libraries of functions in a shard's state: names are one, changes are whole and happen once, and no command on keys sees them.

use std::collections::BTreeSet;

use quorate::base::Reply;
use quorate::base::limits::FUNCTIONS_BYTES_MAX;
use quorate::machine::{
    Body, Function, FunctionChange, FunctionFlag, Libraries, Library, Read, ReadOutcome, Request, Response,
    RestorePolicy, Seen, Thaw, dumped_codes,
};

use crate::snapshot::{bytes_of, thaw};
use crate::talk::*;

fn library(name: &str, functions: &[&str], code: &str) -> Library {
    let function = |name: &&str| Function {
        name: (*name).to_owned(),
        description: Some("it is described".into()),
        flags: BTreeSet::from([FunctionFlag::NoWrites]),
    };
    Library {
        name: name.to_owned(),
        code: code.to_owned().into(),
        functions: functions.iter().map(function).collect(),
    }
}

fn load(library: Library, replace: bool) -> FunctionChange {
    FunctionChange::Load { library, replace }
}

fn request(change: FunctionChange) -> Request {
    Request::anonymous(Body::Functions(Box::new(change)))
}

fn change(talk: &mut Talk, change: FunctionChange) -> Reply {
    match talk.ask(request(change)) {
        Response::Replies(mut replies) if replies.len() == 1 => replies.remove(0),
        other => panic!("a change answers {other:?}"),
    }
}

fn restore(talk: &mut Talk, libraries: &[Library], policy: RestorePolicy) -> Reply {
    let libraries = libraries.to_vec();
    change(talk, FunctionChange::Restore { libraries, policy })
}

fn delete(talk: &mut Talk, name: &'static str) -> Reply {
    change(talk, FunctionChange::Delete { name: name.into() })
}

/// Names of libraries with their functions.
fn names(talk: &Talk) -> Vec<(String, Vec<String>)> {
    let libraries = talk.state().libraries().iter();
    let functions = |library: &Library| library.functions.iter().map(|f| f.name.clone()).collect();
    libraries
        .map(|library| (library.name.clone(), functions(library)))
        .collect()
}

fn error(reply: &Reply) -> &str {
    match reply {
        Reply::Error(text) => text,
        other => panic!("no error: {other:?}"),
    }
}

fn version(talk: &Talk) -> u64 {
    talk.state().libraries().version()
}

#[test]
fn a_change_happens_whole_or_not_at_all_and_names_are_one_for_all_libraries() {
    let mut talk = Talk::shard();
    assert_eq!(version(&talk), 0);
    assert_eq!(
        change(&mut talk, load(library("a", &["f", "g"], "1"), false)),
        Reply::bulk("a")
    );
    assert_eq!(version(&talk), talk.index);
    let refused = [
        (
            load(library("a", &["h"], "2"), false),
            "ERR Library 'a' already exists",
        ),
        (
            load(library("b", &["h", "G"], "2"), false),
            "ERR Function G already exists",
        ),
        (
            load(library("b", &["h", "g"], "2"), true),
            "ERR Function g already exists",
        ),
        (
            FunctionChange::Delete { name: "b".into() },
            "ERR Library not found",
        ),
        (
            FunctionChange::Delete {
                name: vec![0xff].into(),
            },
            "ERR Library not found",
        ),
    ];
    let before = talk.state().libraries().clone();
    for (refused, why) in refused {
        assert_eq!(error(&change(&mut talk, refused)), why);
        assert_eq!(*talk.state().libraries(), before, "{why}");
    }
    assert!(!change(&mut talk, load(library("a", &["g", "h"], "3"), true)).is_error());
    assert_eq!(names(&talk), [("a".into(), vec!["g".into(), "h".into()])]);
    assert!(!change(&mut talk, load(library("b", &["f"], "4"), true)).is_error());
    assert_eq!(delete(&mut talk, "a"), Reply::ok());
    assert_eq!((names(&talk).len(), version(&talk)), (1, talk.index));
    assert_eq!(change(&mut talk, FunctionChange::Flush), Reply::ok());
    assert_eq!((names(&talk).len(), version(&talk)), (0, talk.index));
}

#[test]
fn what_is_restored_is_restored_whole_by_its_policy() {
    use RestorePolicy::{Append, Flush, Replace};
    let mut talk = Talk::shard();
    let [a, b] = [library("a", &["f"], "1"), library("b", &["g"], "1")];
    assert_eq!(restore(&mut talk, &[a.clone(), b.clone()], Append), Reply::ok());
    let whole = talk.state().libraries().clone();
    let c = library("c", &["h"], "1");
    let refused = restore(&mut talk, &[c.clone(), b.clone()], Append);
    assert_eq!(error(&refused), "ERR Library b already exists");
    let taken = library("d", &["F"], "1");
    let refused = restore(&mut talk, &[c.clone(), taken.clone()], Replace);
    assert_eq!(error(&refused), "ERR Function F already exists");
    let refused = restore(&mut talk, &[c.clone(), c.clone()], Flush);
    assert!(error(&refused).contains("already exists"));
    assert_eq!(*talk.state().libraries(), whole);
    // What is replaced makes room for names.
    let swapped = [library("a", &["g"], "2"), library("b", &["f"], "2")];
    assert_eq!(restore(&mut talk, &swapped, Replace), Reply::ok());
    assert_eq!(
        names(&talk),
        [("a".into(), vec!["g".into()]), ("b".into(), vec!["f".into()])]
    );
    assert_eq!(restore(&mut talk, &[taken], Flush), Reply::ok());
    assert_eq!(names(&talk), [("d".into(), vec!["F".into()])]);
}

#[test]
fn all_libraries_together_are_bounded() {
    let mut talk = Talk::shard();
    let half = "x".repeat(FUNCTIONS_BYTES_MAX / 2);
    assert!(!change(&mut talk, load(library("a", &["f"], &half), false)).is_error());
    let refused = change(&mut talk, load(library("b", &["g"], &half), false));
    assert!(error(&refused).contains("bytes at the most"), "{refused:?}");
    assert!(!change(&mut talk, load(library("a", &["f"], &half), true)).is_error());
}

#[test]
fn a_change_that_comes_twice_happens_once() {
    let mut talk = Talk::shard();
    let first = request(load(library("a", &["f"], "1"), false)).numbered(1, 1);
    let answer = talk.ask(first.clone());
    assert_eq!(talk.ask(first.clone()), answer, "not: it is there already");
    assert_eq!(delete(&mut talk, "a"), Reply::ok());
    assert_eq!(talk.ask(first), answer);
    assert_eq!(names(&talk), []);
}

#[test]
fn commands_on_keys_see_nothing_of_libraries_and_leave_them() {
    let mut talk = Talk::shard();
    change(&mut talk, load(library("a", &["f"], "1"), false));
    assert_eq!(talk.run("DBSIZE"), Response::Replies(vec![Reply::Int(0)]));
    assert_eq!(talk.state().last_write(), 0, "nobody who watches is told");
    talk.run("SET a 1");
    talk.run("FLUSHALL");
    assert_eq!(names(&talk).len(), 1);
    assert_eq!(
        talk.run("KEYS *"),
        Response::Replies(vec![Reply::Array(Vec::new())])
    );
}

#[test]
fn a_read_tells_them_to_whom_has_others() {
    let mut talk = Talk::shard();
    let read = |talk: &Talk, known: u64| match talk.machine.read(&Read::Functions(known), 0, u64::MAX) {
        ReadOutcome::Ready(Seen::Functions(told)) => told,
        other => panic!("{other:?}"),
    };
    assert_eq!(read(&talk, 0), None);
    change(&mut talk, load(library("a", &["f"], "1"), false));
    assert_eq!(read(&talk, 0).as_ref(), Some(talk.state().libraries()));
    assert_eq!(read(&talk, version(&talk)), None);
}

#[test]
fn snapshots_and_digests_have_them() {
    let mut talk = Talk::shard();
    talk.run("SET a 1");
    let before = talk.machine.running_digest().expect("a state is encoded");
    change(&mut talk, load(library("a", &["f"], "1"), false));
    let with = talk.machine.running_digest().expect("a state is encoded");
    assert_ne!(with, before);
    let other = thaw(&bytes_of(&talk.machine.freeze()));
    let shard = other.as_shard().expect("a shard");
    assert_eq!(shard.libraries(), talk.state().libraries());
    assert_eq!(other.running_digest().ok(), Some(with));
    assert_eq!(other.digest().ok(), talk.machine.digest().ok());
    // The same code at another version, or other code at the same.
    let mut later = Talk::shard();
    later.run("SET a 1");
    later.run("GET a");
    change(&mut later, load(library("a", &["f"], "1"), false));
    assert_ne!(later.machine.running_digest().ok(), Some(with));
    let mut others = Talk::shard();
    others.run("SET a 1");
    change(&mut others, load(library("a", &["f"], "2"), false));
    assert_ne!(others.machine.running_digest().ok(), Some(with));
}

#[test]
fn a_snapshot_of_before_there_were_functions_is_read() {
    let mut talk = Talk::shard();
    talk.run("SET a 1");
    let mut bytes = bytes_of(&talk.machine.freeze());
    // The first section: eight bytes of length, the kind, the format's number.
    assert_eq!(bytes[9], 8);
    bytes[9] = 7;
    let mut old = Thaw::default();
    old.take(&bytes).expect("format 7 is known");
    let machine = old.finish().expect("it is whole");
    assert_eq!(machine.digest().ok(), talk.machine.digest().ok());
    assert_eq!(
        machine.as_shard().map(|shard| shard.libraries().version()),
        Some(0)
    );
}

#[test]
fn a_dump_has_the_code_of_all() {
    let mut talk = Talk::shard();
    let long = "y".repeat(20_000);
    for (name, code) in [("a", "1"), ("b", long.as_str())] {
        change(&mut talk, load(library(name, &[name], code), false));
    }
    let dump = talk.state().libraries().dump();
    assert_eq!(dumped_codes(&dump), Ok(vec!["1".into(), long.into()]));
    // As Redis 7.0 dumps nothing.
    assert_eq!(Libraries::default().dump(), b"\n\x00]\x9b\\@\x0f\x7f\xa2\xda");
}
