//! A node that must not start says what is wrong and where, ends soon, and harms nobody: the other two go on, and with
//! its own data it comes back.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::eventually;
use crate::nodes::{NODES, Nodes};
use crate::wire::{Client, Fate, words};

const KEYS: usize = 400;
/// The node that has bad luck.
const VICTIM: u64 = 3;
const FULL: Duration = Duration::from_secs(60);

fn write_all(client: &mut Client, round: usize) {
    let sets: Vec<_> = (0..KEYS)
        .map(|i| words(&["SET", &format!("kept:{i}"), &format!("{i}/{round}")]))
        .collect();
    let replies = client.pipeline(&sets).expect("the cluster is up");
    let failed = replies.iter().find(|reply| !reply.is_ok());
    assert!(failed.is_none(), "{failed:?}");
}

fn read_all(client: &mut Client, round: usize) {
    let gets: Vec<_> = (0..KEYS).map(|i| words(&["GET", &format!("kept:{i}")])).collect();
    let replies = client.pipeline(&gets).expect("the cluster is up");
    for (i, reply) in replies.iter().enumerate() {
        assert_eq!(reply.text(), Some(format!("{i}/{round}")), "kept:{i}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    for entry in fs::read_dir(from).expect("it can be listed") {
        let entry = entry.expect("it can be listed");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a file can be copied");
        }
    }
}

/// Two nodes that serve data, and a third that was killed.
struct Bereft {
    nodes: Nodes,
    copies: usize,
}

impl Bereft {
    fn new() -> Bereft {
        Bereft::with(|text| text)
    }

    fn with(edit: impl Fn(String) -> String) -> Bereft {
        let mut nodes = Nodes::start(edit);
        let mut client = nodes.client(1);
        write_all(&mut client, 0);
        if nodes.config.limits.snapshot_log_bytes < 1 << 20 {
            eventually("the victim holds snapshots of all shards", FULL, || {
                write_all(&mut client, 0);
                let status = nodes.status(VICTIM)?;
                let is_shard = |group: &&serde_json::Value| {
                    group["group"]
                        .as_str()
                        .is_some_and(|name| name.starts_with("shard"))
                };
                let mut shards = status["groups"].as_array()?.iter().filter(is_shard);
                shards
                    .all(|group| group["snapshot"].as_u64().is_some_and(|at| at > 0))
                    .then_some(())
            });
        }
        nodes.kill(VICTIM);
        Bereft { nodes, copies: 0 }
    }

    /// A copy of a node's data, to be spoilt.
    fn copy_of(&mut self, node: u64) -> PathBuf {
        self.copies += 1;
        let to = self.nodes.dir.path().join(format!("copy-{}", self.copies));
        copy(&self.nodes.node_dir(node), &to);
        to
    }

    /// The victim does not start on `dir`: exit code 1, and all of `named` in what it says.
    fn refuses(&self, dir: &Path, named: &[&str]) {
        self.refuses_with(self.nodes.config_file(), dir, named);
    }

    fn refuses_with(&self, config: &Path, dir: &Path, named: &[&str]) {
        let (code, said) = Nodes::refused(VICTIM, config, Some(dir));
        assert_eq!(code, Some(1), "{}: {said}", dir.display());
        for word in named {
            assert!(said.contains(word), "{word:?} is not in {said:?}");
        }
        read_all(&mut self.nodes.client(1), 0);
    }

    /// Everybody is well, with the victim's own data.
    fn recovers(mut self) {
        write_all(&mut self.nodes.client(1), 1);
        self.nodes.start_node(VICTIM);
        for node in NODES {
            read_all(&mut self.nodes.client(node), 1);
        }
        self.nodes.kill(1);
        read_all(&mut self.nodes.client(VICTIM), 1);
    }
}

