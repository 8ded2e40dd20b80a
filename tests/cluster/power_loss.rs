//! The machines lose power: what was written and not synced is gone on all of them. What was acknowledged is there
//! afterwards, once.
//!
//! `plsim.c`, loaded into the nodes, keeps a copy of each data directory with what was synced; after `kill -9` of all, the
//! copies take the directories' places. A disk whose syncs do nothing must make the same check fail, or it shows nothing.

use std::any::Any;
use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kill_all::{Known, check, check_free, load_and_kill, pairs};
use crate::nodes::{Launch, NODES, Nodes};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/plsim.c");
/// Of each round: how many percent of unsynced writes survive.
const ROUNDS: [u32; 3] = [0, 50, 0];

/// Nodes whose disks can be made to lose what was not synced.
struct Machines {
    nodes: Nodes,
    library: PathBuf,
}

impl Machines {
    /// `None`, after saying so: there is no C compiler.
    fn new() -> Option<Machines> {
        // Snapshots and purged journals come early, so that they are lost and kept, too.
        let nodes = Nodes::prepare(|text| {
            let text = text.replace("# snapshot_log_bytes = 16777216", "snapshot_log_bytes = 262144");
            assert!(
                text.contains("\nsnapshot_log_bytes = 262144"),
                "the shipped config has another default"
            );
            text
        });
        let library = nodes.dir.path().join("plsim.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(&library)
            .args([SOURCE, "-ldl", "-lpthread"])
            .status();
        match built {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                println!("SKIPPED: power loss needs a C compiler, and there is no `cc`");
                None
            }
            Err(e) => panic!("cc: {e}"),
            Ok(status) => {
                assert!(status.success(), "cc: {status}");
                Some(Machines { nodes, library })
            }
        }
    }

    fn copy_of(&self, node: u64) -> PathBuf {
        self.nodes.dir.path().join(format!("synced-{node}"))
    }

    /// Starts all, with fresh copies of what is there now.
    fn start(&mut self, keep: u32, lie: bool) {
        for node in NODES {
            let (dir, copy) = (self.nodes.node_dir(node), self.copy_of(node));
            fs::create_dir_all(&dir).expect("a directory can be made");
            copy_all(&dir, &copy).expect("a data directory can be copied");
            let text = |path: &Path| path.display().to_string();
            let env = [
                ("LD_PRELOAD", text(&self.library)),
                ("PLSIM_DIR", text(&dir)),
                ("PLSIM_SHADOW", text(&copy)),
                ("PLSIM_KEEP", keep.to_string()),
                ("PLSIM_SEED", node.to_string()),
                ("PLSIM_LIE", u8::from(lie).to_string()),
            ];
            let launch = Launch {
                env: env.map(|(name, value)| (name.to_string(), value)).to_vec(),
                ..Launch::default()
            };
            self.nodes.launches.insert(node, launch);
        }
        self.nodes.start_all();
    }

    /// After all were killed: their directories are what was synced, and their disks are ordinary ones.
    fn lose_power(&mut self) {
        for node in NODES {
            let (dir, copy) = (self.nodes.node_dir(node), self.copy_of(node));
            fs::remove_dir_all(&dir).expect("a data directory can be removed");
            fs::rename(&copy, &dir).expect("a copy can be renamed");
        }
        self.nodes.launches.clear();
    }
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_power() {
    let Some(mut machines) = Machines::new() else {
        return;
    };
    let pairs = pairs(&machines.nodes);
    let mut known = Known::default();
    for (round, keep) in ROUNDS.into_iter().enumerate() {
        machines.start(keep, false);
        known.merge(load_and_kill(&mut machines.nodes, round, &pairs));
        machines.lose_power();
        machines.nodes.start_all();
        for node in NODES {
            check(&machines.nodes, node, &known, &pairs);
        }
        check_free(&machines.nodes, &pairs, &mut known);
        println!("round {round}: {known}");
        machines.nodes.kill_all();
    }
}

/// The negative control: a power loss is one, and the check sees what it takes.
#[test]
fn disks_that_only_pretend_to_sync_are_found_out() {
    let Some(mut machines) = Machines::new() else {
        return;
    };
    let pairs = pairs(&machines.nodes);
    // Honest once, so that the nodes come up afterwards, with too little.
    machines.start(0, false);
    let mut known = load_and_kill(&mut machines.nodes, 0, &pairs);
    machines.lose_power();
    machines.start(0, true);
    check(&machines.nodes, 1, &known, &pairs);
    known.merge(load_and_kill(&mut machines.nodes, 1, &pairs));
    machines.lose_power();
    machines.nodes.start_all();
    println!("the next message is what this test waits for");
    let found = panic::catch_unwind(AssertUnwindSafe(|| check(&machines.nodes, 1, &known, &pairs)));
    let said = found.expect_err("acknowledged writes were never synced, and nothing is missing");
    let said = message(&*said);
    assert!(said.contains("acknowledged SETs lost"), "{said}");
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}
