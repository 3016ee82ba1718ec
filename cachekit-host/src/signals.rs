//! What this process does on each signal, looked at before and after a library has had its first words.
//!
//! The contract forbids plugins to install handlers, because the program's own would be gone; but language runtimes and some
//! client libraries do it. Nothing in one process can prevent that, so an operator is told which signal it was.

use std::ffi::c_void;

use cachekit_plugin::{HostServices, LogLevel};

/// Linux numbers its signals from 1 to 64.
const LAST: usize = 64;

/// The handler of each signal, as a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handlers([usize; LAST + 1]);

unsafe extern "C" {
    /// `act` and `old` are a `struct sigaction`, or NULL.
    fn sigaction(signal: i32, act: *const c_void, old: *mut c_void) -> i32;
}

/// Room for a `struct sigaction`: 152 bytes with glibc and with musl, the handler first.
#[repr(C, align(16))]
struct Room([usize; 32]);

impl Handlers {
    /// As they are now.
    pub(crate) fn now() -> Self {
        let mut handlers = [0; LAST + 1];
        for (signal, handler) in handlers.iter_mut().enumerate().skip(1) {
            let mut room = Room([0; 32]);
            // SAFETY: NULL changes nothing, and what is written fits the room. The two numbers that the C library keeps for
            // itself are refused, and the room stays as it was.
            let asked = unsafe { sigaction(signal as i32, std::ptr::null(), (&raw mut room).cast()) };
            if asked == 0 {
                *handler = room.0[0];
            }
        }
        Self(handlers)
    }

    /// The signals whose handlers are others than before, by name.
    pub(crate) fn changed_since(&self, before: &Self) -> Vec<String> {
        (1..=LAST).filter(|&signal| self.0[signal] != before.0[signal]).map(name).collect()
    }
}

/// Tells the host's log of signals that a plugin has taken.
pub(crate) fn warn(services: &HostServices, id: &str, when: &str, signals: &[String]) {
    for signal in signals {
        let text = format!("the plugin changed what this process does on {signal}, which the contract forbids");
        services.log(LogLevel::Warn, "cachekit::plugin", &text, &[("id", id), ("signal", signal), ("when", when)]);
    }
}

fn name(signal: usize) -> String {
    const NAMES: [&str; 32] = [
        "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    NAMES.get(signal).map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_handler_is_named_and_the_others_are_not() {
        let before = Handlers::now();
        assert_eq!(Handlers::now().changed_since(&before), [""; 0]);
        let mut after = before.clone();
        after.0[12] = 1;
        after.0[40] = 1;
        assert_eq!(after.changed_since(&before), ["SIGUSR2", "signal 40"]);
        // The standard library has one for overflowing stacks, so what is read are handlers.
        assert_ne!(before.0[11], 0, "SIGSEGV");
    }
}
