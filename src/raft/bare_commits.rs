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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::stream;
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;
    use openraft::testing::log_id;

    use super::*;
    use crate::raft::entry::Payload;
    use crate::raft::{Entry, Vote};

    /// An append of one entry, or of none, that says that the log is committed up to `committed`.
    fn append(committed: u64, entries: bool) -> AppendEntriesRequest<TypeConfig> {
        let id = |index| log_id::<TypeConfig>(1, 1, index);
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(9)),
            entries: entries
                .then(|| Entry::new(id(10), EntryPayload::Normal(Payload(Bytes::new()))))
                .into_iter()
                .collect(),
            leader_commit: Some(id(committed)),
        }
    }

    fn told(request: &AppendEntriesRequest<TypeConfig>) -> (u64, usize) {
        let committed = request.leader_commit.map_or(0, |id| id.index);
        (committed, request.entries.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_bare_commit_goes_with_the_next_entries_or_after_a_while_and_the_first_at_once() {
        let all = [
            append(1, false),
            append(2, false),
            append(3, false),
            append(4, true),
            append(5, false),
        ];
        let input = Box::pin(stream::iter(all).chain(stream::pending()));
        let mut output = Box::pin(with_fewer_bare_commits(input));
        let begun = Instant::now();
        let mut next = async || {
            let request = output.next().await.expect("it never ends");
            (told(&request), begun.elapsed())
        };
        assert_eq!(next().await, ((1, 0), Duration::ZERO), "it may be a probe");
        assert_eq!(next().await, ((4, 1), Duration::ZERO));
        let ((committed, entries), waited) = next().await;
        assert_eq!((committed, entries), (5, 0));
        assert!(waited >= COMMIT_LINGERS, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_when_the_stream_ends_is_sent() {
        let input = Box::pin(stream::iter([append(1, true), append(2, false)]));
        let output = with_fewer_bare_commits(input).map(|request| told(&request));
        assert_eq!(output.collect::<Vec<_>>().await, [(1, 1), (2, 0)]);
    }
}
