//! The gateway's request numbers: every write it forwards gets one, and each group hears which are finished.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::{GroupId, NodeId, RequestId, gateway_session};

/// Numbers of one process. Clones share them.
#[derive(Debug, Clone)]
pub struct Numbering {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    node: NodeId,
    boot: u32,
    next: u64,
    open: BTreeMap<GroupId, BTreeSet<u64>>,
}

/// A number in use. Dropping it tells the group, with some later request, that nobody will ask again.
#[derive(Debug)]
pub struct Numbered {
    pub id: RequestId,
    pub below: u64,
    group: GroupId,
    numbering: Numbering,
}

impl Numbering {
    #[must_use]
    pub fn new(node: NodeId, boot: u32) -> Numbering {
        Numbering {
            inner: Arc::new(Mutex::new(Inner {
                node,
                boot,
                next: 1,
                open: BTreeMap::new(),
            })),
        }
    }

    /// The next number, for a request to `group`.
    #[must_use]
    pub fn begin(&self, group: GroupId) -> Numbered {
        let mut inner = self.inner.lock();
        let seq = inner.next;
        inner.next += 1;
        let session = gateway_session(inner.node, group, inner.boot);
        let open = inner.open.entry(group).or_default();
        open.insert(seq);
        let below = open.first().copied().unwrap_or(seq);
        Numbered {
            id: RequestId { session, seq },
            below,
            group,
            numbering: self.clone(),
        }
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        if let Some(open) = self.numbering.inner.lock().open.get_mut(&self.group) {
            open.remove(&self.id.seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_is_the_oldest_open_number_of_the_group() {
        let numbering = Numbering::new(7, 1);
        let (a, b) = (GroupId::Shard(0), GroupId::Shard(1));
        let first = numbering.begin(a);
        let other = numbering.begin(b);
        let second = numbering.begin(a);
        assert_eq!((first.below, other.below, second.below), (1, 2, 1));
        drop(first);
        assert_eq!(numbering.begin(a).below, 3);
    }
}
