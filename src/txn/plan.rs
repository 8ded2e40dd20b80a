//! How a list of commands spreads over shards, and how the shards' replies make up the commands' replies.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::limits::WORK_BYTES_MAX;
use crate::base::{Error, Mutant, Reply, Result, mutant};
use crate::machine::commands::Call;
use crate::machine::{Command, Condition, Touches};

/// One shard's share of a plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Work {
    pub commands: Vec<Command>,
    pub conditions: Vec<Condition>,
}

impl Work {
    /// Whether a transaction of these shares fits into a log entry.
    ///
    /// # Errors
    /// [`WORK_BYTES_MAX`].
    pub fn check_size<'a>(shares: impl Iterator<Item = &'a Work>) -> Result<()> {
        let commands = |work: &Work| work.commands.iter().map(Command::weight).sum::<usize>();
        let conditions = |work: &Work| work.conditions.iter().map(Condition::weight).sum::<usize>();
        let bytes: usize = shares.map(|work| commands(work) + conditions(work)).sum();
        if bytes > WORK_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "a transaction may have {WORK_BYTES_MAX} bytes at the most; with what it watches and read before, this one has {bytes}"
            )));
        }
        Ok(())
    }
}

/// Where one command's reply comes from: `(shard, place among the shard's replies)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Gather {
    One(u16, usize),
    /// The counts, added up.
    Sum(Vec<(u16, usize)>),
    /// `OK` if all are.
    Ok(Vec<(u16, usize)>),
    /// Arrays, one after another.
    Concat(Vec<(u16, usize)>),
    /// What was found of each key, in their order; nil if nothing was.
    Keyed(Vec<(u16, usize)>),
    /// The first that is not nil.
    First(Vec<(u16, usize)>),
    /// Elements of arrays, each at its place.
    Scatter {
        len: usize,
        from: Vec<(u16, usize, Vec<usize>)>,
    },
}

/// Commands taken apart by shard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub work: BTreeMap<u16, Work>,
    pub gather: Vec<Gather>,
}

impl Plan {
    /// Takes `commands` apart. `None` if one of them needs another shard's data to know what to do (`RENAME`, `COPY`,
    /// `MSETNX` over shards), or is a script: that runs as an [`super::Optimistic`] transaction.
    #[must_use]
    pub fn new(
        commands: &[Command],
        conditions: &[Condition],
        shards: u16,
        shard_of: &dyn Fn(&[u8]) -> u16,
    ) -> Option<Plan> {
        let mut plan = Plan::default();
        for command in commands {
            let gather = plan.add(command, commands.len() == 1, shards, shard_of)?;
            plan.gather.push(gather);
        }
        for condition in conditions {
            if let Some(key) = condition.key() {
                if mutant::is(Mutant::PlanDropsLoneConditions) && !plan.work.contains_key(&shard_of(key)) {
                    continue;
                }
                plan.work
                    .entry(shard_of(key))
                    .or_default()
                    .conditions
                    .push(condition.clone());
            }
        }
        Some(plan)
    }

    fn add(
        &mut self,
        command: &Command,
        alone: bool,
        shards: u16,
        shard_of: &dyn Fn(&[u8]) -> u16,
    ) -> Option<Gather> {
        if matches!(command, Command::Eval(_)) {
            return None;
        }
        match command.touches() {
            Touches::Shard(shard) => Some(Gather::One(shard, self.push(shard, command.clone()))),
            Touches::Everything => {
                let all = (0..shards)
                    .map(|shard| (shard, self.push(shard, command.clone())))
                    .collect();
                Some(match command {
                    Command::Keys { .. } => Gather::Concat(all),
                    Command::RandomKey => Gather::First(all),
                    Command::Flush => Gather::Ok(all),
                    _ => Gather::Sum(all),
                })
            }
            Touches::Keys(keys) => {
                let mut by_shard: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
                for (at, key) in keys.iter().enumerate() {
                    by_shard.entry(shard_of(key)).or_default().push(at);
                }
                match by_shard.first_key_value() {
                    Some((&shard, _)) if by_shard.len() == 1 => {
                        Some(Gather::One(shard, self.push(shard, command.clone())))
                    }
                    _ => self.split(command, alone, by_shard),
                }
            }
        }
    }

