//! Shared-library backends: what is there, what a file says it is, whether it loads, whether it is right.

mod bench;
mod case;
mod list;
mod lock;
mod new;
mod test;
mod verify;

use crate::cli::PluginCommand;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

pub(super) fn plugin(command: &PluginCommand, session: &Session) -> Result<Outcome, Failure> {
    match command {
        PluginCommand::List { dir } => list::list(dir, session),
        PluginCommand::Inspect { library } => list::inspect(library, session),
        PluginCommand::Verify { library, sha256, unpinned } => {
            verify::verify(library, sha256.as_deref(), *unpinned, session)
        }
        PluginCommand::Lock { libraries, check, lock } => lock::lock(libraries, *check, lock.as_deref(), session),
        PluginCommand::Bench(args) => bench::bench(args, session),
        PluginCommand::Test(args) => test::test(args, session),
        PluginCommand::New(args) => new::new(args, session),
        PluginCommand::Case(args) => case::case(args, session),
    }
}
