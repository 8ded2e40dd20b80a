//! What keys hold, for who runs commands at the gateway: values in this node's memory are shared, not copied; small ones come from
//! wherever they are read first; large ones of a shard that is led elsewhere come from the replica here, as soon as it has caught up.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

use super::execute::{busy, unexpected};
use super::message::{Ask, Told};
use super::node::Node;
use super::router::RouteError;
use crate::base::limits::REPLIES_BYTES_MAX;
use crate::base::{Error, GroupId, Result};
use crate::machine::{Condition, Held, Read, Seen};

/// Bytes up to which values of one shard are read wherever that goes fastest.
const SMALL_BYTES: u64 = 32 << 10;

/// Values and what they were found under.
pub(super) struct Fetched {
    /// In the order of the keys.
    pub held: Vec<Held>,
    pub touched: Vec<Condition>,
}

impl Node {
    /// What keys hold, each shard's at one moment.
    ///
    /// # Errors
    /// [`Error::Invalid`]: more than fits into a reply. Else as for a read.
    pub(super) async fn fetch(&self, keys: &[Bytes], deadline: Instant) -> Result<Fetched> {
        let mut by_shard: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            by_shard.entry(self.ring().shard_of(key)).or_default().push(at);
        }
        let reads = by_shard.iter().map(|(&shard, places)| {
            let keys = places.iter().map(|&at| keys[at].clone()).collect();
            self.fetch_of(GroupId::Shard(shard), keys, deadline)
        });
        let mut fetched = Fetched {
            held: vec![None; keys.len()],
            touched: Vec::with_capacity(keys.len()),
        };
        for (read, places) in join_all(reads).await.into_iter().zip(by_shard.values()) {
            let (held, touched) = read?;
            for (&at, held) in places.iter().zip(held) {
                fetched.held[at] = held;
            }
            fetched.touched.extend(touched);
        }
        Ok(fetched)
    }

    async fn fetch_of(
        &self,
        group: GroupId,
        keys: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<(Vec<Held>, Vec<Condition>)> {
        let read = |most: u64| Read::Values {
            keys: keys.clone(),
            most,
        };
        let follower = self.router().follower(group);
        let most = match follower {
            Some(_) => SMALL_BYTES,
            None => REPLIES_BYTES_MAX as u64,
        };
        let mut seen = self.read_values(group, read(most), deadline).await?;
        if let (Seen::TooMuch(_), Some(follower)) = (&seen, follower) {
            let here = follower.read_as_follower(read(REPLIES_BYTES_MAX as u64)).await;
            seen = match here {
                Ok(seen) => seen,
                Err(_) => {
                    self.read_values(group, read(REPLIES_BYTES_MAX as u64), deadline)
                        .await?
                }
            };
        }
        match seen {
            Seen::Values { held, touched } => Ok((held, touched)),
            Seen::TooMuch(bytes) => Err(Error::Invalid(format!(
                "its keys hold {bytes} bytes, which cannot be read at once: {REPLIES_BYTES_MAX} can"
            ))),
            other => Err(unexpected(&Told::Seen(other))),
        }
    }

    async fn read_values(&self, group: GroupId, read: Read, deadline: Instant) -> Result<Seen> {
        match self.router().ask(group, &Ask::Read(read), deadline).await {
            Ok(Told::Seen(seen)) => Ok(seen),
            Ok(other) => Err(unexpected(&other)),
            Err(RouteError::Busy) => Err(busy()),
            // A read has no effect, so however it failed, nothing happened.
            Err(RouteError::NotDone(why) | RouteError::Unknown(why)) => Err(Error::Unavailable(why)),
        }
    }
}
