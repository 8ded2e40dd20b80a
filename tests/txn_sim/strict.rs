//! Strict transactions: some whose commands fail, and what must be so when one is rolled back.

use quorate::base::{GroupId, Reply};
use quorate::machine::commands::Expiry;
use quorate::machine::{Command, Failed};

use super::checks::check;
use super::keys::{Keys, Use};
use super::message::OpId;
use super::model::Expect;
use super::op::Op;
use super::rng::Rng;
use super::workload::{FICKLE, set};
use super::world::World;

impl Op {
    pub fn draw_fickle(&mut self, number: OpId, keys: &Keys, rng: &mut Rng) {
        self.strict = rng.per_mille(700);
        for _ in 0..=rng.below(4) {
            let key = keys.nth(Use::Fickle, rng.below(FICKLE));
            self.commands.push(match rng.below(10) {
                0 | 1 => set(key, number, Expiry::Never),
                2 => Command::Append {
                    key,
                    value: "x".into(),
                },
                3 => Command::Get { key },
                _ => Command::IncrBy { key, by: 1 },
            });
        }
    }
}

impl World {
    /// A log says that a strict operation fails on a shard: by the model its first failing command there is that one.
    pub fn check_failing(&mut self, op: OpId, shard: GroupId, failed: &Failed) {
        self.stats.add("failures found");
        let asked = &self.ops[op];
        check(asked.strict, "strict", || {
            format!("op {op} is rolled back and not strict")
        });
        if asked.kind.is_optimistic() {
            // It has failed at the gateway; whether what it read still holds, the conditions say.
            return;
        }
        let part = asked.parts.iter().find(|part| part.shard == shard);
        let commands = part.expect("a part of that shard").commands.clone();
        let (mut model, times) = (self.model.clone(), self.model.times.clone());
        let replies: Vec<Expect> = commands
            .iter()
            .map(|command| model.run(command, &times))
            .collect();
        let first = replies.iter().position(Expect::is_error);
        let is_right = first == Some(failed.at as usize) && replies[failed.at as usize].fits(&failed.reply);
        check(is_right, "strict", || {
            format!("op {op} is told {failed:?} by {shard}, and {commands:?} had to reply {replies:?}")
        });
    }

    /// A gateway is told why its operation was rolled back: it can name the command.
    pub fn check_failure(&self, op: OpId, shard: GroupId, failed: &Failed) {
        let GroupId::Shard(n) = shard else {
            unreachable!("only a shard runs commands");
        };
        let asked = &self.ops[op];
        let error = match (&failed.reply, asked.kind.is_optimistic()) {
            (Reply::Array(replies), true) => replies.iter().any(Reply::is_error),
            (reply, _) => reply.is_error(),
        };
        let at = asked.plan.command_at(n, failed.at as usize);
        let named = asked.kind.is_optimistic()
            || matches!(
                at.and_then(|at| asked.commands.get(at)),
                Some(Command::IncrBy { .. })
            );
        check(error && named, "strict", || {
            format!(
                "op {op} is told that its command {at:?} failed with {:?}",
                failed.reply
            )
        });
    }
}
