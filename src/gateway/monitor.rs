//! `MONITOR`: whoever watches sees each request that comes to this node, when it comes. The queues are those of channels: bounded, and
//! who takes its lines too slowly is disconnected.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::session::Session;
use super::table;
use crate::base::{Millis, Reply};
use crate::cluster::{Kind, Listener, PubSub};
use crate::machine::commands;

/// What all who watch listen to.
const LINES: &[u8] = b"monitor";

/// Requests that are not shown: they tell secrets, or are about watching.
const UNSEEN: &[&str] = &[
    "auth", "hello", "monitor", "config", "debug", "slowlog", "latency", "save", "bgsave", "lastsave",
    "shutdown", "role", "acl",
];

#[derive(Default)]
pub struct Monitors {
    hub: PubSub,
    watching: AtomicUsize,
}

impl Monitors {
    /// Whether anybody watches; one load.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.watching.load(Ordering::Relaxed) > 0
    }

    fn begin(&self, id: u64) -> Listener {
        let mut listener = self.hub.listen(id);
        listener.subscribe(Kind::Channel, &Bytes::from_static(LINES));
        self.watching.fetch_add(1, Ordering::Relaxed);
        listener
    }

    pub fn end(&self) {
        self.watching.fetch_sub(1, Ordering::Relaxed);
    }

    /// Shows a request to all who watch.
    pub fn tell(&self, now: Millis, address: &str, request: &[Bytes]) {
        let unseen = |name: &Bytes| {
            UNSEEN
                .iter()
                .any(|unseen| name.eq_ignore_ascii_case(unseen.as_bytes()))
        };
        // What is not known here may have a secret anywhere.
        let known = |name: &Bytes| commands::find(name).is_some() || table::own(name).is_some();
        if request.first().is_none_or(|name| unseen(name) || !known(name)) {
            return;
        }
        let mut line = format!("{}.{:03}000 [0 {address}]", now / 1000, now % 1000);
        for arg in request {
            line.push(' ');
            quote(&mut line, arg);
        }
        self.hub.tell(&Bytes::from_static(LINES), &line.into());
    }
}

/// As Redis shows bytes that need not be text.
fn quote(line: &mut String, bytes: &[u8]) {
    line.push('"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => line.extend(['\\', char::from(byte)]),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            0x07 => line.push_str("\\a"),
            0x08 => line.push_str("\\b"),
            b' '..=b'~' => line.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
    }
    line.push('"');
}

impl Session {
    /// `MONITOR`.
    pub(super) fn monitor(&mut self) -> Reply {
        if self.monitors {
            return Reply::ok();
        }
        if self
            .listener
            .as_ref()
            .is_some_and(|listener| !listener.to.is_empty())
        {
            return Reply::err("ERR a connection that listens to channels cannot MONITOR: UNSUBSCRIBE first");
        }
        self.listener = Some(self.shared.monitors.begin(self.state.id));
        self.monitors = true;
        self.client.note(|seen| seen.monitors = true);
        Reply::ok()
    }

    /// Watches no more.
    pub(super) fn stop_monitoring(&mut self) {
        if std::mem::take(&mut self.monitors) {
            self.shared.monitors.end();
            self.listener = None;
            self.client.note(|seen| seen.monitors = false);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop_monitoring();
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn bytes_are_quoted_as_by_redis() {
        let mut line = String::new();
        quote(&mut line, b"a\"b\\c\n\r\t\x07\x08\x00\xff ~");
        assert_eq!(line, r#""a\"b\\c\n\r\t\a\b\x00\xff ~""#);
    }
}
