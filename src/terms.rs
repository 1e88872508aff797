//! The vocabulary of refusals. A Rust program, the command line and a builder name the same option differently; a refusal
//! uses the name that its reader used.

/// How a client's options were given. The client keeps this, so that refusals use the same names while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Terms {
    /// Fields of [`MountOptions`](crate::MountOptions).
    #[default]
    Options,
    /// Methods of [`ClientsBuilder`](crate::ClientsBuilder).
    Builder,
    /// Flags of the command line.
    Flags,
}

/// An option that a refusal may have to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The kernel may keep answers.
    KernelCache,
    /// Operations fail by chance.
    Faults,
    /// Every operation is logged.
    OperationLog,
    /// Time is moved by hand.
    ManualClock,
    /// A client does not see its own changes before they land.
    OldOwnContent,
    /// The storage decides by more than time what is still believed.
    Storage,
    /// Other users may come in.
    OtherUsers,
}

impl Terms {
    /// The option's name.
    pub fn name(self, wish: Wish) -> &'static str {
        let [options, builder, flags] = match wish {
            Wish::KernelCache => ["`kernel_cache`", "`.kernel_cache()`", "--kernel-cache"],
            Wish::Faults => ["`drop_prob`", "`drop_prob`", "--drop-prob"],
            Wish::OperationLog => ["a log of operations", "a log of operations", "--debug"],
            Wish::ManualClock => ["`clock: Clock::manual()`", "`.manual_clock()`", "--clock manual"],
            Wish::OldOwnContent => {
                ["`read_your_writes: false`", "`read_your_writes: false`", "--read-your-writes false"]
            }
            Wish::Storage => ["this `profile`", "this `profile`", "this --profile"],
            Wish::OtherUsers => ["`allow_other`", "`.allow_other()`", "--allow-other"],
        };
        match self {
            Terms::Options => options,
            Terms::Builder => builder,
            Terms::Flags => flags,
        }
    }
}
