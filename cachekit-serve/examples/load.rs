//! Many clients on a server for as long as one likes, with an eye on the server's memory.
//!
//! `cargo run -p cachekit-serve --example load -- [SECONDS] [CLIENTS]`, a minute and 256 unless said otherwise. The server is a
//! process of its own, so that what is measured is its memory and not the clients'. Each client has a connection of its own
//! over TLS, half of them HTTP/2, and reads back what it wrote. Exit code 1: an error, a wrong value, or memory that grew
//! by more than a twentieth (and 4 MiB) in the second half.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cachekit_conformance::{Memory, MemoryConfig};
use cachekit_serve::Server;
use cachekit_test_servers::certificates::Authority;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

const KEY: &str = "ck_load_0123456789abcdef";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let [role, cert, key] = &arguments[..]
        && role == "server"
    {
        runtime.block_on(server(cert, key));
        return ExitCode::SUCCESS;
    }
    let number = |at: usize, usual: u64| arguments.get(at).map_or(Ok(usual), |text| text.parse());
    let (Ok(seconds), Ok(clients)) = (number(0, 60), number(1, 256)) else {
        eprintln!("usage: load [SECONDS] [CLIENTS]");
        return ExitCode::from(2);
    };
    runtime.block_on(load(Duration::from_secs(seconds), clients))
}

/// Until its standard input ends, which is when whoever started it does.
async fn server(cert: &str, key: &str) {
    let memory = Memory::new(MemoryConfig::default());
    let (cert, key) = (std::fs::read(cert).expect("a certificate"), std::fs::read(key).expect("a key"));
    let builder = Server::builder(Arc::new(memory)).api_key("load", KEY).tls(cert, key);
    let server = builder.start().await.expect("a server");
    println!("{}", server.url());
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
}

fn client(authority: &Authority, protocol: &[u8]) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).expect("a certificate");
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut tls = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![protocol.to_vec()];
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    builder.timeout(Duration::from_secs(30)).build().expect("a client")
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    errors: AtomicU64,
    wrong: AtomicU64,
}

async fn load(time: Duration, clients: u64) -> ExitCode {
    let authority = Authority::new();
    let identity = authority.server(&["127.0.0.1"]);
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .arg("server")
        .args([identity.cert(), identity.key()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut url = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut url).expect("a line");
    let url = url.trim_end().to_owned();
    let counts = Arc::new(Counts::default());
    let until = Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..clients {
        let protocol: &[u8] = if number % 2 == 0 { b"h2" } else { b"http/1.1" };
        let client = client(&authority, protocol);
        tasks.spawn(work(client, format!("{url}/v1/cache/client:{number}"), number, counts.clone(), until));
    }
    let mut samples: Vec<u64> = Vec::new();
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(500)).await;
        samples.push(resident_kb(child.id()));
    }
    while tasks.join_next().await.is_some() {}
    let metrics = format!("{url}/healthz");
    let alive = client(&authority, b"h2").get(metrics).send().await.is_ok_and(|answer| answer.status() == 200);
    let _ = child.kill();
    let _ = child.wait();
    report(&counts, &samples, time, alive)
}

async fn work(client: reqwest::Client, url: String, number: u64, counts: Arc<Counts>, until: Instant) {
    let mut round = 0_usize;
    while Instant::now() < until {
        // Up to 16 KiB, another length each time.
        let value = format!("{number}:{round}:{}", "v".repeat(round * 7919 % (16 << 10)));
        let put = client.put(&url).bearer_auth(KEY).header("X-CacheKit-TTL", "600").body(value.clone()).send().await;
        let got = client.get(&url).bearer_auth(KEY).send().await;
        counts.requests.fetch_add(2, Relaxed);
        match (put, got) {
            (Ok(put), Ok(got)) if put.status() == 204 && got.status() == 200 => match got.text().await {
                Ok(text) if text == value => {}
                Ok(_) => drop(counts.wrong.fetch_add(1, Relaxed)),
                Err(_) => drop(counts.errors.fetch_add(1, Relaxed)),
            },
            _ => drop(counts.errors.fetch_add(1, Relaxed)),
        }
        round += 1;
    }
}

fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

fn report(counts: &Counts, samples: &[u64], time: Duration, alive: bool) -> ExitCode {
    let (requests, errors, wrong) =
        (counts.requests.load(Relaxed), counts.errors.load(Relaxed), counts.wrong.load(Relaxed));
    let per_second = requests as f64 / time.as_secs_f64();
    println!("{requests} requests, {per_second:.0} per second, {errors} errors, {wrong} wrong values, alive: {alive}");
    let (first, second) = samples.split_at(samples.len() / 2);
    let largest = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len().max(1) as u64;
    // The first quarter is growing into its work.
    let settled = &first[first.len() / 2..];
    println!(
        "resident: settled {} KiB (largest {}), second half {} KiB (largest {})",
        mean(settled),
        largest(settled),
        mean(second),
        largest(second)
    );
    let flat = largest(second) <= largest(settled) + largest(settled) / 20 + 4096;
    if errors == 0 && wrong == 0 && alive && flat { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
