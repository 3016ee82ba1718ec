//! The conformance table on a library, each case in a child process: a plugin that crashes, hangs or corrupts memory ends
//! its case and nothing else.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cachekit_conformance::{Case, CaseResult, Report, cases, find};
use serde_json::{Value as Json, json};

use super::case::{TMP, options};
use crate::cli::TestArgs;
use crate::exit::{Class, Failure, Outcome};
use crate::session::{Session, resolved};

/// Beyond a case's own limit, at which the child gives up by itself: time to start and to load.
const GRACE: Duration = Duration::from_secs(15);
/// To load a library and to ask it for its tables.
const LOAD_LIMIT: Duration = Duration::from_secs(30);
/// How often a child is looked at.
const TICK: Duration = Duration::from_millis(10);
/// Most output of a child that is kept. A result has hundreds of bytes; a plugin may print what it likes before it.
const MAX_OUTPUT: u64 = 1 << 20;

pub(super) fn test(args: &TestArgs, session: &Session) -> Result<Outcome, Failure> {
    let library = resolved(&args.library)?;
    // What cannot be a plugin is refused without running anything of it.
    cachekit_host::inspect(&library)?;
    let given = options(args.subject.config.as_deref())?;
    let description = described(&library)?;
    if given.is_none()
        && let Some(name) = wants_directory(&description["schema"])
    {
        return Err(Failure::Usage(format!(
            "this plugin keeps its entries in a directory, and the cases write there and clear it; name one, such as an \
             empty one for each case: --config '{{\"{name}\":\"{TMP}\"}}'"
        )));
    }
    let chosen = choose(&args.case)?;
    let jobs = args.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let progress = session.output.bar(chosen.len() as u64);
    let results: Vec<Mutex<Option<CaseResult>>> = chosen.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(chosen.len()) {
            scope.spawn(|| {
                while let Some((case, slot)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    chosen.get(index).zip(results.get(index))
                } {
                    let result = in_child(&library, case, args, session.output.is_verbose());
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                    progress.inc(1);
                    progress.set_message(case.name);
                }
            });
        }
    });
    progress.finish_and_clear();
    let results = results.into_iter().zip(&chosen).map(|(slot, case)| {
        let result = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        result.unwrap_or_else(|| CaseResult::failed(case, "it was not run"))
    });
    let report = Report::of(results.collect());
    session.output.either(|| json!(report), &report.to_string())?;
    Ok(if report.is_ok() { Outcome::Done } else { Outcome::Bad(Class::Plugin) })
}

fn choose(names: &[String]) -> Result<Vec<&'static Case>, Failure> {
    if names.is_empty() {
        return Ok(cases().iter().collect());
    }
    let unknown = |name: &String| {
        let known: Vec<&str> = cases().iter().map(|case| case.name).collect();
        Failure::Usage(format!("there is no case {name:?}; there are:\n{}", known.join("\n")))
    };
    names.iter().map(|name| find(name).ok_or_else(|| unknown(name))).collect()
}

/// What `plugin verify` says of the library, asked in a child process: a library that is refused is one error and not a
/// failure of each case, and one that crashes when it is loaded must not do it here.
fn described(library: &Path) -> Result<Json, Failure> {
    let failed = |reason: String| Failure::Verify(format!("plugin {library:?} cannot be loaded: {reason}"));
    let mut command = Command::new(std::env::current_exe().map_err(Failure::io("this program cannot be found"))?);
    command.args(["--json", "plugin", "verify", "--unpinned"]).arg(library).stderr(Stdio::null());
    let (status, output) = child(command, LOAD_LIMIT).map_err(Failure::io("no child process can be run"))?;
    let Some(status) = status else { return Err(failed(format!("it had not ended after {LOAD_LIMIT:?}"))) };
    if let Some(signal) = status.signal() {
        return Err(failed(format!("its process was ended by {}", signal_name(signal))));
    }
    // The library may have printed before; the document is the last thing that begins a line with a brace.
    let start = output.windows(2).rposition(|pair| pair == b"\n{").map_or(0, |line_end| line_end + 1);
    let document: Json = serde_json::from_slice(&output[start..])
        .map_err(|_| failed(format!("its process ended without a result ({status})")))?;
    match document["error"]["message"].as_str() {
        None => Ok(document),
        Some(message) if status.code() == Some(Class::Plugin.code().into()) => Err(Failure::Verify(message.to_owned())),
        Some(message) => Err(Failure::Usage(message.to_owned())),
    }
}

