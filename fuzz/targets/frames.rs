//! What comes from peers: frames of a link, messages, questions and answers of the floor above, entries.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match kind % 4 {
        0 => quorate::raft::fuzzing::link(rest),
        1 => quorate::raft::fuzzing::message(rest),
        2 => quorate::cluster::fuzzing::ask(rest),
        _ => quorate::raft::fuzzing::entry(rest),
    }
});
