//! The command line that repeats a run: with its seed, and with every knob that is not at its default, wherever it came from.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use chaosfs::{
    Knobs,
    knobs::{Kind, Span, Tunable},
};

use super::plan::ClientPlan;
use crate::args::{ClientArg, RunArgs, variable_of_flag};

/// One line that a shell takes, for the run of `args` whose clients are `clients`.
pub fn command_line(args: &RunArgs, clients: &[ClientPlan]) -> String {
    let mut words = vec![env::args_os().next().unwrap_or_else(|| "chaosfs".into()), "run".into()];
    // A switch may go without a value, so one that has it is joined to it.
    let is_switch = |name: &str| Knobs::knob(name).is_ok_and(|knob| knob.kind == Kind::Switch);
    let mut flag = |name: &str, value: &OsStr| match is_switch(name) {
        true => words.push(format!("--{name}={}", value.to_string_lossy()).into()),
        false => words.extend([format!("--{name}").into(), value.to_os_string()]),
    };
    if let Some(seed) = common_seed(args, clients) {
        flag("seed", seed.to_string().as_ref());
    }
    let knobs = args.knobs.knobs();
    let settings = knobs.settings();
    for (name, value) in knobs.pairs() {
        let is_needed = settings.iter().any(|(needed, _)| *needed == name);
        let name = name.replace('_', "-");
        if is_needed || is_set(&name) {
            flag(&name, value.as_ref());
        }
    }
    if args.knobs.clock.is_manual() || is_set("clock") {
        flag("clock", args.knobs.clock.name().as_ref());
    }
    if let Some(count) = args.clients {
        flag("clients", count.to_string().as_ref());
    }
    args.named.iter().for_each(|client| flag("client", written(client).as_ref()));
    let paths = [("backing", &args.backing), ("at", &args.at)];
    for (name, path) in paths.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?))) {
        flag(name, Path::as_os_str(path));
    }
    if let Some(span) = args.timeout {
        flag("timeout", Span(span).to_string().as_ref());
    }
    let switches = [("each", args.each), ("debug", args.debug), ("kernel-cache", args.knobs.kernel_cache)];
    words.extend(switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| format!("--{name}").into()));
    words.push("--".into());
    words.extend(args.command.iter().cloned());
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The seed of the clients that have none of their own.
fn common_seed(args: &RunArgs, clients: &[ClientPlan]) -> Option<u64> {
    let has_own = |name: &str| {
        let named = args.named.iter().find(|client| client.name == name);
        named.is_some_and(|client| client.settings.iter().any(|(knob, _)| knob == "seed"))
    };
    clients.iter().find(|client| !has_own(&client.name)).map(|client| client.seed)
}

/// Whether a variable holds the value of this flag, which an unwritten default would not override.
fn is_set(flag: &str) -> bool {
    variable_of_flag(flag).is_some_and(|name| env::var_os(name).is_some())
}

fn written(client: &ClientArg) -> String {
    let settings: Vec<String> =
        client.settings.iter().map(|(knob, value)| format!("{knob}={value}")).collect();
    match settings.is_empty() {
        true => client.name.clone(),
        false => format!("{}:{}", client.name, settings.join(",")),
    }
}

fn quoted(word: &OsString) -> String {
    let quoted = shlex::bytes::try_quote(word.as_bytes()).unwrap_or_default();
    String::from_utf8_lossy(&quoted).into_owned()
}
