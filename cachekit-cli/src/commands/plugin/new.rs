//! `plugin new`: a project of a stranger's own, which builds as it is and passes `plugin test` as it is.
//!
//! The templates are files of this crate and stand in the program, so that nothing has to be found or fetched to begin. What
//! is in them is tested by building it: `tests/e2e/tests/stranger.rs`.

mod name;
mod project;
mod sdk;

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::scaffold::{Lang, NewArgs};
use crate::exit::{Failure, Outcome};
use crate::session::Session;
use name::Name;
use project::Project;
use sdk::Sdk;

pub(super) fn new(args: &NewArgs, session: &Session) -> Result<Outcome, Failure> {
    let name = Name::parse(&args.name, args.lang)?;
    let given = args.sdk.as_deref().map(Sdk::parse).transpose()?;
    let sdk = match args.lang {
        // Without the SDK there is no Rust plugin; a plugin in C needs it for nothing but the place of the program in its CI.
        Lang::Rust => Some(given.map_or_else(Sdk::of_this_program, Ok)?),
        Lang::C => given,
    };
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let dir = project::folder(&dir)?;
    let project = match Project::new(&name, args.lang, sdk.as_ref(), dir.path()) {
        Ok(project) => project,
        Err(failure) => {
            dir.discard();
            return Err(failure);
        }
    };
    let others_may_write = project.write(&dir)?;
    let shown = args.dir.as_deref().unwrap_or(Path::new(&args.name));
    let steps = project.next_steps(shown, others_may_write);
    let document = || {
        json!({
            "id": name.id(),
            "lang": match args.lang { Lang::Rust => "rust", Lang::C => "c" },
            "dir": dir.path().to_string_lossy(),
            "library": dir.path().join(project.library()).to_string_lossy(),
            "sdk": sdk.as_ref().map(Sdk::place),
            "files": project.files(),
            "next": steps,
        })
    };
    let from = sdk.as_ref().map(|sdk| format!(", on the SDK at {}", sdk.place())).unwrap_or_default();
    let text = format!("{} is in {}{from}. Next:\n\n  {}", name.id(), dir.path().display(), steps.join("\n  "));
    session.output.either(document, &text)?;
    Ok(Outcome::Done)
}
