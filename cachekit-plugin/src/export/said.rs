//! What a library says without having the host at hand: its panics, and with the feature `tracing` what its code and its clients
//! say through the macros of `tracing` and `log`.
//!
//! A library has its own copy of those crates' statics and of the standard library's panic hook, so without this all of it would
//! be heard nowhere, or on the host's standard error. It goes to the host of the instance that was opened last and is still open:
//! all instances of a library carry the same id, and in one program mostly the same host.

use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use super::host::Border;
use crate::open::{LogLevel, Services};

/// Those that were opened, the last one last.
static OPENED: Mutex<Vec<Weak<Border>>> = Mutex::new(Vec::new());

/// Listens for `border` as long as its instance is open.
pub(super) fn listen(border: &Arc<Border>, level: LogLevel) {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.retain(|border| border.strong_count() > 0);
    opened.push(Arc::downgrade(border));
    drop(opened);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Without anybody to tell it is the one before that has it.
            if !tell(panic) {
                before(panic);
            }
        }));
        macros::listen(level);
    });
}

/// The one to tell. Not under the lock, because whoever is told may take long.
fn last_open() -> Option<Arc<Border>> {
    let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.iter().rev().filter_map(Weak::upgrade).find(|border| border.is_open())
}

fn tell(panic: &PanicHookInfo<'_>) -> bool {
    let Some(host) = last_open() else { return false };
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message");
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let fields = [("at", at.as_str()), ("thread", thread.name().unwrap_or("unnamed"))];
    host.log(LogLevel::Error, "panic", &format!("panicked: {text}"), &fields);
    true
}

#[cfg(not(feature = "tracing"))]
mod macros {
    pub(super) fn listen(_: crate::open::LogLevel) {}
}

#[cfg(feature = "tracing")]
mod macros {
    use std::fmt::{Debug, Write as _};

    use tracing::field::{Field, Visit};
    use tracing::level_filters::LevelFilter;
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::{LogLevel, Services, last_open};

    /// Becomes what this library's macros speak to, unless the author has installed something else before.
    pub(super) fn listen(level: LogLevel) {
        let _ = tracing::subscriber::set_global_default(Forward(level));
        let _ = log::set_boxed_logger(Box::new(Forward(level)));
        log::set_max_level(match level {
            LogLevel::Error => log::LevelFilter::Error,
            LogLevel::Warn => log::LevelFilter::Warn,
            LogLevel::Info => log::LevelFilter::Info,
            LogLevel::Debug => log::LevelFilter::Debug,
            LogLevel::Trace => log::LevelFilter::Trace,
        });
    }

    /// Sends events to the host, down to a level. Spans have no place in a line of the host, so they are let pass.
    struct Forward(LogLevel);

    impl Subscriber for Forward {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.is_event() && of_tracing(*metadata.level()) <= self.0
        }

        fn max_level_hint(&self) -> Option<LevelFilter> {
            Some(match self.0 {
                LogLevel::Error => LevelFilter::ERROR,
                LogLevel::Warn => LevelFilter::WARN,
                LogLevel::Info => LevelFilter::INFO,
                LogLevel::Debug => LevelFilter::DEBUG,
                LogLevel::Trace => LevelFilter::TRACE,
            })
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let Some(host) = last_open() else { return };
            let mut line = Line::default();
            event.record(&mut line);
            let fields: Vec<(&str, &str)> = line.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let metadata = event.metadata();
            host.log(of_tracing(*metadata.level()), metadata.target(), &line.message, &fields);
        }
    }

    impl log::Log for Forward {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            of_log(metadata.level()) <= self.0
        }

        fn log(&self, record: &log::Record<'_>) {
            if let Some(host) = last_open().filter(|_| log::Log::enabled(self, record.metadata())) {
                host.log(of_log(record.level()), record.target(), &record.args().to_string(), &[]);
            }
        }

        fn flush(&self) {}
    }

    fn of_tracing(level: Level) -> LogLevel {
        match level {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG => LogLevel::Debug,
            Level::TRACE => LogLevel::Trace,
        }
    }

    fn of_log(level: log::Level) -> LogLevel {
        match level {
            log::Level::Error => LogLevel::Error,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Info => LogLevel::Info,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Trace => LogLevel::Trace,
        }
    }

    /// An event taken apart.
    #[derive(Default)]
    struct Line {
        message: String,
        fields: Vec<(&'static str, String)>,
    }

    impl Visit for Line {
        fn record_str(&mut self, field: &Field, value: &str) {
            match field.name() {
                "message" => self.message.push_str(value),
                name => self.fields.push((name, value.to_owned())),
            }
        }

        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            match field.name() {
                "message" => {
                    let _ = write!(self.message, "{value:?}");
                }
                name => self.fields.push((name, format!("{value:?}"))),
            }
        }
    }
}
