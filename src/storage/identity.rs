//! Who this data directory belongs to. Written once, checked at every start.

use std::io;

use serde::{Deserialize, Serialize};

use super::Store;
use crate::base::{NodeId, codec};

/// Version of everything on disk; another one is refused.
const FORMAT_VERSION: u32 = 2;
const KEY: &[u8] = b"identity";

/// What a data directory remembers about its node and cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    format: u32,
    pub cluster_id: u128,
    pub node_id: NodeId,
    /// Shards, coordinators, virtual nodes, replication: what decides where keys live.
    pub layout: String,
    /// A node that joined a formed cluster with an empty directory has forgotten its votes: it grants none until it
    /// holds what the cluster had committed.
    pub refilling: bool,
}

/// Why a data directory is not this node's.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read the identity: {0}")]
    Io(#[from] io::Error),
    #[error("format version {found}, this program reads {FORMAT_VERSION}")]
    Format { found: u32 },
    #[error("it belongs to node {found}, not to node {wanted}")]
    Node { found: NodeId, wanted: NodeId },
    #[error(
        "it was written with '{found}', the config says '{wanted}': keys would be looked for in other shards"
    )]
    Layout { found: String, wanted: String },
}

impl Identity {
    #[must_use]
    pub fn new(cluster_id: u128, node_id: NodeId, layout: String, refilling: bool) -> Identity {
        Identity {
            format: FORMAT_VERSION,
            cluster_id,
            node_id,
            layout,
            refilling,
        }
    }

    /// The same node, once it holds again what it must.
    #[must_use]
    pub fn refilled(self) -> Identity {
        Identity {
            refilling: false,
            ..self
        }
    }

    /// Reads the identity and checks it against the config's node id and layout. `None`: a fresh directory.
    ///
    /// # Errors
    /// [`IdentityError`], which names what differs.
    pub fn load(store: &Store, node_id: NodeId, layout: &str) -> Result<Option<Identity>, IdentityError> {
        let Some(bytes) = store.db.get(KEY)? else {
            return Ok(None);
        };
        let (format, _) = codec::decode_prefix::<u32>(&bytes).map_err(io::Error::other)?;
        if format != FORMAT_VERSION {
            return Err(IdentityError::Format { found: format });
        }
        let found: Identity = codec::decode(&bytes).map_err(io::Error::other)?;
        if found.node_id != node_id {
            return Err(IdentityError::Node {
                found: found.node_id,
                wanted: node_id,
            });
        }
        if found.layout != layout {
            return Err(IdentityError::Layout {
                found: found.layout,
                wanted: layout.into(),
            });
        }
        Ok(Some(found))
    }

    /// Writes the identity; it is on disk when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, store: &Store) -> io::Result<()> {
        store
            .db
            .put(KEY, &codec::encode(self).map_err(io::Error::other)?)?;
        store.db.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::open_store;

    #[test]
    fn a_directory_of_another_node_or_layout_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = open_store(dir.path()).expect("opens");
        assert!(Identity::load(&store, 1, "a").expect("reads").is_none());
        let identity = Identity::new(9, 1, "a".into(), false);
        identity.save(&store).expect("saves");
        drop(store);
        let store = open_store(dir.path()).expect("opens again");
        assert_eq!(Identity::load(&store, 1, "a").expect("reads"), Some(identity));
        assert!(matches!(
            Identity::load(&store, 2, "a"),
            Err(IdentityError::Node { found: 1, wanted: 2 })
        ));
        assert!(matches!(
            Identity::load(&store, 1, "b"),
            Err(IdentityError::Layout { .. })
        ));
    }
}
