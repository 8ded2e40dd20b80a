//! `TXN`: see what is under way, and what became of an id.

use std::time::Duration;

use bytes::Bytes;

use crate::base::limits::TXN_WAIT_MS_MAX;
use crate::base::{GroupId, Millis, Reply, TxnId};
use crate::cluster::{Known, Node, Overview, UnderWay};
use crate::machine::Row;

const USAGE: &str = "ERR unknown subcommand or wrong number of arguments. Try TXN LIST, TXN INFO id, TXN STATUS id, \
                     TXN WAIT id ms, TXN RESOLVE id.";

type Fields = Vec<(Reply, Reply)>;

pub async fn txn(node: &Node, args: &[Bytes]) -> Reply {
    let Some((sub, rest)) = args.split_first() else {
        return Reply::err(USAGE);
    };
    let sub = sub.to_ascii_lowercase();
    let id = match rest.first() {
        None if sub == b"list" => return list(&node.overview(None).await),
        None => return Reply::err(USAGE),
        Some(_) if sub == b"list" => return Reply::err(USAGE),
        Some(text) => match String::from_utf8_lossy(text).parse::<TxnId>() {
            Ok(id) => id,
            Err(why) => return Reply::err(format!("ERR {why}")),
        },
    };
    match (sub.as_slice(), &rest[1..]) {
        (b"info", []) => info(node, id).await,
        (b"status", []) => match node.status_of(id).await {
            Ok(known) => word(known),
            Err(error) => Reply::err(error.to_string()),
        },
        (b"resolve", []) => word(node.resolve_now(id).await),
        (b"wait", [ms]) => match limit(ms) {
            Some(limit) => word(node.wait_for(id, limit).await),
            None => Reply::err(format!(
                "ERR TXN WAIT wants milliseconds from 0 to {TXN_WAIT_MS_MAX}"
            )),
        },
        _ => Reply::err(USAGE),
    }
}

fn limit(ms: &[u8]) -> Option<Duration> {
    let ms = std::str::from_utf8(ms).ok()?.parse().ok();
    ms.filter(|&ms| ms <= TXN_WAIT_MS_MAX).map(Duration::from_millis)
}

fn word(known: Known) -> Reply {
    Reply::bulk(known.name())
}

fn text<T: ToString + ?Sized>(text: &T) -> Reply {
    Reply::bulk(text.to_string())
}

fn field(name: &'static str, value: Reply) -> (Reply, Reply) {
    (Reply::bulk(name), value)
}

fn group(group: Option<GroupId>) -> Reply {
    group.map_or(Reply::Nil, |group| text(&group))
}

fn millis(ms: Option<Millis>) -> Reply {
    ms.map_or(Reply::Nil, |ms| Reply::Int(i64::try_from(ms).unwrap_or(i64::MAX)))
}

fn texts<T: ToString>(all: impl IntoIterator<Item = T>) -> Reply {
    Reply::Array(all.into_iter().map(|each| text(&each)).collect())
}

/// A row a transaction; then one a group that did not answer, or has more than it may show.
fn list(overview: &Overview) -> Reply {
    let mut rows: Vec<Reply> = overview
        .transactions()
        .iter()
        .map(|known| Reply::Map(under_way(known, overview.at)))
        .collect();
    for (group, listing) in overview
        .listings
        .iter()
        .filter(|(_, listing)| listing.left_out > 0)
    {
        rows.push(Reply::Map(vec![
            field("group", text(group)),
            field("left-out", Reply::count(listing.left_out)),
        ]));
    }
    rows.extend(silent(overview));
    Reply::Array(rows)
}

fn silent(overview: &Overview) -> impl Iterator<Item = Reply> {
    overview.silent.iter().map(|(group, why)| {
        Reply::Map(vec![
            field("group", text(group)),
            field("error", text(&format!("CLUSTERDOWN {why}"))),
        ])
    })
}

fn under_way(known: &UnderWay, now: Millis) -> Fields {
    vec![
        field("id", text(&known.id)),
        field("state", text(known.state.name())),
        field("age-ms", millis(known.started.map(|at| now.saturating_sub(at)))),
        field("deadline", millis(known.deadline)),
        field("coordinator", group(known.coordinator)),
        field("participants", texts(&known.participants)),
        field("waits-for", texts(&known.waits)),
    ]
}

/// Nothing is decided by asking: an id that nobody knows stays so.
async fn info(node: &Node, id: TxnId) -> Reply {
    let ((known, unasked), overview) = futures::join!(node.known_of(id), node.overview(Some(id)));
    let rows = overview
        .rows()
        .map(|(at, row)| Reply::Map(row_fields(*at, row, overview.at)));
    let rows = rows.chain(silent(&overview)).collect();
    Reply::Map(vec![
        field("id", text(&id)),
        field("outcome", word(known)),
        field("groups", Reply::Array(rows)),
        field("unanswered", texts(unasked)),
    ])
}

fn row_fields(at: GroupId, row: &Row, now: Millis) -> Fields {
    let more = (row.more_waits > 0).then(|| format!("{} more", row.more_waits));
    let waits = row.waits.iter().map(ToString::to_string).chain(more);
    vec![
        field("group", text(&at)),
        field("state", text(row.state.name())),
        field(
            "attempt",
            row.attempt
                .map_or(Reply::Nil, |a| text(&format!("{}.{}", a.term, a.number))),
        ),
        field("age-ms", millis(row.started.map(|at| now.saturating_sub(at)))),
        field("deadline", millis(row.deadline)),
        field("coordinator", group(row.coordinator)),
        field("participants", texts(&row.participants)),
        field("waits-for", texts(waits)),
    ]
}
