//! Memcached's protocol: whatever comes ends in requests or an error, however it is cut, and a reader holds no more than it may.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let step = data.first().map_or(1, |byte| usize::from(byte % 7) + 1);
    let whole = quorate::gateway::fuzzing::memcached(std::iter::once(data));
    assert_eq!(
        quorate::gateway::fuzzing::memcached(data.chunks(step)),
        whole,
        "cut by {step}"
    );
});
