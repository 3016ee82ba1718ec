//! What a library's operations take, from here: below the engine, through the border, beside a store that does nothing.
//!
//! The loop and its clock cost something too, and on a busy machine more than the border does. So the same loop runs over a
//! store that is linked into this program and answers at once, and every figure stands beside that one's.

mod null;
mod round;

use std::sync::Arc;

use cachekit::config::EngineServices;
use cachekit::config::schema::Schema;
use cachekit_host::Plugin;
use cachekit_plugin::Backend;
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

use self::null::Null;
use self::round::{Figure, OPERATIONS, Round};
use super::case::{TMP, options, with_tmp};
use super::verify::policy_of_files;
use crate::cli::PluginBenchArgs;
use crate::exit::{Class, Failure, Outcome};
use crate::session::{Session, resolved};

pub(super) fn bench(args: &PluginBenchArgs, session: &Session) -> Result<Outcome, Failure> {
    let path = resolved(&args.library)?;
    let begun = std::time::Instant::now();
    let plugin = Plugin::open(&path, &policy_of_files(&session.config()?)?)?;
    let load = begun.elapsed();
    let place = tempfile::tempdir().map_err(Failure::io("no temporary directory can be made"))?;
    let given = options(args.config.as_deref())?.unwrap_or_else(|| json!({}));
    let given = with_tmp(&given, &place.path().to_string_lossy());
    if let (Some(schema), Some(given)) = (plugin.config_schema()?, given.as_object()) {
        Schema::new(&schema).check(given).map_err(|wrong| {
            let hint = if args.config.is_none() {
                format!("; options are given by --config, such as '{{\"dir\":\"{TMP}\"}}'")
            } else {
                String::new()
            };
            Failure::Usage(format!("option{}: {}{hint}", wrong.place, wrong.reason))
        })?;
    }
    let backend = plugin.create(given.to_string().as_bytes(), EngineServices::shared())?;
    let runtime = Runtime::new().map_err(Failure::io("no runtime can be started"))?;
    let null: Arc<dyn Backend> = Arc::new(Null::new(args.value_size));
    let spinner = session.output.spinner("measuring");
    let measured = runtime.block_on(async {
        let null = Round::new(null, args)?.run().await?;
        let of_plugin = Round::new(Arc::clone(&backend), args)?;
        let figures = of_plugin.run().await;
        // Also after a failure: what was written goes.
        let left = of_plugin.remove().await;
        of_plugin.close().await;
        Ok::<_, Failure>((null, figures?, left))
    });
    spinner.finish_and_clear();
    let (null, figures, left) = measured?;
    if left > 0 {
        session.output.warn(&format!("{left} keys could not be removed; they end by themselves within an hour"));
    }
    let identity = plugin.identity();
    let operations: serde_json::Map<String, Json> = OPERATIONS
        .iter()
        .zip(figures.iter().zip(&null))
        .map(|(name, (figure, null))| ((*name).to_owned(), figure.document(null)))
        .collect();
    let document = || {
        json!({
            "id": identity.id, "version": identity.version, "path": path.to_string_lossy(),
            "callers": args.callers, "value_bytes": args.value_size, "keys": args.keys,
            "load_ms": load.as_secs_f64() * 1e3, "operations": operations, "keys_left": left,
        })
    };
    session.output.either(document, &table(&plugin, load.as_secs_f64() * 1e3, &figures, &null))?;
    let failed = figures.iter().any(|figure| figure.errors > 0);
    let wrong = figures.iter().any(|figure| figure.wrong > 0);
    Ok(match (wrong, failed) {
        (true, _) => Outcome::Bad(Class::Refused),
        (_, true) => Outcome::Bad(Class::Unavailable),
        _ => Outcome::Done,
    })
}

fn table(plugin: &Plugin, load_ms: f64, figures: &[Figure], null: &[Figure]) -> String {
    let identity = plugin.identity();
    let mut text = format!("{} {}, loaded in {load_ms:.1} ms\n", identity.id, identity.version);
    text += &format!("{:<10}{:>12}{:>11}{:>11}{:>11}{:>13}", "", "per second", "p50", "p99", "max", "x null store");
    for (name, (figure, null)) in OPERATIONS.iter().zip(figures.iter().zip(null)) {
        text += &format!("\n{name:<10}{}", figure.line(null));
    }
    text
}
