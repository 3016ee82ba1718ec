//! The main job on real input: one program, built once, caches an expensive job over this repository's own sources
//! through a backend that its configuration names. Then the same program, not rebuilt, with another backend.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Result;

use crate::{cargo, plugins, root, run, setup, step};

pub(crate) fn run_demo() -> Result<()> {
    setup::ensure(&[setup::CC, setup::MAKE])?;
    step("building the host program (examples/index_sources.rs) and two plugins");
    let host_arguments = ["build", "--release", "-p", "cachekit", "--example", "index_sources"];
    let host = cargo::build(&host_arguments, "cachekit", "example")?;
    let dir = tempfile::Builder::new().prefix("cachekit-demo-").tempdir()?;
    let place = dir.path().canonicalize()?;
    let file_plugin = plugins::file()?.canonicalize()?;
    let c_plugin = plugins::c_memory(&place)?;
    let config = place.join("cachekit.toml");

    let file_toml = format!(
        "namespace = \"demo\"\nttl = \"1h\"\n\n[[tier]]\npath = {file_plugin:?}\n\n[tier.options]\ndir = {:?}\n",
        place.join("store")
    );
    step("the File backend, loaded from a shared library");
    show(&config, &file_toml)?;
    step("first process: the store is empty");
    index(&host, &config)?;
    step("second process: the store still has what the first one left");
    index(&host, &config)?;

    let c_toml = format!(
        "namespace = \"demo\"\nttl = \"1h\"\n\n[[tier]]\npath = {c_plugin:?}\n\n[tier.options]\nmax_bytes = 67108864\n"
    );
    step("the same program, not rebuilt, with a backend written in C: only the configuration changes");
    show(&config, &c_toml)?;
    index(&host, &config)?;
    if setup::has("redis-server") {
        redis(&host, &config, &place)?;
    } else {
        step("redis-server is not on this machine: with it the same program would now keep its answers there");
    }
    step("done; the same backends answer to the command-line program: cargo run -q -p cachekit-cli -- --help");
    Ok(())
}

/// The same program once more, on a Redis that lives as long as this.
fn redis(host: &Path, config: &Path, place: &Path) -> Result<()> {
    /// Ends with the demo, however that ends.
    struct Server(Child);
    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let plugin = plugins::redis()?.canonicalize()?;
    let socket = place.join("redis.sock");
    // On a socket in the demo's own directory: no port to choose, and nobody else's server is in the way.
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
    let _server = Server(command.arg("--dir").arg(place).stdout(Stdio::null()).spawn()?);
    let toml = format!(
        "namespace = \"demo\"\nttl = \"1h\"\n\n[[tier]]\npath = {plugin:?}\n\n[tier.options]\nurl = \"unix://{}\"\n",
        socket.display()
    );
    step("the same program, not rebuilt, on Redis");
    show(config, &toml)?;
    // The first process may find the server still starting: then its values stay in it, which is the point of a cache.
    index(host, config)?;
    step("another process finds them there");
    index(host, config)
}

fn show(config: &Path, toml: &str) -> Result<()> {
    fs::write(config, toml)?;
    println!("{}:", config.display());
    for line in toml.lines() {
        println!("    {line}");
    }
    Ok(())
}

fn index(host: &Path, config: &Path) -> Result<()> {
    run(Command::new(host).arg("--config").arg(config).arg(root()))
}
