//! Deliberate faults, to test the tests: the simulation has to find each one (`docs/testing.md`).
//!
//! ```text
//!  correct && !mutant::is(Mutant::LatePrepareAccepted)     one readable line where the correct code stands
//! ```
//!
//! Without the feature `mutants` the question is `const false` and the compiler drops the fault: no usual build, debug
//! or release, contains one. With it, one fault at a time is active in the whole process; none unless
//! [`activate`] names it.
//!
//! Not here: who looks for them. `tests/mutations.rs` hunts those of [`Hunt::Logs`]; those of [`Hunt::Nodes`] (a skipped
//! fsync, an acknowledgement before the majority's) need whole nodes.

#[cfg(feature = "mutants")]
use std::sync::atomic::{AtomicUsize, Ordering};

/// Which simulation has to find a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hunt {
    /// Tier 1 (`tests/txn_sim`): the pure floors between perfect logs.
    Logs,
    /// Tier 2: whole nodes, Raft and disks.
    Nodes,
    /// No simulation could.
    Nobody,
}

macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $variant:ident $name:literal $promise:literal $hunt:ident;)*) => {
        /// One deliberate fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $what])+ $variant,)*
        }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// Every fault there is.
            pub const ALL: &[Mutant] = &[$(Mutant::$variant,)*];

            /// In kebab-case, as [`activate`] takes it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Mutant::$variant => $name,)*
                }
            }

            /// The promise (P1 to P8 of DESIGN.md) that it breaks first.
            #[must_use]
            pub fn promise(self) -> &'static str {
                match self {
                    $(Mutant::$variant => $promise,)*
                }
            }

            /// What it does, in one sentence.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self {
                    $(Mutant::$variant => concat!($($what,)+).trim_ascii(),)*
                }
            }

            #[must_use]
            pub fn hunt(self) -> Hunt {
                match self {
                    $(Mutant::$variant => Hunt::$hunt,)*
                }
            }
        }
    };
}

