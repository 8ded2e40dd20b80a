//! What gateways are asked to do. A workload says what is read first, and what is asked for once that is known.

use bytes::Bytes;
use quorate::machine::Command;
use quorate::machine::commands::{ExpireWhen, Expiry, SetCommand, SetCondition, SetReply};

use super::keys::{Keys, Use};
use super::message::OpId;
use super::model::number;
use super::op::Op;
use super::rng::Rng;

/// The workloads. Those that the checkers judge have their keys to themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bank: reads accounts, then writes new balances if nothing has changed; a WATCH loop.
    Move,
    /// Bank: adds and subtracts, without a condition.
    Shift,
    /// Bank: all balances, under locks.
    Audit,
    /// Bank and pairs, without locks: read, then checked again.
    Snapshot,
    /// Sets two keys of two shards to the same value.
    Pair,
    /// DBSIZE, under locks.
    Count,
    /// Appends to lists and reads them, on one shard or several.
    List,
    /// Sets one register, or two.
    Write,
    /// Reads a register from memory.
    Look,
    /// Adds an element to the unique set, on one shard or on two.
    Add,
    /// Which of the last elements are there, under locks.
    Members,
    /// Adds to a counter; starts anew when nothing has happened.
    Incr,
    /// Reads counters, then sets them to one more if they have not changed; a WATCH loop.
    Bump,
    /// Sets keys that expire, looks at them under locks, or deletes one.
    Lease,
    /// Takes a key that expires if it is still as it was read; a WATCH loop.
    Renew,
    /// Reads a key that expires from memory.
    Peek,
    /// RENAME, over shards as a rule: read, run at the gateway, committed if nothing has changed.
    Rename,
    /// Sets and counts up keys that may hold no number, as a plain or as a strict transaction.
    Fickle,
    /// Sets one of two keys and deletes the other.
    Toss,
    /// A snapshot read of these two.
    Seek,
}

/// Workloads with their weights.
const WEIGHTS: [(Kind, u64); 20] = [
    (Kind::Move, 14),
    (Kind::Shift, 10),
    (Kind::Audit, 4),
    (Kind::Snapshot, 5),
    (Kind::Pair, 9),
    (Kind::Count, 4),
    (Kind::List, 14),
    (Kind::Write, 5),
    (Kind::Look, 5),
    (Kind::Add, 4),
    (Kind::Members, 2),
    (Kind::Incr, 6),
    (Kind::Bump, 5),
    (Kind::Lease, 8),
    (Kind::Renew, 4),
    (Kind::Peek, 5),
    (Kind::Rename, 4),
    (Kind::Fickle, 10),
    (Kind::Toss, 4),
    (Kind::Seek, 4),
];

/// What a run may be about: workloads that meet on the same keys.
const FOCI: [&[Kind]; 7] = [
    &[Kind::List],
    &[Kind::Move, Kind::Shift, Kind::Audit, Kind::Snapshot],
    &[Kind::Write, Kind::Look, Kind::Incr, Kind::Bump],
    &[Kind::Lease, Kind::Renew, Kind::Peek],
    &[Kind::Fickle, Kind::Rename],
    &[Kind::Toss, Kind::Toss, Kind::Seek],
    &[],
];
/// Per mille of operations that keep to the run's focus.
const FOCUSED: u64 = 750;

/// Accounts of one shard.
pub const ACCOUNTS: u64 = 2;
/// Lists, registers, counters, leases and wanderers of the whole cluster: few, so that they are fought over.
pub const LISTS: u64 = 4;
pub const REGISTERS: u64 = 2;
pub const COUNTERS: u64 = 2;
const LEASES: u64 = 3;
pub const WANDERERS: u64 = 3;
pub const FICKLE: u64 = 3;
pub const FIRST_MONEY: i64 = 1000;
/// Milliseconds, about as long as a few messages take.
const LEASE_MS: u64 = 150;