fn name(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

/// The files whose loss must be noticed: whose directory it is, every snapshot, every journal segment that is in use.
fn precious(dir: &Path) -> Vec<PathBuf> {
    let mut files = vec![dir.join("store/db")];
    let listed = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).expect("it can be listed");
        entries
            .map(|entry| entry.expect("it can be listed").path())
            .collect()
    };
    let used = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"QJ01"));
    files.extend(listed(&dir.join("journal")).into_iter().filter(used));
    files.extend(
        listed(&dir.join("snapshots"))
            .into_iter()
            .map(|dir| dir.join("db")),
    );
    files
}

/// Spoils a copy of each precious file in turn; the node must refuse each.
fn refuses_spoilt(edit: impl Fn(String) -> String, spoils: &[&dyn Fn(&Path)]) {
    let mut bereft = Bereft::with(edit);
    let original = bereft.nodes.node_dir(VICTIM);
    let files = precious(&original);
    for kind in ["store", "journal", "snapshots"] {
        let of_kind = |file: &PathBuf| {
            file.strip_prefix(&original)
                .is_ok_and(|file| file.starts_with(kind))
        };
        assert!(files.iter().any(of_kind), "no {kind} file among {files:?}");
    }
    for file in &files {
        for spoil in spoils {
            let dir = bereft.copy_of(VICTIM);
            spoil(&dir.join(file.strip_prefix(&original).expect("it is below")));
            println!("spoilt {}", file.display());
            bereft.refuses(&dir, &[name(&dir)]);
            fs::remove_dir_all(dir).expect("a copy can be removed");
        }
    }
    bereft.recovers();
}

fn small_snapshots(text: &str) -> String {
    let small = text.replace("# snapshot_log_bytes = 16777216", "snapshot_log_bytes = 65536");
    assert_ne!(small, text, "the shipped config has another default");
    small
}

fn cut_to(file: &Path, share: u64) {
    let size = fs::metadata(file).expect("it is there").len();
    let file = File::options().write(true).open(file);
    file.and_then(|file| file.set_len(size * share / 8))
        .expect("a file can be cut");
}

#[test]
fn cut_off_files_are_refused() {
    refuses_spoilt(
        |text| small_snapshots(&text),
        &[&|file| cut_to(file, 0), &|file| cut_to(file, 4)],
    );
}

#[test]
fn files_that_were_written_over_are_refused() {
    // At the front. Damage to bytes that hold only what was written anew since is harmless, and the journal's own tests
    // tell the difference (storage/journal_tests.rs).
    let write_over = |path: &Path| {
        let mut bytes = fs::read(path).expect("it is there");
        for (at, byte) in bytes.iter_mut().take(16 << 10).enumerate() {
            *byte ^= u8::try_from(at % 251).expect("it is small") | 1;
        }
        fs::write(path, bytes).expect("a file can be written");
    };
    refuses_spoilt(|text| small_snapshots(&text), &[&write_over]);
}

#[test]
fn another_clusters_data_is_refused() {
    let bereft = Bereft::new();
    let mut stranger = Nodes::prepare_another(|text| text);
    stranger.start_all();
    let kept = stranger
        .client(1)
        .call(&["SET", "kept", "there"])
        .expect("it is up");
    assert!(kept.is_ok(), "{kept:?}");
    stranger.kill(VICTIM);
    bereft.refuses(&stranger.node_dir(VICTIM), &["another cluster"]);
    // Neither cluster is harmed.
    stranger.start_node(VICTIM);
    let kept = stranger.client(VICTIM).call(&["GET", "kept"]).expect("it is up");
    assert_eq!(kept.text().as_deref(), Some("there"));
    drop(stranger);
    bereft.recovers();
}

#[test]
fn another_nodes_data_and_another_layout_are_refused() {
    let mut bereft = Bereft::new();
    let taken = bereft.nodes.node_dir(2);
    bereft.refuses(&taken, &[name(&taken), "lock"]);
    let dir = bereft.copy_of(2);
    bereft.refuses(&dir, &[name(&dir), "node 2, not to node 3"]);

    let config = bereft.nodes.dir.path().join("five-shards.toml");
    let text = fs::read_to_string(bereft.nodes.config_file()).expect("it was written");
    fs::write(&config, text.replace("\nshards = 4", "\nshards = 5")).expect("a file can be written");
    let dir = bereft.copy_of(VICTIM);
    bereft.refuses_with(&config, &dir, &[name(&dir), "4 shards", "5 shards"]);
    bereft.recovers();
}

