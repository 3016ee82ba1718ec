//! What the tasks need beyond rustup and a C compiler: looked for first, installed by the system's package manager where
//! that is allowed, and otherwise named with the command that installs it.

use std::fmt;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{run, step};

/// A program and the Debian package that brings it.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    pub(crate) why: &'static str,
    /// What it has to manage beyond being there.
    pub(crate) proof: &'static [&'static str],
}

pub(crate) const CC: Tool = Tool { program: "cc", package: "gcc", why: "plugins in C", proof: &[] };
pub(crate) const CXX: Tool =
    Tool { program: "c++", package: "g++", why: "the plugin header as C++ sees it", proof: &[] };
pub(crate) const MAKE: Tool = Tool { program: "make", package: "make", why: "the example plugin in C", proof: &[] };
pub(crate) const VALGRIND: Tool = Tool {
    program: "valgrind",
    package: "valgrind",
    why: "instruction counts of the plugin border, memory of host and plugins",
    proof: &[],
};
// Debian's Python comes without the part that makes virtual environments.
pub(crate) const PYTHON: Tool = Tool {
    program: "python3",
    package: "python3-venv",
    why: "the Python peer",
    proof: &["-c", "import venv, ensurepip"],
};
pub(crate) const REDIS: Tool =
    Tool { program: "redis-server", package: "redis-server", why: "the tests of the Redis backend", proof: &[] };
pub(crate) const MEMCACHED: Tool =
    Tool { program: "memcached", package: "memcached", why: "the tests of the Memcached backend", proof: &[] };
pub(crate) const CURL: Tool =
    Tool { program: "curl", package: "curl", why: "a client of `cachekit serve` that is not ours", proof: &[] };

/// Tools are missing and may not be installed from here; says what to type.
#[derive(Debug)]
pub(crate) struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "install by hand: sudo {}", self.0)
    }
}

impl std::error::Error for Missing {}

impl Tool {
    fn is_there(&self) -> bool {
        let proven = || {
            let asked =
                Command::new(self.program).args(self.proof).stdout(Stdio::null()).stderr(Stdio::null()).status();
            asked.is_ok_and(|status| status.success())
        };
        has(self.program) && (self.proof.is_empty() || proven())
    }
}

/// Makes sure that the tools are there.
pub(crate) fn ensure<'a>(tools: impl IntoIterator<Item = &'a Tool>) -> Result<()> {
    let missing: Vec<&Tool> = tools.into_iter().filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for tool in &missing {
        step(&format!("{} is missing; it is needed for {}", tool.program, tool.why));
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    install(&packages)
}

/// Installs Debian packages as root, or says what to type.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let hint = format!("apt-get install -y {}", packages.join(" "));
    if !has("apt-get") || !is_root() {
        return Err(Missing(hint).into());
    }
    step(&hint);
    let quiet = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command
    };
    run(quiet().arg("update"))?;
    // Tests start servers themselves, on ports of their own; RUNLEVEL asks the packages not to start theirs.
    run(quiet().env("RUNLEVEL", "1").args(["install", "-y", "--no-install-recommends"]).args(packages))
}

pub(crate) fn has(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
