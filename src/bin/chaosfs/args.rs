//! The commands, their flags and their variables.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use chaosfs::{
    Clock, Delay, Knobs, Refusal, check_client_id,
    client::check_lending,
    knobs::{parse_bytes, parse_delay, parse_probability, parse_span, parse_switch},
};
use clap::{
    Arg, ArgAction, ArgMatches, Args, CommandFactory, Error, FromArgMatches, Parser, Subcommand,
    builder::Resettable, error::ErrorKind, parser::ValueSource, value_parser,
};
use clap_complete::Shell;
use rustix::process::Pid;
use std::time::Duration;

/// Make one machine stand in for many: mount clients over one directory that see it late, stale and failing
///
/// Each client is a FUSE mount of the same backing directory. Run your own program on two of them and watch it meet
/// what hosts on shared storage meet: writes that others see late, metadata that is old, operations that fail.
#[derive(Debug, Parser)]
#[command(name = "chaosfs", version, after_help = EXAMPLE, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example:
  mkdir shared a b
  chaosfs mount shared a --client-id a --background --log-dir logs
  chaosfs mount shared b --client-id b --background --log-dir logs
  echo hello > a/file; ls b; sleep 3; ls b
  chaosfs umount -m a -m b";

#[derive(Debug, Subcommand)]
pub enum Command {
    Mount(Box<MountArgs>),
    Umount(UmountArgs),
    Status(StatusArgs),
    Set(SetArgs),
    /// Land nothing by its being due, until `release`
    ///
    /// What fsync asks for, `flush` and unmounting land all the same. What would be written through goes in flight
    /// meanwhile.
    Hold(TargetArgs),
    /// Land what is due again, at once what has become due since `hold`
    Release(TargetArgs),
    /// Land now everything that is in flight now, also what is held
    ///
    /// Returns when it has landed; fails and names what could not.
    Flush(TargetArgs),
    /// Drop everything that clients believe, so that they ask anew
    Expire(TargetArgs),
    /// Drop everything that is in flight, as if the host had crashed, and name it
    ///
    /// Programs live on. Who has a file open of which data is lost hears EIO once; a file that was lost as a whole
    /// answers ESTALE.
    Lose(TargetArgs),
    Advance(AdvanceArgs),
    Run(Box<RunArgs>),
    Exec(ExecArgs),
    /// Print a completion script
    Completions {
        /// The shell to print it for
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// What tunes a client and its chance, the same for every command that mounts.
#[derive(Clone, Debug, Args)]
pub struct KnobArgs {
    /// Believe fetched attributes, names, absences and listings for this long; 0 asks every time
    #[arg(
        long,
        env = "CHAOSFS_META_TTL_MS",
        hide_env_values = true,
        value_name = "TIME",
        default_value = "1500"
    )]
    #[arg(value_parser = parse_span, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub meta_ttl: Duration,

