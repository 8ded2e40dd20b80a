//! The scripts that nodes know by their names, and those that run. Not durable, as in Redis; but what one node was told is found
//! by the others. Libraries of functions are durable: here is what was last seen of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::message::{Ask, Told};
use super::node::Node;
use crate::base::limits::{SCRIPTS_BYTES_MAX, SCRIPTS_RUNNING_MAX};
use crate::base::{GroupId, NodeId};
use crate::machine::Libraries;
use crate::machine::commands::Eval;
use crate::script::sha1_hex;

/// How long other nodes may take to answer about a script.
const PATIENCE: Duration = Duration::from_secs(1);

/// What nodes tell each other about scripts.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum ScriptAsk {
    Load(Bytes),
    Find(String),
    Forget,
}

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Scripts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bodies: Mutex<Bodies>,
    running: Mutex<BTreeMap<u64, Run>>,
    runs: AtomicU64,
    slots: Semaphore,
    libraries: Mutex<Arc<Libraries>>,
}

/// Scripts, or functions, that one client runs as one.
#[derive(Debug)]
struct Run {
    stop: Arc<AtomicBool>,
    began: Instant,
    /// The first function among them, if there is one.
    function: Option<Box<Eval>>,
}

impl Default for Inner {
    fn default() -> Self {
        Inner {
            bodies: Mutex::default(),
            running: Mutex::default(),
            runs: AtomicU64::new(0),
            slots: Semaphore::new(SCRIPTS_RUNNING_MAX),
            libraries: Mutex::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Bodies {
    by_name: BTreeMap<String, Bytes>,
    bytes: usize,
}

/// A run of a script, until this is dropped.
pub struct Running {
    scripts: Scripts,
    number: u64,
    /// Set when it has to end.
    pub stop: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.scripts.inner.running.lock().remove(&self.number);
    }
}

impl Scripts {
    /// Learns a script. `None`: there is no room for it.
    pub fn learn(&self, body: &Bytes) -> Option<String> {
        let name = sha1_hex(body);
        self.learn_as(name.clone(), body).then_some(name)
    }

    /// As [`Scripts::learn`], where the name is known; says whether there was room.
    pub fn learn_as(&self, name: String, body: &Bytes) -> bool {
        let mut bodies = self.inner.bodies.lock();
        if !bodies.by_name.contains_key(&name) {
            if bodies.bytes + body.len() > SCRIPTS_BYTES_MAX {
                return false;
            }
            bodies.bytes += body.len();
            // Copied: a slice of a request's buffer would keep the whole buffer alive.
            bodies.by_name.insert(name, Bytes::copy_from_slice(body));
        }
        true
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<Bytes> {
        self.inner.bodies.lock().by_name.get(name).cloned()
    }

    pub fn forget_all(&self) {
        *self.inner.bodies.lock() = Bodies::default();
    }

    /// Waits until one more script may run, and lets it as long as what this returns is held.
    pub async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.inner.slots.acquire().await.ok()
    }

    /// Notes what runs from now on, and ends as one.
    pub fn begin<'a>(&self, evals: impl IntoIterator<Item = &'a Eval>) -> Running {
        let number = self.inner.runs.fetch_add(1, Ordering::Relaxed);
        let stop = Arc::<AtomicBool>::default();
        let function = evals.into_iter().find(|eval| eval.function.is_some());
        let run = Run {
            stop: Arc::clone(&stop),
            began: Instant::now(),
            function: function.map(|eval| Box::new(eval.clone())),
        };
        self.inner.running.lock().insert(number, run);
        Running {
            scripts: self.clone(),
            number,
            stop,
        }
    }

    /// Ends the scripts, or the functions, that run here; says how many.
    #[must_use]
    pub fn kill(&self, functions: bool) -> usize {
        let running = self.inner.running.lock();
        let meant = running.values().filter(|run| run.function.is_some() == functions);
        meant.map(|run| run.stop.store(true, Ordering::Relaxed)).count()
    }

    /// Ends all that run here.
    pub fn stop(&self) {
        let running = self.inner.running.lock();
        running
            .values()
            .for_each(|run| run.stop.store(true, Ordering::Relaxed));
    }

    /// The function that has run here longest, and for how long.
    #[must_use]
    pub fn running_function(&self) -> Option<(Eval, Duration)> {
        let running = self.inner.running.lock();
        let of = |run: &Run| Some((run.function.as_deref()?.clone(), run.began.elapsed()));
        running.values().find_map(of)
    }

    /// The libraries as they were last seen.
    #[must_use]
    pub fn libraries(&self) -> Arc<Libraries> {
        Arc::clone(&self.inner.libraries.lock())
    }

    pub fn learn_libraries(&self, seen: &Arc<Libraries>) {
        let mut known = self.inner.libraries.lock();
        if seen.version() > known.version() {
            *known = Arc::clone(seen);
        }
    }

    /// Answers another node.
    pub fn answer(&self, ask: ScriptAsk) -> Told {
        Told::Script(match ask {
            ScriptAsk::Load(body) => {
                self.learn(&body);
                None
            }
            ScriptAsk::Find(name) => self.find(&name),
            ScriptAsk::Forget => {
                self.forget_all();
                None
            }
        })
    }
}

impl Node {
    async fn ask_all(&self, ask: ScriptAsk) -> Vec<Option<Told>> {
        let limit = Instant::now() + PATIENCE;
        let ask = Ask::Script(ask);
        // It is no group's affair.
        let asked = |node: NodeId| {
            self.router()
                .ask_member(node, GroupId::Coordinator(0), &ask, limit)
        };
        join_all(self.connected().into_iter().map(asked)).await
    }

    /// Makes a script known by its name, here and at the nodes that are linked. `None`: there is no room for it.
    pub async fn load_script(&self, body: &Bytes) -> Option<String> {
        let name = self.scripts().learn(body)?;
        self.ask_all(ScriptAsk::Load(body.clone())).await;
        Some(name)
    }

    /// A script by its name, from whichever node knows it.
    pub async fn find_script(&self, name: &str) -> Option<Bytes> {
        if let Some(body) = self.scripts().find(name) {
            return Some(body);
        }
        let told = self.ask_all(ScriptAsk::Find(name.to_owned())).await;
        let found = told.into_iter().find_map(|told| match told {
            Some(Told::Script(body)) => body,
            _ => None,
        });
        let body = found.filter(|body| sha1_hex(body) == name)?;
        self.scripts().learn(&body);
        Some(body)
    }

    /// Makes every node that is linked forget all scripts.
    pub async fn forget_scripts(&self) {
        self.scripts().forget_all();
        self.ask_all(ScriptAsk::Forget).await;
    }
}
