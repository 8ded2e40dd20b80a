//! Errors by what the caller can do (DESIGN.md, section 9). An error either says that nothing happened, or that the
//! outcome is unknown and under which id it can be asked; the two are never mixed up.

use super::TxnId;

pub type Result<T> = std::result::Result<T, Error>;

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing happened; the same request may be sent again.
    #[error("TRYAGAIN {0}")]
    Retry(String),
    /// Nothing happened; the transaction was rolled back.
    #[error("ABORTED {0}")]
    Aborted(String),
    /// The request itself is wrong.
    #[error("ERR {0}")]
    Invalid(String),
    /// Nothing happened; no quorum or no leader could be reached in time.
    #[error("CLUSTERDOWN {0}")]
    Unavailable(String),
    /// Nothing happened: it needs more memory than `maxmemory` leaves.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// It may have happened; `TXN STATUS <id>` tells.
    #[error("UNKNOWN {id} {why}")]
    Unknown { id: TxnId, why: String },
    /// A broken invariant or a storage fault: the replica has stopped.
    #[error("ERR stopped: {0}")]
    Stopped(String),
}

impl Error {
    /// Whether the error proves that the request had no effect.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        !matches!(self, Error::Unknown { .. } | Error::Stopped(_))
    }
}
