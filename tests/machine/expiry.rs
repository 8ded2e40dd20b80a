//! Expiry: by replicated time only, never taken back, logged before it is seen.

use quorate::base::Reply;
use quorate::base::limits::EXPIRE_KEYS_MAX;
use quorate::machine::{ReadOutcome, Response, Seen};

use crate::talk::*;

#[test]
fn a_key_expires_by_the_time_of_entries_and_stays_expired() {
    let mut talk = Talk::shard();
    talk.run("SET a 1 PX 100");
    talk.now = 1099;
    assert_eq!(talk.run("EXISTS a"), int(1));
    talk.now = 1100;
    assert_eq!(talk.run("EXISTS a"), int(0));
    talk.now = 500;
    assert_eq!(talk.run("EXISTS a"), int(0), "another leader's clock is behind");
    assert_eq!(talk.get("a"), None);
    assert_eq!((talk.machine.time(), talk.version("a")), (1100, 0));
}

#[test]
fn a_relative_expiry_counts_from_replicated_time() {
    let mut talk = Talk::shard();
    talk.now = 5000;
    talk.run("SET z 1");
    talk.now = 1000;
    talk.run("SET a 1 PX 100");
    talk.now = 5099;
    assert_eq!(talk.run("PTTL a"), int(1));
}

#[test]
fn a_read_does_not_see_an_expiry_before_it_is_logged() {
    let mut talk = Talk::shard();
    talk.run("MSET a 1 b 1");
    talk.run("PEXPIRE a 100");
    talk.now = 1100;
    assert_eq!(talk.read("GET a", &[]), ReadOutcome::Expired);
    assert_eq!(talk.read("DBSIZE", &[]), ReadOutcome::Expired);
    assert!(
        matches!(talk.read("GET b", &[]), ReadOutcome::Ready(_)),
        "another key is not concerned"
    );
    assert_eq!(talk.ask(sweep()), Response::Done);
    assert_eq!(talk.get("a"), None);
    let ReadOutcome::Ready(Seen::Run { replies, .. }) = talk.read("DBSIZE", &[]) else {
        panic!("the expiry is logged");
    };
    assert_eq!(replies, [Reply::Int(1)]);
}

#[test]
fn an_expired_key_has_version_zero_before_and_after_it_is_removed() {
    let mut talk = Talk::shard();
    talk.run("SET a 1 PX 100");
    let set_at = talk.version("a");
    assert_eq!(set_at, talk.index);
    talk.now = 1100;
    talk.run("SET z 1");
    assert!(talk.state().keyspace().get(b"a").is_some(), "it is still stored");
    assert_eq!(talk.version("a"), 0);
    assert_eq!(
        talk.ask(run_if("SET x 1", &[at_version("a", set_at)])),
        Response::Conflict
    );
    assert_eq!(talk.ask(run_if("SET x 1", &[at_version("a", 0)])), ok());
    talk.ask(sweep());
    assert!(talk.state().keyspace().get(b"a").is_none());
    assert_eq!(talk.ask(run_if("SET x 1", &[at_version("a", 0)])), ok());
    let absent = [at_version("a", 0)];
    assert_eq!(
        talk.ask(first_phase(prepare_if(attempt(1, 1), "SET x 1", &absent))),
        yes(&[Reply::ok()])
    );
}

#[test]
fn a_sweep_leaves_locked_keys_alone_until_their_decision() {
    for committed in [true, false] {
        let mut talk = Talk::shard();
        talk.run("SET a 1 PX 100; SET b 1 PX 100");
        let holder = attempt(1, 1);
        assert_eq!(
            talk.ask(first_phase(prepare(holder, "PERSIST a"))),
            yes(&[Reply::Int(1)])
        );
        talk.now = 1200;
        talk.ask(sweep());
        assert!(
            talk.state().keyspace().get(b"a").is_some(),
            "prepared before it expired"
        );
        assert!(talk.state().keyspace().get(b"b").is_none());
        talk.ask(finish(holder, committed));
        talk.ask(sweep());
        assert_eq!(
            talk.get("a").is_some(),
            committed,
            "what was voted for comes true"
        );
    }
}

#[test]
fn a_sweep_is_bounded_and_goes_soonest_first() {
    let mut talk = Talk::shard();
    let keys = EXPIRE_KEYS_MAX + 10;
    for key in 0..keys {
        talk.run(&format!("SET k{key} 1 PXAT {}", 2000 + keys - key));
    }
    talk.now = 10_000;
    talk.ask(sweep());
    assert_eq!(talk.state().keyspace().len(), 10);
    assert!(
        talk.state().keyspace().get(b"k0").is_some(),
        "the last to expire is still there"
    );
    talk.ask(sweep());
    assert!(talk.state().keyspace().is_empty());
}

#[test]
fn a_sweep_with_nothing_to_do_is_no_write() {
    let mut talk = Talk::shard();
    talk.run("SET a 1");
    let before = talk.state().last_write();
    talk.ask(sweep());
    assert_eq!(talk.state().last_write(), before);
}
