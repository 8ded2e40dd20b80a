//! The admin port: `/health`, `/status` (JSON), `/metrics` (Prometheus text).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::server::Shared;
use crate::cluster::{Node, NodeStatus};

#[derive(Clone)]
struct Admin {
    node: Node,
    shared: Arc<Shared>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GroupLabel {
    group: String,
}

/// Serves the admin port until the runtime ends.
pub async fn serve(listener: TcpListener, node: Node, shared: Arc<Shared>) {
    let routes = Router::new()
        .route("/health", get(health))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(Admin { node, shared });
    if let Err(e) = axum::serve(listener, routes).await {
        tracing::error!("the admin port has stopped: {e}");
    }
}

async fn health(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.node.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "a group has no leader\n")
    }
}

async fn status(State(admin): State<Admin>) -> axum::Json<NodeStatus> {
    axum::Json(admin.node.status())
}

async fn metrics(State(admin): State<Admin>) -> Result<String, StatusCode> {
    let (status, counts) = (admin.node.status(), admin.shared.counts());
    let mut registry = Registry::with_prefix("quorate");
    let mut plain = |name: &str, help: &str, value: i64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    plain(
        "connections",
        "Client connections now",
        int(counts.connections as u64),
    );
    plain(
        "connections_accepted",
        "Client connections ever",
        int(counts.accepted),
    );
    plain("commands", "Commands taken from clients", int(counts.commands));
    plain(
        "peers_connected",
        "Peers linked now",
        int(status.connected.len() as u64),
    );
    let mut by_group = |name: &str, help: &str, value: &dyn Fn(usize) -> u64| {
        let family = Family::<GroupLabel, Gauge>::default();
        for (i, group) in status.groups.iter().enumerate() {
            family
                .get_or_create(&GroupLabel {
                    group: group.group.clone(),
                })
                .set(int(value(i)));
        }
        registry.register(name, help, family);
    };
    by_group("term", "Raft term", &|i| status.groups[i].term);
    by_group("committed_index", "Last committed log index", &|i| {
        status.groups[i].committed
    });
    by_group("applied_index", "Last applied log index", &|i| {
        status.groups[i].applied
    });
    by_group("leads", "1 if this node leads the group", &|i| {
        u64::from(status.groups[i].leader == Some(status.node))
    });
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => Ok(text),
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
