//! A replica that goes wrong, for tests: in test builds by a failpoint, in mutants' builds by a mutant; else never.

use fail::fail_point;

use crate::base::{GroupId, Mutant, NodeId, mutant};
use crate::machine::{Batch, Body, Command, Touches};

/// Entries of which the mutant spoils one.
const ONE_IN: u64 = 32;

/// What this replica is to lose, and no other: commands on keys that begin so.
fn lost_prefix(group: GroupId, node: NodeId, index: u64) -> Option<String> {
    fail_point!("apply-loses-writes", |prefix| prefix);
    let spoils = mutant::is(Mutant::OneReplicaDiffers) && node == 2 && index.is_multiple_of(ONE_IN);
    (spoils && group == GroupId::Shard(0)).then(String::new)
}

/// Takes commands out of an entry before it is applied, as a bug or a bit that flipped would.
pub fn lose_writes(group: GroupId, node: NodeId, index: u64, batch: &mut Batch) {
    let Some(prefix) = lost_prefix(group, node, index) else {
        return;
    };
    let is_lost = |command: &Command| match command.touches() {
        Touches::Keys(keys) => keys.iter().any(|key| key.starts_with(prefix.as_bytes())),
        Touches::Everything | Touches::Shard(_) => false,
    };
    for request in &mut batch.requests {
        if let Body::Run { commands, .. } = &mut request.body {
            commands.retain(|command| !is_lost(command));
        }
    }
}
