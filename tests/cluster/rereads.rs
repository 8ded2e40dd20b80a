//! `CLIENT TRACKING`: whoever has read a key again is told of the next write again, whatever became of what had been read before.

use std::time::Duration;

use crate::tracking::{Listening, all_stale, cluster, stale};
use crate::wait::eventually;
use crate::wire::Client;

const SOON: Duration = Duration::from_secs(10);
/// Each way by which a key is read is raced against what is told of earlier writes.
const ROUNDS: usize = 10;

/// The reader has just read the key; others write it. From the reply on it hears that it cannot rely on that.
fn written_by_others(reader: &mut Listening, writer: &mut Client, key: &str, how: &str) {
    let set = writer.call(&["SET", key, "other"]).expect("the node is up");
    assert!(set.is_ok(), "{set:?}");
    eventually(how, SOON, || {
        let told = reader.pushes(Duration::from_millis(20));
        told.iter()
            .any(|push| *push == stale(key) || *push == all_stale())
            .then_some(())
    });
}

/// What was pushed came before the last reply: a copy that is read now is another one.
fn forget_pushes(reader: &mut Listening) {
    drop(reader.pushes(Duration::ZERO));
}

#[test]
fn who_does_not_want_to_hear_of_its_own_writes_hears_of_others_behind_them() {
    let cluster = cluster(3, 4);
    let mut writer = Client::open(cluster.addrs()[2]).expect("the node is up");
    let mut reader = Listening::tracking(cluster.addrs()[1], &["NOLOOP"]);
    let script = "redis.call('set', KEYS[1], 'mine') return redis.call('get', KEYS[1])";
    for round in 0..ROUNDS {
        let key = format!("key:{round}");
        reader.call(&["GET", &key]);
        reader.call(&["SET", &key, "mine"]);
        reader.call(&["GET", &key]);
        forget_pushes(&mut reader);
        reader.call(&["GET", &key]);
        written_by_others(&mut reader, &mut writer, &key, "one after another");
        reader.call(&["GET", &key]);
        forget_pushes(&mut reader);
        reader.burst(&[&["SET", &key, "mine"], &["GET", &key]]);
        written_by_others(&mut reader, &mut writer, &key, "in one go");
        reader.call(&["GET", &key]);
        forget_pushes(&mut reader);
        reader.burst(&[&["MULTI"], &["SET", &key, "mine"], &["GET", &key], &["EXEC"]]);
        written_by_others(&mut reader, &mut writer, &key, "in a transaction");
        reader.call(&["GET", &key]);
        forget_pushes(&mut reader);
        reader.call(&["EVAL", script, "1", &key]);
        written_by_others(&mut reader, &mut writer, &key, "in a script");
    }
}

#[test]
fn a_key_that_was_given_up_and_read_again_is_tracked() {
    let cluster = cluster(3, 4);
    let mut writer = Client::open(cluster.addrs()[2]).expect("the node is up");
    let mut reader = Listening::tracking(cluster.addrs()[1], &[]);
    let set = writer.call(&["CONFIG", "SET", "tracking-table-max-keys", "1"]);
    assert!(set.expect("the node is up").is_ok());
    for round in 0..ROUNDS {
        let keys = [format!("a:{round}"), format!("b:{round}")];
        reader.call(&["GET", &keys[0]]);
        reader.call(&["GET", &keys[1]]);
        let given_up = eventually("one of them is given up", SOON, || {
            let told = reader.pushes(Duration::from_millis(1));
            keys.iter().find(|key| told.contains(&stale(key)))
        });
        // At some moment of the half second in which whoever tells of them is asked to forget.
        drop(reader.pushes(Duration::from_millis(60 * round as u64)));
        reader.call(&["GET", given_up]);
        written_by_others(&mut reader, &mut writer, given_up, "read again");
    }
}

#[test]
fn what_was_said_of_a_command_that_failed_or_waited_is_not_said_of_the_next() {
    let cluster = cluster(3, 4);
    let mut writer = Client::open(cluster.addrs()[2]).expect("the node is up");
    let mut reader = Listening::tracking(cluster.addrs()[1], &["OPTOUT"]);
    for (n, request) in [
        &["GET"][..],
        &["GET", "a", "b"],
        &["SET", "a", "b", "c"],
        &["XREAD", "BLOCK", "10", "STREAMS", "s", "$"],
        &["NOTHING"],
        &["GET", "unread"],
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("key:{n}");
        reader.call(&["CLIENT", "CACHING", "NO"]);
        reader.call(request);
        reader.call(&["GET", &key]);
        written_by_others(&mut reader, &mut writer, &key, &request.join(" "));
    }
}
