//! What each command does: one file for each family.

mod bench;
mod config;
mod copy;
mod dict;
mod documents;
mod entries;
mod inspect;
mod interop;
mod plugin;
mod raw;
mod run;
mod serve;
mod store;

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use crate::cli::Command;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Does what was asked.
pub(crate) fn dispatch(command: Command, session: &Session) -> Result<Outcome, Failure> {
    match command {
        Command::Run(args) => run::run(&args, session),
        Command::Get { key } => entries::get(&key, session),
        Command::Set(args) => entries::set(&args, session),
        Command::Del { keys } => entries::del(&keys, session),
        Command::Exists { key } => entries::exists(&key, session),
        Command::Ttl { key } => entries::ttl(&key, session),
        Command::Touch { key, life } => entries::touch(&key, &life, session),
        Command::Keys { pattern, null } => store::keys(pattern.as_deref(), null, session),
        Command::Clear { tags, yes } if tags.is_empty() => store::clear(yes, session),
        Command::Clear { tags, .. } => store::clear_tags(&tags, session),
        Command::Stats => store::stats(session),
        Command::Health => store::health(session),
        Command::Raw(command) => raw::raw(&command, session),
        Command::Inspect(args) => inspect::inspect(&args, session),
        Command::Dict(command) => dict::dict(&command, session),
        Command::Copy(args) => copy::copy(&args, session),
        Command::Bench(args) => bench::bench(&args, session),
        Command::Serve(args) => serve::serve(&args, session),
        Command::Interop(command) => interop::interop(&command, session),
        Command::Plugin(command) => plugin::plugin(&command, session),
        Command::Config(command) => config::config(&command, session),
        Command::Completions { shell } => documents::completions(shell, session),
        Command::Man => documents::man(session),
    }
}

/// The value of an argument: its own bytes, or those of standard input for `-`, at most `max` of them.
fn value_of(argument: &OsStr, max: u64) -> Result<Vec<u8>, Failure> {
    let too_large = || Failure::Usage(format!("the value has more than {max} bytes, the limit here"));
    if argument != "-" {
        let bytes = argument.as_bytes();
        return if bytes.len() as u64 > max { Err(too_large()) } else { Ok(bytes.to_vec()) };
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(max.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(Failure::io("standard input cannot be read"))?;
    if bytes.len() as u64 > max { Err(too_large()) } else { Ok(bytes) }
}
