//! Side room: what a node takes from the machine that it runs on, and what a simulation gives it instead.
//!
//! | what | in a process | in a simulation |
//! |---|---|---|
//! | sockets | [`Tcp`] | any other [`Network`] |
//! | chance | the system's generator | one generator for the thread, see [`simulate`] |
//! | blocking work | tokio's blocking threads, or a less urgent one | done at once, in its task |
//! | wall clock | [`Clock`] | [`Clock`] |
//!
//! The disk has a seam of its own: `storage::Disk`. Monotonic time is tokio's, which a simulation pauses.

mod chance;
mod net;

use std::io;
use std::sync::Arc;

pub use chance::{chance, generator, is_simulated, simulate};
pub use net::{Duplex, Listener, Network, ReadHalf, SimulatedListener, Stream, Tcp, WriteHalf};

use crate::base::Millis;

/// Reads a node's wall clock. Passed in, so that tests can bend it.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// The machine's wall clock, in milliseconds since the epoch.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where wall-clock time enters the program"
        )]
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Asks the kernel for small pages. With huge ones, p99 of SET is 11 ms instead of 6 at 64 clients (GET is a twentieth faster), and
/// they stay in memory whole for the few small objects that are left in them. `docs/performance.md` says how it was measured.
pub fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!("huge pages stay: {e}");
    }
}

/// How much less than a node's other threads one gets that works in the background.
#[derive(Debug, Clone, Copy)]
pub enum Urgency {
    /// A third, at the same processor: others wait for it in the end.
    Lower,
    /// Next to nothing: nobody waits for it.
    Lowest,
}

impl Urgency {
    fn nice(self) -> i32 {
        match self {
            Urgency::Lower => 5,
            Urgency::Lowest => 15,
        }
    }
}

/// Runs long blocking work on a thread of its own, which yields to those that clients wait for.
///
/// # Errors
/// Those of the work; a thread that cannot be started; work that panicked.
pub async fn background<T: Send + 'static>(
    name: &str,
    urgency: Urgency,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if is_simulated() {
        return work();
    }
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name(name.into()).spawn(move || {
        if let Err(e) = rustix::process::nice(urgency.nice()) {
            tracing::debug!("background work cannot be made less urgent: {e}");
        }
        // Who has stopped waiting does not want the result.
        drop(done.send(work()));
    })?;
    result.await.map_err(io::Error::other)?
}

/// Runs blocking work on tokio's blocking threads.
///
/// # Errors
/// Those of the work; work that panicked or was given up.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if is_simulated() {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
