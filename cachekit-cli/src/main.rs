#![forbid(unsafe_code)]
//! The program `cachekit`: the caches of a machine from its command line.
//!
//! It is a client of the crate `cachekit` and of the plugin host like any other program, and adds three promises: stdout
//! carries values and nothing else, every way to fail has its exit code, and what it shows is what the library checked.
//!
//! Read `cli` (what can be typed), `session` (from options to a cache), `commands` (one file for each family), `output`
//! (the two streams) and `exit` (errors and exit codes).

mod cli;
mod commands;
mod exit;
mod glob;
mod output;
mod session;
mod shown;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;
use exit::Failure;
use output::Output;
use session::Session;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli.untangled(),
        Err(error) => return usage(&error),
    };
    let output = Output::new(cli.global.json, cli.global.verbose);
    output.start_log();
    let session = Session::new(cli.global, output);
    match commands::dispatch(cli.command, &session) {
        Ok(outcome) => outcome.into(),
        Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.class().code())
        }
    }
}

/// What cannot be parsed, and what is asked of the parser: help and version.
fn usage(error: &clap::Error) -> ExitCode {
    // The reader of the text may have gone; there is nobody else to tell.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    // The option is not parsed when something else could not be; what stands behind `--` is another program's.
    let json = std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if json {
        // What is wrong ends with the first empty line; hints and usage follow.
        let text = error.to_string();
        let message = text.split("\n\n").next().unwrap_or_default();
        output::print_error_document("usage", message.strip_prefix("error: ").unwrap_or(message));
    }
    ExitCode::from(exit::Class::Usage.code())
}
