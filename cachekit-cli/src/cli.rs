//! What can be typed: commands, options, their help. Nothing here does anything.

pub(crate) mod dict;
pub(crate) mod interop;
pub(crate) mod scaffold;
pub(crate) mod serve;
pub(crate) mod transfer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Look into caches, memoize commands, check plugins.
#[derive(Debug, Parser)]
#[command(name = "cachekit", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Undoes what the parser does with an option that has one name and two meanings.
    pub(crate) fn untangled(mut self) -> Self {
        if let Command::Plugin(PluginCommand::Test(_) | PluginCommand::Case(_) | PluginCommand::Bench(_)) = self.command
        {
            self.global.config = None;
        }
        self
    }
}

const EXIT_CODES: &str = "Exit codes: 0 done or hit, 1 miss or \"no\", 2 usage or configuration, 3 backend unavailable or \
timed out, 4 entry refused (corrupt, tampered, wrong key), 5 plugin refused.\n\nWith nothing configured the store is a \
directory in the user's cache directory ($XDG_CACHE_HOME/cachekit, else ~/.cache/cachekit). Reads are strict: an outage \
is never reported as a miss. Values go to stdout byte for byte, everything else to stderr.";

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Configuration file, instead of the user's own cachekit.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The store, over any configuration: file:///dir, plugin:///abs/lib.so?option=value.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) backend: Option<String>,
    /// Namespace of the keys.
    #[arg(long, global = true, value_name = "NS")]
    pub(crate) namespace: Option<String>,
    /// Preset to start from: minimal, test, dev, production, secure, io.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// One JSON document on stdout, for errors as well.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more to stderr: -v info, -vv debug, -vvv trace. The variable LOG_LEVEL does the same by name.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command, or replay what it printed the last time.
    Run(RunArgs),
    /// Print the value of a key.
    Get {
        /// Any bytes.
        key: OsString,
    },
    /// Store a value as bytes.
    Set(SetArgs),
    /// Remove keys.
    Del {
        /// Any bytes.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<OsString>,
    },
    /// Say by the exit code whether a key is there.
    Exists {
        /// Any bytes.
        key: OsString,
    },
    /// Print the seconds a key has left, or `never`.
    Ttl {
        /// Any bytes.
        key: OsString,
    },
    /// Give a key a new life from now.
    Touch {
        /// Any bytes.
        key: OsString,
        #[command(flatten)]
        life: LifeArgs,
    },
    /// List the keys of the namespace, one per line.
    Keys {
        /// Only keys that match: * any run of bytes, ? one byte, [a-z] [!a-z] one of a set, \ takes the next as it is.
        pattern: Option<OsString>,
        /// End each key with NUL and escape nothing, for xargs -0.
        #[arg(long, short = '0')]
        null: bool,
    },
    /// Remove every entry of the namespace. Asks first; where there is no terminal to ask, --yes is needed. With --tag only
    /// what was stored under one of these tags, without asking.
    Clear {
        /// Invalidate what was stored under this tag. May be given several times.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<OsString>,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Count the entries and show what the store says of itself.
    Stats,
    /// Ask the store for a sign of life; exit code 3 if there is none.
    Health,
    /// The bytes as the backend holds them, without an envelope. KEY is the wire key, such as ck:default:name.
    #[command(subcommand)]
    Raw(RawCommand),
    /// Show what a stored entry is, decoded, whether or not it may be served.
    Inspect(InspectArgs),
    /// Copy entries from one store to another, with the lives they have left.
    Copy(transfer::CopyArgs),
    /// Make compression dictionaries for small values, and keep them in the store.
    #[command(subcommand)]
    Dict(dict::DictCommand),
    /// Measure throughput and latency of the store.
    Bench(transfer::BenchArgs),
    /// Serve the store over HTTP, with the API of cachekit.io, until a signal ends it.
    Serve(serve::ServeArgs),
    /// Keys and values that other languages of the family share. JSON plain or typed: {"$t":"int","v":"42"}.
    #[command(subcommand)]
    Interop(interop::InteropCommand),
    /// Look at shared-library backends and test them.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// How long the output is replayed: 10m, 250ms, or seconds.
    #[arg(long, value_parser = life)]
    pub(crate) ttl: Duration,
    /// Key of the entry. Default: a digest of the command, its arguments, the working directory, and --env.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<OsString>,
    /// Variable whose value is part of the default key. Repeatable.
    #[arg(long, value_name = "NAME", conflicts_with = "key")]
    pub(crate) env: Vec<OsString>,
    /// Run now, and replace what is stored.
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Store only what ended with exit code 0.
    #[arg(long)]
    pub(crate) success_only: bool,
    /// How long to wait for another process that runs the same command before running it here too.
    #[arg(long, value_parser = life, default_value = "10m", value_name = "TIME")]
    pub(crate) wait: Duration,
    /// The command. It gets no standard input, because what it would read there is not part of the key.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Any bytes.
    pub(crate) key: OsString,
    /// The value, or - for standard input.
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: OsString,
    #[command(flatten)]
    pub(crate) life: LifeArgs,
    /// File it under this tag, for `clear --tag`. May be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<OsString>,
}

