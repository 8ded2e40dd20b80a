//! `WATCH`.

use bytes::Bytes;

use super::session::Session;
use crate::base::Reply;
use crate::base::limits::{KEY_BYTES_MAX, WATCHED_BYTES_MAX, WATCHED_KEYS_MAX};
use crate::machine::Condition;

impl Session {
    pub(super) async fn watch(&mut self, keys: &[Bytes]) -> Reply {
        if self.watched.len() + keys.len() > WATCHED_KEYS_MAX {
            return Reply::err(format!(
                "ERR a connection may watch {WATCHED_KEYS_MAX} keys at the most"
            ));
        }
        let bytes = self
            .watched
            .iter()
            .filter_map(Condition::key)
            .chain(keys)
            .map(Bytes::len);
        if bytes.sum::<usize>() > WATCHED_BYTES_MAX || keys.iter().any(|key| key.len() > KEY_BYTES_MAX) {
            return Reply::err(format!(
                "ERR a key may have {KEY_BYTES_MAX} bytes at the most, and all that a connection watches {WATCHED_BYTES_MAX}"
            ));
        }
        match self.node.versions(keys).await {
            Ok(conditions) => {
                // A key watched before keeps its older version: a change in between must count.
                let known = self.watched.clone();
                let watched = |new: &Condition| known.iter().any(|old| old.key() == new.key());
                self.watched
                    .extend(conditions.into_iter().filter(|condition| !watched(condition)));
                Reply::ok()
            }
            Err(error) => Reply::err(error.to_string()),
        }
    }
}