mutants! {
    /// Nothing at all: no code asks for it, so that the hunt can be seen to fail.
    Inert "inert" "none" Nobody;

    // ── Reads and runs on one shard
    /// A read does not wait for the decision of the transaction that holds its key.
    ReadsIgnoreLocks "reads-ignore-locks" "P1" Logs;
    /// A write on one shard does not wait for the decision of the transaction that holds its key.
    RunsIgnoreLocks "runs-ignore-locks" "P1" Logs;
    /// A read takes a key for expired by the leader's clock, before the log says so.
    ExpiryByLocalClock "expiry-by-local-clock" "P6" Logs;
    /// Replicated time is what the last leader stamped, and goes back when the next one's clock is behind.
    ReplicatedTimeGoesBack "replicated-time-goes-back" "P6" Logs;
    /// A command finds keys that have expired.
    ExpiredKeysAreFound "expired-keys-are-found" "P6" Logs;
    /// A condition does not notice that its key has expired.
    WatchBlindToExpiry "watch-blind-to-expiry" "P6" Logs;
    /// WATCH on one shard: a run does not look at its conditions.
    ConditionsIgnoredAtRun "conditions-ignored-at-run" "P1" Logs;
    /// A write leaves a key's version as it was.
    WritesKeepOldVersion "writes-keep-old-version" "P1" Logs;
    /// A strict transaction is applied although one of its commands has failed.
    StrictErrorsApplied "strict-errors-applied" "P3" Logs;

    // ── The reply table
    /// A request that comes again is executed again.
    ReplyTableNeverConsulted "reply-table-never-consulted" "P4" Logs;
    /// A refusal or conflict is not remembered, so that a copy may be executed after all.
    RefusalsNotRemembered "refusals-not-remembered" "P5" Logs;
    /// A stray copy of a request that its session has finished counts as a new one.
    FinishedNumbersRunAgain "finished-numbers-run-again" "P4" Logs;
    /// A session's replies are forgotten after a few milliseconds instead of minutes.
    SessionsForgottenEarly "sessions-forgotten-early" "P4" Logs;
    /// An idle session leaves no watermark: a copy that comes after that is executed again.
    StraysExecuted "strays-executed" "P4" Logs;

    // ── First phase at a participant
    /// WATCH over shards: a prepare does not look at its conditions.
    ConditionsIgnoredAtPrepare "conditions-ignored-at-prepare" "P1" Logs;
    /// A prepare writes at once, not when it is decided.
    IntentsAppliedAtPrepare "intents-applied-at-prepare" "P3" Logs;
    /// A prepare past its deadline in replicated time is voted on.
    LatePrepareAccepted "late-prepare-accepted" "P3" Logs;
    /// A copy of a prepare is executed again instead of getting the same vote.
    PrepareExecutedTwice "prepare-executed-twice" "P4" Logs;
    /// An attempt that was committed or aborted here may prepare again.
    FinishedAttemptPreparesAgain "finished-attempt-prepares-again" "P3" Logs;
    /// A refused attempt is not remembered, so that its copy may be voted yes.
    YesAfterNo "yes-after-no" "P3" Logs;
    /// Wait-die lets a younger transaction wait for an older one: a deadlock until the deadline.
    YoungerWaitsForOlder "younger-waits-for-older" "P7" Logs;
    /// A read over shards takes an absent key for unchanged, although it was there in between.
    AbsentIsUnchanged "absent-is-unchanged" "P1" Logs;
    /// Freed locks wake nobody.
    FreedLocksWakeNobody "freed-locks-wake-nobody" "P7" Logs;
    /// A lock on a whole shard does not see the locks on its keys.
    WholeLockSeesNoKeys "whole-lock-sees-no-keys" "P1" Logs;

    // ── Second phase at a participant
    /// An abort applies the intent.
    AbortAppliesIntent "abort-applies-intent" "P3" Logs;
    /// A late abort of a committed attempt overwrites the memory of its commit.
    AbortAfterCommit "abort-after-commit" "P3" Logs;
    /// An aborted transaction keeps its locks.
    AbortKeepsLocks "abort-keeps-locks" "P7" Logs;

    /// A participant that has committed keeps no vote for who inquires.
    VoteForgottenAtCommit "vote-forgotten-at-commit" "P3" Logs;
    /// A participant keeps its vote until the deadline only.
    VoteForgottenAtDeadline "vote-forgotten-at-deadline" "P3" Logs;
    /// A participant forgets its vote without asking whether the attempt is still staged.
    VoteForgottenWhileStaged "vote-forgotten-while-staged" "P3" Logs;

    // ── Snapshots
    /// A replica that starts from a snapshot has forgotten who holds which key.
    LocksLostInSnapshot "locks-lost-in-snapshot" "P1" Logs;
    /// A replica that starts from a snapshot has forgotten what is prepared.
    IntentsLostInSnapshot "intents-lost-in-snapshot" "P3" Logs;
    /// A replica that starts from a snapshot has forgotten what it has answered.
    RepliesLostInSnapshot "replies-lost-in-snapshot" "P4" Logs;
    /// A replica that starts from a snapshot has forgotten who waits for a lock.
    ParkedLostInSnapshot "parked-lost-in-snapshot" "P7" Logs;
    /// A replica that starts from a snapshot has forgotten which attempts are over.
    FinishedLostInSnapshot "finished-lost-in-snapshot" "P3" Logs;
    /// A replica that starts from a snapshot has forgotten its votes for what it has committed.
    VotesLostInSnapshot "votes-lost-in-snapshot" "P3" Logs;
    /// A replica that starts from a snapshot has forgotten which keys expire.
    ExpiriesLostInSnapshot "expiries-lost-in-snapshot" "P6" Logs;
    /// A replica that starts from a snapshot begins with time at zero.
    TimeLostInSnapshot "time-lost-in-snapshot" "P6" Logs;
    /// A coordinator's replica that starts from a snapshot has forgotten who must be told of a commit.
    CommitsLostInSnapshot "commits-lost-in-snapshot" "P3" Logs;
    /// A coordinator's replica that starts from a snapshot has forgotten what was decided.
    OutcomesLostInSnapshot "outcomes-lost-in-snapshot" "P5" Logs;

    /// A participant that is asked about an attempt says that it has not prepared, and prepares it afterwards.
    InquiryRefusesNothing "inquiry-refuses-nothing" "P3" Logs;

    // ── The coordinator's log
    /// A second record replaces the first.
    DecidedTwice "decided-twice" "P3" Logs;
    /// The commit of a staged attempt is refused since its session, told of it, has moved on.
    FinishedSessionsUnstage "finished-sessions-unstage" "P3" Logs;
    /// A staged attempt is aborted, or another staged instead, without a participant's refusal.
    StagedAbortedUnasked "staged-aborted-unasked" "P3" Logs;
    /// A commit that reaches the log after its deadline counts.
    CommitPastDeadline "commit-past-deadline" "P3" Logs;
    /// A retired commit is forgotten while its gateway may still ask.
    OutcomeForgottenWhenRetired "outcome-forgotten-when-retired" "P5" Logs;

    // ── The coordinator's leader
    /// What all have prepared is committed without being staged in the log.
    CommitWithoutRecord "commit-without-record" "P3" Logs;
    /// The gateway is told of the commit before the log has the attempt staged.
    AnswerBeforeRecord "answer-before-record" "P2" Logs;
    /// The first yes decides, without the other participants' votes.
    FirstYesDecides "first-yes-decides" "P3" Logs;
    /// A leader takes "too late" for a refusal, although the attempt may have been committed by its successor.
    LateTakenForRefusal "late-taken-for-refusal" "P5" Logs;
    /// Votes of an attempt that has died count for the next one.
    StaleVotesCount "stale-votes-count" "P3" Logs;
    /// Attempts are numbered per begin: a dead attempt's name is used again.
    AttemptNamesReused "attempt-names-reused" "P3" Logs;
    /// A record is retired when the first participant has acknowledged it.
    RetiredAfterFirstAck "retired-after-first-ack" "P3" Logs;
    /// A new leader does not take over the commits that its predecessor has recorded.
    NewLeaderForgetsCommits "new-leader-forgets-commits" "P7" Logs;
    /// Who asks about an unknown attempt is told abort, and no abort is logged.
    RecoveryAbortsUnlogged "recovery-aborts-unlogged" "P3" Logs;
    /// The next transaction in line for a key is not started.
    LaneNeverFreed "lane-never-freed" "P7" Logs;

    // ── The gateway's part
    /// Commands that ran at the gateway are committed whatever has changed since.
    OptimisticWithoutConditions "optimistic-without-conditions" "P1" Logs;
    /// A watched key is not looked at on a shard where the transaction does nothing else.
    PlanDropsLoneConditions "plan-drops-lone-conditions" "P1" Logs;
    // ── Whole nodes
    /// The journal is written and never synced.
    SyncSkipped "sync-skipped" "P2" Nodes;
    /// A replica acknowledges entries before they are written.
    AcknowledgedBeforeWrite "acknowledged-before-write" "P2" Nodes;
    /// A vote is acknowledged before it is on disk.
    VoteNotWaitedFor "vote-not-waited-for" "P2" Nodes;
    /// A node that believes to lead answers reads without asking a quorum.
    ReadWithoutQuorum "read-without-quorum" "P1" Nodes;
    /// Appends follow each other without waiting for answers, and an answer to one counts for a later one.
    AppendsOverlap "appends-overlap" "P1" Nodes;
    /// A voter that restarts does not wait for the lease that it may have granted.
    LeaseForgottenAtRestart "lease-forgotten-at-restart" "P1" Nodes;
    /// Any node answers reads from what it has.
    ReadAnywhere "read-anywhere" "P1" Nodes;
    /// A follower answers reads without asking the leader how far they have to see.
    FollowerReadsUnasked "follower-reads-unasked" "P1" Nodes;
    /// A leader that has restarted answers reads as the leader that it was.
    FoundVoteLeads "found-vote-leads" "P1" Nodes;
    /// One replica loses the writes of some entries.
    OneReplicaDiffers "one-replica-differs" "P8" Nodes;
    /// One node looks for keys by another ring than the others.
    StaleRing "stale-ring" "P1" Nodes;
    /// A gateway's requests carry no number: one that is sent again is executed again.
    RequestsUnnumbered "requests-unnumbered" "P4" Nodes;
    /// A client is told that nothing happened when nobody knows.
    UnknownToldAsRefused "unknown-told-as-refused" "P5" Nodes;

    // ── The gateway's part, again
    /// A gateway that has asked two leaders believes the second's "no".
    NoBelievedAfterAskingTwice "no-believed-after-asking-twice" "P5" Logs;
}

