//! A script's commands, once more: where what a script has changed is large, its commands are committed in place of the values.
//! They run on the values that the script has seen, but at another time and with other dice.

use bytes::Bytes;

use super::{Command, find, parse_plain};
use crate::base::Reply;

impl Command {
    /// Commands that make the change which this one made when it replied so, whenever they run on the same values. `None`: there
    /// are none.
    #[must_use]
    pub fn again(&self, reply: &Reply) -> Option<Vec<Command>> {
        if reply.is_error() || !self.is_write() {
            return Some(Vec::new());
        }
        match self {
            // Whether it is later than the expiry that there is may change with time.
            Command::Expire(expire) if expire.compares_with_now() => None,
            Command::Call(call) => match call.parts() {
                ("spop", args) => spop(args, reply),
                ("xadd", args) => xadd(args, reply),
                // Which entries they take depends on how long those have been idle.
                ("xclaim" | "xautoclaim", _) => None,
                _ => Some(vec![self.clone()]),
            },
            _ => Some(vec![self.clone()]),
        }
    }
}

fn command(name: &str, args: &[Bytes]) -> Option<Command> {
    parse_plain(find(name.as_bytes())?, args).ok()
}

/// The members that it has drawn are removed.
fn spop(args: &[Bytes], reply: &Reply) -> Option<Vec<Command>> {
    let drawn: Vec<&Reply> = match reply {
        Reply::Nil => Vec::new(),
        Reply::Array(members) | Reply::Set(members) => members.iter().collect(),
        one => vec![one],
    };
    if drawn.is_empty() {
        return Some(Vec::new());
    }
    let mut srem = vec![args.first()?.clone()];
    for member in drawn {
        let Reply::Bulk(member) = member else { return None };
        srem.push(member.clone());
    }
    Some(vec![command("srem", &srem)?])
}

/// With the id that it has given the entry.
fn xadd(args: &[Bytes], reply: &Reply) -> Option<Vec<Command>> {
    let id = match reply {
        Reply::Nil => return Some(Vec::new()),
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
    Some(vec![command("xadd", &args)?])
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
            again.extend(command.again(&reply).expect("it can be said"));
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
    fn what_depends_on_the_time_is_not_said_again() {
        let not = ["EXPIRE k 10 GT", "XAUTOCLAIM x g c 10 0", "XCLAIM x g c 10 1-1"];
        for text in not {
            assert_eq!(parsed(text).again(&Reply::Int(1)), None, "{text}");
        }
        assert!(parsed("EXPIRE k 10").again(&Reply::Int(1)).is_some());
    }
}
