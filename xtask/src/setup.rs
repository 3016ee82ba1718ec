//! What the tasks need beyond rustup and a C compiler: looked for first, installed by the system's package manager where
//! that is allowed, and otherwise named with the command that installs it.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::{run, step};

/// A program and the Debian package that brings it.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    pub(crate) why: &'static str,
}

pub(crate) const CC: Tool = Tool { program: "cc", package: "gcc", why: "plugins in C" };
pub(crate) const MAKE: Tool = Tool { program: "make", package: "make", why: "the example plugin in C" };
pub(crate) const VALGRIND: Tool =
    Tool { program: "valgrind", package: "valgrind", why: "instruction counts of the plugin border" };
pub(crate) const PYTHON: Tool = Tool { program: "python3", package: "python3-venv", why: "the Python peer" };

/// Makes sure that the tools are there.
pub(crate) fn ensure(tools: &[Tool]) -> Result<()> {
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !has(tool.program)).collect();
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
        bail!("install it by hand: sudo {hint}");
    }
    step(&hint);
    let quiet = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command
    };
    run(quiet().arg("update"))?;
    run(quiet().args(["install", "-y", "--no-install-recommends"]).args(packages))
}

pub(crate) fn has(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
