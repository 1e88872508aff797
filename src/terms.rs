//! In whose words a refusal speaks of what can be asked for at a mount.

/// The words in which a client was asked for. What it refuses, then or later, it names in the same words.
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

/// Something that can be asked for and that may be refused.
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
    /// Other users may come in.
    OtherUsers,
}

impl Terms {
    /// What this wish is called.
    pub fn name(self, wish: Wish) -> &'static str {
        let [options, builder, flags] = match wish {
            Wish::KernelCache => ["`kernel_cache`", "`.kernel_cache()`", "--kernel-cache"],
            Wish::Faults => ["`drop_prob`", "`drop_prob`", "--drop-prob"],
            Wish::OperationLog => ["a log of operations", "a log of operations", "--debug"],
            Wish::ManualClock => ["`clock: Clock::manual()`", "`.manual_clock()`", "--clock manual"],
            Wish::OldOwnContent => {
                ["`read_your_writes: false`", "`read_your_writes: false`", "--read-your-writes false"]
            }
            Wish::OtherUsers => ["`allow_other`", "`.allow_other()`", "--allow-other"],
        };
        match self {
            Terms::Options => options,
            Terms::Builder => builder,
            Terms::Flags => flags,
        }
    }
}
