//! Which coordinator a transaction goes to.

use crate::base::NodeId;

/// Place of the coordinator whose leader leads most of the shards: what it tells those stays on its node, and reaches the followers
/// in the same messages as its own log. Of equals one that is led here; of those the first, so that transactions with the same shards
/// meet in one admission as long as one gateway sends them.
pub(super) fn nearest(coordinators: &[NodeId], shards: &[NodeId], me: NodeId) -> usize {
    let suits = |&place: &usize| {
        let leader = coordinators[place];
        let led = shards.iter().filter(|&&shard| shard == leader).count();
        (led, leader == me)
    };
    (0..coordinators.len()).rev().max_by_key(suits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_transaction_is_coordinated_where_most_of_its_shards_are_led() {
        let coordinators = [1, 2, 3];
        assert_eq!(nearest(&coordinators, &[2, 3, 3], 1), 2, "two of three shards");
        assert_eq!(nearest(&coordinators, &[2, 1], 1), 0, "as many, and here");
        assert_eq!(
            nearest(&coordinators, &[3, 2], 1),
            1,
            "as many, and not here: the first"
        );
        assert_eq!(nearest(&[2, 2, 3], &[1, 1], 1), 0, "none leads a shard");
        assert_eq!(nearest(&[2, 1, 3], &[4, 5], 1), 1, "none leads a shard: here");
        assert_eq!(nearest(&[7], &[1], 1), 0, "there is but one");
    }
}
