//! `QUORATE`: what no Redis has.

use bytes::Bytes;

use super::session::Session;
use crate::base::{Reply, RequestId, gateway_of};
use crate::cluster::Node;

impl Session {
    pub(super) fn quorate(&mut self, args: &[Bytes]) -> Reply {
        let number = |arg: &Bytes| std::str::from_utf8(arg).ok()?.parse::<u64>().ok();
        match args {
            [sub] if sub.eq_ignore_ascii_case(b"status") => match serde_json::to_vec(&self.node.status()) {
                Ok(json) => Reply::bulk(json),
                Err(e) => Reply::err(format!("ERR {e}")),
            },
            [sub] if sub.eq_ignore_ascii_case(b"digest") => digests(&self.node),
            [sub, session, seq, below] if sub.eq_ignore_ascii_case(b"once") => {
                let session = std::str::from_utf8(session)
                    .ok()
                    .and_then(|s| u128::from_str_radix(s, 16).ok());
                match (session, number(seq), number(below)) {
                    // Which groups can execute a gateway's id is read from it.
                    (Some(session), ..)
                        if gateway_of(session)
                            .is_some_and(|(node, _)| self.node.config().node(node).is_ok()) =>
                    {
                        Reply::err("ERR ONCE wants a session of the client's own: that one is a gateway's")
                    }
                    (Some(session), Some(seq), Some(below)) if below <= seq => {
                        self.once = Some((RequestId { session, seq }, below));
                        Reply::ok()
                    }
                    _ => Reply::err("ERR ONCE wants a session in hex, a number, and a number not above that"),
                }
            }
            _ => Reply::err("ERR unknown subcommand or wrong number of arguments for 'quorate'"),
        }
    }
}

/// `QUORATE DIGEST`: group, last applied index, checksum of the state there, for each replica on this node.
fn digests(node: &Node) -> Reply {
    let row = |group: crate::raft::Group| match group.digest() {
        Ok((index, digest)) => Reply::Array(vec![
            Reply::bulk(group.id().to_string()),
            Reply::Int(i64::try_from(index).unwrap_or(i64::MAX)),
            Reply::Int(i64::from(digest)),
        ]),
        Err(e) => Reply::err(format!("ERR {e}")),
    };
    Reply::Array(node.local_groups().into_iter().map(row).collect())
}
