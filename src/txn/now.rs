//! What time it is for a coordinator.

use crate::base::Millis;

/// The time twice, in milliseconds. What a log decides by, and all deadlines with it, is replicated time: it stands still for
/// as long as a clock was ahead for a moment. What only concerns this leader goes by a clock that never does.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub replicated: Millis,
    pub steady: Millis,
}

impl From<Millis> for Now {
    /// Where no clock is ever set, one is enough.
    fn from(now: Millis) -> Now {
        Now {
            replicated: now,
            steady: now,
        }
    }
}
