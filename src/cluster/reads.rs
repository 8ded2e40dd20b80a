//! Reads of shards: each at its leader, or at a follower that knows as much.

use std::collections::BTreeMap;

use futures::future::join_all;
use tokio::time::Instant;

use super::execute::{busy, unexpected};
use super::message::{Ask, Told};
use super::node::Node;
use super::router::RouteError;
use crate::base::{Error, Events, GroupId, Reply, Result};
use crate::host::chance;
use crate::machine::{Condition, Read, Seen};
use crate::txn::Work;

/// What a read says besides the replies.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// The versions of what was read.
    pub versions: bool,
    /// Which keys were not there, to whoever listens: not if it is only looked at what there is to do.
    pub misses: bool,
}

impl Wanted {
    pub const REPLIES: Wanted = Wanted {
        versions: false,
        misses: true,
    };
    pub const VERSIONS: Wanted = Wanted {
        versions: true,
        misses: false,
    };
}

impl Node {
    /// Reads each shard once, and the versions of what it read if they are wanted. `None`: a condition did not hold.
    pub(super) async fn read_each(
        &self,
        work: &BTreeMap<u16, Work>,
        wanted: Wanted,
        deadline: Instant,
    ) -> Result<Option<(BTreeMap<u16, Vec<Reply>>, BTreeMap<u16, Vec<Condition>>)>> {
        let reads = work.iter().map(|(&shard, work)| async move {
            (shard, self.read_one(shard, work.clone(), wanted, deadline).await)
        });
        let (mut replies, mut touched) = (BTreeMap::new(), BTreeMap::new());
        for (shard, read) in join_all(reads).await {
            let Some((some, keys)) = read? else {
                return Ok(None);
            };
            replies.insert(shard, some);
            touched.insert(shard, keys);
        }
        Ok(Some((replies, touched)))
    }

    /// Reads one shard. `None`: a condition did not hold.
    pub(super) async fn read_one(
        &self,
        shard: u16,
        work: Work,
        wanted: Wanted,
        deadline: Instant,
    ) -> Result<Option<(Vec<Reply>, Vec<Condition>)>> {
        let ask = Ask::Read(Read::Run {
            commands: work.commands,
            conditions: work.conditions,
            seed: chance(),
            versions: wanted.versions,
            misses: wanted.misses && self.settings().notify_keyspace_events().tells(Events::MISS),
        });
        match self.router().ask(GroupId::Shard(shard), &ask, deadline).await {
            Ok(Told::Seen(Seen::Run {
                replies,
                touched,
                missed,
            })) => {
                self.tell_missed(missed);
                Ok(Some((replies, touched)))
            }
            Ok(Told::Seen(Seen::Conflict)) => Ok(None),
            Ok(other) => Err(unexpected(&other)),
            Err(RouteError::Busy) => Err(busy()),
            // A read has no effect, so however it failed, nothing happened.
            Err(RouteError::NotDone(why) | RouteError::Unknown(why)) => Err(Error::Unavailable(why)),
        }
    }
}
