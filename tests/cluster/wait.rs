//! Waiting for what can be seen, in real time.

use std::thread;
use std::time::{Duration, Instant};

#[expect(
    clippy::disallowed_methods,
    reason = "tests of real processes measure real time; this is the one place"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Looks again and again until `look` finds something or `limit` is over.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = now();
    loop {
        let found = look();
        if found.is_some() || start.elapsed() >= limit {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// As [`within`]; finding nothing fails the test with `what`.
pub fn eventually<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    within(limit, look).unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
}