    /// Let others see data changes and new files after this long; 0 writes through
    #[arg(
        long,
        env = "CHAOSFS_WRITE_DELAY_MS",
        hide_env_values = true,
        value_name = "DELAY",
        default_value = "800"
    )]
    #[arg(value_parser = parse_delay, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub write_delay: Delay,

    /// Let others see changes of names, directories and attributes after this long; 0 writes through
    #[arg(
        long,
        env = "CHAOSFS_RENAME_DELAY_MS",
        hide_env_values = true,
        value_name = "DELAY",
        default_value = "1200"
    )]
    #[arg(value_parser = parse_delay, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub rename_delay: Delay,

    /// Show this client its own changes before they have landed (true or false)
    #[arg(
        long,
        env = "CHAOSFS_READ_YOUR_WRITES",
        hide_env_values = true,
        value_name = "BOOL",
        default_value = "true"
    )]
    #[arg(value_parser = parse_switch, action = ArgAction::Set, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub read_your_writes: bool,

    /// Let writers wait while more data than this has not landed (bytes, or with KiB, MiB, GiB)
    #[arg(
        long,
        env = "CHAOSFS_MAX_IN_FLIGHT",
        hide_env_values = true,
        value_name = "SIZE",
        default_value = "256MiB"
    )]
    #[arg(value_parser = parse_bytes, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub max_in_flight: u64,

    /// Fail each operation with EIO with this probability (0 to 1)
    #[arg(
        long,
        env = "CHAOSFS_DROP_PROB",
        hide_env_values = true,
        value_name = "PROBABILITY",
        default_value = "0"
    )]
    #[arg(value_parser = parse_probability, allow_hyphen_values = true, help_heading = FAULTS)]
    pub drop_prob: f64,

    /// Repeat the faults and delays of the run with this seed [default: drawn, and logged]
    #[arg(long, env = "CHAOSFS_SEED", hide_env_values = true, value_name = "NUMBER")]
    #[arg(value_parser = parse_seed, allow_hyphen_values = true, help_heading = FAULTS)]
    pub seed: Option<u64>,

    /// Take time from the machine (`real`) or let it stand still until `chaosfs advance` moves it (`manual`)
    #[arg(long, env = "CHAOSFS_CLOCK", hide_env_values = true, value_name = "CLOCK", default_value = "real")]
    #[arg(value_parser = parse_clock, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub clock: Clock,

    /// Let the kernel keep answers for as long as they are believed, and serve files itself where it can
    ///
    /// Faster, and not every operation is seen: cannot be used with --drop-prob, --debug, --clock manual or
    /// --read-your-writes false. What programs see is the same.
    #[arg(long, env = "CHAOSFS_KERNEL_CACHE", hide_env_values = true, value_name = "BOOL", num_args = 0..=1)]
    #[arg(require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_switch)]
    #[arg(action = ArgAction::Set, help_heading = CONSISTENCY)]
    pub kernel_cache: bool,
}

impl KnobArgs {
    /// The tunables of the client.
    pub fn knobs(&self) -> Knobs {
        Knobs {
            meta_ttl: self.meta_ttl,
            write_delay: self.write_delay,
            rename_delay: self.rename_delay,
            failure_probability: self.drop_prob,
            read_your_writes: self.read_your_writes,
            max_in_flight: self.max_in_flight,
            ..Knobs::default()
        }
    }
}

const CLIENTS: &str = "Clients";
const CONSISTENCY: &str = "Consistency";
const FAULTS: &str = "Faults";
const LOG: &str = "Log";
const PROCESS: &str = "Process";

/// Mount one client over a backing directory
///
/// A TIME is a number of milliseconds or has a unit: `1.5s`, `200ms`, `2m`. A DELAY is a TIME or a range of them,
/// `500..1200`, from which each change draws its own. A flag goes before its variable, a variable before the default.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// Directory that all clients share
    #[arg(value_name = "BACKING")]
    pub backing: PathBuf,

    /// Empty directory on which this client's view appears
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,

    #[command(flatten)]
    pub knobs: KnobArgs,

    /// Name this client in logs, in the mount table and in the draws
    #[arg(
        long,
        env = "CHAOSFS_CLIENT_ID",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "client"
    )]
    #[arg(value_parser = parse_client_id, allow_hyphen_values = true, help_heading = PROCESS)]
    pub client_id: String,

    /// Return once the mount serves, and go on in the background
    #[arg(long, help_heading = PROCESS)]
    pub background: bool,

    /// Leave, as on SIGTERM, once this process has ended, however it ended
    #[arg(long, value_name = "PID", value_parser = parse_pid, allow_hyphen_values = true, help_heading = PROCESS)]
    pub until_exit: Option<Pid>,

    /// Let other users in; the kernel then checks permissions, and new files belong to their callers
    #[arg(long, help_heading = PROCESS)]
    pub allow_other: bool,

    /// Append the log to this file [default: standard error]
    #[arg(long, value_name = "FILE", help_heading = LOG)]
    pub log_file: Option<PathBuf>,

    /// Append the log to <client-id>.log in this directory
    #[arg(long, env = "LOG_DIR", hide_env_values = true, value_name = "DIR", help_heading = LOG)]
    pub log_dir: Option<PathBuf>,

    /// Log every operation: its outcome, where its answer came from and how old that was
    #[arg(long, help_heading = LOG)]
    pub debug: bool,
}

