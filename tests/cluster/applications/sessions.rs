//! Sessions that expire, each written by one worker, read by another at any node.

use parking_lot::Mutex;
use redis::Commands;

use super::Run;
use super::attempts::{Client, Fate};
use crate::bank::Picks;

/// That a writer has at a time.
const LIVE: u64 = 4;
const READS_PER_NODE: u64 = 5;
const SECONDS: u64 = 600;

#[derive(Default)]
pub struct Told(Mutex<Vec<Session>>);

/// It can only have the versions from what is certain to what was tried last. If a write's fate is unknown, the session is
/// written no more: that write may land at any later time.
#[derive(Debug, Clone)]
struct Session {
    key: String,
    certain: u64,
    tried: u64,
    refused: Vec<u64>,
}

impl Session {
    fn version(&self, text: Option<&String>) -> u64 {
        let Some(text) = text else { return 0 };
        let version = text
            .strip_prefix(&self.key)
            .and_then(|rest| rest.strip_prefix('/'));
        version
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("{} holds {text}", self.key))
    }
}

pub fn store(run: &Run, client: &mut Client, n: usize) {
    let (mut live, mut made, mut picks) = (Vec::new(), 0, Picks(n as u64 + 1));
    while run.goes_on() {
        if (live.len() as u64) < LIVE {
            let key = format!("session:{n}:{made}");
            made += 1;
            let mut sessions = run.sessions.0.lock();
            live.push(sessions.len());
            sessions.push(Session {
                key,
                certain: 0,
                tried: 0,
                refused: Vec::new(),
            });
        }
        let chosen = usize::try_from(picks.below(live.len() as u64)).expect("it is small");
        let at = live[chosen];
        let (key, version) = {
            let session = &mut run.sessions.0.lock()[at];
            session.tried += 1;
            (session.key.clone(), session.tried)
        };
        let fate = client.attempt(|c| c.set_ex::<_, _, ()>(&key, format!("{key}/{version}"), SECONDS));
        let session = &mut run.sessions.0.lock()[at];
        match fate {
            Fate::Done(()) => {
                session.certain = version;
                run.did("sessions");
            }
            Fate::Refused => session.refused.push(version),
            Fate::Unknown => {
                live.swap_remove(chosen);
            }
        }
    }
}

pub fn read(run: &Run, client: &mut Client, _: usize) {
    let mut picks = Picks(99);
    for turn in 0.. {
        if !run.goes_on() {
            return;
        }
        let (at, before) = {
            let sessions = run.sessions.0.lock();
            if sessions.is_empty() {
                continue;
            }
            let at = usize::try_from(picks.below(sessions.len() as u64)).expect("it is small");
            (at, sessions[at].clone())
        };
        if let Fate::Done(text) = client.attempt(|c| c.get::<_, Option<String>>(&before.key)) {
            let session = &mut run.sessions.0.lock()[at];
            let version = session.version(text.as_ref());
            assert!(
                (before.certain..=session.tried).contains(&version) && !session.refused.contains(&version),
                "version {version} was read; {before:?} has become {session:?}"
            );
            // What has been read once must not go away again.
            session.certain = session.certain.max(version);
            run.did("reads");
        }
        if turn % READS_PER_NODE == 0 {
            client.next_node();
        }
    }
}

pub fn check(run: &Run, client: &mut Client) {
    for session in run.sessions.0.lock().iter() {
        let text: Option<String> = client.look(|c| c.get(&session.key));
        let version = session.version(text.as_ref());
        assert!(
            [session.certain, session.tried].contains(&version) && !session.refused.contains(&version),
            "version {version} is there; {session:?}"
        );
        let left: i64 = client.look(|c| c.ttl(&session.key));
        let may_be_left = 1..=i64::try_from(SECONDS).expect("it is small");
        assert!(
            text.is_none() || may_be_left.contains(&left),
            "{}: {left} s are left",
            session.key
        );
    }
}
