//! What `RESTORE` and `FUNCTION RESTORE` take: no payload does more than fail, and a value that was read is read again from what it is
//! dumped to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate::machine::dumped_codes;
use quorate::machine::rdb::{dump, load, trailer};

fuzz_target!(|data: &[u8]| {
    let _ = load(data);
    let sealed = trailer::seal(data.to_vec());
    let _ = dumped_codes(&sealed);
    let Ok(value) = load(&sealed) else { return };
    let Ok(dumped) = dump(&value) else { return };
    let Ok(again) = load(&dumped) else {
        panic!("{value:?} is not read again");
    };
    // A set may have come in another order than its own.
    assert_eq!(dump(&again).ok(), Some(dumped), "{value:?} became {again:?}");
});