impl MountArgs {
    /// The file that the log goes to, if it goes to one.
    pub fn log_path(&self) -> Option<PathBuf> {
        let in_folder = || self.log_dir.as_ref().map(|folder| folder.join(format!("{}.log", self.client_id)));
        self.log_file.clone().or_else(in_folder)
    }
}

/// Run a command on clients that are mounted for it alone
///
/// Makes a backing directory and mounts clients over it, served by one process; runs COMMAND, lands everything, unmounts
/// and removes what it made. Leaves with COMMAND's exit status, or 128 and the number of the signal that ended it; with 1
/// where something could not land. On failure the logs are kept.
///
/// COMMAND finds the directories in CHAOSFS_BACKING, CHAOSFS_MOUNTS (separated by colons) and one CHAOSFS_MOUNT_<NAME>
/// for each client, and `{NAME}` in its arguments becomes that client's mountpoint. What it leaves running is ended.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Mount this many clients, named A, B, C and so on [default: 2]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1000), allow_hyphen_values = true)]
    #[arg(help_heading = CLIENTS, conflicts_with = "named")]
    pub clients: Option<u16>,

    /// Mount a client of this name (repeatable), with knobs of its own by the names of their flags
    #[arg(long = "client", value_name = "NAME[:KNOB=VALUE,...]", value_parser = parse_client, help_heading = CLIENTS)]
    pub named: Vec<ClientArg>,

    /// Take this backing directory instead of making one; it is not removed
    #[arg(long, value_name = "DIR", help_heading = CLIENTS)]
    pub backing: Option<PathBuf>,

    /// Run COMMAND once on each client at the same time, with the client as working directory
    #[arg(long, help_heading = PROCESS)]
    pub each: bool,

    /// Show each COMMAND its client at this directory, the same for all; needs --each or one client
    #[arg(long, value_name = "PATH", help_heading = PROCESS)]
    pub at: Option<PathBuf>,

    /// Keep the backing directory and the logs, and say where they are
    #[arg(long, help_heading = PROCESS)]
    pub keep: bool,

    #[command(flatten)]
    pub knobs: KnobArgs,

    /// Append the logs to <name>.log in this directory [default: a temporary one, kept on failure]
    #[arg(long, env = "LOG_DIR", hide_env_values = true, value_name = "DIR", help_heading = LOG)]
    pub log_dir: Option<PathBuf>,

    /// Log every operation: its outcome, where its answer came from and how old that was
    #[arg(long, help_heading = LOG)]
    pub debug: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// One client of a run: its name and the knobs that it has for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientArg {
    pub name: String,
    pub settings: Vec<(String, String)>,
}

impl ClientArg {
    /// The knobs that it has for itself over the common ones.
    pub fn knobs(&self, mut knobs: Knobs) -> Knobs {
        for (knob, value) in &self.settings {
            set_knob(&mut knobs, &mut None, knob, value).expect("it was checked when it was read");
        }
        knobs
    }
}

/// Run a command that sees a client at another path
///
/// COMMAND runs in a mount namespace of its own in which the client that is mounted at MOUNTPOINT stands at PATH, as
/// shared storage stands at the same path on every host. Nobody else sees it there. Works for ordinary users where they
/// may have user namespaces. Becomes COMMAND: its exit status, signals and terminal are its own.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Mountpoint of the client
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,

    /// Directory at which COMMAND sees the client [default: its backing directory]
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Land everything that clients have in flight and unmount them
///
/// Returns when all has landed and the mounts are gone. Prints what happened to each; fails if one of them was not
/// mounted, was busy or could not land everything. Also cleans up mounts whose daemon has died.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("targets").required(true).multiple(true))]
pub struct UmountArgs {
    /// Unmount the client at this mountpoint (repeatable)
    #[arg(short, long = "mount", value_name = "PATH", group = "targets")]
    pub mounts: Vec<PathBuf>,