fn signal_name(signal: i32) -> String {
    format!("{} ({signal})", signal_hook::low_level::signal_name(signal).unwrap_or("a signal"))
}

/// The option that names a directory, if the plugin has one.
fn wants_directory(schema: &Json) -> Option<&'static str> {
    ["dir", "directory", "path"].into_iter().find(|name| schema["properties"][name].is_object())
}

fn in_child(library: &Path, case: &'static Case, args: &TestArgs, verbose: bool) -> CaseResult {
    match try_in_child(library, case, args, verbose) {
        Ok(result) => result,
        Err(error) => CaseResult::failed(case, format!("it could not be run in a process of its own: {error}")),
    }
}

fn try_in_child(
    library: &Path,
    case: &'static Case,
    args: &TestArgs,
    verbose: bool,
) -> Result<CaseResult, std::io::Error> {
    let place = tempfile::tempdir()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["plugin", "case"]).arg(library).arg(case.name).arg("--tmp").arg(place.path());
    if let Some(config) = &args.subject.config {
        command.arg("--config").arg(config);
    }
    if args.subject.store_per_instance {
        command.arg("--store-per-instance");
    }
    command.stderr(if verbose { Stdio::inherit() } else { Stdio::null() });
    let (status, output) = child(command, case.time_limit + GRACE)?;
    Ok(judge(case, status, &output))
}

/// Runs a child and returns how it ended, `None` if it had to be killed, and what it printed.
fn child(mut command: Command, limit: Duration) -> std::io::Result<(Option<ExitStatus>, Vec<u8>)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take();
    std::thread::scope(|scope| {
        let output = scope.spawn(move || {
            let mut output = Vec::new();
            if let Some(pipe) = stdout {
                // A pipe that breaks has given all it had.
                let _ = pipe.take(MAX_OUTPUT).read_to_end(&mut output);
            }
            output
        });
        let status = wait_until(&mut child, Instant::now() + limit)?;
        Ok((status, output.join().unwrap_or_default()))
    })
}

/// Waits for a child; one that has not ended by then is killed, which is `None`.
fn wait_until(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(TICK);
    }
}

fn judge(case: &'static Case, status: Option<ExitStatus>, output: &[u8]) -> CaseResult {
    let Some(status) = status else {
        return CaseResult::failed(
            case,
            format!("its process hung and was killed after {:?}", case.time_limit + GRACE),
        );
    };
    if let Some(signal) = status.signal() {
        return CaseResult::failed(case, format!("its process was ended by {}", signal_name(signal)));
    }
    // The plugin may have printed before; the last line is ours.
    let last = output.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    match serde_json::from_slice::<CaseResult>(last) {
        Ok(result) if result.name == case.name && status.success() => result,
        _ => CaseResult::failed(case, format!("its process ended without a result ({status})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(status: Option<i32>, output: &[u8]) -> (bool, String) {
        let result = judge(&cases()[0], status.map(ExitStatus::from_raw), output);
        (result.ok, result.reason)
    }

    #[test]
    fn a_child_that_dies_or_hangs_has_failed_and_the_signal_is_named() {
        assert!(reason(Some(11), b"").1.contains("SIGSEGV"));
        assert!(reason(Some(6), b"").1.contains("SIGABRT"));
        assert!(reason(None, b"").1.contains("hung"));
        assert!(reason(Some(0), b"").1.contains("without a result"));
        assert!(reason(Some(256), b"").1.contains("without a result"));
    }

    #[test]
    fn a_result_is_taken_from_the_last_line_and_only_for_its_case() {
        let result = serde_json::to_string(&CaseResult::passed(&cases()[0])).unwrap();
        assert!(reason(Some(0), format!("noise\n{result}\n").as_bytes()).0);
        assert!(!reason(Some(256), result.as_bytes()).0);
        let other = serde_json::to_string(&CaseResult::passed(&cases()[1])).unwrap();
        assert!(!reason(Some(0), other.as_bytes()).0);
    }
}
