//! openraft's network over the links. The other end is in `groups.rs`.

use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use super::bare_commits::with_fewer_bare_commits;
use super::framing::time_for;
use super::link::Links;
use super::log_store::PurgedReads;
use super::state_machine::SnapshotHandle;
use super::wire::{Call, LinkError, Return, SnapshotPart};
use super::{TypeConfig, Vote};
use crate::base::limits::SNAPSHOT_FRAME_BYTES;
use crate::base::{GroupId, Mutant, NodeId, mutant};
use crate::host::{blocking, chance};

type OurSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotHandle>;
type Rpc<T> = Result<T, RPCError<TypeConfig>>;
type BoxStream<'s, T> = std::pin::Pin<Box<dyn Stream<Item = T> + Send + 's>>;

/// How long one append may take, besides what its bytes do, before the stream is given up and started anew.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may take to install a snapshot it has received.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Makes clients of one group for openraft.
pub struct Factory {
    pub group: GroupId,
    pub links: Links,
    pub purged_reads: PurgedReads,
}

/// One group's client to one peer.
pub struct Network {
    group: GroupId,
    target: NodeId,
    links: Links,
    purged_reads: PurgedReads,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, _node: &openraft::impls::EmptyNode) -> Network {
        Network {
            group: self.group,
            target,
            links: self.links.clone(),
            purged_reads: self.purged_reads.clone(),
        }
    }
}

/// `Unreachable`, not `NetworkError`: only that makes openraft back off.
fn unreachable(error: &LinkError) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(error))
}

fn unexpected(target: NodeId, answer: &Return) -> RPCError<TypeConfig> {
    unreachable(&LinkError::Refused {
        node: target,
        why: format!("unexpected answer {answer:?}"),
    })
}

impl Network {
    async fn ask(&self, call: Call, limit: Duration) -> Rpc<Return> {
        let answer = self.links.call(self.target, call).map_err(|e| unreachable(&e))?;
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|e| unreachable(&e)),
            Err(_) => Err(unreachable(&LinkError::Broken(self.target))),
        }
    }

    /// Sends an append at once (the order of calls is the order on the wire); the future is its result.
    fn send_append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> impl Future<Output = Rpc<StreamAppendResult<TypeConfig>>> + Send + use<> {
        let target = self.target;
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(prev);
        let payload = |entry: &super::Entry| match &entry.payload {
            EntryPayload::Normal(payload) => payload.0.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        };
        let bytes = request.entries.iter().map(payload).sum();
        let sent = if request.entries.is_empty() && self.purged_reads.take() {
            let why = "what it needs is purged".into();
            Err(LinkError::Refused { node: target, why })
        } else {
            self.links.call(target, Call::Append(self.group, request))
        };
        async move {
            let answer = sent.map_err(|e| unreachable(&e))?;
            let answer = tokio::time::timeout(APPEND_TIMEOUT + time_for(bytes), answer).await;
            let answer = answer.map_err(|_| unreachable(&LinkError::Broken(target)))?;
            match answer.map_err(|e| unreachable(&e))? {
                Return::Append(response) => Ok(response.into_stream_result(prev, last)),
                other => Err(unexpected(target, &other)),
            }
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: OurSnapshot,
    ) -> Result<Return, StreamingError<TypeConfig>> {
        let broken = |e: io::Error| {
            let error = LinkError::Refused {
                node: self.target,
                why: format!("snapshot: {e}"),
            };
            StreamingError::Unreachable(Unreachable::new(&error))
        };
        let from = snapshot.snapshot.clone();
        let mut reader = blocking(move || from.snapshots.read(&from.name))
            .await
            .map_err(broken)?;
        let transfer = chance();
        for seq in 0.. {
            let (next, back) = blocking(move || Ok((reader.next(SNAPSHOT_FRAME_BYTES)?, reader)))
                .await
                .map_err(broken)?;
            reader = back;
            let last = next.is_none().then(|| (vote, snapshot.meta.clone()));
            let done = last.is_some();
            let part = SnapshotPart {
                transfer,
                seq,
                data: next.unwrap_or_default().into(),
                last,
            };
            let limit = if done { INSTALL_TIMEOUT } else { APPEND_TIMEOUT };
            let answer = self.ask(Call::Snapshot(self.group, Box::new(part)), limit).await;
            let answer = answer.map_err(|e| broken(io::Error::other(e)))?;
            if done {
                return Ok(answer);
            }
        }
        Err(broken(io::Error::other("a snapshot without end")))
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        match self.ask(Call::Append(self.group, rpc), option.soft_ttl()).await? {
            Return::Append(response) => Ok(response),
            other => Err(unexpected(self.target, &other)),
        }
    }

    /// One append at a time, and what is appended meanwhile goes with the next. openraft takes an answer for an answer to
    /// everything that ends at the same log id; were a bare commit index on its way behind an append, the append's answer would
    /// count as one to a question that the peer has not heard, and a deposed leader would take it for the confirmation of a
    /// read (`tests/sim/late.rs`).
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let network = &*self;
        let results: BoxStream<'s, _> = if mutant::is(Mutant::AppendsOverlap) {
            Box::pin(input.map(|request| network.send_append(request)).buffered(32))
        } else {
            Box::pin(with_fewer_bare_commits(input).then(|request| network.send_append(request)))
        };
        // The first failure or conflict is the last answer: openraft starts a new stream from where the peer is. This one
        // must end right there: were it asked for another request, it would read entries that may be purged by now.
        let until_failure = futures::stream::unfold(Some(results), |results| async move {
            let mut results = results?;
            let item = results.next().await?;
            let rest = matches!(item, Ok(Ok(_))).then_some(results);
            Some((item, rest))
        });
        let stream: BoxStream<'s, _> = Box::pin(until_failure);
        Box::pin(std::future::ready(Ok(stream)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        match self.ask(Call::Vote(self.group, rpc), option.hard_ttl()).await? {
            Return::Vote(response) => Ok(response),
            other => Err(unexpected(self.target, &other)),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        match self
            .ask(Call::PreVote(self.group, rpc), option.hard_ttl())
            .await?
        {
            Return::Vote(response) => Ok(response),
            other => Err(unexpected(self.target, &other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: OurSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = self.send_snapshot(vote, snapshot) => answer?,
        };
        match answer {
            Return::Snapshot(response) => Ok(response),
            other => {
                let why = format!("unexpected answer {other:?}");
                Err(StreamingError::Unreachable(Unreachable::new(
                    &LinkError::Refused {
                        node: self.target,
                        why,
                    },
                )))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        match self
            .ask(Call::TransferLeader(self.group, req), option.hard_ttl())
            .await?
        {
            Return::TransferLeader(response) => Ok(response),
            other => Err(unexpected(self.target, &other)),
        }
    }
}
