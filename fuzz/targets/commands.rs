//! The command parser, and what it accepts: run on a small state, whatever the arguments are; no reply is lost, and the state stays
//! what its own sums say of it. Commands are lines; words are parted by blanks, `_` in a word stands for one.
#![no_main]

use std::cell::RefCell;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use quorate::machine::commands::{check_arity, find, parse};
use quorate::machine::keyspace::Keyspace;
use quorate::machine::overlay::Overlay;
use quorate::machine::{Command, Touches};

/// A key of each type, so that few words are needed to come upon them.
const STATE: &str = "SET s abc\nSET n 10\nRPUSH l a b c\nSADD t a b 1\nHSET h f v g 2\nZADD z 1 a 2 b\nXADD x 1-1 f v\n\
    XGROUP CREATE x g 0\nXREADGROUP GROUP g c STREAMS x >\nPFADD p a b\nGEOADD geo 13 38 a 15 37 b\nSETBIT b 100 1";

thread_local! {
    static BEFORE: RefCell<Option<Keyspace>> = const { RefCell::new(None) };
}

fn command(line: &[u8]) -> Option<Command> {
    let mut words = line.split(|byte| *byte == b' ').map(|word| {
        let blank = |byte: &u8| if *byte == b'_' { b' ' } else { *byte };
        Bytes::from_iter(word.iter().map(blank))
    });
    let spec = find(&words.next()?)?;
    let args: Vec<Bytes> = words.collect();
    check_arity(spec, &args).ok()?;
    parse(spec, &args).ok()
}

fn run(keyspace: &mut Keyspace, version: u64, command: &Command) {
    let mut view = Overlay::new(keyspace, 1_000_000, version);
    view.record(version % 2 == 0);
    let reply = command.run(&mut view);
    assert!(
        command.is_write() || view.writes.is_empty(),
        "{command:?} is no write, and replied {reply:?}"
    );
    if let Touches::Keys(keys) = command.touches() {
        let known = |key: &Bytes| keys.contains(&key);
        assert!(
            view.writes.keys.keys().all(known),
            "{command:?} wrote other keys than it names"
        );
    }
    let writes = view.writes;
    writes.apply(keyspace, version);
}

fuzz_target!(|data: &[u8]| {
    let mut keyspace = BEFORE.with_borrow_mut(|before| {
        let built = before.get_or_insert_with(|| {
            let mut keyspace = Keyspace::default();
            for (version, line) in (1..).zip(STATE.lines()) {
                run(
                    &mut keyspace,
                    version,
                    &command(line.as_bytes()).expect("it is well-formed"),
                );
            }
            keyspace
        });
        built.clone()
    });
    for (version, line) in (100..).zip(data.split(|byte| *byte == b'\n').take(20)) {
        let Some(command) = command(line) else { continue };
        // Where scripts and whole-space commands go, there is more than a state.
        if matches!(command, Command::Eval(_)) {
            continue;
        }
        let _ = (
            command.weight(),
            command.grows(),
            command.is_access(),
            command.waits(),
        );
        run(&mut keyspace, version, &command);
        assert_eq!(keyspace.bytes(), keyspace.bytes_by_walk(), "{command:?}");
    }
});
