//! Whether this process is still the one that made something.
//!
//! A child made by `fork()` has the memory of its parent but none of its threads, and shares its sockets. Whatever keeps
//! threads or sockets compares the generation it was made in with the current one, at every call: so asking must not be a
//! system call, as the process number is.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Forks on the way from the process that asked first to this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// A number that is another one in every child.
pub fn generation() -> u32 {
    static COUNTS: OnceLock<bool> = OnceLock::new();
    match COUNTS.get_or_init(raw::count_forks) {
        true => FORKS.load(Ordering::Relaxed),
        // The system has no memory for a handler; the number of the process tells the same, at its price.
        false => std::process::id(),
    }
}

mod raw {
    use std::ffi::c_int;
    use std::sync::atomic::Ordering;

    use super::FORKS;

    type Handler = Option<unsafe extern "C" fn()>;

    unsafe extern "C" {
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
    }

    unsafe extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    /// Has forks counted from now on, if the system can.
    pub(super) fn count_forks() -> bool {
        // SAFETY: the handler does one atomic addition, which a child may do between fork and exec, and stays where it is:
        // no library of a plugin is ever unloaded.
        unsafe { pthread_atfork(None, None, Some(in_child)) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_keeps_its_generation_and_a_child_has_another() {
        unsafe extern "C" {
            fn fork() -> i32;
            fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
            fn _exit(status: i32) -> !;
        }
        let here = generation();
        assert_eq!(generation(), here);
        // SAFETY: the child does nothing but compare two numbers and end.
        let status = unsafe {
            let pid = fork();
            if pid == 0 {
                _exit(i32::from(generation() == here));
            }
            let mut status = -1;
            assert_eq!(waitpid(pid, &mut status, 0), pid);
            status
        };
        assert_eq!(status, 0, "the child took itself for its parent");
        assert_eq!(generation(), here);
    }
}