/// Whether this fault is active.
#[cfg(not(feature = "mutants"))]
#[must_use]
#[inline]
pub const fn is(_mutant: Mutant) -> bool {
    false
}

/// Number of the active fault among [`Mutant::ALL`], from 1; 0: none.
#[cfg(feature = "mutants")]
static ACTIVE: AtomicUsize = AtomicUsize::new(0);

/// Whether this fault is active.
#[cfg(feature = "mutants")]
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    ACTIVE.load(Ordering::Relaxed) == mutant as usize + 1
}

/// Makes one fault active in this process, instead of any other.
///
/// # Errors
/// No fault has that name.
#[cfg(feature = "mutants")]
pub fn activate(name: &str) -> Result<Mutant, String> {
    let found = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
    let mutant = *found.ok_or_else(|| format!("no mutant is called '{name}'"))?;
    ACTIVE.store(mutant as usize + 1, Ordering::Relaxed);
    Ok(mutant)
}

/// Back to correct code.
#[cfg(feature = "mutants")]
pub fn deactivate() {
    ACTIVE.store(0, Ordering::Relaxed);
}

#[cfg(all(test, feature = "mutants"))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_kebab_case_and_not_shared() {
        let names: BTreeSet<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
        let kebab = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        assert!(names.iter().all(|name| kebab(name)));
        assert!(activate("no-such-fault").is_err());
    }
}
