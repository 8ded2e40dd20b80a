//! Tokens that wander over lists on several shards by `BLMOVE`: each lies in one of them at every moment, whoever dies.

use rand::RngExt;
use redis_protocol::resp2::types::BytesFrame as Frame;

use crate::client::{Sent, Verdict, command, text, verdict};
use crate::workload::{Ended, Worker};

/// Lists over which [`TOKENS`] wander: so few that who waits for one often has to.
pub const PLACES: u64 = 4;
pub const TOKENS: [&str; 3] = ["t1", "t2", "t3"];

impl Worker {
    /// Moves a token from one place to another, waiting for one; or looks at all places at once.
    pub async fn pass_on(&mut self) {
        if self.rng.random_bool(0.2) {
            let places = (0..PLACES).map(|place| command(&["LRANGE", &format!("q:{place}"), "0", "-1"]));
            let places = places.collect();
            if let Ended::Committed(places) = self.exec(places).await {
                let tokens = tokens(&places);
                assert!(
                    tokens.is_empty() || tokens == TOKENS,
                    "a token is lost or doubled: {tokens:?}"
                );
                self.history.count("tokens looked at");
            }
            return;
        }
        let from = self.rng.random_range(0..PLACES);
        let to = (from + self.rng.random_range(1..PLACES)) % PLACES;
        let words = [
            "BLMOVE",
            &format!("q:{from}"),
            &format!("q:{to}"),
            "LEFT",
            "RIGHT",
            "0.3",
        ];
        if let Sent::Replied(replies) = self.send(&[command(&words)]).await {
            match verdict(&replies[0]) {
                Verdict::Done(Frame::BulkString(_)) => self.history.count("tokens passed on"),
                Verdict::Done(Frame::Null) => self.history.count("tokens waited for in vain"),
                Verdict::Done(other) => panic!("BLMOVE answered {other:?}"),
                Verdict::Refused | Verdict::Unknown(_) => {}
            }
        }
    }
}

/// What lies in several lists, in order.
pub fn tokens(places: &[Frame]) -> Vec<String> {
    let mut tokens = Vec::new();
    for place in places {
        let Frame::Array(items) = place else {
            panic!("LRANGE answered {place:?}")
        };
        tokens.extend(items.iter().filter_map(text));
    }
    tokens.sort();
    tokens
}