    /// Unmount every client directly below this directory; the variable counts only without --mount
    #[arg(long, env = "MOUNT_BASE", hide_env_values = true, value_name = "DIR", group = "targets")]
    pub mount_base: Option<PathBuf>,
}

/// The clients that a command is for.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("clients").required(true).multiple(true))]
pub struct TargetArgs {
    /// Mountpoints of the clients
    #[arg(value_name = "MOUNTPOINT", group = "clients")]
    pub mountpoints: Vec<PathBuf>,

    /// Every client of yours over this backing directory
    #[arg(long, value_name = "DIR", group = "clients")]
    pub backing: Option<PathBuf>,
}

/// Tell what clients are doing
///
/// Knobs, seed and time; what they have done, what they have in flight and what could not land.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Mountpoints of the clients [default: every client of yours]
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoints: Vec<PathBuf>,

    /// Every client of yours over this backing directory
    #[arg(long, value_name = "DIR")]
    pub backing: Option<PathBuf>,

    /// Print one JSON object a line for each client
    #[arg(long)]
    pub json: bool,
}

/// Change knobs of running clients
///
/// All that is given or nothing. Knobs are named as in the log (`write_delay`; `write-delay` works too) and take the
/// values of the command line. What is in flight keeps its due time.
#[derive(Debug, Args)]
#[command(override_usage = "chaosfs set [MOUNTPOINT]... [--backing <DIR>] <KNOB=VALUE>...")]
pub struct SetArgs {
    /// Mountpoints of the clients, and what to change; write `./a=b` for a mountpoint with `=`
    #[arg(value_name = "MOUNTPOINT|KNOB=VALUE", required = true)]
    words: Vec<OsString>,

    /// Every client of yours over this backing directory
    #[arg(long, value_name = "DIR")]
    backing: Option<PathBuf>,
}

impl SetArgs {
    /// The clients and the changes.
    ///
    /// # Errors
    /// A knob or value that is wrong, no change or no client.
    pub fn read(&self) -> Result<(TargetArgs, Vec<(String, String)>), Refusal> {
        let (mut mountpoints, mut changes) = (Vec::new(), Vec::new());
        let mut checked = Knobs::default();
        for word in &self.words {
            match word.to_str().and_then(|word| word.split_once('=')).filter(|(name, _)| !name.contains('/'))
            {
                Some((name, value)) => {
                    checked.set(name, value)?;
                    let name = name.replace('-', "_");
                    if changes.iter().any(|(other, _)| *other == name) {
                        return Err(Refusal::new(format!("{name}: given twice; give it once")));
                    }
                    changes.push((name, value.to_string()));
                }
                None => mountpoints.push(PathBuf::from(word)),
            }
        }
        if changes.is_empty() {
            return Err(Refusal::new(
                "there is nothing to set; write KNOB=VALUE, such as `write_delay=200ms`",
            ));
        }
        if mountpoints.is_empty() && self.backing.is_none() {
            return Err(Refusal::new("no client is named; write its mountpoint, or `--backing DIR`"));
        }
        Ok((TargetArgs { mountpoints, backing: self.backing.clone() }, changes))
    }
}

/// Move the clocks of clients that were mounted with `--clock manual`
///
/// Moves them together, from one due time to the next across them, and returns when everything due by then has landed.
/// At the same time clients land in the order of their ids.
#[derive(Debug, Args)]
pub struct AdvanceArgs {
    /// How far: milliseconds, or with a unit (`1.5s`, `2m`)
    #[arg(value_name = "DURATION", value_parser = parse_span, allow_hyphen_values = true)]
    pub by: Duration,

