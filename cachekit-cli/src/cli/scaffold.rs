//! The command line of `plugin new`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// Id of the plugin: vendor.store, such as acme.shelf. The folder is called the same.
    pub(crate) name: String,
    /// What it is written in.
    #[arg(long)]
    pub(crate) lang: Lang,
    /// Where the SDK comes from: a checkout of cachekit, or the URL of a git repository, with ?tag=, ?branch= or ?rev= behind
    /// it. Default: the checkout that this program was built in. C needs none: the header is in this program.
    #[arg(long, value_name = "PATH|GIT-URL", value_hint = ValueHint::AnyPath)]
    pub(crate) sdk: Option<OsString>,
    /// Folder of the project; it must not exist, or be empty. Default: one called NAME, here.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

/// A language that there is a template for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lang {
    /// Rust, on the crate cachekit-plugin.
    Rust,
    /// C11, on the header cachekit_plugin.h.
    C,
}
