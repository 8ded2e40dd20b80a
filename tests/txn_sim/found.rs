//! Bugs of the product that this simulation has found. Each seed is run again; each also has a mutant that plants the bug
//! anew (`docs/testing.md`), so that a changed simulation, in which the seed means something else, still has to find it.

use super::sim::run;

fn passes(seed: u64) {
    let failure = run(seed, false).err();
    assert!(failure.is_none(), "{failure:?}");
}

/// Parallel commit, first version. Staged and prepared everywhere, so the leader answered "committed"; the gateway's next
/// request moved the session's watermark past the transaction; then the record arrived, found its number finished, and
/// was taken for a stray: Abort. The participants would have dropped what the client had been told was done. What is
/// staged is looked at before the session now. Mutant: `finished-sessions-unstage`.
#[test]
fn what_is_staged_outlives_its_session() {
    passes(44);
}

/// Parallel commit, first version. A leader was deposed without knowing it, and a vote to it was lost. Its successor found
/// the attempt staged, asked, committed and told the participants. The old leader sent its prepare again, heard "too
/// late" from a participant that had committed meanwhile, took that for a refusal and told the client "aborted"; its
/// aborts would have undone half of it at a participant that was still prepared. "Too late" goes to the log now,
/// which knows. Mutant: `late-taken-for-refusal`.
#[test]
fn too_late_is_no_refusal() {
    passes(5941);
}
