//! `cachekit serve` over Redis under many clients: no error, nothing wrong, and memory that does not grow.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit_backend_cachekitio::CachekitIoBackend;
use cachekit_plugin::open::Services;
use cachekit_plugin::{Backend, HostServices, LogLevel, Open};
use cachekit_test_servers::certificates::Authority;
use cachekit_test_servers::redis::Redis;
use cachekit_test_servers::serve::{API_KEY, Serve};

use super::{Background, Run, all_is_well, runtime};
use crate::checker::Checker;
use crate::load::Plan;
use crate::report::Report;
use crate::store::Store;

/// 256 clients that never pause.
const CLIENTS: u64 = 256;
/// What allocators keep back and the table of a growing heap may add in the second half of the run.
const GROWTH: f64 = 1.10;
/// Below this growth says nothing.
const GROWTH_KB: u64 = 16 << 10;

/// The program `cachekit`, as `run` names it.
pub fn many_clients(run: &Run<'_>) -> Report {
    let name = "serve-256-clients";
    let mut report = Report::new(name, run.seed);
    let Some(program) = run.program else {
        report.wrong("the program cachekit was not named: --program PATH");
        return report;
    };
    let (redis, authority) = (Redis::start(), Authority::new());
    let server = Serve::start(program, &redis.url(), &authority);
    let runtime = runtime();
    let _entered = runtime.enter();
    let store = Store::Backend(client(&server));
    let checker = Arc::new(Checker::new(1_024));
    // Nobody gives up: every error is the server's or the client's.
    let patience = Duration::from_secs(20);
    let plan = Plan { seed: run.seed, tasks: CLIENTS, given_up: u64::MAX, cancelled: 0, hurried: 0, patience };
    let load = Background::begin(&runtime, name, run, &store, &checker, plan);
    let began = Instant::now();
    let mut memory = Vec::new();
    while began.elapsed() < run.size.serving {
        std::thread::sleep(run.size.serving / 20);
        memory.push(server.resident_kb());
    }
    let tally = load.end(&runtime, true);
    report.tally(&tally);
    report.fact("operations_per_second", (tally.all() as f64 / began.elapsed().as_secs_f64()).round());
    report.holds(tally.errors() == 0, || format!("{} errors", tally.errors()));
    // Caches of the allocator fill in the first half.
    let (half, last) = (memory[memory.len() / 2], memory[memory.len() - 1]);
    report.fact("memory_kb_at_first", memory[0]);
    report.fact("memory_kb_at_half", half);
    report.fact("memory_kb_at_end", last);
    report.holds(last <= (half as f64 * GROWTH) as u64 + GROWTH_KB, || format!("memory grew from {half} to {last} kB"));
    runtime.block_on(all_is_well(&store, &checker, &mut report));
    report.holds(curl(&server), || "curl did not get what it had put".to_owned());
    report.judged(&checker);
    report.fact("redis_keys", redis.command(&["DBSIZE"]));
    report
}

fn client(server: &Serve) -> Arc<dyn Backend> {
    struct Key;
    impl Services for Key {
        fn log(&self, _: LogLevel, _: &str, _: &str, _: &[(&str, &str)]) {}
        fn secret(&self, _: &str) -> Result<String, String> {
            Ok(API_KEY.to_owned())
        }
    }
    let options = serde_json::json!({
        "api_url": server.url(), "api_key": { "$secret": "env:API_KEY" }, "allow_private_host": true,
        "ca_file": server.ca(), "timeout": 20.0, "connection_pool_size": CLIENTS,
    });
    let services = HostServices::new(Arc::new(Key));
    let opened = CachekitIoBackend::open_json(options.to_string().as_bytes(), services);
    Arc::new(opened.unwrap_or_else(|error| panic!("the client does not open: {error}")))
}

/// A client that is not ours.
fn curl(server: &Serve) -> bool {
    let ask = |more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "30", "--cacert"]);
        curl.arg(server.ca()).args(["--oauth2-bearer", API_KEY]).args(more);
        curl.arg(format!("{}/v1/cache/from-curl", server.url()));
        curl.output().ok().filter(|output| output.status.success()).map(|output| output.stdout)
    };
    let binary = ["--header", "Content-Type: application/octet-stream"];
    ask(&[&["--request", "PUT", "--data-binary", "hello"][..], &binary].concat()).is_some()
        && ask(&[]).as_deref() == Some(b"hello")
}
