use clap::Args;
use std::process::ExitCode;
#[derive(Debug, Args)]
pub struct StatusOptions {}
pub fn run(_: &StatusOptions) -> ExitCode {
    ExitCode::SUCCESS
}
