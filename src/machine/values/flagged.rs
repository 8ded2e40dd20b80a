//! A string with what memcached clients keep beside it. A Redis command that writes the key makes it a plain one again; one that
//! only moves it, or changes its expiry, keeps it as it is.

use serde::{Deserialize, Serialize};

use super::Blob;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flagged {
    pub data: Blob,
    /// The client's.
    pub flags: u32,
    /// Marked as out of date.
    pub stale: bool,
    /// A client has been told to renew it.
    pub won: bool,
    /// The unique number that was told of it inside a log entry; 0: none. See `commands::memcached::cas`.
    pub told: u64,
}

impl Flagged {
    /// Bytes, roughly.
    pub(super) fn weight(&self) -> usize {
        self.data.len() + size_of::<Flagged>()
    }

    /// The hash of all of it, from that of the data.
    pub(super) fn mix(&self, data: u64) -> u64 {
        // Odd constants, as those in `digest.rs`. Without any of these it is still no plain string: replicas that differ in
        // this differ.
        let marks = u64::from(self.flags) << 2 | u64::from(self.stale) << 1 | u64::from(self.won);
        let beside =
            marks.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ self.told.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        (data ^ beside).rotate_left(1)
    }
}
