//! What one run is made of, worked out before anything is made.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use chaosfs::{Knobs, dice::Dice};

use crate::args::{BACKING, ClientArg, MOUNTS, RunArgs, set_knob, variable_of};

/// How many clients a run has that is not told.
const CLIENTS: u16 = 2;

/// One client of the run.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    pub name: String,
    pub knobs: Knobs,
    pub seed: u64,
    pub mountpoint: PathBuf,
}

/// The clients that the arguments ask for, with the seed that they share unless they have their own. They are not
/// mounted anywhere yet.
pub fn clients(args: &RunArgs) -> Vec<ClientPlan> {
    let seed = args.knobs.seed.unwrap_or_else(Dice::random_seed);
    let plain = |number| ClientArg { name: letters(number), settings: Vec::new() };
    let named = match args.named.as_slice() {
        [] => (0..args.clients.unwrap_or(CLIENTS)).map(plain).collect(),
        named => named.to_vec(),
    };
    named.into_iter().map(|client| planned(client, args.knobs.knobs(), seed)).collect()
}

fn planned(client: ClientArg, mut knobs: Knobs, seed: u64) -> ClientPlan {
    let mut own = None;
    for (knob, value) in &client.settings {
        set_knob(&mut knobs, &mut own, knob, value).expect("it was checked when the command line was read");
    }
    ClientPlan { name: client.name, knobs, seed: own.unwrap_or(seed), mountpoint: PathBuf::new() }
}

/// A, B, ... Z, AA, AB, ... as spreadsheets count.
fn letters(number: u16) -> String {
    let last = char::from(b'A' + (number % 26) as u8);
    let before = (number / 26).checked_sub(1).map(letters).unwrap_or_default();
    format!("{before}{last}")
}

/// The variables in which the command finds everything.
pub fn variables(backing: &Path, clients: &[ClientPlan]) -> Vec<(String, OsString)> {
    let mountpoints: Vec<_> = clients.iter().map(|client| client.mountpoint.as_os_str()).collect();
    let fixed =
        [(BACKING.to_string(), backing.into()), (MOUNTS.to_string(), mountpoints.join(OsStr::new(":")))];
    let each = clients.iter().map(|client| (variable_of(&client.name), client.mountpoint.clone().into()));
    fixed.into_iter().chain(each).collect()
}

/// The words of the command with `{NAME}` replaced by the mountpoint of the client of that name. Any other brace stays.
pub fn placed(command: &[OsString], clients: &[ClientPlan]) -> Vec<OsString> {
    command.iter().map(|word| OsString::from_vec(placed_word(word.as_bytes(), clients))).collect()
}

fn placed_word(mut rest: &[u8], clients: &[ClientPlan]) -> Vec<u8> {
    let mut word = Vec::with_capacity(rest.len());
    while let Some((&first, tail)) = rest.split_first() {
        let inside = |name: &str| tail.strip_prefix(name.as_bytes())?.strip_prefix(b"}");
        let found = clients.iter().filter(|_| first == b'{');
        match found.filter_map(|client| Some((client, inside(&client.name)?))).next() {
            Some((client, after)) => {
                word.extend_from_slice(client.mountpoint.as_os_str().as_bytes());
                rest = after;
            }
            None => {
                word.push(first);
                rest = tail;
            }
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> ClientPlan {
        ClientPlan {
            name: name.into(),
            knobs: Knobs::default(),
            seed: 1,
            mountpoint: format!("/m/{name}").into(),
        }
    }

    #[test]
    fn clients_are_counted_as_spreadsheets_count_columns() {
        let seen: Vec<_> = [0, 1, 25, 26, 27, 51, 52, 701, 702].map(letters).into();
        assert_eq!(seen, ["A", "B", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA"]);
    }

    #[test]
    fn names_of_clients_in_braces_become_mountpoints_and_other_braces_stay() {
        let clients = ["A", "AB", "web-1"].map(client);
        for (word, expected) in [
            ("{A}/x:{AB}", "/m/A/x:/m/AB"),
            ("{{A}}", "{/m/A}"),
            ("{}{a}{A{B}", "{}{a}{A{B}"),
            ("--at={web-1}", "--at=/m/web-1"),
            ("{A", "{A"),
            ("", ""),
        ] {
            assert_eq!(placed(&[word.into()], &clients), [OsString::from(expected)], "{word}");
        }
    }
}
