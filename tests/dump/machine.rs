//! Quorate's state machine without a cluster around it.

use bytes::{Bytes, BytesMut};
use quorate::base::Reply as Ours;
use quorate::machine::commands;
use quorate::machine::keyspace::Keyspace;
use quorate::machine::overlay::Overlay;
use quorate::resp::{Protocol, encode};

use crate::resp::{Reply, read_reply};

#[derive(Default)]
pub struct Machine {
    pub keyspace: Keyspace,
    version: u64,
    pub now: u64,
}

pub fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

impl Machine {
    pub fn call(&mut self, args: &[Vec<u8>]) -> Reply {
        let mut out = BytesMut::new();
        encode(&self.run(args), Protocol::Resp3, &mut out).expect("a reply encodes");
        read_reply(&mut &out[..]).expect("what is encoded can be read")
    }

    pub fn run(&mut self, args: &[Vec<u8>]) -> Ours {
        let args: Vec<Bytes> = args.iter().cloned().map(Bytes::from).collect();
        let spec = commands::find(&args[0]).expect("it is in the table");
        let command = match commands::parse(spec, &args[1..]) {
            Ok(command) => command,
            Err(reply) => return reply,
        };
        self.version += 1;
        let seed = self.version.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let reply = command.run(&mut Overlay::direct(
            &mut self.keyspace,
            self.version,
            self.now,
            seed,
        ));
        let digests = (self.keyspace.digest(), self.keyspace.digest_by_walk());
        assert_eq!(digests.0, digests.1, "the digest follows");
        reply
    }

    /// The payload of a key.
    pub fn dump(&mut self, key: &str) -> Vec<u8> {
        match self.run(&words(&["DUMP", key])) {
            Ours::Bulk(payload) => payload.to_vec(),
            other => panic!("DUMP {key}: {other:?}"),
        }
    }

    /// `RESTORE key 0 payload REPLACE`.
    pub fn restore(&mut self, key: &str, payload: &[u8]) -> Ours {
        let mut args = words(&["RESTORE", key, "0", "", "REPLACE"]);
        args[3] = payload.to_vec();
        self.run(&args)
    }
}
