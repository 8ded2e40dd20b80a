//! `TXN LIST` and `TXN INFO`: what all groups know of what is under way, put together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::message::{Ask, Told};
use super::node::Node;
use crate::base::{GroupId, Millis, TxnId};
use crate::machine::{Listing, Row, State, Wait};

/// How long a group may take: who looks wants to see the others meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the groups' leaders know.
#[derive(Debug, Default)]
pub struct Overview {
    pub listings: BTreeMap<GroupId, Listing>,
    /// Groups that did not answer, and why.
    pub silent: BTreeMap<GroupId, String>,
    /// When they were asked.
    pub at: Millis,
}

/// All that is known of one transaction under way, in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    pub id: TxnId,
    pub state: State,
    pub started: Option<Millis>,
    pub deadline: Option<Millis>,
    pub coordinator: Option<GroupId>,
    pub participants: BTreeSet<GroupId>,
    pub waits: Vec<String>,
}

impl Node {
    /// Asks every group what is under way; of one transaction also what became of it.
    pub async fn overview(&self, only: Option<TxnId>) -> Overview {
        let ask = Ask::Inspect(only);
        let deadline = Instant::now() + PATIENCE;
        let asked = self.all_groups().into_iter().map(|group| {
            let told = self.router().ask(group, &ask, deadline);
            async move { (group, told.await) }
        });
        let mut overview = Overview {
            at: self.now(),
            ..Overview::default()
        };
        for (group, told) in join_all(asked).await {
            match told {
                Ok(Told::Listing(listing)) => drop(overview.listings.insert(group, listing)),
                Ok(other) => drop(
                    overview
                        .silent
                        .insert(group, format!("unexpected answer {other:?}")),
                ),
                Err(error) => drop(overview.silent.insert(group, error.to_string())),
            }
        }
        overview
    }
}

impl Overview {
    /// One row a transaction, the oldest first. Its state is the coordinator's word, if that knows it.
    #[must_use]
    pub fn transactions(&self) -> Vec<UnderWay> {
        let mut all: BTreeMap<TxnId, UnderWay> = BTreeMap::new();
        // Coordinators come first in the order of groups.
        for (&group, row) in self.rows() {
            let known = all.entry(row.txn).or_insert_with(|| UnderWay {
                id: row.txn,
                state: row.state,
                started: None,
                deadline: None,
                coordinator: None,
                participants: BTreeSet::new(),
                waits: Vec::new(),
            });
            known.started = known.started.or(row.started);
            known.deadline = known.deadline.or(row.deadline);
            known.coordinator = known.coordinator.or(row.coordinator);
            known.participants.extend(&row.participants);
            if known.state == State::Parked {
                known.state = row.state;
            }
            for wait in &row.waits {
                match wait {
                    Wait::Lock { .. } => known.waits.push(format!("{wait} at {group}")),
                    // The coordinator says itself what that waits for.
                    Wait::Decision(coordinator) if self.knows(*coordinator, row.txn) => {}
                    Wait::Decision(_) if known.waits.contains(&wait.to_string()) => {}
                    _ => known.waits.push(wait.to_string()),
                }
            }
            if row.more_waits > 0 {
                known.waits.push(format!("{} more at {group}", row.more_waits));
            }
        }
        let mut all: Vec<UnderWay> = all.into_values().collect();
        all.sort_by_key(|known| known.started);
        all
    }

    /// Every group's rows.
    pub fn rows(&self) -> impl Iterator<Item = (&GroupId, &Row)> {
        let listings = self.listings.iter();
        listings.flat_map(|(group, listing)| listing.rows.iter().map(move |row| (group, row)))
    }

    fn knows(&self, group: GroupId, txn: TxnId) -> bool {
        let listing = self.listings.get(&group);
        listing.is_some_and(|listing| listing.rows.iter().any(|row| row.txn == txn))
    }
}
