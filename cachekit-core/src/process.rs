//! What each process has for itself, although `fork()` copies it: places and turns that a call holds and its end gives back.
//!
//! A child has the memory of its parent and none of its threads and tasks. What a call of the parent held at that moment nobody
//! gives back to the child: a key that is never written again, a store that is never asked. So a child begins with new
//! ones, all of them free. The parent goes on with its own.

use std::sync::OnceLock;

use cachekit_plugin::fork;

/// What can be made anew, free.
pub(crate) trait Anew: Sized {
    /// One like this when it was made. Nothing that a call may have locked is looked at.
    fn anew(&self) -> Self;
}

/// A `T` for each process that this memory comes to. To ask costs a look at a number.
pub(crate) struct PerProcess<T> {
    process: u32,
    here: T,
    /// The child's, which it makes when it first asks. No parent touches it.
    child: OnceLock<Box<Self>>,
}

impl<T: Anew> PerProcess<T> {
    pub(crate) fn new(here: T) -> Self {
        Self { process: fork::generation(), here, child: OnceLock::new() }
    }

    /// This process's own.
    #[inline]
    pub(crate) fn get(&self) -> &T {
        if self.process == fork::generation() { &self.here } else { self.of_child() }
    }

    #[cold]
    fn of_child(&self) -> &T {
        let process = fork::generation();
        let mut of = self;
        // As deep as children have children.
        while of.process != process {
            of = of.child.get_or_init(|| Box::new(Self { process, here: of.here.anew(), child: OnceLock::new() }));
        }
        &of.here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered(u32);

    impl Anew for Numbered {
        fn anew(&self) -> Self {
            Self(self.0 + 1)
        }
    }

    #[test]
    fn a_process_keeps_its_own_and_one_that_is_another_makes_one() {
        let mine = PerProcess::new(Numbered(1));
        assert!(std::ptr::eq(mine.get(), mine.get()) && mine.get().0 == 1);
        // As if this process were the child of the one that made it.
        let inherited =
            PerProcess { process: fork::generation().wrapping_add(1), here: Numbered(1), child: OnceLock::new() };
        assert!(std::ptr::eq(inherited.get(), inherited.get()) && inherited.get().0 == 2);
        // And its grandchild, whose parent had made its own.
        let between =
            PerProcess { process: fork::generation().wrapping_add(2), here: Numbered(2), child: OnceLock::new() };
        let child = OnceLock::from(Box::new(between));
        let inherited = PerProcess { process: fork::generation().wrapping_add(1), here: Numbered(1), child };
        assert_eq!(inherited.get().0, 3);
    }
}
