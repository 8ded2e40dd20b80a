//! Raft's read index, for all groups that this node leads at once: does a quorum still hold the leader's vote?
//!
//! ```text
//!  reader: (group, the leader's vote) ─▶ one question a peer for all that wait ─▶ is that the vote in its journal?
//!                                                         a quorum says so, the leader included ─▶ confirmed
//! ```
//!
//! A peer's journal has a vote before anybody can hear of it ([`RaftLogStorage::save_vote`]), so a peer that still holds the
//! leader's vote when it is asked has promised none to a later leader by then; with a quorum of those no later one can have
//! been elected. openraft would ask by a heartbeat, which costs several turns of its core for each group and round.
//!
//! [`RaftLogStorage::save_vote`]: openraft::storage::RaftLogStorage::save_vote

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use super::Vote;
use super::link::Links;
use super::shared::Shared;
use super::wire::{Call, Return};
use crate::base::limits::GROUP_QUEUE_MAX;
use crate::base::{GroupId, Mutant, NodeId, codec, mutant};
use crate::storage::Journal;

/// What a replica knows of its leadership without asking openraft, which would take a turn of its core.
#[derive(Clone)]
pub struct Leadership {
    journal: Journal,
    shared: Arc<Shared>,
    /// The vote that this process found on the disk.
    found: Option<Bytes>,
}

impl Leadership {
    /// To be made before openraft starts.
    pub fn new(journal: Journal, shared: Arc<Shared>) -> Leadership {
        let found = journal.with(shared.group.number(), |log| log.vote.clone());
        Leadership {
            journal,
            shared,
            found,
        }
    }

    /// The vote by which this replica leads and the last entry that it has applied, if there is no later entry. The journal
    /// has a vote before anybody hears of it, and every entry that a leader has had acknowledged; but not those of its last
    /// process, which two followers may have acknowledged when it had not synced them: a vote that was found does not count.
    pub fn settled(&self) -> Option<(Bytes, u64)> {
        let group = self.shared.group.number();
        let (vote, end) = self.journal.with(group, |log| (log.vote.clone(), log.end()));
        if vote == self.found && !mutant::is(Mutant::FoundVoteLeads) {
            return None;
        }
        let vote = vote?;
        let decoded: Vote = codec::decode(&vote).ok()?;
        let leads = decoded.committed && decoded.leader_id.node_id == self.shared.node;
        let applied = self.shared.with(|state| state.applied.map_or(0, |id| id.index));
        (leads && end <= applied + 1).then_some((vote, applied))
    }
}

/// How long a round may take before the next begins.
const ROUND: Duration = Duration::from_millis(5);

/// A leader that wants to be confirmed.
struct Claim {
    group: GroupId,
    vote: Bytes,
    /// Peers that have a replica.
    peers: BTreeSet<NodeId>,
    /// How many of them have to agree.
    needed: usize,
    answer: Option<oneshot::Sender<bool>>,
}

/// Asks peers whether they still hold leaders' votes. One a node; clones share it.
#[derive(Clone)]
pub struct Confirmer {
    claims: mpsc::Sender<Claim>,
}

impl Confirmer {
    /// `patience` is how long peers may take.
    #[must_use]
    pub fn start(links: Links, patience: Duration) -> Confirmer {
        let (claims, queue) = mpsc::channel(GROUP_QUEUE_MAX);
        tokio::spawn(run(links, patience, queue));
        Confirmer { claims }
    }

    /// Whether a quorum of the group's replicas, of which `peers` are not here, has promised no later leader.
    pub async fn confirm(&self, group: GroupId, vote: Bytes, peers: BTreeSet<NodeId>) -> bool {
        let (answer, rx) = oneshot::channel();
        let claim = Claim {
            group,
            vote,
            needed: peers.len().div_ceil(2),
            peers,
            answer: Some(answer),
        };
        self.claims.send(claim).await.is_ok() && rx.await.unwrap_or(false)
    }
}

/// One round after the other, and what comes meanwhile goes with the next; but a round whose peers are silent holds up no
/// other group's. Runs until all who may ask are gone.
async fn run(links: Links, patience: Duration, mut queue: mpsc::Receiver<Claim>) {
    // A group's reader has one claim under way at a time, so there are no more rounds than groups.
    let mut slow = FuturesUnordered::new();
    loop {
        let mut claims = Vec::new();
        tokio::select! {
            biased;
            taken = queue.recv_many(&mut claims, GROUP_QUEUE_MAX) => {
                if taken == 0 {
                    return;
                }
            }
            Some(()) = slow.next(), if !slow.is_empty() => continue,
        }
        // Other groups' readers that are ready come along.
        tokio::task::yield_now().await;
        while let Ok(more) = queue.try_recv() {
            claims.push(more);
        }
        let mut round = Box::pin(round(links.clone(), patience, claims));
        if tokio::time::timeout(ROUND, &mut round).await.is_err() {
            slow.push(round);
        }
    }
}