/// Without either option: the life that the configuration sets.
#[derive(Debug, Args)]
pub(crate) struct LifeArgs {
    /// Life from now: 10m, 250ms, or seconds.
    #[arg(long, value_parser = life)]
    pub(crate) ttl: Option<Duration>,
    /// The entry does not expire, whatever the configuration says.
    #[arg(long, conflicts_with = "ttl")]
    pub(crate) no_expiry: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RawCommand {
    /// Print the stored bytes.
    Get {
        /// Wire key.
        key: OsString,
        /// Print them as hex.
        #[arg(long)]
        hex: bool,
    },
    /// Store bytes.
    Set {
        /// Wire key.
        key: OsString,
        /// The bytes, or - for standard input.
        #[arg(allow_hyphen_values = true)]
        value: OsString,
        /// They are given as hex.
        #[arg(long)]
        hex: bool,
        /// Life from now. Default: no expiry.
        #[arg(long, value_parser = life)]
        ttl: Option<Duration>,
    },
    /// Remove an entry.
    Del {
        /// Wire key.
        key: OsString,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Key to read from the store: in the namespace, or the whole wire key, such as users:get_user:<hash>.
    #[arg(required_unless_present = "hex", conflicts_with = "hex", value_name = "KEY")]
    pub(crate) stored: Option<OsString>,
    /// The entry itself, as hex, or - for standard input.
    #[arg(long, value_name = "HEX", requires = "key")]
    pub(crate) hex: Option<String>,
    /// Key the entry of --hex is said to belong to: in the namespace, or the whole wire key.
    #[arg(long, value_name = "KEY", requires = "hex")]
    pub(crate) key: Option<OsString>,
    /// What the entry is. Default: what its bytes say.
    #[arg(long = "as", value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Tenant that a sealed interop entry was sealed for; that of a frame stands in it. Default: what the configuration sets,
    /// else default. Keys come from CACHEKIT_MASTER_KEY and CACHEKIT_PREVIOUS_MASTER_KEYS, or the configuration.
    #[arg(long, value_name = "T")]
    pub(crate) tenant: Option<String>,
}

/// A form in which entries are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// cachekit's envelope.
    Native,
    /// A file of the File backend: a header of 14 bytes, then what was stored.
    File,
    /// A value of interop mode: MessagePack, sealed or plain.
    Interop,
    /// A ByteStorage envelope: compressed, with a checksum.
    Bytestorage,
    /// A CK frame: an entry of Python's default mode.
    Frame,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List the libraries in the plugin directories, running nothing of them.
    List {
        /// Directory to look into, beside those of [plugins] dirs. Repeatable.
        #[arg(long, value_name = "DIR")]
        dir: Vec<PathBuf>,
    },
    /// Read what a library says it is, running nothing of it.
    Inspect {
        /// The library.
        library: PathBuf,
    },
    /// Load a library under every check that a cache makes, and show what was found and what it can do.
    Verify {
        /// The library.
        library: PathBuf,
        /// Digest that the file must have.
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
        /// Look at it as if the configuration demanded neither digest nor signature.
        #[arg(long)]
        unpinned: bool,
    },
    /// Write down which bytes the ids of plugins stand for: of these files, or of everything that the configuration can
    /// find. Caches then load these bytes and no others.
    Lock {
        /// Libraries to add, or to bring up to date. Without any: all of the plugin directories and of the configuration's
        /// [[tier]]s, and entries of others are removed.
        libraries: Vec<PathBuf>,
        /// Write nothing; exit code 5 if the lock file would change.
        #[arg(long)]
        check: bool,
        /// The lock file. Default: plugins.lock of the configuration, else cachekit-plugins.lock beside it.
        #[arg(long, value_name = "PATH")]
        lock: Option<PathBuf>,
    },
    /// Measure what a library's operations take, beside a store that does nothing.
    Bench(PluginBenchArgs),
    /// Run the conformance cases on a library, each in a process of its own.
    Test(TestArgs),
    /// Begin a plugin: a project that builds, and passes `plugin test`, as it is.
    New(scaffold::NewArgs),
    /// One case, for `plugin test`.
    #[command(hide = true)]
    Case(CaseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The library.
    pub(crate) library: PathBuf,
    #[command(flatten)]
    pub(crate) subject: SubjectArgs,
    /// Only this case. Repeatable.
    #[arg(long, value_name = "NAME")]
    pub(crate) case: Vec<String>,
    /// Cases at a time. Default: one per processor.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct SubjectArgs {
    // The one option that means two things: before `plugin test` there is no use for a configuration file that
    // CACHEKIT_CONFIG does not serve as well. Both have the same type, because the parser knows them by one name.
    /// Options of the plugin as JSON, or @FILE. In their texts {tmp} stands for an empty directory, a new one for each
    /// case.
    #[arg(long, value_name = "JSON")]
    pub(crate) config: Option<PathBuf>,
    /// Every instance has a store of its own: leave out the cases about sharing one.
    #[arg(long)]
    pub(crate) store_per_instance: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PluginBenchArgs {
    /// The library.
    pub(crate) library: PathBuf,
    // As in `plugin test`.
    /// Options of the plugin as JSON, or @FILE. In their texts {tmp} stands for an empty directory.
    #[arg(long, value_name = "JSON")]
    pub(crate) config: Option<PathBuf>,
    /// Callers at a time, each waiting for its answer.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) callers: u16,
    /// How long each operation is measured.
    #[arg(long, value_name = "TIME", value_parser = life, default_value = "2s")]
    pub(crate) duration: Duration,
    /// Bytes of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub(crate) value_size: usize,
    /// Keys that are used. They are written before, and removed at the end.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) keys: u32,
    /// Longest time for one operation; one that takes longer is an error.
    #[arg(long, value_name = "TIME", value_parser = life, default_value = "1s")]
    pub(crate) deadline: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct CaseArgs {
    pub(crate) library: PathBuf,
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) subject: SubjectArgs,
    #[arg(long)]
    pub(crate) tmp: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Every setting with its value and where it came from; secrets are left out.
    Show,
    /// Resolve the configuration, open the store and ask it for a sign of life.
    Check,
}

/// A life: `10m`, `1h 30m`, `250ms`, or a number of seconds. Zero is refused, because it keeps nothing.
fn life(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().map(Duration::try_from_secs_f64);
    let life = match seconds {
        Some(seconds) => seconds.map_err(|error| error.to_string())?,
        None => humantime::parse_duration(text).map_err(|error| format!("{error}; such as 10m, 250ms, 90"))?,
    };
    if life.is_zero() {
        return Err("a life of zero keeps nothing".into());
    }
    Ok(life)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lives_are_taken_with_units_and_as_seconds() {
        assert_eq!(life("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(life("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(life("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(life("90"), Ok(Duration::from_secs(90)));
        assert_eq!(life("1.5"), Ok(Duration::from_millis(1500)));
        for wrong in ["", "0", "0s", "-1", "soon", "NaN", "inf", "1e400", "10 minutes ago"] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }
}
