//! The two streams: stdout for values and the one JSON document, stderr for everything else.
//!
//! A reader that goes away early (`cachekit keys | head`) is no failure: writes report [`Failure::Closed`], and the
//! program ends quietly.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};
use tracing_subscriber::filter::LevelFilter;

use crate::exit::Failure;

/// How to talk to whoever started the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    verbose: u8,
    colors: bool,
}

impl Output {
    pub(crate) fn new(json: bool, verbose: u8) -> Self {
        // https://no-color.org: present and not empty, whatever its value.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, verbose, colors: !no_color && io::stderr().is_terminal() }
    }

    /// Whether stdout carries one JSON document.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Whether the user wants to see more than results.
    pub(crate) fn is_verbose(self) -> bool {
        self.verbose > 0
    }

    /// Log lines of the library and of backends go to stderr. Errors alone by default: what fails is told as the error
    /// of the command, and told once.
    pub(crate) fn start_log(self) {
        let by_name = std::env::var("LOG_LEVEL").ok().filter(|name| !name.is_empty());
        let level = match (self.verbose, by_name) {
            (0, None) => LevelFilter::ERROR,
            (0, Some(name)) => level(&name).unwrap_or_else(|| {
                self.warn(&format!("LOG_LEVEL {name:?} is none of off, error, warning, info, debug, trace"));
                LevelFilter::ERROR
            }),
            (1, _) => LevelFilter::INFO,
            (2, _) => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(self.colors).with_max_level(level).init();
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(from_stdout)
    }

    /// Writes a line of text.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Writes the one document.
    pub(crate) fn document(self, document: &Json) -> Result<(), Failure> {
        self.line(&format!("{document:#}"))
    }

    /// One of the two: the document with `--json`, otherwise the text.
    pub(crate) fn either(self, document: impl FnOnce() -> Json, text: &str) -> Result<(), Failure> {
        if self.json { self.document(&document()) } else { self.line(text) }
    }

    /// The document with `--json`, otherwise nothing: the exit code says it.
    pub(crate) fn only_json(self, document: impl FnOnce() -> Json) -> Result<(), Failure> {
        if self.json { self.document(&document()) } else { Ok(()) }
    }

    /// Says something beside the result.
    pub(crate) fn note(self, text: &str) {
        // Without a reader of stderr there is nobody to tell.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Says that something is odd.
    pub(crate) fn warn(self, text: &str) {
        self.note(&format!("{}: {text}", self.painted("warning", "33")));
    }

    /// Says why the command failed: every cause on a line of its own, and with `--json` the document too.
    pub(crate) fn failure(self, failure: &Failure) {
        let lines = failure.lines();
        for (depth, line) in lines.iter().enumerate() {
            match depth {
                0 => self.note(&format!("{}: {line}", self.painted("error", "1;31"))),
                _ => self.note(&format!("  caused by: {line}")),
            }
        }
        if self.json {
            print_error_document(failure.kind(), &lines.join(": "));
        }
    }

    fn painted(self, word: &str, color: &str) -> String {
        if self.colors { format!("\x1b[{color}m{word}\x1b[0m") } else { word.to_owned() }
    }

    /// A sign of life during work of unknown length. Shown on a terminal alone.
    pub(crate) fn spinner(self, what: &'static str) -> ProgressBar {
        if !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let spinner = ProgressBar::new_spinner().with_message(what);
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner.set_style(style("{spinner} {msg}"));
        spinner
    }

    /// Progress of work of known length. Shown on a terminal alone.
    pub(crate) fn bar(self, len: u64) -> ProgressBar {
        if !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        ProgressBar::new(len).with_style(style("{wide_bar} {pos}/{len} {msg}"))
    }
}

/// The default style rather than none, should a template ever be wrong.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The names of Rust and those of Python, which the other half of the family uses.
fn level(name: &str) -> Option<LevelFilter> {
    match name.to_ascii_lowercase().as_str() {
        "off" => Some(LevelFilter::OFF),
        "error" | "critical" => Some(LevelFilter::ERROR),
        "warn" | "warning" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    }
}

/// The document of a failure: with `--json` stdout has one document whatever happens.
pub(crate) fn print_error_document(kind: &str, message: &str) {
    let document = json!({ "error": { "kind": kind, "message": message } });
    let _ = writeln!(io::stdout(), "{document:#}");
}

fn from_stdout(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::io("standard output cannot be written")(error),
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of hex digits; white space between them is ignored.
pub(crate) fn unhex(text: &[u8]) -> Result<Vec<u8>, Failure> {
    let refuse = || Failure::Usage("hex takes pairs of the digits 0-9 and a-f".into());
    let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8).ok_or_else(refuse);
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(refuse());
    }
    pairs.map(|pair| Ok(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// A key in a JSON document: itself, if it is text, which every JSON reader gets back; otherwise escaped for people.
pub(crate) fn as_text(key: &[u8]) -> String {
    std::str::from_utf8(key).map_or_else(|_| escaped(key), str::to_owned)
}

/// A key on one line of a terminal: backslashes, control bytes and what is no UTF-8 are written as escapes.
pub(crate) fn escaped(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str(r"\\"),
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    c.encode_utf8(&mut buffer).bytes().for_each(|byte| text.push_str(&format!(r"\x{byte:02x}")));
                }
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!(r"\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_reads_what_it_writes_and_nothing_else() {
        assert_eq!(unhex(hex(&[0, 0x7f, 0xff]).as_bytes()).unwrap(), [0, 0x7f, 0xff]);
        assert_eq!(unhex(b"0A 0b\n").unwrap(), [10, 11]);
        for wrong in [&b"0"[..], b"0g", b"+1", "éé".as_bytes()] {
            assert!(unhex(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_escaped_key_stays_on_its_line() {
        assert_eq!(escaped(b"plain key"), "plain key");
        assert_eq!(escaped("zażółć".as_bytes()), "zażółć");
        assert_eq!(escaped(b"a\nb\\c\x1b[31m\xff"), r"a\x0ab\\c\x1b[31m\xff");
        assert_eq!(escaped("\u{85}".as_bytes()), r"\xc2\x85");
    }

    #[test]
    fn a_key_that_is_text_stands_in_json_as_it_is() {
        assert_eq!(as_text(b"a\nb\\"), "a\nb\\");
        assert_eq!(as_text(b"a\xff"), r"a\xff");
    }

    #[test]
    fn log_levels_are_known_by_both_families_of_names() {
        assert_eq!(level("WARNING"), Some(LevelFilter::WARN));
        assert_eq!(level("debug"), Some(LevelFilter::DEBUG));
        assert_eq!(level("loud"), None);
    }
}
