//! A script's commands, once more: where what a script has changed is large, its commands are committed in place of the values.
//! They run on the values that the script has seen, but at another time and with other dice.

use bytes::Bytes;

use super::{Command, ExpireWhen, Expiry, find, parse_plain};
use crate::base::Reply;

impl Command {
    /// Adds commands that make the change which this one made when it replied so, whenever they run on the same values. `None`:
    /// there are none.
    #[must_use]
    pub fn again(&self, reply: &Reply, all: &mut Vec<Command>) -> Option<()> {
        if reply.is_error() || !self.is_write() {
            return Some(());
        }
        match self {
            _ if self.compares_with_now() => return None,
            Command::Call(call) => match call.parts() {
                ("spop", args) => return spop(args, reply, all),
                ("xadd", args) => return xadd(args, reply, all),
                // Which entries the ones take depends on how long those have been idle. What the other sorts by may lie on other
                // shards, and none of its keys says so.
                ("xclaim" | "xautoclaim" | "sort", _) => return None,
                _ => {}
            },
            _ => {}
        }
        all.push(self.clone());
        Some(())
    }

    /// Whether what it does depends on how a time that it names lies to the time at which it runs.
    fn compares_with_now(&self) -> bool {
        let at = |expiry: &Expiry| matches!(expiry, Expiry::When(ExpireWhen::At(_)));
        match self {
            Command::Expire(expire) => expire.compares_with_now(),
            Command::Set(set) => at(&set.expiry),
            Command::GetEx { expiry, .. } => at(expiry),
            Command::Call(call) => {
                let (name, args) = call.parts();
                name.starts_with("restore") && args.iter().any(|arg| arg.eq_ignore_ascii_case(b"absttl"))
            }
            _ => false,
        }
    }
}

fn command(name: &str, args: &[Bytes]) -> Option<Command> {
    parse_plain(find(name.as_bytes())?, args).ok()
}

/// The members that it has drawn are removed.
fn spop(args: &[Bytes], reply: &Reply, all: &mut Vec<Command>) -> Option<()> {
    let drawn: Vec<&Reply> = match reply {
        Reply::Nil => Vec::new(),
        Reply::Array(members) | Reply::Set(members) => members.iter().collect(),
        one => vec![one],
    };
    if drawn.is_empty() {
        return Some(());
    }
    let mut srem = vec![args.first()?.clone()];
    for member in drawn {
        let Reply::Bulk(member) = member else { return None };
        srem.push(member.clone());
    }
    all.push(command("srem", &srem)?);
    Some(())
}

/// With the id that it has given the entry.
fn xadd(args: &[Bytes], reply: &Reply, all: &mut Vec<Command>) -> Option<()> {
    let id = match reply {
        Reply::Nil => return Some(()),
        Reply::Bulk(id) => id,
        _ => return None,
    };
    let is = |at: usize, word: &str| {
        args.get(at)
            .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    let mut at = 1;
    loop {
        at += match () {
            () if is(at, "nomkstream") => 1,
            () if is(at, "maxlen") || is(at, "minid") => 2 + usize::from(is(at + 1, "=") || is(at + 1, "~")),
            () if is(at, "limit") => 2,
            () => break,
        };
    }
    let mut args = args.to_vec();
    *args.get_mut(at)? = id.clone();
    all.push(command("xadd", &args)?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::keyspace::Keyspace;
    use crate::machine::overlay::Overlay;

    fn parsed(text: &str) -> Command {
        let words: Vec<Bytes> = text.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
        let spec = find(&words[0]).expect("a command");
        parse_plain(spec, &words[1..]).expect("its arguments")
    }

    /// Runs commands, and what makes their changes again at another time with other dice, from the same state.
    fn twice(before: &[&str], commands: &[&str]) -> (String, String) {
        let keyspace = Keyspace::default();
        let mut first = Overlay::new(&keyspace, 1_000_000, 1);
        let mut second = Overlay::new(&keyspace, 1_000_000, 1);
        for command in before.iter().map(|text| parsed(text)) {
            command.run(&mut first);
            command.run(&mut second);
        }
        let mut again = Vec::new();
        for command in commands.iter().map(|text| parsed(text)) {
            let reply = command.run(&mut first);
            command.again(&reply, &mut again).expect("it can be said");
        }
        let writes = std::mem::take(&mut second.writes);
        let mut second = Overlay::new(&keyspace, 1_000_077, 99);
        second.writes = writes;
        for command in &again {
            assert!(!command.run(&mut second).is_error());
        }
        (format!("{:?}", first.writes), format!("{:?}", second.writes))
    }

    #[test]
    fn dice_and_clock_of_the_second_time_do_not_matter() {
        let (first, second) = twice(
            &[
                "SADD s 1 2 3 4 5 6 7 8 9 10 11 12",
                "RPUSH l a b c",
                "XADD x 5-1 f v",
            ],
            &[
                "SPOP s 3",
                "SPOP s",
                "SPOP none",
                "SPOP none 4",
                "LPOP l",
                "RPUSH l d",
                "INCR l",
                "XADD x MAXLEN ~ 100 * f *",
                "XADD x NOMKSTREAM MINID = 1 LIMIT 9 * maxlen 3",
                "XADD none NOMKSTREAM * f v",
                "XADD x 2000000-* f v",
                "SET k v",
                "SETRANGE k 5 tail",
            ],
        );
        assert_eq!(first, second);
    }

    #[test]
    fn what_depends_on_the_time_or_on_other_keys_is_not_said_again() {
        let not = [
            "EXPIRE k 10 GT",
            "PEXPIREAT k 1000010",
            "SET k v PXAT 1000010",
            "GETEX k EXAT 1001",
            "RESTORE k 1000010 x ABSTTL",
            "XAUTOCLAIM x g c 10 0",
            "XCLAIM x g c 10 1-1",
            "SORT l BY w_* STORE d",
        ];
        for text in not {
            assert_eq!(
                parsed(text).again(&Reply::Int(1), &mut Vec::new()),
                None,
                "{text}"
            );
        }
        let mut again = Vec::new();
        for text in ["EXPIRE k 10", "SET k v EX 5", "GET k", "SORT l"] {
            assert!(parsed(text).again(&Reply::Int(1), &mut again).is_some());
        }
        assert_eq!(again.len(), 2);
    }
}