impl Kind {
    /// The workloads that a run is about; none: all alike.
    pub fn some_focus(rng: &mut Rng) -> &'static [Kind] {
        FOCI[rng.index(FOCI.len())]
    }

    pub fn some(focus: &[Kind], rng: &mut Rng) -> Kind {
        if !focus.is_empty() && rng.per_mille(FOCUSED) {
            return focus[rng.index(focus.len())];
        }
        let mut at = rng.below(WEIGHTS.iter().map(|(_, weight)| weight).sum());
        for (kind, weight) in WEIGHTS {
            if at < weight {
                return kind;
            }
            at -= weight;
        }
        Kind::Move
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Move => "moves",
            Kind::Shift => "shifts",
            Kind::Audit => "audits",
            Kind::Snapshot => "snapshots",
            Kind::Pair => "pairs",
            Kind::Count => "counts",
            Kind::List => "lists",
            Kind::Write => "register writes",
            Kind::Look => "register reads",
            Kind::Add => "set adds",
            Kind::Members => "set reads",
            Kind::Incr => "increments",
            Kind::Bump => "bumps",
            Kind::Lease => "leases",
            Kind::Renew => "renewals",
            Kind::Peek => "lease reads",
            Kind::Rename => "renames",
            Kind::Fickle => "fickle",
            Kind::Toss => "tosses",
            Kind::Seek => "token reads",
        }
    }

    pub fn is_optimistic(self) -> bool {
        self == Kind::Rename
    }

    /// Whether it reads several keys, and then looks whether any has changed.
    pub fn is_snapshot(self) -> bool {
        matches!(self, Kind::Snapshot | Kind::Seek)
    }

    /// Whether it only reads, without asking any log.
    pub fn only_looks(self) -> bool {
        matches!(self, Kind::Look | Kind::Peek)
    }

    /// Whether it leaves a mark on every shard that it writes to.
    fn leaves_marks(self) -> bool {
        matches!(self, Kind::Move | Kind::Shift | Kind::Pair)
    }
}

/// All accounts.
pub fn accounts(keys: &Keys) -> Vec<Bytes> {
    let of_shard = |shard| (0..ACCOUNTS).map(move |n| keys.key(Use::Account, n, shard));
    (0..keys.shards()).flat_map(of_shard).collect()
}

/// The two keys of pair `n`, on two shards.
pub fn pair(keys: &Keys, n: u16) -> [Bytes; 2] {
    [n, (n + 1) % keys.shards()].map(|shard| keys.key(Use::Pair, u64::from(n), shard))
}

/// Two keys, on two shards where there are two, of which always one is there.
pub fn tokens(keys: &Keys) -> [Bytes; 2] {
    [0, 1].map(|n| keys.nth(Use::Token, n))
}

/// What is there before anything happens.
pub fn first_commands(keys: &Keys) -> Vec<Command> {
    let money = |key| (key, Bytes::from(FIRST_MONEY.to_string()));
    let wanderers = (0..WANDERERS - 1).map(|n| (keys.nth(Use::Wanderer, n), Bytes::from(format!("w{n}"))));
    let token = [(keys.nth(Use::Token, 0), Bytes::from("t"))];
    let pairs = accounts(keys)
        .into_iter()
        .map(money)
        .chain(wanderers)
        .chain(token);
    pairs.map(|pair| Command::MSet { pairs: vec![pair] }).collect()
}

pub fn set(key: Bytes, value: OpId, expiry: Expiry) -> Command {
    Command::Set(SetCommand {
        key,
        value: Bytes::from(value.to_string()),
        condition: SetCondition::Always,
        expiry,
        reply: SetReply::Ok,
    })
}

