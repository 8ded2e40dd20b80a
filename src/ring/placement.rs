//! Which nodes hold which group's replicas: evenly, deterministically, and over distinct zones where there are enough.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{GroupId, NodeId};

/// A group's replicas; the first is the preferred leader.
pub type Placement = BTreeMap<GroupId, Vec<NodeId>>;

/// Places `groups` with `replication` replicas each on `nodes` (id, zone), one at a time: each replica goes to the
/// node with the fewest replicas, in a zone that the group does not use yet if there is one; ties go round by group.
/// The preferred leader is the replica whose node leads the fewest groups.
///
/// # Panics
/// If there are fewer nodes than `replication`: the config refuses that.
#[must_use]
pub fn place(groups: &[GroupId], nodes: &[(NodeId, Option<String>)], replication: usize) -> Placement {
    assert!(
        nodes.len() >= replication,
        "{} nodes cannot hold {replication} replicas",
        nodes.len()
    );
    let mut replicas: BTreeMap<NodeId, usize> = nodes.iter().map(|(id, _)| (*id, 0)).collect();
    let mut leads = replicas.clone();
    let mut placement = Placement::new();
    for (turn, &group) in groups.iter().enumerate() {
        let mut chosen: Vec<NodeId> = Vec::with_capacity(replication);
        let mut zones: BTreeSet<&str> = BTreeSet::new();
        for _ in 0..replication {
            let next = nodes
                .iter()
                .enumerate()
                .filter(|(_, (id, _))| !chosen.contains(id))
                .min_by_key(|(at, (id, zone))| {
                    let used = zone.as_deref().is_some_and(|z| zones.contains(z));
                    (
                        used,
                        replicas[id],
                        (at + nodes.len() - turn % nodes.len()) % nodes.len(),
                    )
                });
            let Some((_, (id, zone))) = next else { break };
            chosen.push(*id);
            zones.extend(zone.as_deref());
            *replicas.entry(*id).or_default() += 1;
        }
        if let Some(first) = (0..chosen.len()).min_by_key(|&i| (leads[&chosen[i]], i)) {
            chosen.swap(0, first);
            *leads.entry(chosen[0]).or_default() += 1;
        }
        placement.insert(group, chosen);
    }
    placement
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(shards: u16) -> Vec<GroupId> {
        std::iter::once(GroupId::Coordinator(0))
            .chain((0..shards).map(GroupId::Shard))
            .collect()
    }

    #[test]
    fn replicas_and_leaders_are_even_for_many_shapes() {
        for nodes in [3u64, 4, 5, 7] {
            for replication in [1usize, 3] {
                let ids: Vec<_> = (1..=nodes).map(|n| (n, None)).collect();
                let placement = place(&groups(16), &ids, replication);
                let count = |f: &dyn Fn(&Vec<NodeId>, NodeId) -> bool| -> (usize, usize) {
                    let per: Vec<usize> = (1..=nodes)
                        .map(|n| placement.values().filter(|r| f(r, n)).count())
                        .collect();
                    (
                        per.iter().copied().min().unwrap_or(0),
                        per.iter().copied().max().unwrap_or(0),
                    )
                };
                let (low, high) = count(&|r, n| r.contains(&n));
                assert!(
                    high - low <= 1,
                    "{nodes} nodes, {replication} replicas: {low}..{high}"
                );
                let (low, high) = count(&|r, n| r[0] == n);
                assert!(
                    high - low <= 1,
                    "{nodes} nodes, {replication} replicas: leaders {low}..{high}"
                );
                assert_eq!(
                    placement,
                    place(&groups(16), &ids, replication),
                    "must be deterministic"
                );
            }
        }
    }

    #[test]
    fn zones_are_kept_apart_when_there_are_enough() {
        let ids: Vec<_> = (1..=6u64).map(|n| (n, Some(format!("z{}", n % 3)))).collect();
        for replicas in place(&groups(8), &ids, 3).values() {
            let zones: BTreeSet<u64> = replicas.iter().map(|n| n % 3).collect();
            assert_eq!(zones.len(), 3, "{replicas:?}");
        }
    }
}
