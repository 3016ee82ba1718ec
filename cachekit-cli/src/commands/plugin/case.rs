//! One conformance case on a library, in this process: what `plugin test` starts for each case.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cachekit::config::EngineServices;
use cachekit_conformance::{Harness, Opened, Patience, find, run_case};
use cachekit_host::{LoadError, Plugin};
use cachekit_plugin::{BackendError, Kind, Operation};
use serde_json::Value as Json;

use super::verify::policy_of_files;
use crate::cli::CaseArgs;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// What stands for an empty directory in the texts of the options.
pub(super) const TMP: &str = "{tmp}";

/// Runs the case and prints its result as one line of JSON.
pub(super) fn case(args: &CaseArgs, session: &Session) -> Result<Outcome, Failure> {
    let case = find(&args.name).ok_or_else(|| Failure::Usage(format!("there is no case {:?}", args.name)))?;
    let plugin = Plugin::open(&args.library, &policy_of_files(&session.config()?)?)?;
    let schema = plugin.config_schema()?;
    let harness = Arc::new(Subject {
        plugin,
        schema,
        options: options(args.subject.config.as_deref())?,
        shares_one_store: !args.subject.store_per_instance,
        tmp: args.tmp.clone(),
        directories: AtomicU32::new(0),
    });
    let result = run_case(&(harness as Arc<dyn Harness>), case, Patience::default());
    let line = serde_json::to_string(&result).map_err(|error| Failure::Usage(error.to_string()))?;
    session.output.line(&line)?;
    // A case that was given up has left threads behind that wait for ever.
    std::process::exit(0)
}

/// The options of `--config`: JSON, or `@FILE` with JSON in it.
pub(super) fn options(argument: Option<&Path>) -> Result<Option<Json>, Failure> {
    let Some(argument) = argument else { return Ok(None) };
    let refuse = || Failure::Usage("--config takes JSON as UTF-8".into());
    let argument = argument.to_str().ok_or_else(refuse)?;
    let text = match argument.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(Failure::io(format!("{path:?} cannot be read")))?,
        None => argument.to_owned(),
    };
    let options: Json =
        serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("--config is no JSON: {error}")))?;
    if options.is_object() { Ok(Some(options)) } else { Err(Failure::Usage("--config takes a JSON object".into())) }
}

/// The library under test, as the kit opens it.
struct Subject {
    plugin: Plugin,
    schema: Option<Json>,
    options: Option<Json>,
    shares_one_store: bool,
    tmp: PathBuf,
    directories: AtomicU32,
}

impl Subject {
    fn create(&self, options: &[u8]) -> Opened {
        self.plugin.create(options, EngineServices::shared()).map_err(|error| match error {
            LoadError::Create { source, .. } => source,
            other => BackendError::new(Kind::Internal, Operation::Open, other.to_string()),
        })
    }

    fn create_in(&self, directory: &str) -> Opened {
        let Some(options) = &self.options else { return self.create(b"") };
        let place = self.tmp.join(directory);
        self.create(with_tmp(options, &place.to_string_lossy()).to_string().as_bytes())
    }

    fn has_tmp(&self) -> bool {
        self.options.as_ref().is_some_and(|options| with_tmp(options, "") != *options)
    }
}

impl Harness for Subject {
    fn open(&self) -> Opened {
        self.create_in("store")
    }

    fn shares_one_store(&self) -> bool {
        self.shares_one_store
    }

    fn open_isolated(&self) -> Option<Opened> {
        let number = self.directories.fetch_add(1, Ordering::Relaxed);
        self.has_tmp().then(|| self.create_in(&format!("isolated-{number}")))
    }

    fn open_with_options(&self, json: &[u8]) -> Option<Opened> {
        Some(self.create(json))
    }

    fn options_schema(&self) -> Option<Json> {
        self.schema.clone()
    }
}

/// Options with `{tmp}` replaced in every text.
pub(super) fn with_tmp(options: &Json, place: &str) -> Json {
    match options {
        Json::String(text) => Json::String(text.replace(TMP, place)),
        Json::Array(items) => items.iter().map(|item| with_tmp(item, place)).collect(),
        Json::Object(fields) => {
            Json::Object(fields.iter().map(|(name, value)| (name.clone(), with_tmp(value, place))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_directory_is_filled_in_at_every_depth() {
        let options = json!({ "dir": "{tmp}/a", "n": 1, "list": ["{tmp}"], "inner": { "x": "{tmp}" } });
        let expected = json!({ "dir": "/t/a", "n": 1, "list": ["/t"], "inner": { "x": "/t" } });
        assert_eq!(with_tmp(&options, "/t"), expected);
    }

    #[test]
    fn options_are_an_object() {
        assert_eq!(options(None).unwrap(), None);
        assert_eq!(options(Some(r#"{"a":1}"#.as_ref())).unwrap(), Some(json!({ "a": 1 })));
        for wrong in ["", "[]", "1", "{", "@/nonexistent/file"] {
            assert!(options(Some(wrong.as_ref())).is_err(), "{wrong}");
        }
    }
}
