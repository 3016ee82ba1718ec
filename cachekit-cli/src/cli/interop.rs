//! What can be typed after `interop`: calls of functions that other languages share, and their values.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::life;

#[derive(Debug, Subcommand)]
pub(crate) enum InteropCommand {
    /// Print the key of a call.
    Key(CallArgs),
    /// Print the value of a call as typed JSON.
    Get {
        #[command(flatten)]
        call: CallArgs,
        #[command(flatten)]
        secure: SecureArgs,
    },
    /// Store the value of a call.
    Set {
        #[command(flatten)]
        call: CallArgs,
        /// The value as JSON, or - for standard input.
        #[arg(allow_hyphen_values = true, value_name = "VALUE_JSON")]
        value: OsString,
        /// Life from now: 10m, 250ms, or seconds. 0: no expiry. Default: what the configuration sets.
        #[arg(long, value_parser = life_or_none, value_name = "T")]
        ttl: Option<Duration>,
        #[command(flatten)]
        secure: SecureArgs,
    },
    /// Remove the value of a call.
    Del(CallArgs),
    /// Print the key under which Python's default mode stores a call of a function. The namespace of the key is --namespace.
    DefaultKey(DefaultKeyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// Namespace that is shared.
    #[arg(value_name = "NS")]
    pub(crate) shared: String,
    /// Operation.
    #[arg(value_name = "OP")]
    pub(crate) operation: String,
    /// The bound arguments in their order, as a JSON list.
    #[arg(allow_hyphen_values = true, value_name = "ARGS_JSON")]
    pub(crate) arguments: OsString,
}

#[derive(Debug, Args)]
pub(crate) struct SecureArgs {
    /// The value is sealed. Keys come from CACHEKIT_MASTER_KEY and CACHEKIT_PREVIOUS_MASTER_KEYS, or the configuration.
    #[arg(long)]
    pub(crate) secure: bool,
    /// Tenant that it is sealed for. Default: what the configuration sets, else default.
    #[arg(long, value_name = "T", requires = "secure")]
    pub(crate) tenant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DefaultKeyArgs {
    /// The function's __module__.
    pub(crate) module: String,
    /// The function's __qualname__.
    #[arg(allow_hyphen_values = true)]
    pub(crate) qualname: String,
    /// Positional arguments, as a JSON list.
    #[arg(allow_hyphen_values = true, value_name = "ARGS_JSON")]
    pub(crate) arguments: OsString,
    /// Named arguments, as a JSON object.
    #[arg(default_value = "{}", value_name = "KWARGS_JSON")]
    pub(crate) named: OsString,
    /// Name of the serializer.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(crate) serializer: String,
    /// Integrity checking is off.
    #[arg(long)]
    pub(crate) no_integrity: bool,
}

/// As [`life`], where zero means none.
fn life_or_none(text: &str) -> Result<Duration, String> {
    let is_zero = text.parse::<f64>() == Ok(0.0) || humantime::parse_duration(text).is_ok_and(|life| life.is_zero());
    if is_zero { Ok(Duration::ZERO) } else { life(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_a_life_without_an_end_here() {
        for zero in ["0", "0s", "0ms", "0.0"] {
            assert_eq!(life_or_none(zero), Ok(Duration::ZERO), "{zero}");
        }
        assert_eq!(life_or_none("10m"), Ok(Duration::from_secs(600)));
        assert!(life_or_none("-1").is_err() && life_or_none("soon").is_err());
    }
}
