//! Runs independent data commands that arrived together: by shard, at the same time, each shard's in order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::future::join_all;
use smallvec::SmallVec;

use super::stats::Place;
use super::tracking::ToRemember;
use crate::base::Reply;
use crate::cluster::{Node, Outcome, Wish};
use crate::machine::{Command, Touches};

/// A command to run, or a reply that stands already (a command that could not be parsed).
#[derive(Debug)]
pub enum Item {
    Run(Command),
    Ready(Reply),
}

/// Data commands that came together, until they run.
#[derive(Default)]
pub struct Burst {
    pub items: Vec<Item>,
    /// Where each is counted; `None`: it was refused.
    pub places: SmallVec<[Option<Place>; 16]>,
    /// The first request, in case they take long.
    pub first: Vec<Bytes>,
    pub remember: ToRemember,
    /// So many may come.
    expected: usize,
}

impl Burst {
    /// For so many requests at the most; those of a transaction need no room here.
    pub fn for_requests(expected: usize) -> Burst {
        Burst {
            expected,
            ..Burst::default()
        }
    }

    pub fn push(&mut self, item: Item, place: Option<Place>, request: Vec<Bytes>) {
        if self.items.is_empty() {
            self.first = request;
            self.items.reserve_exact(self.expected);
        }
        self.items.push(item);
        self.places.push(place);
    }
}

/// Notes which shards commands may write to.
pub fn note_writes(node: &Node, commands: &[Command], wrote: &mut BTreeSet<u16>) {
    for command in commands.iter().filter(|command| command.is_write()) {
        match command.touches() {
            Touches::Keys(keys) => wrote.extend(keys.into_iter().map(|key| node.ring().shard_of(key))),
            Touches::Shard(shard) => drop(wrote.insert(shard)),
            Touches::Everything => wrote.extend(0..node.ring().shards()),
        }
    }
}

/// Runs the items and returns their replies, in order; notes which shards were written to.
pub async fn run(node: &Node, mut items: Vec<Item>, mut wrote: Option<&mut BTreeSet<u16>>) -> Vec<Reply> {
    // What most clients send: no need to sort anything.
    if items.len() == 1 {
        return match items.pop() {
            Some(Item::Run(command)) => match shard_of(node, &command) {
                Some(shard) => {
                    note_shard(shard, [&command], &mut wrote);
                    execute_on(node, shard, vec![command]).await
                }
                None => execute(node, vec![command], &mut wrote).await,
            },
            Some(Item::Ready(reply)) => vec![reply],
            None => Vec::new(),
        };
    }
    let mut replies: Vec<Option<Reply>> = Vec::with_capacity(items.len());
    let mut by_shard: BTreeMap<u16, Vec<(usize, Command)>> = BTreeMap::new();
    for (at, item) in items.into_iter().enumerate() {
        replies.push(None);
        match item {
            Item::Ready(reply) => replies[at] = Some(reply),
            Item::Run(command) => match shard_of(node, &command) {
                Some(shard) => by_shard.entry(shard).or_default().push((at, command)),
                None => {
                    run_shards(node, std::mem::take(&mut by_shard), &mut replies, &mut wrote).await;
                    replies[at] = one(execute(node, vec![command], &mut wrote).await);
                }
            },
        }
    }
    run_shards(node, by_shard, &mut replies, &mut wrote).await;
    replies
        .into_iter()
        .map(|reply| reply.unwrap_or_else(lost))
        .collect()
}

fn one(replies: Vec<Reply>) -> Option<Reply> {
    replies.into_iter().next()
}

fn lost() -> Reply {
    Reply::err("ERR stopped: a reply is missing")
}

/// The only shard a command touches, if there is only one.
fn shard_of(node: &Node, command: &Command) -> Option<u16> {
    if matches!(command, Command::Eval(_)) {
        return None;
    }
    match command.touches() {
        Touches::Keys(keys) => {
            let mut shards = keys.into_iter().map(|key| node.ring().shard_of(key));
            let first = shards.next()?;
            shards.all(|shard| shard == first).then_some(first)
        }
        Touches::Shard(shard) => Some(shard),
        Touches::Everything => None,
    }
}

fn note_shard<'a>(
    shard: u16,
    commands: impl IntoIterator<Item = &'a Command>,
    wrote: &mut Option<&mut BTreeSet<u16>>,
) {
    if let Some(wrote) = wrote
        && commands.into_iter().any(Command::is_write)
    {
        wrote.insert(shard);
    }
}

async fn run_shards(
    node: &Node,
    by_shard: BTreeMap<u16, Vec<(usize, Command)>>,
    out: &mut [Option<Reply>],
    wrote: &mut Option<&mut BTreeSet<u16>>,
) {
    for (&shard, run) in &by_shard {
        note_shard(shard, run.iter().map(|(_, command)| command), wrote);
    }
    let runs = by_shard.into_iter().map(|(shard, run)| async move {
        let (places, commands): (Vec<_>, Vec<_>) = run.into_iter().unzip();
        (places, execute_on(node, shard, commands).await)
    });
    for (places, replies) in join_all(runs).await {
        for (at, reply) in places.into_iter().zip(replies) {
            out[at] = Some(reply);
        }
    }
}

/// One reply a command; an error is every command's.
async fn execute_on(node: &Node, shard: u16, commands: Vec<Command>) -> Vec<Reply> {
    let count = commands.len();
    match node.execute_on(shard, commands).await {
        Ok(replies) => replies,
        Err(error) => vec![Reply::err(error.to_string()); count],
    }
}

/// As [`execute_on`], for commands that may touch anything.
async fn execute(node: &Node, commands: Vec<Command>, wrote: &mut Option<&mut BTreeSet<u16>>) -> Vec<Reply> {
    if let Some(wrote) = wrote {
        note_writes(node, &commands, wrote);
    }
    let count = commands.len();
    match node
        .execute(Wish {
            commands,
            ..Wish::default()
        })
        .await
    {
        Ok(Outcome::Replies(replies)) => replies,
        Ok(Outcome::Failed(_, reply)) => vec![reply; count],
        Ok(Outcome::Conflict) => vec![Reply::err("ERR stopped: a conflict without a condition"); count],
        Err(error) => vec![Reply::err(error.to_string()); count],
    }
}