async fn round(links: Links, patience: Duration, mut claims: Vec<Claim>) {
    let mut asked: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for (at, claim) in claims.iter_mut().enumerate() {
        settle(claim);
        for &peer in &claim.peers {
            asked.entry(peer).or_default().push(at);
        }
    }
    let answers = asked.into_iter().filter_map(|(peer, which)| {
        let votes = which
            .iter()
            .map(|&at| (claims[at].group, claims[at].vote.clone()));
        let answer = links.call(peer, Call::Confirm(votes.collect())).ok()?;
        Some(async move {
            match tokio::time::timeout(patience, answer).await {
                Ok(Ok(Return::Confirm(held))) if held.len() == which.len() => Some((which, held)),
                _ => None,
            }
        })
    });
    let mut answers: FuturesUnordered<_> = answers.collect();
    while let Some(told) = answers.next().await {
        let (which, held) = told.unwrap_or_default();
        for (at, held) in which.into_iter().zip(held) {
            claims[at].needed = claims[at].needed.saturating_sub(usize::from(held));
            settle(&mut claims[at]);
        }
        if claims.iter().all(|claim| claim.answer.is_none()) {
            return;
        }
    }
}

fn settle(claim: &mut Claim) {
    if claim.needed == 0
        && let Some(answer) = claim.answer.take()
    {
        // Whoever asked may have given up.
        let _ = answer.send(true);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use tokio::net::TcpListener;

    use super::*;
    use crate::host::{Listener, Tcp};
    use crate::raft::link::{Dispatch, LinkOptions, Responder};

    /// A peer that holds every vote, or one that says nothing.
    struct Peer {
        silent: bool,
    }

    impl Dispatch for Peer {
        fn call(&self, _: NodeId, call: Call) -> BoxFuture<'static, Return> {
            let Call::Confirm(votes) = call else {
                return std::future::ready(Return::Refused("not asked for".into())).boxed();
            };
            if self.silent {
                return std::future::pending().boxed();
            }
            std::future::ready(Return::Confirm(vec![true; votes.len()])).boxed()
        }

        fn service(&self, _: NodeId, _: Bytes, _: Responder) {}
    }

    /// The links of node 1, which is linked to node 2, that answers, and node 3, that does not.
    async fn links() -> Links {
        let mut listeners = Vec::new();
        for _ in 1..=3 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        }
        let address = |listener: &TcpListener| listener.local_addr().expect("an address").to_string();
        let peers: BTreeMap<NodeId, String> = (1..).zip(listeners.iter().map(address)).collect();
        let mut all = Vec::new();
        for (node, listener) in (1..).zip(listeners) {
            let links = Links::new(LinkOptions {
                node,
                network: Arc::new(Tcp),
                peers: peers.clone(),
                layout: String::new(),
                reads: String::new(),
            });
            links.set_dispatch(Arc::new(Peer { silent: node == 3 }));
            links.start(Listener::Tcp(listener));
            all.push(links);
        }
        let mut hellos = all[0].hellos();
        let linked = hellos.wait_for(|peers| peers.len() == 2);
        let linked = tokio::time::timeout(Duration::from_secs(20), linked).await;
        linked
            .expect("peers on this machine link")
            .expect("the links live");
        all.swap_remove(0)
    }

    #[tokio::test]
    async fn a_silent_peer_holds_up_its_own_groups_alone() {
        let confirmer = Confirmer::start(links().await, Duration::from_secs(3600));
        let ask =
            |group, peer| confirmer.confirm(GroupId::Shard(group), Bytes::new(), BTreeSet::from([peer]));
        let mut of_silent = Box::pin(ask(0, 3));
        assert_eq!((&mut of_silent).now_or_never(), None);
        for group in 1..4 {
            let answered = tokio::time::timeout(Duration::from_secs(20), ask(group, 2));
            assert_eq!(answered.await, Ok(true), "shard {group}");
        }
        assert_eq!(of_silent.now_or_never(), None, "nobody has said so");
    }
}
