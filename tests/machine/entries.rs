//! What an entry leaves behind: the same whether somebody waits for its answers or not, and nothing of its bytes.

use bytes::Bytes;
use quorate::base::{Reply, codec};
use quorate::machine::{Batch, Request, Response};

use crate::talk::{FAR, Numbered, Talk, attempt, batch, finish, first_phase, prepare, run};

/// Two machines with the same log, of which one is that of a node where nobody waits.
struct Both {
    heard: Talk,
    unheard: Talk,
}

impl Both {
    /// An entry for both; what each of them answers.
    fn entry(&mut self, requests: &[Request]) -> [Vec<Response>; 2] {
        let heard = self.heard.entry(requests.to_vec());
        let index = self.heard.index;
        let entry = batch(index, self.heard.now, requests.to_vec());
        let unheard = self.unheard.machine.apply_heard(index, entry, false);
        let digests =
            [&self.heard, &self.unheard].map(|talk| talk.machine.running_digest().expect("encoded"));
        assert_eq!(digests[0], digests[1], "entry {index}");
        [heard, unheard].map(|answers| answers.into_iter().map(|(_, response)| response).collect())
    }
}

#[test]
fn what_nobody_waits_for_leaves_the_same_state_and_is_answered_when_it_is_asked_again() {
    let mut both = Both {
        heard: Talk::shard(),
        unheard: Talk::shard(),
    };
    let ok = || Response::Replies(vec![Reply::ok()]);
    let set = run("SET a 1").numbered(1, 0);
    assert_eq!(both.entry(std::slice::from_ref(&set)), [vec![ok()], vec![]]);
    assert_eq!(
        both.entry(&[set]),
        [vec![ok()], vec![ok()]],
        "from the reply table"
    );
    both.entry(&[first_phase(prepare(attempt(1, 1), "SET a 2"))]);
    let parked = run("SET a 3").numbered(2, 0).until(FAR);
    assert_eq!(both.entry(&[parked]), [vec![], vec![]], "it waits");
    let [heard, unheard] = both.entry(&[finish(attempt(1, 1), true)]);
    assert_eq!(heard, [ok(), Response::Done]);
    assert!(
        unheard.contains(&ok()),
        "what an earlier entry has asked may be waited for here"
    );
    for talk in [&both.heard, &both.unheard] {
        assert_eq!(talk.get("a"), Some("3".into()));
        talk.assert_idle();
    }
}

#[test]
fn nothing_that_stays_holds_an_entrys_bytes() {
    let mut talk = Talk::shard();
    let mut apply = |request: Request| {
        talk.index += 1;
        let entry = codec::encode(&batch(talk.index, talk.now, vec![request])).expect("it can be encoded");
        let entry = Bytes::from(entry);
        let batch: Batch = codec::decode_shared(&entry).expect("it can be decoded");
        assert!(!entry.is_unique(), "it is shared while it is applied");
        drop(talk.machine.apply(talk.index, batch));
        assert!(entry.is_unique(), "entry {}", talk.index);
    };
    let long = "v".repeat(2000);
    apply(run(&format!("SET a 1;SET long {long};SET a 2 PX 100000")).numbered(1, 0));
    apply(first_phase(prepare(attempt(1, 1), "SET a 3;SET b 3")));
    apply(run("SET a 4").numbered(2, 0).until(FAR));
    apply(first_phase(prepare(attempt(0, 1), "SET a 5")));
    assert_eq!((talk.state().prepared().count(), talk.state().parked()), (1, 2));
}
