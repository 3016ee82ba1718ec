//! Whose process this is: which owners of files it may believe, and whether its environment may speak.
//!
//! A program that runs with more rights than whoever started it (setuid, setgid, file capabilities) must load nothing that
//! this somebody named or could have written. The kernel says so in `AT_SECURE`, as it does to the dynamic loader.

use std::sync::OnceLock;

/// Users of a process, and whether it has rights that its starter has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Whose rights it has.
    pub euid: u32,
    /// Who started it.
    pub ruid: u32,
    /// Whether these differ, in users, groups or capabilities (`AT_SECURE`).
    pub privileged: bool,
}

impl Process {
    /// This one.
    pub fn current() -> Self {
        // Users may change while a program runs; what it was started with does not.
        let (euid, ruid) = (rustix::process::geteuid().as_raw(), rustix::process::getuid().as_raw());
        Self { euid, ruid, privileged: is_privileged() }
    }

    /// Whether what belongs to this user is as good as what belongs to root.
    pub(crate) fn trusts(&self, uid: u32) -> bool {
        // With more rights than its starter but under the starter's own name (file capabilities, setgid), files of that name
        // are the starter's.
        uid == 0 || (uid == self.euid && !(self.privileged && self.euid == self.ruid))
    }
}

/// Whether this process has rights that whoever started it has not, so that its environment names nothing it may load.
pub fn is_privileged() -> bool {
    static PRIVILEGED: OnceLock<bool> = OnceLock::new();
    *PRIVILEGED.get_or_init(|| {
        const AT_SECURE: std::ffi::c_ulong = 23;
        unsafe extern "C" {
            safe fn getauxval(kind: std::ffi::c_ulong) -> std::ffi::c_ulong;
        }
        getauxval(AT_SECURE) != 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privileged_process_believes_its_starter_nothing() {
        let plain = Process { euid: 1000, ruid: 1000, privileged: false };
        assert!(plain.trusts(0) && plain.trusts(1000) && !plain.trusts(1001));
        let setuid = Process { euid: 998, ruid: 1000, privileged: true };
        assert!(setuid.trusts(0) && setuid.trusts(998) && !setuid.trusts(1000));
        let capable = Process { euid: 1000, ruid: 1000, privileged: true };
        assert!(capable.trusts(0) && !capable.trusts(1000));
    }

    #[test]
    fn a_test_has_no_more_rights_than_whoever_runs_it() {
        assert!(!Process::current().privileged);
    }
}
