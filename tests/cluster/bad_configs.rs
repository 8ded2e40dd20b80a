//! A config that cannot be used is refused with exit code 2, file, key and reason, before anything is touched.

use std::fs;

use crate::nodes::Nodes;

/// What is replaced in the shipped file, by what, and what the message must name.
const MISTAKES: &[(&str, &str, &[&str])] = &[
    ("[limits]", "[limits]\nconections = 5", &["conections"]),
    ("shards = 4", "shards = 4\nshard = 4", &["`shard`"]),
    ("id = 2", "id = 1", &["node.id", "given twice"]),
    (
        "replication = 3",
        "replication = 2",
        &["cluster.replication", "odd"],
    ),
    (
        "replication = 3",
        "replication = 5",
        &["cluster.replication", "3 nodes"],
    ),
    ("shards = 4", "shards = 0", &["cluster.shards"]),
];

#[test]
fn a_bad_config_is_refused_with_file_key_and_reason() {
    let nodes = Nodes::prepare(|text| text);
    let good = fs::read_to_string(nodes.config_file()).expect("it was just written");
    let bad_file = nodes.dir.path().join("bad.toml");
    for (from, to, named) in MISTAKES {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from:?} is not in the shipped config");
        fs::write(&bad_file, bad).expect("a file can be written");
        let (code, said) = Nodes::refused(1, &bad_file, None);
        assert_eq!(code, Some(2), "{to:?}: {said}");
        for word in named.iter().chain(&["bad.toml"]) {
            assert!(said.contains(word), "{to:?}: {word:?} is not in {said:?}");
        }
    }
    let (code, said) = Nodes::refused(9, nodes.config_file(), None);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("cluster.toml") && said.contains("no node 9"),
        "{said}"
    );
    let missing = nodes.dir.path().join("missing.toml");
    let (code, said) = Nodes::refused(1, &missing, None);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("missing.toml"), "{said}");
    let data = nodes.dir.path().join("data");
    let left = fs::read_dir(data).expect("it was made").count();
    assert_eq!(left, 0, "a refused node has written data");
}
