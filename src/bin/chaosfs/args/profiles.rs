//! The arguments of `chaosfs profiles`.

use clap::Args;

/// Show the kinds of storage that clients can behave like
///
/// Without NAME, lists them. With one, shows each of its rules, where it comes from, and what of the storage is not imitated.
/// With two, shows where they differ. A NAME may be the path of a TOML file.
#[derive(Debug, Args)]
pub struct ProfilesArgs {
    /// A profile
    pub name: Option<String>,

    /// Another one to compare it with
    pub other: Option<String>,

    /// Print the profile, with what it has from others, as a TOML file that can be changed and given to --profile
    #[arg(long, requires = "name", conflicts_with_all = ["json", "other"])]
    pub toml: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
