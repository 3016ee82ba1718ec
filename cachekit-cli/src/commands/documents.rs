//! What is generated from the command line itself: completions and the manual page.

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::cli::Cli;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

pub(super) fn completions(shell: Shell, session: &Session) -> Result<Outcome, Failure> {
    // Into memory first: the generator panics on a stream that was closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cachekit", &mut script);
    give("completions", &script, session)
}

pub(super) fn man(session: &Session) -> Result<Outcome, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::io("the page cannot be written"))?;
    sections(&Cli::command(), "cachekit", &mut page).map_err(Failure::io("the page cannot be written"))?;
    give("man", &page, session)
}

/// A section for each command that can be typed, and for those below it.
fn sections(parent: &clap::Command, path: &str, page: &mut Vec<u8>) -> std::io::Result<()> {
    for command in parent.get_subcommands().filter(|command| !command.is_hide_set()) {
        let path = format!("{path} {}", command.get_name());
        let section = clap_mangen::Man::new(command.clone().display_name(&path));
        section.render_name_section(page)?;
        section.render_options_section(page)?;
        sections(command, &path, page)?;
    }
    Ok(())
}

fn give(name: &str, text: &[u8], session: &Session) -> Result<Outcome, Failure> {
    if session.output.is_json() {
        session.output.document(&json!({ name: String::from_utf8_lossy(text) }))?;
    } else {
        session.output.bytes(text)?;
    }
    Ok(Outcome::Done)
}
