//! The `quorate` program. All of it is in [`cli`].

mod cli;

/// Measured against the system's allocator: DESIGN.md, section 10.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // Reads FAILPOINTS in test builds; nothing in others.
    let _failpoints = fail::FailScenario::setup();
    cli::main()
}