/// Different keys of one kind, from `least` to `most` of them.
fn some_keys(of: &[Bytes], least: usize, most: usize, rng: &mut Rng) -> Vec<Bytes> {
    let mut keys = Vec::new();
    while keys.len() < least || (keys.len() < most && rng.per_mille(400)) {
        let key = of[rng.index(of.len())].clone();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn all(keys: &Keys, what: Use, count: u64) -> Vec<Bytes> {
    (0..count).map(|n| keys.nth(what, n)).collect()
}

impl Op {
    /// Draws what is asked for, as far as it does not depend on what is read.
    pub fn draw(&mut self, number: OpId, keys: &Keys, now: u64, rng: &mut Rng) {
        match self.kind {
            Kind::Move => {
                self.to_read = some_keys(&accounts(keys), 2, 3, rng);
                (self.watches, self.retries) = (true, 2);
            }
            Kind::Shift => self.draw_shift(keys, rng),
            Kind::Audit => self.commands = vec![Command::MGet { keys: accounts(keys) }],
            Kind::Snapshot => {
                self.to_read = accounts(keys);
                self.to_read
                    .extend((0..keys.shards()).flat_map(|n| pair(keys, n)));
            }
            Kind::Pair => {
                let n = u16::try_from(rng.below(u64::from(keys.shards()))).expect("a shard");
                let value = Bytes::from(number.to_string());
                let pairs = pair(keys, n).map(|key| (key, value.clone())).to_vec();
                self.commands = vec![Command::MSet { pairs }];
            }
            Kind::Count => self.commands = vec![Command::DbSize],
            Kind::List => self.draw_list(number, keys, rng),
            Kind::Write => {
                let registers = some_keys(&all(keys, Use::Register, REGISTERS), 1, 2, rng);
                self.commands = registers
                    .into_iter()
                    .map(|key| set(key, number, Expiry::Never))
                    .collect();
            }
            Kind::Look => self.to_read = vec![keys.nth(Use::Register, rng.below(REGISTERS))],
            Kind::Add => self.draw_add(number, keys, rng),
            Kind::Members => self.commands = vec![members(number, keys)],
            Kind::Incr => {
                let counters = all(keys, Use::Counter, COUNTERS);
                let counters = some_keys(&counters, 1, 2, rng);
                self.commands = counters
                    .into_iter()
                    .map(|key| Command::IncrBy { key, by: 1 })
                    .collect();
                self.retries = 2;
            }
            Kind::Bump => {
                self.to_read = some_keys(&all(keys, Use::Counter, COUNTERS), 1, 2, rng);
                (self.watches, self.retries) = (true, 3);
            }
            Kind::Lease => self.draw_lease(number, keys, now, rng),
            Kind::Renew => {
                self.to_read = some_keys(&all(keys, Use::Lease, LEASES), 1, 2, rng);
                (self.watches, self.retries) = (true, 2);
            }
            Kind::Peek => self.to_read = vec![keys.nth(Use::Lease, rng.below(LEASES))],
            Kind::Rename => {
                self.to_read = some_keys(&all(keys, Use::Wanderer, WANDERERS), 2, 2, rng);
                self.retries = 2;
                self.strict = rng.per_mille(500);
            }
            Kind::Fickle => self.draw_fickle(number, keys, rng),
            Kind::Toss => {
                let [mut here, mut gone] = tokens(keys);
                if rng.per_mille(500) {
                    (here, gone) = (gone, here);
                }
                let set = set(here, number, Expiry::Never);
                self.commands = vec![set, Command::Del { keys: vec![gone] }];
            }
            Kind::Seek => self.to_read = tokens(keys).to_vec(),
        }
    }

    fn draw_shift(&mut self, keys: &Keys, rng: &mut Rng) {
        let accounts = some_keys(&accounts(keys), 2, 3, rng);
        let others = i64::try_from(accounts.len() - 1).expect("few");
        let amount = 1 + i64::try_from(rng.below(20)).expect("small");
        let mut by = -amount * others;
        for key in accounts {
            self.commands.push(Command::IncrBy { key, by });
            by = amount;
        }
    }

    fn draw_list(&mut self, number: OpId, keys: &Keys, rng: &mut Rng) {
        for place in 0..=rng.below(4) {
            let key = keys.nth(Use::List, rng.below(LISTS));
            self.commands.push(if rng.per_mille(550) {
                let value = Bytes::from(format!(
                    "{},",
                    number * 10 + usize::try_from(place).expect("small")
                ));
                Command::Append { key, value }
            } else {
                Command::Get { key }
            });
        }
    }

    fn draw_add(&mut self, number: OpId, keys: &Keys, rng: &mut Rng) {
        for key in &elements(number, keys)[..=rng.index(2)] {
            self.commands.push(Command::Set(SetCommand {
                key: key.clone(),
                value: Bytes::from_static(b"1"),
                condition: SetCondition::IfAbsent,
                expiry: Expiry::Never,
                reply: SetReply::Flag,
            }));
        }
    }

    fn draw_lease(&mut self, number: OpId, keys: &Keys, now: u64, rng: &mut Rng) {
        let leases = some_keys(&all(keys, Use::Lease, LEASES), 1, 2, rng);
        let ms = 1 + rng.below(LEASE_MS);
        let in_ms = Expiry::When(ExpireWhen::In(i64::try_from(ms).expect("small")));
        let at_ms = Expiry::When(ExpireWhen::At(i64::try_from(now + ms).expect("small")));
        match rng.below(8) {
            0..4 => self
                .commands
                .extend(leases.into_iter().map(|key| set(key, number, in_ms))),
            4 => self
                .commands
                .extend(leases.into_iter().map(|key| set(key, number, at_ms))),
            5 => self.commands.push(Command::Del { keys: leases }),
            6 => self.commands.push(Command::MGet { keys: leases }),
            _ => self
                .commands
                .extend(leases.into_iter().map(|key| set(key, number, Expiry::Never))),
        }
    }

    /// All has been read: says what follows from it, and leaves marks that must be there once.
    pub fn conclude(&mut self, number: OpId, keys: &Keys, rng: &mut Rng) {
        let looks = || self.to_read.iter().map(|key| (key.clone(), &self.seen[key]));
        match self.kind {
            Kind::Move => self.commands = vec![self.transfer(rng)],
            Kind::Bump => {
                let more = |text: &Option<Bytes>| text.as_ref().map_or(0, |text| self::number(text)) + 1;
                let pairs = looks()
                    .map(|(key, look)| (key, Bytes::from(more(&look.value).to_string())))
                    .collect();
                self.commands = vec![Command::MSet { pairs }];
            }
            Kind::Renew => {
                let ms = 1 + i64::try_from(rng.below(LEASE_MS)).expect("small");
                let expiry = Expiry::When(ExpireWhen::In(ms));
                self.commands = looks().map(|(key, _)| set(key, number, expiry)).collect();
            }
            Kind::Rename => {
                let (from, to) = (self.to_read[0].clone(), self.to_read[1].clone());
                let only_new = false;
                self.commands = vec![Command::Rename { from, to, only_new }];
            }
            _ => {}
        }
        if self.kind.leaves_marks() {
            self.mark(number, keys);
        }
    }

    /// New balances for what was read; the last account that was read may only be watched.
    fn transfer(&self, rng: &mut Rng) -> Command {
        let amount = 1 + i64::try_from(rng.below(20)).expect("small");
        let writes = if rng.per_mille(300) { 2 } else { self.to_read.len() };
        let mut by = -amount * i64::try_from(writes - 1).expect("few");
        let mut pairs = Vec::new();
        for key in &self.to_read[..writes] {
            let balance = self.seen[key].value.as_ref().map_or(0, |text| number(text));
            pairs.push((key.clone(), Bytes::from((balance + by).to_string())));
            by = amount;
        }
        Command::MSet { pairs }
    }

    fn mark(&mut self, number: OpId, keys: &Keys) {
        let mut shards = Vec::new();
        for command in &self.commands {
            if let quorate::machine::Touches::Keys(touched) = command.touches() {
                shards.extend(touched.iter().map(|key| keys.shard_of(key)));
            }
        }
        shards.sort_unstable();
        shards.dedup();
        let n = u64::try_from(number).expect("small");
        for shard in shards {
            let key = keys.key(Use::Mark, n, shard);
            self.commands.push(Command::IncrBy { key, by: 1 });
        }
    }
}

/// The two elements that operation `number` may add, on two shards.
fn elements(number: OpId, keys: &Keys) -> [Bytes; 2] {
    let n = u64::try_from(number).expect("small");
    let shard = u16::try_from(n % u64::from(keys.shards())).expect("a shard");
    [shard, (shard + 1) % keys.shards()].map(|shard| keys.key(Use::Element, n, shard))
}

/// Asks for all that the operations before may have added.
fn members(number: OpId, keys: &Keys) -> Command {
    let before = number.saturating_sub(12)..=number;
    Command::Exists {
        keys: before.flat_map(|n| elements(n, keys)).collect(),
    }
}
