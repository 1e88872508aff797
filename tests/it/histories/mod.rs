//! Random histories against an obvious second definition, on clients driven directly: no mount, no threads, and time
//! is one of the operations.
//!
//! | file | what |
//! |---|---|
//! | `program.rs` | operations and how they are drawn |
//! | `tree.rs` | what can be seen of a tree |
//! | `host.rs` | a client with as much of a kernel as it takes to run programs on it |
//! | `plain.rs` | the same operations on a plain directory: the definition |
//! | `machine.rs` | what programs can ask of either |
//! | `alone.rs` | one client, any knobs: programs see what a plain directory shows (laws 2 and 6) |
//! | `at_once.rs` | zero knobs: clients and the directory are one (law 1) |
//! | `apart.rs` | clients and programs that have nothing in common: laws 6 and 7 |
//! | `reference.rs` | what several clients may answer: the store's past, and causes |
//! | `several.rs` | two clients, any knobs: laws 3 to 6 |

mod alone;
mod apart;
mod at_once;
mod host;
mod machine;
mod plain;
mod program;
mod reference;
mod several;
mod tree;

/// A folder that is fast where the machine has one.
fn scratch() -> tempfile::TempDir {
    let fast = std::path::Path::new("/dev/shm");
    let builder = tempfile::Builder::new();
    if fast.is_dir() { builder.tempdir_in(fast) } else { builder.tempdir() }.expect("a temporary folder")
}