#[test]
fn a_port_in_use_is_refused() {
    let bereft = Bereft::new();
    let node = bereft.nodes.config.node(VICTIM).expect("it is there");
    for (what, address) in [
        ("client", node.client),
        ("peer", node.peer),
        ("admin", node.admin),
    ] {
        let taken = TcpListener::bind(address).expect("a dead node's port is free");
        bereft.refuses(
            &bereft.nodes.node_dir(VICTIM),
            &[what, &address.to_string(), "in use"],
        );
        drop(taken);
    }
    bereft.recovers();
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let mut bereft = Bereft::new();
    let file = bereft.nodes.dir.path().join("file");
    fs::write(&file, "").expect("a file can be written");
    let below = file.join("data");
    for dir in [file.as_path(), below.as_path(), Path::new("/proc/quorate")] {
        bereft.refuses(dir, &["data directory", name(dir)]);
    }
    let own = bereft.copy_of(VICTIM);
    if let Some(mount) = Mount::new(&bereft.nodes.dir.path().join("read-only"), "64m") {
        copy(&own, &mount.0.join("used"));
        assert!(mount.again("ro"), "a tmpfs can be made read-only");
        for dir in [mount.0.join("used"), mount.0.join("fresh")] {
            bereft.refuses(&dir, &[name(&dir), "Read-only"]);
        }
    }
    bereft.recovers();
}

/// A small file system of its own; needs root.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, size: &str) -> Option<Mount> {
        fs::create_dir_all(at).expect("a directory can be made");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(at);
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Mount(at.into()));
        }
        println!("SKIPPED: mounting a tmpfs needs root, so neither a full nor a read-only disk was tried");
        None
    }

    fn again(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A process that still has files there must not make it fail.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_fills_up_ends_the_node_and_nothing_else() {
    let mut bereft = Bereft::new();
    let Some(mount) = Mount::new(&bereft.nodes.dir.path().join("small"), "24m") else {
        return;
    };
    let own = mount.0.join("own");
    copy(&bereft.nodes.node_dir(VICTIM), &own);
    // Files of other people: what is left is less than one segment of the log.
    let mut others = File::create(mount.0.join("others")).expect("there is room");
    let fill = |file: &mut File| while file.write(&[0; 4096]).is_ok_and(|written| written == 4096) {};
    bereft.nodes.launch_in(VICTIM, &own);
    bereft.nodes.wait_ready(VICTIM);
    fill(&mut others);
    let mut client = bereft.nodes.client(1);
    let mut n = 0;
    let status = eventually("the node ends", FULL, || {
        for _ in 0..50 {
            n += 1;
            let fate = Fate::of(client.call(&["SET", &format!("fill:{}", n % 100), &"x".repeat(2000)]));
            assert!(matches!(fate, Fate::Done(_)), "the others go on: {fate:?}");
        }
        bereft.nodes.try_end(VICTIM)
    });
    assert_eq!(status.code(), Some(1), "{}", bereft.nodes.said(VICTIM));
    let said = bereft.nodes.said(VICTIM);
    assert!(said.contains("No space left"), "{said}");
    read_all(&mut client, 0);
    // Started again on the full disk, it says so; with room, it is back.
    bereft.refuses(&own, &[name(&own), "No space left"]);
    // An open file keeps its room.
    drop(others);
    fs::remove_file(mount.0.join("others")).expect("a file can be removed");
    bereft.nodes.launch_in(VICTIM, &own);
    bereft.nodes.wait_ready(VICTIM);
    bereft.nodes.kill(2);
    read_all(&mut bereft.nodes.client(VICTIM), 0);
}
