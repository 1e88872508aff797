//! How many instructions the operations of the core take, counted by valgrind, so that a regression shows on a noisy
//! machine: `cargo bench --bench instructions`. It fails when an operation has become dearer than in the baseline beside
//! this file, which `cargo bench --bench instructions -- --bless` writes anew.
//!
//! Nothing absolute is compared, because another compiler or processor counts differently:
//!
//! - **growth**, the cost among many over the cost among few, may be [`GROWTH_TOLERANCE`] above the baseline. That is the
//!   sharp one: it tells a scan from a look-up on any machine;
//! - **cost** in yardsticks, an operation of the standard library counted in the same run, may be [`COST_TOLERANCE`]
//!   above it. Hash tables are seeded at random, and compilers differ.
//!
//! Misses of the processor's caches are not counted; `core.rs` times them.

mod operations;

use std::{
    collections::BTreeMap,
    env, fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use operations::{Operation, Run};

const GROWTH_TOLERANCE: f64 = 0.15;
const COST_TOLERANCE: f64 = 0.25;

/// So often each operation is done; what chance does to one of them does not show in their sum.
const REPETITIONS: u32 = 1_000;

/// Tells this program that it runs under valgrind.
const COUNTED: &str = "--counted";

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // cargo adds this one.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [COUNTED] => {
            do_all();
            return ExitCode::SUCCESS;
        }
        [] => compare(),
        ["--bless"] => bless(),
        _ => {
            eprintln!("usage: cargo bench --bench instructions [-- --bless]");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// More than this take too long to set up under valgrind, and whatever grows has grown by then.
const MOST: usize = 10_000;

/// An operation among so many.
fn measurements() -> Vec<(Operation, usize)> {
    let of = |operation: Operation| operation.sizes.iter().map(move |size| (operation, MOST.min(*size)));
    operations::all().into_iter().flat_map(of).collect()
}

fn do_all() {
    for (operation, size) in measurements() {
        let mut run = (operation.prepare)(size);
        (0..64).for_each(|_| run());
        counted_by_valgrind(&mut run);
        counted_until_here(size);
    }
}

/// What valgrind counts: it writes a file and starts at zero where this begins, and again where
/// [`counted_until_here`] does.
#[inline(never)]
fn counted_by_valgrind(run: &mut Run) {
    (0..REPETITIONS).for_each(|_| run());
}

#[inline(never)]
fn counted_until_here(size: usize) {
    black_box(size);
}

/// The instructions that one operation takes, in the order of [`measurements`].
fn count() -> Result<Vec<f64>, Failure> {
    let folder = tempfile::tempdir()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        // However their names are mangled.
        .args(["--dump-before=*counted_by_valgrind*", "--dump-before=*counted_until_here*"])
        .arg(format!("--callgrind-out-file={}", folder.path().join("counts").display()))
        .arg(env::current_exe()?)
        .arg(COUNTED)
        .output()
        .map_err(|error| {
            format!("valgrind cannot be started ({error}); it is in the Debian package `valgrind`")
        })?;
    if !output.status.success() {
        return Err(
            format!("valgrind: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into()
        );
    }
    let wanted = measurements().len();
    // Every other file is about what comes in between.
    let counts = (1..=wanted).map(|part| total(&folder.path().join(format!("counts.{}", 2 * part))));
    counts.map(|total| Ok(total? / f64::from(REPETITIONS))).collect()
}

/// The sum of all events in a file that callgrind has written.
fn total(path: &Path) -> Result<f64, Failure> {
    let text =
        fs::read_to_string(path).map_err(|_| "valgrind did not find the functions between which to count")?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.ok_or("a file of callgrind without a line `totals:`")?.trim().parse()?)
}

/// Costs in yardsticks by operation and size.
type Costs = BTreeMap<(String, usize), f64>;

fn costs(counts: &[f64]) -> Costs {
    let names = measurements().into_iter().map(|(operation, size)| (operation.name.to_string(), size));
    names.zip(counts.iter().map(|count| count / counts[0])).collect()
}

fn baseline_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

const HEADING: &str = "\
# What the operations of the core cost among so many, in yardsticks (see instructions.rs).
# Written by `cargo bench --bench instructions -- --bless`.
";

fn bless() -> Result<(), Failure> {
    let counts = count()?;
    let costs = costs(&counts);
    let mut text = HEADING.to_string();
    for (operation, size) in measurements() {
        let cost = costs[&(operation.name.to_string(), size)];
        text += &format!("{} | {size} | {cost:.4}\n", operation.name);
    }
    fs::write(baseline_path(), text)?;
    println!("benches/instructions.txt is written anew");
    Ok(())
}

fn baseline() -> Result<Costs, Failure> {
    let path = baseline_path();
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let mut parts = line.split(" | ");
        let name = parts.next()?.to_string();
        Some(((name, parts.next()?.parse().ok()?), parts.next()?.parse().ok()?))
    };
    let parsed = lines.map(|line| parse(line).ok_or_else(|| format!("{}: `{line}`", path.display()).into()));
    parsed.collect()
}

/// A figure of today beside that of the baseline.
#[derive(Clone, Copy)]
struct Pair {
    now: f64,
    then: f64,
}

impl Pair {
    fn is_above(self, tolerance: f64) -> bool {
        self.now > self.then * (1.0 + tolerance)
    }
}

impl std::fmt::Display for Pair {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.2} ({:.2})", self.now, self.then);
        formatter.pad(&text)
    }
}

fn compare() -> Result<(), Failure> {
    let counts = count()?;
    let (now, then) = (costs(&counts), baseline()?);
    let mut complaints = Vec::new();
    println!(
        "{:44} {:>8} {:>14} {:>20} {:>18}",
        "operation", "among", "instructions", "yardsticks", "growth"
    );
    println!("{:44} {:>8} {:>14} {:>20} {:>18}", "", "", "", "now (baseline)", "now (baseline)");
    for ((operation, size), count) in measurements().into_iter().zip(&counts) {
        let name = operation.name;
        let known = |size: usize| {
            let key = (name.to_string(), size);
            let then = then.get(&key).copied();
            let bless = "; cargo bench --bench instructions -- --bless";
            let then = then.ok_or_else(|| format!("`{name}` among {size} is not in the baseline{bless}"))?;
            Ok::<Pair, Failure>(Pair { now: now[&key], then })
        };
        let (cost, few) = (known(size)?, known(operation.sizes[0])?);
        let growth = Pair { now: cost.now / few.now, then: cost.then / few.then };
        println!("{name:44} {size:>8} {count:>14.0} {cost:>20} {growth:>18}");
        let so_many = format!("{name}, among {size} {}", operation.among);
        if growth.is_above(GROWTH_TOLERANCE) {
            complaints.push(format!("{so_many}: {growth} times the cost among {}", operation.sizes[0]));
        } else if cost.is_above(COST_TOLERANCE) {
            complaints.push(format!("{so_many}: {cost} yardsticks"));
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    let remedy = "If that is meant: cargo bench --bench instructions -- --bless";
    Err(format!("\ndearer than the baseline, which is in brackets:\n{}\n{remedy}", complaints.join("\n"))
        .into())
}
