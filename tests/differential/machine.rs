//! Quorate's state machine without a cluster around it, by a clock that the test owns.

use bytes::{Bytes, BytesMut};
use quorate::base::Reply as Ours;
use quorate::machine::commands;
use quorate::machine::keyspace::Keyspace;
use quorate::machine::overlay::Overlay;
use quorate::resp::{Protocol, encode};

use crate::resp::{Reply, read_reply};

pub struct Machine {
    pub keyspace: Keyspace,
    version: u64,
    pub protocol: Protocol,
    /// Writes are buffered first, as a prepare does, and applied then.
    pub buffered: bool,
    /// Milliseconds since the epoch.
    pub now: u64,
}

impl Machine {
    pub fn new(protocol: Protocol, buffered: bool, now: u64) -> Machine {
        Machine {
            keyspace: Keyspace::default(),
            version: 0,
            protocol,
            buffered,
            now,
        }
    }

    /// Removes what has expired, as a log entry does; until then it only counts as absent.
    pub fn sweep(&mut self) {
        let expired: Vec<Bytes> = self
            .keyspace
            .expiring(self.now)
            .map(|(_, key)| Bytes::copy_from_slice(key))
            .collect();
        for key in expired {
            self.keyspace.set(&key, None);
        }
    }

    pub fn call(&mut self, args: &[Vec<u8>]) -> Reply {
        if args[0] == b"FLUSHALL" {
            self.keyspace.clear();
        }
        let args: Vec<Bytes> = args.iter().cloned().map(Bytes::from).collect();
        let reply = self.run(&args);
        let mut out = BytesMut::new();
        encode(&reply, self.protocol, &mut out).expect("a reply encodes");
        read_reply(&mut &out[..]).expect("what is encoded can be read")
    }

    fn run(&mut self, args: &[Bytes]) -> Ours {
        let spec = commands::find(&args[0]).expect("the generator knows the table");
        let checked = commands::check_arity(spec, &args[1..]);
        let command = match checked.and_then(|()| commands::parse(spec, &args[1..])) {
            Ok(command) => command,
            Err(reply) => return reply,
        };
        self.version += 1;
        let seed = self.version.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if !self.buffered {
            let mut view = Overlay::direct(&mut self.keyspace, self.version, self.now, seed);
            return command.run(&mut view);
        }
        let mut view = Overlay::new(&self.keyspace, self.now, seed);
        let reply = command.run(&mut view);
        let again = command.run(&mut Overlay::new(&self.keyspace, self.now, seed));
        assert!(reply == again || reply.is_error(), "run twice, another reply");
        view.writes.apply(&mut self.keyspace, self.version);
        reply
    }
}
