//! Test builds only: the steps of a transaction at which a participant's leader or a gateway can be made to die.
//! Those of a coordinator stand where it takes them (`driver.rs`, `deliveries.rs`).

use fail::fail_point;

use crate::machine::{Body, Request};

/// What a shard's leader is asked to do for a transaction.
#[derive(Clone, Copy)]
pub(super) enum Step {
    Prepare,
    Commit,
    Other,
}

impl Step {
    pub fn of(request: &Request) -> Step {
        match &request.body {
            Body::Prepare(_) => Step::Prepare,
            Body::Finish(finish) if finish.commit => Step::Commit,
            _ => Step::Other,
        }
    }

    /// The leader has been asked, and its log knows nothing of it yet.
    pub fn asked(self) {
        match self {
            Step::Prepare => fail_point!("shard-prepare-asked", |_| std::process::abort()),
            Step::Commit => fail_point!("shard-commit-asked", |_| std::process::abort()),
            Step::Other => {}
        }
    }

    /// It is applied at the leader, and nobody has been told.
    pub fn applied(self) {
        match self {
            Step::Prepare => fail_point!("shard-prepared", |_| std::process::abort()),
            Step::Commit => fail_point!("shard-committed", |_| std::process::abort()),
            Step::Other => {}
        }
    }
}

/// A gateway has taken a transaction from its client, and nobody else knows of it.
pub(super) fn taken() {
    fail_point!("gateway-taken", |_| std::process::abort());
}

/// It is on its way to the coordinator.
pub(super) fn handed_over() {
    fail_point!("gateway-handed-over", |_| super::driver::die_after_delivery(
        "gateway-handed-over"
    ));
}

/// The gateway has the answer, and its client does not.
pub(super) async fn answered() {
    fail_point!("gateway-answered", |_| std::process::abort());
    if dies_before_the_answer() {
        std::future::pending::<()>().await;
    }
}

fn dies_before_the_answer() -> bool {
    fail_point!("gateway-handed-over", |_| true);
    false
}
