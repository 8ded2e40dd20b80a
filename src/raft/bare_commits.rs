//! Appends without entries, which only tell a follower how far the log is committed: openraft makes one for each commit.

use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::time::Instant;

use super::TypeConfig;

/// How long a commit index waits for entries to go with.
const COMMIT_LINGERS: Duration = Duration::from_millis(10);

/// A commit index goes along with the next entries if there are any soon: only followers' states wait for it.
pub fn with_fewer_bare_commits<S>(input: S) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    // The first one of a stream may be a probe, which is waited for.
    futures::stream::unfold((input, true), |(mut input, first)| async move {
        let mut request = input.next().await?;
        let until = Instant::now() + COMMIT_LINGERS;
        while request.entries.is_empty() && !first {
            match tokio::time::timeout_at(until, input.next()).await {
                Ok(Some(later)) => request = later,
                Ok(None) | Err(_) => break,
            }
        }
        Some((request, (input, false)))
    })
}
