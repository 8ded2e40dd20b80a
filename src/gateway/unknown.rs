//! Commands that are not here: those of Redis 7.0 that are to come or will not, with the reason, and all others.

use bytes::Bytes;

use crate::base::Reply;

/// Commands of Redis 7.0 that are not supported: what they belong to, why, their names.
pub const MISSING: &[(&str, &str, &[&str])] = &[
    (
        "looking into HyperLogLog",
        "no need of it",
        &["pfdebug", "pfselftest"],
    ),
    (
        "Redis's replication, modules",
        "Quorate has its own, or none",
        &[
            "failover",
            "migrate",
            "module",
            "psync",
            "replconf",
            "replicaof",
            "slaveof",
            "sync",
        ],
    ),
];

fn missing(name: &[u8]) -> Option<Reply> {
    let holds = |names: &[&str]| {
        names
            .iter()
            .any(|other| other.as_bytes().eq_ignore_ascii_case(name))
    };
    let (what, why, _) = MISSING.iter().find(|(_, _, names)| holds(names))?;
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    Some(Reply::err(format!(
        "ERR command '{name}' is not supported ({what}: {why})"
    )))
}

/// Says that it is missing; of what Redis does not know either, in Redis's words: name and arguments cut at 128 bytes each.
pub fn unknown_command(name: &Bytes, args: &[Bytes]) -> Reply {
    const SHOWN: usize = 128;
    if let Some(missing) = missing(name) {
        return missing;
    }
    let text = |bytes: &[u8], most: usize| {
        let cut = &bytes[..bytes.len().min(most)];
        let cut = cut.split(|&b| b == 0).next().unwrap_or_default();
        String::from_utf8_lossy(cut).into_owned()
    };
    let mut shown = String::new();
    for arg in args {
        if shown.len() >= SHOWN {
            break;
        }
        let arg = text(arg, SHOWN - shown.len());
        shown.extend(["'", &arg, "' "]);
    }
    Reply::err(format!(
        "ERR unknown command '{}', with args beginning with: {shown}",
        text(name, SHOWN)
    ))
}
