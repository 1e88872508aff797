//! What `chaosfs run` and `chaosfs exec` are made of besides clients: a private directory for a run, the claim on its
//! backing directory, a mount namespace for a command; and of `status` and `list`: clients that may be dead.

pub use crate::mount::{
    Claim, Cleaned, ClientName, Kept, Scratch, Sighting, clean_runs, mount_named, place, stand_at,
    sweep_run_of, sweep_runs,
};
