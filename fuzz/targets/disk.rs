//! What comes from the disk, should its checksums not have told: records of the journal, sections of snapshots. A state that can be
//! read can be digested, and written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate::machine::Thaw;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    if kind % 4 == 0 {
        quorate::storage::fuzzing::records(rest);
        return;
    }
    let mut thaw = Thaw::default();
    if kind % 4 == 1 {
        if thaw.take(rest).is_ok() {
            let _ = thaw.finish().map(|machine| machine.digest());
        }
        return;
    }
    // Sections by themselves: their lengths in front would be the hardest to hit upon.
    for section in rest.split(|byte| *byte == 0xfe) {
        let length = (section.len() as u64).to_le_bytes();
        if thaw.take(&[&length[..], section].concat()).is_err() {
            return;
        }
    }
    if let Ok(machine) = thaw.finish() {
        let _ = machine.digest();
    }
});
