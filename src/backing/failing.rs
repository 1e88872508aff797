//! A seam for tests: which system call of a thread fails next, and how. Outside tests none does.

use super::sys::Result;

/// Every wrapper asks before its call, and fails where a test wants it to.
#[cfg(not(test))]
#[inline(always)]
#[expect(clippy::unnecessary_wraps, reason = "in tests it fails")]
pub fn may_fail(_call: &'static str) -> Result<()> {
    Ok(())
}

#[cfg(test)]
pub use plan::{MOST_ERRORS, Plan, Span, may_fail};

#[cfg(test)]
mod plan {
    use std::cell::{Cell, RefCell};

    use super::Result;
    use crate::error::Error;

    thread_local! {
        static PLAN: RefCell<Plan> = RefCell::default();
        static WITHOUT_HANDLES: Cell<bool> = const { Cell::new(false) };
    }

    /// For how long a call fails.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Span {
        /// Once: the next call of its kind is a success.
        #[default]
        Once,
        /// For good: so do all later calls of its kind.
        ForGood,
    }

    /// Which call of this thread fails.
    #[derive(Clone, Debug, Default)]
    pub struct Plan {
        nth: u64,
        span: Span,
        round: usize,
        asked: u64,
        failed: Option<(&'static str, Error)>,
    }

    impl Plan {
        /// The `nth` call of this thread from now on fails, 0 for none: with one of the errors that such a call can meet,
        /// which one depends on the round. Returns what has become of the plan before.
        pub fn fail(nth: u64, span: Span, round: usize) -> Plan {
            PLAN.with(|plan| plan.replace(Plan { nth, span, round, ..Plan::default() }))
        }

        /// In this thread nothing is opened by its file handle any more, as for an ordinary user.
        pub fn forbid_handles() {
            WITHOUT_HANDLES.set(true);
        }

        /// What has failed in this thread so far by the plan that is in force.
        pub fn so_far() -> Option<(&'static str, Error)> {
            PLAN.with(|plan| plan.borrow().failed)
        }

        /// How many calls there were.
        pub fn calls(&self) -> u64 {
            self.asked
        }

        /// The call that has failed, and how.
        pub fn failed(&self) -> Option<(&'static str, Error)> {
            self.failed
        }
    }

    /// Fails where the plan says so.
    pub fn may_fail(call: &'static str) -> Result<()> {
        if call == "open_by_handle_at" && WITHOUT_HANDLES.get() {
            return Err(Error::NotPermitted);
        }
        PLAN.with(|plan| {
            let plan = &mut *plan.borrow_mut();
            plan.asked += 1;
            if let (Span::ForGood, Some((failed, error))) = (plan.span, plan.failed)
                && failed == call
            {
                return Err(error);
            }
            if plan.asked != plan.nth {
                return Ok(());
            }
            let errors = errors_of(call);
            let error = errors[plan.round % errors.len()];
            plan.failed = Some((call, error));
            Err(error)
        })
    }

    /// The largest number of errors that one kind of call can meet.
    pub const MOST_ERRORS: usize = 4;

    /// What a call can meet on a machine that runs short or a disk that fails (its manual page).
    fn errors_of(call: &str) -> &'static [Error] {
        const ENOMEM: Error = Error::of(12);
        match call {
            "openat" | "open_by_handle_at" => &[Error::TooManyOpen, ENOMEM, Error::InputOutput],
            "openat(O_CREAT)" => &[Error::NoSpace, Error::TooManyOpen, ENOMEM, Error::InputOutput],
            "mkdirat" | "mknodat" | "symlinkat" | "linkat" | "renameat2" | "setxattr" | "pwrite"
            | "ftruncate" | "fallocate" | "copy_file_range" | "fsync" => {
                &[Error::NoSpace, ENOMEM, Error::InputOutput]
            }
            _ => &[ENOMEM, Error::InputOutput],
        }
    }
}
