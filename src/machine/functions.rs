//! Libraries of functions, beside the keyspace of the first shard: no command on keys sees them, and `FLUSHALL` leaves them.
//!
//! ```text
//!  code ─loaded in the sandbox, at a gateway─▶ Library ─Change─▶ log ─▶ Libraries at a new version
//! ```
//!
//! The machine runs no Lua: what a library registers was found out before it came to the log, and is a function of its code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::request::Response;
use super::shard::Shard;
use crate::base::limits::FUNCTIONS_BYTES_MAX;
use crate::base::{Reply, RequestId};

/// What a function, or a script, says of itself. In the order in which `FUNCTION LIST` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FunctionFlag {
    NoWrites,
    AllowOom,
    AllowStale,
    NoCluster,
    AllowCrossSlotKeys,
}

impl FunctionFlag {
    pub const ALL: [FunctionFlag; 5] = [
        FunctionFlag::NoWrites,
        FunctionFlag::AllowOom,
        FunctionFlag::AllowStale,
        FunctionFlag::NoCluster,
        FunctionFlag::AllowCrossSlotKeys,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FunctionFlag::NoWrites => "no-writes",
            FunctionFlag::AllowOom => "allow-oom",
            FunctionFlag::AllowStale => "allow-stale",
            FunctionFlag::NoCluster => "no-cluster",
            FunctionFlag::AllowCrossSlotKeys => "allow-cross-slot-keys",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    pub name: String,
    pub description: Option<Bytes>,
    pub flags: BTreeSet<FunctionFlag>,
}

/// A library as it was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    pub name: String,
    /// All of it, with the line that names it.
    pub code: Bytes,
    /// In the order of their names; at least one.
    pub functions: Vec<Function>,
}

impl Library {
    /// Bytes, for bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        let function = |function: &Function| {
            64 + function.name.len() + function.description.as_ref().map_or(0, Bytes::len)
        };
        64 + self.name.len() + self.code.len() + self.functions.iter().map(function).sum::<usize>()
    }
}

/// What becomes of libraries that are there when others are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestorePolicy {
    Append,
    Replace,
    Flush,
}

/// A change of the libraries, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionChange {
    Load {
        library: Library,
        replace: bool,
    },
    Delete {
        name: Bytes,
    },
    Flush,
    Restore {
        libraries: Vec<Library>,
        policy: RestorePolicy,
    },
}

impl FunctionChange {
    /// Bytes, for bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            FunctionChange::Load { library, .. } => library.weight(),
            FunctionChange::Delete { name } => name.len(),
            FunctionChange::Flush => 0,
            FunctionChange::Restore { libraries, .. } => libraries.iter().map(Library::weight).sum(),
        }
    }
}

impl Shard {
    #[must_use]
    pub fn libraries(&self) -> &Libraries {
        &self.libraries
    }

    /// Changes them once, however often the request comes.
    pub(super) fn change_functions(
        &mut self,
        change: &FunctionChange,
        id: Option<RequestId>,
        index: u64,
    ) -> Response {
        let response = Response::Replies(vec![self.libraries.change(change, index)]);
        self.remember(id, &response);
        response
    }
}

/// All libraries at one version. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libraries {
    /// Log index of the entry that last changed them; 0: none ever has.
    version: u64,
    by_name: BTreeMap<String, Arc<Library>>,
}

impl Libraries {
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Library>> {
        self.by_name.values()
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Library>> {
        self.by_name.get(name)
    }

    /// A function by its name, in any case.
    #[must_use]
    pub fn function(&self, name: &[u8]) -> Option<(&Arc<Library>, &Function)> {
        let is = |function: &&Function| function.name.as_bytes().eq_ignore_ascii_case(name);
        self.iter().find_map(|library| {
            let function = library.functions.iter().find(is)?;
            Some((library, function))
        })
    }

    /// Changes them as the entry at `index`, or replies why not.
    pub(super) fn change(&mut self, change: &FunctionChange, index: u64) -> Reply {
        let changed = match change {
            FunctionChange::Load { library, replace } => self.with([library], *replace, loaded_already),
            FunctionChange::Delete { name } => self.without(name),
            FunctionChange::Flush => Ok(BTreeMap::new()),
            FunctionChange::Restore { libraries, policy } => match policy {
                RestorePolicy::Flush => Libraries::default().with(libraries, false, restored_already),
                policy => self.with(libraries, *policy == RestorePolicy::Replace, restored_already),
            },
        };
        match changed {
            Ok(by_name) => {
                *self = Libraries {
                    version: index,
                    by_name,
                };
                match change {
                    FunctionChange::Load { library, .. } => Reply::bulk(library.name.clone()),
                    _ => Reply::ok(),
                }
            }
            Err(reply) => reply,
        }
    }

    fn without(&self, name: &[u8]) -> Result<BTreeMap<String, Arc<Library>>, Reply> {
        let mut left = self.by_name.clone();
        let known = std::str::from_utf8(name).ok().and_then(|name| left.remove(name));
        known.ok_or_else(|| Reply::err("ERR Library not found"))?;
        Ok(left)
    }

    /// These libraries and `more`. Names of functions are one for all libraries.
    fn with<'a>(
        &self,
        more: impl IntoIterator<Item = &'a Library> + Clone,
        replace: bool,
        there_already: fn(&str) -> Reply,
    ) -> Result<BTreeMap<String, Arc<Library>>, Reply> {
        let mut all = self.by_name.clone();
        for library in more.clone() {
            if all.remove(&library.name).is_some() && !replace {
                return Err(there_already(&library.name));
            }
        }
        let lower = |function: &Function| function.name.to_ascii_lowercase();
        let old = all.values().flat_map(|library| &library.functions);
        let mut names: BTreeSet<String> = old.map(lower).collect();
        for library in more {
            if let Some(twice) = library.functions.iter().find(|f| names.contains(&lower(f))) {
                return Err(Reply::err(format!("ERR Function {} already exists", twice.name)));
            }
            names.extend(library.functions.iter().map(lower));
            if all
                .insert(library.name.clone(), Arc::new(library.clone()))
                .is_some()
            {
                return Err(loaded_already(&library.name));
            }
        }
        let bytes: usize = all.values().map(|library| library.weight()).sum();
        if bytes > FUNCTIONS_BYTES_MAX {
            return Err(Reply::err(format!(
                "ERR all libraries together may have {FUNCTIONS_BYTES_MAX} bytes at the most; these would have {bytes}"
            )));
        }
        Ok(all)
    }
}

// Redis spells it in two ways.

fn loaded_already(name: &str) -> Reply {
    Reply::err(format!("ERR Library '{name}' already exists"))
}

fn restored_already(name: &str) -> Reply {
    Reply::err(format!("ERR Library {name} already exists"))
}
