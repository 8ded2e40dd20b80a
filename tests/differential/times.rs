//! The times that commands name, and the clocks of Redis and Quorate, which the test owns.
//!
//! Where the clocks stand still all replies are the same to the millisecond. Quorate has a key gone in the millisecond of its
//! expiry and Redis only after it, so the clock never stands at one: it moves by whole seconds and seven milliseconds, begins
//! at three milliseconds past a second, and no time that is named ends in such a sum.
//!
//! Where they go (a cluster's), only by jumps of whole `GRID`s is anything past that was not: what is named from now on lies a
//! half of it behind a jump, and what is absolute three quarters.

use std::cell::Cell;

use rand::RngExt;
use rand::rngs::StdRng;

/// Seconds; a round must not take a quarter of it.
const GRID: u64 = 200;

/// From now on; any jump goes beyond it.
pub const BEFORE_A_JUMP_MS: &str = "100000";

pub struct Times {
    /// Milliseconds since the epoch when the round began.
    start: u64,
    /// Milliseconds of all jumps since.
    ahead: Cell<u64>,
    still: bool,
}

impl Times {
    /// Clocks that stand still.
    pub fn still(start: u64) -> Times {
        Times {
            start,
            ahead: Cell::new(0),
            still: true,
        }
    }

    /// Clocks that go.
    pub fn going(start: u64) -> Times {
        Times {
            still: false,
            ..Times::still(start)
        }
    }

    pub fn stand_still(&self) -> bool {
        self.still
    }

    /// How far the clocks are to jump.
    pub fn jump(&self, rng: &mut StdRng) -> u64 {
        let by = if self.still {
            [0, 0, 1, 1, 2, 5, 30][rng.random_range(0..7)] * 1000 + 7
        } else {
            rng.random_range(1..6) * GRID * 1000
        };
        self.ahead.set(self.ahead.get() + by);
        by
    }

    /// What stands for this word of a template.
    pub fn words(&self, word: &str) -> Option<Vec<String>> {
        let (now, second) = (self.start + self.ahead.get(), self.start / 1000);
        let numbers = |numbers: &[i64]| numbers.iter().map(i64::to_string).collect::<Vec<_>>();
        let after = |from: u64, steps: &[i64]| {
            let steps = steps.iter().map(|step| from.saturating_add_signed(*step));
            steps.map(|at| at.to_string()).collect::<Vec<_>>()
        };
        let grid = |half: u64, unit: u64| (0..12).map(move |n| ((n * GRID + half) * unit).to_string());
        let absolute =
            |unit: u64| (0..12).map(move |n| ((second + n * GRID + GRID * 3 / 4) * unit).to_string());
        let mut words = match (word, self.still) {
            ("%s", true) => numbers(&[1, 2, 5, 100]),
            ("%m", true) => numbers(&[1, 10, 500, 1500, 5000, 100_000]),
            ("@s", true) => after(now / 1000, &[-5, 0, 1, 3, 10, 200]),
            ("@m", true) => after(now, &[-5000, -1, 1, 499, 1500, 20_000]),
            ("%s", false) => grid(GRID / 2, 1).collect(),
            ("%m", false) => grid(GRID / 2, 1000).collect(),
            ("@s", false) => absolute(1).collect(),
            ("@m", false) => absolute(1000).collect(),
            ("%o", true) => return Some(["NX", "XX", "GT", "LT", "x"].map(str::to_owned).into()),
            // Two times from now on are too near each other to compare.
            ("%o", false) => return Some(["NX", "XX", "NX", "XX", "x"].map(str::to_owned).into()),
            ("%i", true) => {
                return Some(
                    ["0", "0", "1", "7", "7", "1007", "1014", "5000", "-1", "x"]
                        .map(str::to_owned)
                        .into(),
                );
            }
            ("%i", false) => return Some(["0", "0", "0", "0", "-1", "x"].map(str::to_owned).into()),
            ("%w", true) => {
                return Some(["0", "0.01", "5", "-1", "x"].map(str::to_owned).into());
            }
            ("%w", false) => return Some(["0.01", "0.002", "0.01", "-1", "x"].map(str::to_owned).into()),
            ("%b", true) => return Some(["0", "10", "-1", "x"].map(str::to_owned).into()),
            ("%b", false) => return Some(["1", "5", "1", "-1", "x"].map(str::to_owned).into()),
            _ => return None,
        };
        words.extend(["0", "-1", "x", "9223372036854775807", "9223372036854775"].map(str::to_owned));
        Some(words)
    }
}