    fn split(
        &mut self,
        command: &Command,
        alone: bool,
        by_shard: BTreeMap<u16, Vec<usize>>,
    ) -> Option<Gather> {
        let pick =
            |keys: &[Bytes], places: &[usize]| places.iter().map(|&at| keys[at].clone()).collect::<Vec<_>>();
        if let Command::Call(call) = command {
            // Its error in one place undoes the others only where it is alone.
            let apart = alone || !command.is_all_or_nothing();
            return if apart {
                self.split_call(call, by_shard)
            } else {
                None
            };
        }
        let mut parts = Vec::new();
        for (shard, places) in by_shard {
            let share = match command {
                Command::MGet { keys } => Command::MGet {
                    keys: pick(keys, &places),
                },
                Command::Del { keys } => Command::Del {
                    keys: pick(keys, &places),
                },
                Command::Exists { keys } => Command::Exists {
                    keys: pick(keys, &places),
                },
                Command::Touch { keys } => Command::Touch {
                    keys: pick(keys, &places),
                },
                Command::MSet { pairs } => Command::MSet {
                    pairs: places.iter().map(|&at| pairs[at].clone()).collect(),
                },
                Command::Memcached(memcached) => Command::Memcached(Box::new(memcached.share(&places)?)),
                _ => return None,
            };
            parts.push((shard, self.push(shard, share), places));
        }
        let whole =
            |parts: Vec<(u16, usize, Vec<usize>)>| parts.into_iter().map(|(s, i, _)| (s, i)).collect();
        Some(match command {
            Command::MGet { keys } => Gather::Scatter {
                len: keys.len(),
                from: parts,
            },
            Command::Memcached(memcached) => Gather::Scatter {
                len: memcached.keys().len(),
                from: parts,
            },
            Command::MSet { .. } => Gather::Ok(whole(parts)),
            _ => Gather::Sum(whole(parts)),
        })
    }

    /// A share for each key, so that the first error is told that there is in the order of the keys.
    fn split_call(&mut self, call: &Call, by_shard: BTreeMap<u16, Vec<usize>>) -> Option<Gather> {
        let mut shares = BTreeMap::new();
        for (shard, places) in by_shard {
            for at in places {
                shares.insert(at, (shard, self.push(shard, call.share(at)?)));
            }
        }
        Some(Gather::Keyed(shares.into_values().collect()))
    }

    fn push(&mut self, shard: u16, command: Command) -> usize {
        let work = self.work.entry(shard).or_default();
        work.commands.push(command);
        work.commands.len() - 1
    }

    /// The command to whose reply the one at `place` of `shard` belongs.
    #[must_use]
    pub fn command_at(&self, shard: u16, place: usize) -> Option<usize> {
        let wanted = (shard, place);
        self.gather.iter().position(|gather| match gather {
            Gather::One(shard, place) => (*shard, *place) == wanted,
            Gather::Sum(from)
            | Gather::Ok(from)
            | Gather::Concat(from)
            | Gather::First(from)
            | Gather::Keyed(from) => from.contains(&wanted),
            Gather::Scatter { from, .. } => from.iter().any(|&(shard, place, _)| (shard, place) == wanted),
        })
    }

    /// Puts the shards' replies together, one reply a command.
    #[must_use]
    pub fn merge(&self, replies: &BTreeMap<u16, Vec<Reply>>) -> Vec<Reply> {
        let at = |&(shard, i): &(u16, usize)| {
            let reply = replies.get(&shard).and_then(|list| list.get(i));
            reply
                .cloned()
                .unwrap_or_else(|| Reply::err("ERR a shard's reply is missing"))
        };
        self.gather.iter().map(|gather| merge_one(gather, &at)).collect()
    }
}

fn merge_one(gather: &Gather, at: &dyn Fn(&(u16, usize)) -> Reply) -> Reply {
    match gather {
        Gather::One(shard, i) => at(&(*shard, *i)),
        Gather::Sum(from) => {
            let mut sum = 0;
            for reply in from.iter().map(at) {
                match reply {
                    Reply::Int(n) => sum += n,
                    other => return other,
                }
            }
            Reply::Int(sum)
        }
        Gather::Ok(from) => from
            .iter()
            .map(at)
            .find(Reply::is_error)
            .unwrap_or_else(Reply::ok),
        Gather::First(from) => from
            .iter()
            .map(at)
            .find(|reply| *reply != Reply::Nil)
            .unwrap_or(Reply::Nil),
        Gather::Concat(from) => {
            let mut all = Vec::new();
            for reply in from.iter().map(at) {
                match reply {
                    Reply::Array(items) => all.extend(items),
                    other => return other,
                }
            }
            Reply::Array(all)
        }
        Gather::Keyed(from) => {
            let mut all = Vec::new();
            for reply in from.iter().map(at) {
                match reply {
                    Reply::Keyed(found) => all.extend(found),
                    Reply::NilArray => {}
                    other => return other,
                }
            }
            if all.is_empty() {
                Reply::NilArray
            } else {
                Reply::Keyed(all)
            }
        }
        Gather::Scatter { len, from } => {
            let mut all = vec![Reply::Nil; *len];
            for (shard, i, places) in from {
                match at(&(*shard, *i)) {
                    Reply::Array(items) => places
                        .iter()
                        .zip(items)
                        .for_each(|(&place, item)| all[place] = item),
                    other => return other,
                }
            }
            Reply::Array(all)
        }
    }
}
