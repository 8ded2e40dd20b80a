//! What the fuzzers begin with: well-formed input of each kind, written into `corpus/`. Run by `fuzz/run`.

use std::io;
use std::path::Path;

use bytes::Bytes;
use quorate::base::codec;
use quorate::machine::commands::{check_arity, find, parse};
use quorate::machine::rdb::dump;
use quorate::machine::{Batch, Body, Command, Machine, Mode, Origin, Request};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
const MEMCACHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/memcached");
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");

fn put(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = Path::new(CORPUS).join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}

/// What a line of a recorded conversation asks for, if it does: `c1> SET a 1`, `> get a`.
fn asking(line: &str) -> Option<String> {
    let (who, asked) = line.split_once("> ")?;
    (who.len() < 4).then(|| asked.to_owned())
}

/// What the recorded conversations in a folder ask for.
fn asked(folder: &str) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "script") {
            let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
            all.extend(text.lines().filter_map(asking));
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

fn command(line: &str) -> Option<Command> {
    let mut words = line.split(' ').map(|word| Bytes::from(word.to_owned()));
    let spec = find(&words.next()?)?;
    let args: Vec<_> = words.collect();
    check_arity(spec, &args).ok()?;
    parse(spec, &args).ok()
}

fn request(lines: &[String]) -> Request {
    Request::anonymous(Body::Run {
        commands: lines.iter().filter_map(|line| command(line)).collect(),
        conditions: Vec::new(),
        mode: Mode::Each,
    })
}

fn main() -> io::Result<()> {
    let lines = asked(GOLDEN)?;
    let mut machine = Machine::new(quorate::base::GroupId::Shard(0));
    for (n, some) in (1..).zip(lines.chunks(4)) {
        let name = n.to_string();
        let text = some.join("\n").replace('"', "");
        put("commands", &name, text.as_bytes())?;
        put("requests", &name, text.replace('\n', "\r\n").as_bytes())?;
        let bulk = |word: &str| format!("${}\r\n{word}\r\n", word.len());
        let array = |line: &String| {
            let words: Vec<&str> = line.split(' ').collect();
            format!(
                "*{}\r\n{}",
                words.len(),
                words.into_iter().map(bulk).collect::<String>()
            )
        };
        let arrays: String = some.iter().map(array).collect();
        put("requests", &format!("{name}-arrays"), arrays.as_bytes())?;
        let batch = Batch {
            origin: Origin { node: 1, nonce: n },
            time: 1000 + n,
            seed: n,
            requests: vec![request(some)],
        };
        let bytes = codec::encode(&batch).map_err(io::Error::other)?;
        put("frames", &name, &[&[3], &bytes[..]].concat())?;
        machine.apply(n, batch);
        if n % 16 == 0 {
            let (mut stream, mut sections) = (vec![1], vec![2]);
            let frozen = machine.freeze();
            frozen
                .sections(|section| {
                    stream.extend_from_slice(section);
                    sections.extend_from_slice(&section[8..]);
                    sections.push(0xfe);
                    Ok::<(), codec::CodecError>(())
                })
                .map_err(io::Error::other)?;
            sections.pop();
            put("disk", &format!("{name}-stream"), &stream)?;
            put("disk", &format!("{name}-sections"), &sections)?;
        }
        let keyspace = machine
            .as_shard()
            .map(|shard| shard.keyspace().clone())
            .unwrap_or_default();
        for (at, (_, object)) in keyspace.iter().take(8).enumerate() {
            if let Ok(mut payload) = dump(object.value()) {
                // The target seals it.
                payload.truncate(payload.len() - 10);
                put("dumped", &format!("{name}-{at}"), &payload)?;
            }
        }
    }
    for (n, line) in asked(MEMCACHED)?.into_iter().enumerate() {
        put(
            "memcached",
            &n.to_string(),
            line.replace("\\r", "\r").replace("\\n", "\n").as_bytes(),
        )?;
    }
    Ok(())
}
