//! Sections with a line for each command or kind of error.

use super::{Line, Source};

pub fn commandstats(source: &Source<'_>) -> Vec<Line> {
    let commands = source.shared.stats.commands();
    let row = |shown: crate::gateway::stats::Shown| {
        let each = shown.micros as f64 / (shown.calls.max(1) as f64);
        let value = format!(
            "calls={},usec={},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
            shown.calls, shown.micros, shown.rejected, shown.failed
        );
        (format!("cmdstat_{}", shown.name), value)
    };
    commands.into_iter().map(row).collect()
}

pub fn errorstats(source: &Source<'_>) -> Vec<Line> {
    let errors = source.shared.stats.errors();
    let row = |(kind, count)| (format!("errorstat_{kind}"), format!("count={count}"));
    errors.into_iter().map(row).collect()
}

pub fn latencystats(source: &Source<'_>) -> Vec<Line> {
    let micros = |nanos: u64| nanos as f64 / 1000.0;
    let spreads = source.shared.stats.spreads(|spread| {
        let at = |quantile| micros(spread.value_at_quantile(quantile));
        format!("p50={:.3},p99={:.3},p99.9={:.3}", at(0.5), at(0.99), at(0.999))
    });
    let row = |(name, shown): (String, String)| (format!("latency_percentiles_usec_{name}"), shown);
    spreads.into_iter().map(row).collect()
}
