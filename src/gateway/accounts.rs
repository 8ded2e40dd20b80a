//! What is done beside a session's commands: counting them, noting slow ones, showing them to who watches, saying which to hold up.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::exec::PUBLISHES;
use super::functions;
use super::multi::Multi;
use super::serve::Stop;
use super::session::Session;
use super::stats::Place;
use super::table;
use super::{latency, server::Shared};
use crate::base::Reply;
use crate::machine::commands::{self, Flag};

/// A command that takes longer counts as the client's last sign of life when it ends, too.
const LONG: Duration = Duration::from_millis(100);

impl Shared {
    /// Whether every request is looked at before it runs; two loads.
    #[must_use]
    pub fn is_looked_after(&self) -> bool {
        self.pause.is_on() || self.monitors.is_on()
    }
}

impl Session {
    /// Whether a request may change something, here or elsewhere.
    fn may_write(&self, request: &[Bytes]) -> bool {
        let Some((name, args)) = request.split_first() else {
            return false;
        };
        match (commands::find(name), table::own(name).map(|own| own.name)) {
            (Some(spec), _) => spec.flag == Flag::Write,
            (None, Some("exec")) => self.multi.as_ref().is_some_and(Multi::may_write),
            (None, Some("function")) => !functions::only_looks(args),
            (None, Some(name)) => PUBLISHES.contains(&name),
            (None, None) => false,
        }
    }

    /// Whether a request has to wait, since clients are paused; not those by which they are let go.
    pub(super) fn is_held_up(&self, request: &[Bytes]) -> Option<Stop> {
        let lets_go = |name: &Bytes| name.eq_ignore_ascii_case(b"client");
        if !self.shared.pause.is_on() || request.first().is_none_or(lets_go) {
            return None;
        }
        let may_write = self.may_write(request);
        self.shared
            .pause
            .holds(may_write)
            .then_some(Stop::Paused { may_write })
    }

    /// Shows a request to who watches.
    pub(super) fn show_to_monitors(&self, request: &[Bytes]) {
        let monitors = &self.shared.monitors;
        if monitors.is_on() {
            monitors.tell(self.node.now(), self.client.address(), request);
        }
    }

    /// Commands that ran together.
    pub(super) fn count(&self, places: &[Option<Place>], replies: &[Reply], took: Duration) {
        let spread = self.node.settings().latency_tracking();
        self.shared.stats.ran(places, replies, took, spread);
    }

    pub(super) fn note_if_slow(&self, request: &[Bytes], others: usize, took: Duration) {
        if took >= LONG {
            // What its client has waited for is no time of saying nothing.
            self.client.note(|seen| seen.at = Instant::now());
        }
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