    #[command(flatten)]
    pub targets: TargetArgs,
}

/// Reads the command line and the variables; prints help or what is wrong and exits if that is all there is to do.
pub fn parse() -> Command {
    read().unwrap_or_else(|error| error.exit())
}

fn read() -> Result<Command, Error> {
    let matches = Cli::command().try_get_matches().map_err(|error| match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::InvalidUtf8 => {
            let command = env::args_os().nth(1);
            command.and_then(|command| wrong_variable(&command.to_string_lossy())).unwrap_or(error)
        }
        _ => error,
    })?;
    let Some((name, given)) = matches.subcommand() else { unreachable!("clap requires a subcommand") };
    wrong_variable(name).map_or(Ok(()), Err)?;
    let mut command = Cli::from_arg_matches(&matches)?.command;
    match &mut command {
        Command::Mount(args) => {
            prefer_log_flag(args, given)?;
            refuse_to_lend(&args.knobs, &args.knobs.knobs(), args.debug)?;
        }
        Command::Set(args) => {
            args.read().map_err(|refusal| Error::raw(ErrorKind::ValueValidation, format!("{refusal}\n")))?;
        }
        Command::Run(args) => refuse_confusion(args)?,
        Command::Umount(args) if !args.mounts.is_empty() && !is_flag(given, "mount_base") => {
            args.mount_base = None;
        }
        _ => {}
    }
    Ok(command)
}

fn is_flag(given: &ArgMatches, id: &str) -> bool {
    given.value_source(id) == Some(ValueSource::CommandLine)
}

/// One of the two flags, before the variable of the other.
fn prefer_log_flag(args: &mut MountArgs, given: &ArgMatches) -> Result<(), Error> {
    match (args.log_file.is_some(), is_flag(given, "log_dir")) {
        (true, true) => {
            let text = "--log-file and --log-dir cannot be used together; give one of them\n";
            Err(Error::raw(ErrorKind::ArgumentConflict, text))
        }
        (true, false) => {
            args.log_dir = None;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What is wrong about several arguments of `run` together.
fn refuse_confusion(args: &RunArgs) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::raw(ErrorKind::ArgumentConflict, text + "\n"));
    let names: Vec<_> =
        args.named.iter().map(|client| (client.name.as_str(), variable_of(&client.name))).collect();
    for (index, (name, variable)) in names.iter().enumerate() {
        match names[..index].iter().find(|(_, other)| other == variable) {
            Some((other, _)) if other == name => {
                return wrong(format!("--client {name}: given twice; name it once"));
            }
            Some((other, _)) => {
                return wrong(format!(
                    "--client {name}: its variable {variable} is also that of client {other}; choose another name"
                ));
            }
            None => {}
        }
    }
    let one = args.named.len() == 1 || args.clients == Some(1);
    match args.at {
        Some(_) if !args.each && !one => {
            wrong("--at: COMMAND can see only one client there; give --each, or mount one client".to_string())
        }
        _ => {
            let clients: &[ClientArg] =
                if args.named.is_empty() { &[ClientArg::default()] } else { &args.named };
            clients.iter().try_for_each(|client| {
                refuse_to_lend(&args.knobs, &client.knobs(args.knobs.knobs()), args.debug)
            })
        }
    }
}

/// What cannot be had while the kernel keeps answers.
fn refuse_to_lend(args: &KnobArgs, knobs: &Knobs, debug: bool) -> Result<(), Error> {
    if !args.kernel_cache {
        return Ok(());
    }
    let refused = |refusal| Error::raw(ErrorKind::ArgumentConflict, format!("{refusal}\n"));
    check_lending(knobs, &args.clock, debug).map_err(refused)
}

/// The variable in which COMMAND finds the mountpoint of a client.
pub fn variable_of(client: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("CHAOSFS_MOUNT_{}", client.chars().map(plain).collect::<String>())
}

/// Checks every variable that the command knows, also one that a flag goes before: clap alone would blame the flag
/// for a wrong variable, and would not look at a variable that it does not need.
fn wrong_variable(command: &str) -> Option<Error> {
    let cli = Cli::command();
    let arguments = cli.find_subcommand(command)?.get_arguments();
    let wrong = |argument: &Arg| {
        let name = argument.get_env()?;
        let reason = why_wrong(argument, &env::var_os(name)?)?;
        Some(Error::raw(ErrorKind::ValueValidation, format!("{}: {reason}\n", name.to_string_lossy())))
    };
    arguments.into_iter().find_map(wrong)
}

/// Lets clap judge the value as if it stood on the command line.
fn why_wrong(argument: &Arg, value: &OsStr) -> Option<String> {
    let argument = argument.clone().env(Resettable::Reset).index(1).required(true);
    let positional = argument.short(Resettable::Reset).long(Resettable::Reset);
    let judge = clap::Command::new("chaosfs").no_binary_name(true).arg(positional);
    let error = judge.try_get_matches_from([OsString::from("--"), value.to_os_string()]).err()?;
    let source = std::error::Error::source(&error).map(ToString::to_string);
    Some(source.unwrap_or_else(|| "it is empty or not text; set it to a value or unset it".to_string()))
}

fn parse_seed(text: &str) -> Result<u64, Refusal> {
    let wrong =
        |_| Refusal::new(format!("`{text}` is not a seed; write a whole number from 0 to {}", u64::MAX));
    text.parse().map_err(wrong)
}

fn parse_pid(text: &str) -> Result<Pid, Refusal> {
    let wrong =
        || Refusal::new(format!("`{text}` is not the number of a process; write one above 0, such as `$$`"));
    text.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw).ok_or_else(wrong)
}

