//! What is done beside a session's commands: counting them, noting slow ones, showing them to who watches, holding them up.

use std::time::Duration;

use bytes::Bytes;

use super::session::Session;
use super::stats::Place;
use super::table;
use super::{latency, server::Shared};
use crate::base::Reply;
use crate::machine::commands::{self, Flag};

/// Own commands that may change something elsewhere.
const MAY_WRITE: &[&str] = &["exec", "publish", "spublish"];

impl Shared {
    /// Whether every request is looked at before it runs; two loads.
    #[must_use]
    pub fn is_looked_after(&self) -> bool {
        self.pause.is_on() || self.monitors.is_on()
    }
}

fn may_write(name: &[u8]) -> bool {
    match commands::find(name) {
        Some(spec) => spec.flag == Flag::Write,
        None => table::own(name).is_some_and(|own| MAY_WRITE.contains(&own.name)),
    }
}

impl Session {
    /// Shows a request to who watches, and holds it up while clients are paused; not those by which they are let go.
    pub(super) async fn look_after(&self, request: &[Bytes]) {
        let Some(name) = request.first() else { return };
        if self.shared.pause.is_on() && !name.eq_ignore_ascii_case(b"client") {
            tokio::select! {
                biased;
                () = self.client.killed() => {}
                () = self.shared.pause.pass(may_write(name)) => {}
            }
        }
        if self.shared.monitors.is_on() {
            self.shared
                .monitors
                .tell(self.node.now(), self.client.address(), request);
        }
    }

    /// Commands that ran together.
    pub(super) fn count(&self, places: &[Option<Place>], replies: &[Reply], took: Duration) {
        let spread = self.node.settings().latency_tracking();
        self.shared.stats.ran(places, replies, took, spread);
    }

    pub(super) fn note_if_slow(&self, request: &[Bytes], others: usize, took: Duration) {
        let settings = self.node.settings();
        if let Some(micros) = settings.slowlog_log_slower_than()
            && took.as_micros() >= u128::from(micros)
        {
            let who = (self.client.address(), &self.state.name);
            let most = settings.slowlog_max_len();
            self.shared
                .slowlog
                .note(request, others, took, self.node.now(), who, most);
        }
        if let Some(millis) = settings.latency_monitor_threshold()
            && took.as_millis() >= u128::from(millis)
        {
            self.shared.latency.note(latency::COMMAND, took, self.node.now());
        }
    }
}
