//! `chaosfs status` and `chaosfs list`.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use chaosfs::{Refusal, Status, event::OneLine, harness::Sighting};
use nix::poll::poll;
use serde_json::{Value, json};

use crate::{
    args::{ListArgs, StatusArgs, TargetArgs},
    voice::{self, complain},
};

/// How often `--watch` looks, in milliseconds.
const LOOK: u16 = 1000;

/// Empties the screen of a terminal, and leaves what has been scrolled away.
const CLEAR: &str = "\x1b[H\x1b[J";

const NO_CLIENT: &str = "no chaosfs client is mounted";

/// One client and what it tells about itself, or why it tells nothing.
struct Told {
    sighting: Sighting,
    status: Result<Status, Refusal>,
}

/// Shows clients, once or again and again.
pub fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    if !args.watch {
        return Ok(show(args, "")?.0);
    }
    let before = match (io::stdout().is_terminal(), args.json) {
        (true, _) => CLEAR,
        (false, true) => "",
        (false, false) => "\n",
    };
    let mut first = if io::stdout().is_terminal() { CLEAR } else { "" };
    while show(args, first)?.1 {
        first = before;
        let _ = poll(&mut [], LOOK);
    }
    Ok(ExitCode::SUCCESS)
}

/// The exit code, and whether anybody still reads along.
fn show(args: &StatusArgs, before: &str) -> anyhow::Result<(ExitCode, bool)> {
    let (found, mut complaints) = found(&args.targets)?;
    let told: Vec<Told> = found.into_iter().map(ask).collect();
    let well = complaints.is_empty() && told.iter().all(|told| told.status.is_ok());
    let values = || told.iter().map(|told| as_json(told).to_string()).collect::<Vec<_>>();
    let text = if args.json {
        String::new()
    } else if told.is_empty() {
        if well { format!("{NO_CLIENT}\n") } else { String::new() }
    } else if args.verbose || args.named {
        complaints.extend(told.iter().filter_map(|told| told.status.as_ref().err()).cloned());
        let blocks = told.iter().filter_map(|told| told.status.as_ref().ok()).map(in_full);
        blocks.collect::<Vec<_>>().join("\n")
    } else {
        table(&told)
    };
    let read = if args.json { voice::show_json(before, &values()) } else { voice::show(before, &text) };
    complaints.iter().for_each(|refusal| complain(&refusal.to_string()));
    Ok((if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }, read))
}

/// Lists clients.
pub fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let (found, complaints) = found(&args.targets)?;
    let row = |sighting: &Sighting| {
        let mountpoint = sighting.mountpoint.display().to_string();
        if args.quiet {
            return vec![mountpoint];
        }
        let backing = sighting.backing.display().to_string();
        let state = if sighting.is_dead() { dead(sighting) } else { String::new() };
        vec![sighting.client.clone(), mountpoint, backing, state]
    };
    voice::show("", &in_columns(&found.iter().map(row).collect::<Vec<_>>()));
    complaints.iter().for_each(|refusal| complain(&refusal.to_string()));
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The clients named, each once, or all; and what is wrong with the names.
fn found(targets: &TargetArgs) -> Result<(Vec<Sighting>, Vec<Refusal>), Refusal> {
    if targets.is_empty() {
        return Ok((Sighting::all()?, Vec::new()));
    }
    let (mut found, mut wrong): (Vec<Sighting>, Vec<Refusal>) = Default::default();
    let named = targets.mountpoints.iter().map(|path| Sighting::at(path).map(|sighting| vec![sighting]));
    for sightings in named.chain(targets.over.backing.as_deref().map(Sighting::over)) {
        match sightings {
            Ok(sightings) => sightings.into_iter().for_each(|sighting| {
                if !found.iter().any(|other| other.is_same(&sighting)) {
                    found.push(sighting);
                }
            }),
            Err(refusal) => wrong.push(refusal),
        }
    }
    Ok((found, wrong))
}

fn ask(mut sighting: Sighting) -> Told {
    let status = sighting.reach().and_then(|client| client.status());
    Told { sighting, status }
}

/// What `status --json` says about one client.
fn as_json(told: &Told) -> Value {
    let Sighting { client, mountpoint, backing, .. } = &told.sighting;
    let mut object = match &told.status {
        Ok(status) if status.backing.is_empty() => {
            let mut object = json!(status);
            object["backing"] = Value::Null;
            object
        }
        Ok(status) => json!(status),
        Err(refusal) => json!({
            "client": client,
            "mountpoint": mountpoint.to_string_lossy(),
            "backing": (!backing.as_os_str().is_empty()).then(|| backing.to_string_lossy()),
            "error": refusal.to_string(),
        }),
    };
    object["dead"] = told.sighting.is_dead().into();
    object
}

