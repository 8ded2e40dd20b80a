//! What became of a request or transaction, told by its id; and having it decided when nobody knows.
//!
//! ```text
//!  ask all that can have executed it ─┬─ one has ──────────────▶ committed
//!                                     ├─ all refuse it ────────▶ aborted
//!                                     ├─ one is at work on it ─▶ unknown-yet
//!                                     └─ nobody knows it ─▶ Withdraw in their logs ─▶ (the same again)
//! ```
//!
//! Why "aborted" is final. A gateway's id names the one group that can execute it; any other id may reach every group. Each
//! of them has said, through its log, that it has refused the id: what comes later, a copy or the first one, comes after
//! that entry and is refused, too, be it a request or a transaction that asks to be staged. One group's refusal says nothing
//! of the others: it may be left from a question that never reached them. These are no refusals: *finished* (it may have
//! been executed and forgotten), *full* (not written down), *parked* (it may run yet), *staged* (it may be committed), silence.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::driver::{Driver, Report, send};
use super::message::{Ask, Told};
use super::node::Node;
use crate::base::{Error, GroupId, RequestId, Result, TxnId, gateway_of};
use crate::machine::{Body, Decision, Fate, Read, Refusal, Request, Response, Seen};
use crate::raft::Group;

/// Between two questions about what is not decided.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// What `TXN WAIT` takes for one look even if it may not wait at all.
const LOOK: Duration = Duration::from_millis(500);
/// How long a coordinator's leader waits for what is to be decided now, before it says that it is not.
const DECIDED: Duration = Duration::from_secs(1);
/// How long the participants of what was settled may take to hear of it.
const RECOVER: Duration = Duration::from_secs(1);

/// What is known of an id. The first two are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Committed,
    Aborted,
    UnknownYet,
}

impl Known {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Known::Committed => "committed",
            Known::Aborted => "aborted",
            Known::UnknownYet => "unknown-yet",
        }
    }
}

/// One group's word on an id.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Committed,
    /// Not executed, and never will be.
    Refused,
    /// Somebody is at work on it.
    UnderWay,
    /// Its outcome depends on its participants.
    Staged,
    /// It may have been executed, and never will be again.
    Forgotten,
    Nothing,
    Silent(String),
}

type Words = BTreeMap<GroupId, Word>;

impl Node {
    /// What became of a request or transaction. One that no group knows is refused by all from now on.
    ///
    /// # Errors
    /// A group that could not be asked, so that "unknown" would be a guess.
    pub async fn status_of(&self, id: TxnId) -> Result<Known> {
        self.find_out(id, Instant::now() + self.request_timeout()).await
    }

    /// What is known of it, without having anything decided; and who did not answer.
    pub async fn known_of(&self, id: TxnId) -> (Known, Vec<GroupId>) {
        let words = self.look(id, Instant::now() + LOOK).await;
        let silent = words.iter().filter(|(_, word)| matches!(word, Word::Silent(_)));
        (verdict(&words), silent.map(|(&group, _)| group).collect())
    }