fn parse_clock(text: &str) -> Result<Clock, Refusal> {
    match text {
        "real" => Ok(Clock::Monotonic),
        "manual" => Ok(Clock::manual()),
        _ => Err(Refusal::new(format!("`{text}` is not a clock; write `real` or `manual`"))),
    }
}

/// Sets the seed or a knob, by the name of its flag.
///
/// # Errors
/// Says which names there are, or names the knob and says what is wrong with the value.
pub fn set_knob(knobs: &mut Knobs, seed: &mut Option<u64>, name: &str, value: &str) -> Result<(), Refusal> {
    if name != "seed" {
        return knobs.set(name, value);
    }
    *seed = Some(parse_seed(value).map_err(|refusal| Refusal::new(format!("seed: {refusal}")))?);
    Ok(())
}

fn parse_client(text: &str) -> Result<ClientArg, Refusal> {
    let (name, settings) =
        text.split_once(':').map_or((text, None), |(name, settings)| (name, Some(settings)));
    check_client_id(name)?;
    let setting = |text: &str| {
        let (knob, value) = text.split_once('=').ok_or_else(|| {
            Refusal::new(format!("client {name}: `{text}` is not a knob and its value; write KNOB=VALUE"))
        })?;
        let set = set_knob(&mut Knobs::default(), &mut None, knob, value);
        set.map_err(|refusal| Refusal::new(format!("client {name}: {refusal}")))?;
        Ok((knob.replace('_', "-"), value.to_string()))
    };
    let settings: Vec<_> =
        settings.into_iter().flat_map(|text| text.split(',')).map(setting).collect::<Result<_, _>>()?;
    match settings
        .iter()
        .enumerate()
        .find(|(index, (knob, _))| settings[..*index].iter().any(|other| other.0 == *knob))
    {
        Some((_, (knob, _))) => {
            Err(Refusal::new(format!("client {name}: {knob}: given twice; give it once")))
        }
        None => Ok(ClientArg { name: name.to_string(), settings }),
    }
}

fn parse_client_id(text: &str) -> Result<String, Refusal> {
    check_client_id(text).map(|()| text.to_string())
}