fn table(told: &[Told]) -> String {
    let titles = ["CLIENT", "MOUNTPOINT", "IN FLIGHT", "NEXT DUE", "LANDED", "CONFLICTS", "FAULTS", "LOST"];
    let mut rows = vec![titles.map(String::from).to_vec()];
    rows.extend(told.iter().map(row));
    in_columns(&rows)
}

fn row(told: &Told) -> Vec<String> {
    let Sighting { client, mountpoint, .. } = &told.sighting;
    let mut cells = vec![client.clone(), mountpoint.display().to_string()];
    match &told.status {
        Ok(status) => cells.extend([
            status.in_flight.mutations.to_string(),
            next_due(status).unwrap_or_else(|| "-".to_string()),
            status.landed.to_string(),
            status.conflicts.to_string(),
            status.faults.to_string(),
            (status.lost + status.dropped).to_string(),
        ]),
        Err(_) if told.sighting.is_dead() => cells.push(dead(&told.sighting)),
        Err(refusal) => cells.push(refusal.to_string()),
    }
    cells
}

fn dead(sighting: &Sighting) -> String {
    format!("dead; remove the mount with `chaosfs umount {}`", sighting.mountpoint.display())
}

/// Cells below each other, two blanks between them. The last cell of a row may be of any length.
fn in_columns(rows: &[Vec<String>]) -> String {
    let one_line = |cell: &String| OneLine(cell).to_string();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(one_line).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells =
        |column: usize| rows.iter().filter(move |row| row.len() > column + 1).map(move |row| &row[column]);
    let widths: Vec<usize> = (0..columns)
        .map(|column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Everything about one client.
fn in_full(status: &Status) -> String {
    let operations: Vec<String> =
        status.operations.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let kept = match status.lent {
        _ if !status.kernel_cache => "caches nothing".to_string(),
        0 => "caches answers".to_string(),
        files => format!("caches answers, and serves {} itself", counted(files, "open file")),
    };
    let lines = [
        ("backing", known(&status.backing)),
        ("process", format!("{}, chaosfs {}", status.pid, status.version)),
        (
            "time",
            format!("{} clock, up {} s", status.clock, seconds(Duration::from_millis(status.uptime_ms))),
        ),
        ("seed", status.seed.to_string()),
        ("knobs", status.knobs.to_string()),
        ("kernel", kept),
        ("operations", if operations.is_empty() { "none".to_string() } else { operations.join(", ") }),
        ("in flight", in_flight(status)),
        ("landed", format!("{}, {}", status.landed, counted(status.conflicts, "conflict"))),
        ("faults", status.faults.to_string()),
        ("lost", format!("{}, and {} dropped by `lose`", status.lost, status.dropped)),
        ("beliefs", format!("{} bytes, {} evicted", status.belief_bytes, status.beliefs_evicted)),
        ("inodes", format!("{} known, {} descriptors", status.known_inodes, status.descriptors)),
    ];
    let mut text = format!("{} at {}", OneLine(&status.client), OneLine(&status.mountpoint));
    for (name, value) in lines {
        let _ = write!(text, "\n  {name:<11} {}", OneLine(&value));
    }
    for lost in &status.lost_latest {
        let _ = write!(text, "\n              {}", OneLine(lost));
    }
    text + "\n"
}

/// Another user's client is not asked where its backing directory is.
fn known(backing: &str) -> String {
    if backing.is_empty() { "unknown: it belongs to another user".to_string() } else { backing.to_string() }
}

fn in_flight(status: &Status) -> String {
    let in_flight = &status.in_flight;
    let next = match next_due(status) {
        Some(held) if status.held => held,
        Some(due) => format!("next due in {due}"),
        None => "nothing due".to_string(),
    };
    let delayed =
        if in_flight.delayed > 0 { format!(", {} delayed", in_flight.delayed) } else { String::new() };
    format!(
        "{}, {} of data, {} of memory, {next}{delayed}",
        counted(in_flight.mutations, "change"),
        counted(in_flight.bytes, "byte"),
        in_flight.memory
    )
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// When the next change is due; none if there is none.
fn next_due(status: &Status) -> Option<String> {
    match status.in_flight.next_due_ns {
        _ if status.held => Some("held".to_string()),
        due => due.map(|nanos| format!("{} s", seconds(Duration::from_nanos(nanos)))),
    }
}

fn seconds(span: Duration) -> String {
    format!("{:.3}", span.as_secs_f64())
}