    /// Asks again and again until the outcome is known or `limit` is over.
    pub async fn wait_for(&self, id: TxnId, limit: Duration) -> Known {
        let end = Instant::now() + limit;
        let mut pause = PAUSE_MIN;
        loop {
            let now = Instant::now();
            let look = end.max(now + LOOK).min(now + self.request_timeout());
            // Who cannot be asked now may be there the next time.
            if let Ok(known @ (Known::Committed | Known::Aborted)) = self.find_out(id, look).await {
                return known;
            }
            if Instant::now() >= end {
                return Known::UnknownYet;
            }
            tokio::time::sleep_until(end.min(Instant::now() + pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Has it decided now: what is staged by its participants, all else by a refusal, unless it is executed.
    pub async fn resolve_now(&self, id: TxnId) -> Known {
        let deadline = Instant::now() + self.request_timeout();
        let known = self.settle_all(id, self.homes(id), true, deadline).await;
        if known != Known::UnknownYet {
            // Those who hold it prepared need not wait for their patience to end. Who does not hear this asks later.
            let ask = Ask::Recover(id);
            let shards = self.all_groups().into_iter();
            let shards = shards.filter(|group| matches!(group, GroupId::Shard(_)));
            let asked = shards.map(|group| self.router().ask(group, &ask, Instant::now() + RECOVER));
            join_all(asked).await;
        }
        known
    }

    /// The groups that can execute a request of this id.
    fn homes(&self, id: RequestId) -> Vec<GroupId> {
        let all = self.all_groups();
        match gateway_of(id.session) {
            Some((node, group)) if self.config().node(node).is_ok() && all.contains(&group) => vec![group],
            _ => all,
        }
    }

    async fn find_out(&self, id: TxnId, deadline: Instant) -> Result<Known> {
        let words = self.look(id, deadline).await;
        let known = verdict(&words);
        if known != Known::UnknownYet || words.values().any(|word| *word == Word::UnderWay) {
            return Ok(known);
        }
        for (group, word) in &words {
            if let Word::Silent(why) = word {
                return Err(Error::Unavailable(format!("{group} does not answer: {why}")));
            }
        }
        let open = words.into_iter().filter(|(_, word)| *word != Word::Refused);
        Ok(self
            .settle_all(id, open.map(|(group, _)| group).collect(), false, deadline)
            .await)
    }

    async fn look(&self, id: TxnId, deadline: Instant) -> Words {
        let look = |group| async move {
            let ask = Ask::Read(Read::Status(id));
            match self.router().ask(group, &ask, deadline).await {
                Ok(Told::Seen(Seen::Decision(decision))) => word_of(&decision),
                Ok(Told::Seen(Seen::Request(Fate::Executed))) => Word::Committed,
                Ok(Told::Seen(Seen::Request(Fate::Refused))) => Word::Refused,
                Ok(Told::Seen(Seen::Request(Fate::Waits))) => Word::UnderWay,
                Ok(_) => Word::Nothing,
                Err(error) => Word::Silent(error.to_string()),
            }
        };
        ask_each(self.homes(id), look).await
    }

    /// Has `groups` decide: those that the id can have reached, but for those that have refused it already.
    async fn settle_all(&self, id: TxnId, groups: Vec<GroupId>, now: bool, deadline: Instant) -> Known {
        let mut open = groups;
        let mut forgotten = false;
        let mut pause = PAUSE_MIN;
        loop {
            let words = ask_each(open.clone(), |group| self.settle_one(id, group, now, deadline)).await;
            if verdict(&words) == Known::Committed {
                return Known::Committed;
            }
            forgotten |= words.values().any(|word| *word == Word::Forgotten);
            open.retain(|group| !matches!(words.get(group), Some(Word::Refused | Word::Forgotten)));
            if open.is_empty() && !forgotten {
                return Known::Aborted;
            }
            // What is under way goes on, unless it is to end now.
            let hopeless = !now && words.values().any(|word| *word == Word::UnderWay);
            if open.is_empty() || hopeless || Instant::now() + pause >= deadline {
                return Known::UnknownYet;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn settle_one(&self, id: TxnId, group: GroupId, now: bool, deadline: Instant) -> Word {
        let ask = match group {
            GroupId::Coordinator(_) => Ask::Settle { txn: id, now },
            GroupId::Shard(_) => Ask::Propose(withdraw(id)),
        };
        match self.router().ask(group, &ask, deadline).await {
            Ok(Told::Decision(Some(decision))) => word_of(&decision),
            Ok(Told::Decision(None)) => Word::UnderWay,
            Ok(Told::Response(response)) => match response {
                Response::Replies(_) => Word::Committed,
                Response::Conflict | Response::Refused(Refusal::Deadline) => Word::Refused,
                Response::Refused(Refusal::Finished) => Word::Forgotten,
                Response::Staged(_) => Word::Staged,
                // Remembered for this id, or an answer to this question alone.
                Response::Refused(Refusal::Full) => self.look_at(id, group, deadline).await,
                _ => Word::Nothing,
            },
            Ok(_) => Word::Nothing,
            Err(error) => Word::Silent(error.to_string()),
        }
    }

    async fn look_at(&self, id: TxnId, group: GroupId, deadline: Instant) -> Word {
        let ask = Ask::Read(Read::Status(id));
        match self.router().ask(group, &ask, deadline).await {
            Ok(Told::Seen(Seen::Request(Fate::Refused))) => Word::Refused,
            _ => Word::Nothing,
        }
    }
}

/// All words, or those until one has said that it is committed.
async fn ask_each<F: Future<Output = Word>>(groups: Vec<GroupId>, ask: impl Fn(GroupId) -> F) -> Words {
    let asked = groups.into_iter().map(|group| {
        let word = ask(group);
        async move { (group, word.await) }
    });
    let mut asked: FuturesUnordered<_> = asked.collect();
    let mut words = Words::new();
    while let Some((group, word)) = asked.next().await {
        let last = word == Word::Committed;
        words.insert(group, word);
        if last {
            break;
        }
    }
    words
}

fn verdict(words: &Words) -> Known {
    if words.values().any(|word| *word == Word::Committed) {
        Known::Committed
    } else if words.values().all(|word| *word == Word::Refused) {
        Known::Aborted
    } else {
        Known::UnknownYet
    }
}

fn word_of(decision: &Decision) -> Word {
    match decision {
        Decision::Commit { .. } => Word::Committed,
        Decision::Abort => Word::Refused,
    }
}

/// The watermark is left as it is: only the session itself knows what it has finished.
fn withdraw(id: RequestId) -> Request {
    let mut request = Request::anonymous(Body::Withdraw);
    request.id = Some(id);
    request
}

/// Waits until the log has the decision. To ask again after a while may be too late: the gateway that heard "aborted" starts anew, and
/// with that says that it is through with the old number, which the log then forgets.
async fn decided(group: &Group, txn: TxnId, mut applied: watch::Receiver<u64>) -> Decision {
    loop {
        let known = group.peek(|machine| machine.as_coordinator()?.decision(txn).cloned());
        match known {
            Some(decision) => return decision,
            // A replica that has stopped decides nothing any more: the limit ends this.
            None if applied.changed().await.is_err() => std::future::pending().await,
            None => {}
        }
    }
}

impl Driver {
    pub(super) fn inspect(&self, only: Option<TxnId>, answer: oneshot::Sender<Told>) {
        let Some(leading) = &self.leading else { return };
        let listing = self
            .group
            .peek(|machine| Some(leading.coordinator.listed(machine.as_coordinator()?, only)));
        send(answer, Told::Listing(listing.unwrap_or_default()));
    }

    /// Somebody asks who has no attempt to name: see [`Ask::Settle`].
    pub(super) fn settle(&self, txn: TxnId, now: bool, answer: oneshot::Sender<Told>) {
        let Some(leading) = &self.leading else { return };
        if let Some(decision) = self.recorded(txn) {
            return send(answer, Told::Decision(Some(decision)));
        }
        if !now && leading.coordinator.is_running(txn) {
            return send(answer, Told::Decision(None));
        }
        let (group, reports, term) = (self.group.clone(), self.reports.clone(), self.term());
        let applied = group.watch_applied();
        tokio::spawn(async move {
            let told = match group.propose(withdraw(txn)).await {
                Ok(Response::Decision(decision)) => {
                    if decision == Decision::Abort {
                        // Whoever waits for its turn need not wait any longer.
                        let _ = reports.send((term, Report::Decided(txn, Decision::Abort))).await;
                    }
                    Told::Decision(Some(decision))
                }
                Ok(Response::Staged(staged)) => {
                    let decided = if now {
                        let _ = reports.send((term, Report::Undecided(staged.clone()))).await;
                        tokio::time::timeout(DECIDED, decided(&group, txn, applied))
                            .await
                            .ok()
                    } else {
                        None
                    };
                    decided.map_or(Told::Response(Response::Staged(staged)), |decision| {
                        Told::Decision(Some(decision))
                    })
                }
                Ok(other) => Told::Response(other),
                Err(error) => Told::Failed(error.into()),
            };
            send(answer, told);
        });
    }
}
