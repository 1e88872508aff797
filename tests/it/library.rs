//! What a test in Rust gets from the library: words of its own for what is refused, and what repeats a failure.

use std::{env, fs, process::Command, time::Duration};

use chaosfs::{Clients, ClientsBuilder, Clock, Mount, MountOptions, Refusal, mount};

/// Set for the copy of this test binary whose test is to fail.
const FAILS: &str = "CHAOSFS_A_TEST_FAILS";

fn one() -> ClientsBuilder {
    Clients::builder().client("a")
}

/// What a test prints that fails, by running it as people run it.
fn output_of_failing(test: &str) -> String {
    let this = env::current_exe().expect("a test binary");
    let output = Command::new(this).args(["--exact", test]).env(FAILS, "1").output().expect("it runs");
    assert!(!output.status.success(), "it was to fail");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_failing_test_is_told_of_its_clients_and_of_its_own_line() {
    if env::var_os(FAILS).is_some() {
        let folder = tempfile::tempdir().expect("a folder");
        let builder = Clients::builder().clients(2).seed(7).manual_clock().log_dir(folder.path());
        let clients = builder.mount().expect("two clients");
        fs::create_dir(clients["A"].mountpoint().join("x")).expect("a directory");
        let _absent = &clients["Z"];
    }
    let said = output_of_failing("library::a_failing_test_is_told_of_its_clients_and_of_its_own_line");
    assert!(said.contains("panicked at tests/it/library.rs:"), "{said}");
    assert!(said.contains("there is no client `Z`; there are A, B"), "{said}");
    let lines: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("chaosfs: clients at")).collect();
    for (line, name, in_flight) in [(lines[1], "A", 1), (lines[2], "B", 0)] {
        let begin =
            format!("  {name}: seed=7 clock=manual profile=eventual meta_ttl=1500ms write_delay=800ms ");
        let counts = format!(" in_flight={in_flight} conflicts=0 faults=0 lost=0 log: /");
        assert!(line.starts_with(&begin) && line.contains(&counts), "{line}");
        assert!(line.ends_with(&format!("/{name}.log")), "{line}");
    }
    assert_eq!(said.matches("clients at the time of the panic").count(), 1, "{said}");
}

#[test]
fn a_single_client_tells_the_same() {
    if env::var_os(FAILS).is_some() {
        let folder = tempfile::tempdir().expect("a folder");
        let (backing, view) = (folder.path().join("backing"), folder.path().join("view"));
        fs::create_dir(&backing).and_then(|()| fs::create_dir(&view)).expect("folders");
        let _mount = mount(MountOptions::new(backing, view)).expect("a client");
        panic!("it fails");
    }
    let said = output_of_failing("library::a_single_client_tells_the_same");
    assert!(said.contains("\n  client: seed="), "{said}");
    assert!(said.contains(" log: none, as there is no tracing subscriber\n"), "{said}");
}

#[test]
fn clients_of_one_set_draw_from_one_seed_that_repeats_them_all() {
    let clients = Clients::builder().clients(2).mount().expect("two clients");
    assert_eq!(clients["A"].status().seed, clients["B"].status().seed);
}

#[test]
fn logs_go_to_files_named_after_their_clients() {
    let folder = tempfile::tempdir().expect("a folder");
    let logs = folder.path().join("new/logs");
    drop(one().log_dir(&logs).mount().expect("a client"));
    let log = fs::read_to_string(logs.join("a.log")).expect("a log");
    let line = log.lines().next().expect("a line");
    let (time, rest) = line.split_once(' ').expect("words");
    assert!(time.starts_with("time=20") && time.ends_with('Z') && time.len() == 32, "{line}");
    assert!(rest.starts_with("level=info client=a t=") && rest.contains(" event=start "), "{line}");
    fs::write(folder.path().join("file"), "").expect("a file");
    let refusal = one().log_dir(folder.path().join("file")).mount().err().expect("no folder");
    assert!(refusal.0.starts_with("`.log_dir()`: cannot append to /"));
}

fn refusal(mounted: Result<Clients, Refusal>) -> String {
    mounted.map(drop).expect_err("it is refused").0
}

#[test]
fn a_refusal_speaks_of_the_methods_of_the_builder() {
    let cached = || one().kernel_cache();
    assert_eq!(
        refusal(cached().manual_clock().mount()),
        "`.kernel_cache()` cannot be used with `.manual_clock()`: the kernel runs on real time; leave one of \
         them out"
    );
    let stale = cached().client_with("b", |knobs| knobs.read_your_writes = false).mount();
    assert!(refusal(stale).starts_with("`.kernel_cache()` cannot be used with `read_your_writes: false`: "));
    let clients = cached().mount().expect("a client");
    let refused = clients["a"].set(|knobs| knobs.drop_prob = 0.5).expect_err("it is refused").0;
    assert!(refused.contains("`.kernel_cache()` cannot be used with `drop_prob`: "), "{refused}");
    let refused = clients.advance(Duration::ZERO).expect_err("a real clock").0;
    assert!(refused.ends_with(": it runs on real time; mount it with `.manual_clock()` to move its clock"));
}

#[test]
fn a_refusal_speaks_of_the_fields_of_the_options() {
    let folder = tempfile::tempdir().expect("a folder");
    let (backing, view) = (folder.path().join("backing"), folder.path().join("view"));
    fs::create_dir(&backing).and_then(|()| fs::create_dir(&view)).expect("folders");
    let options = || MountOptions::new(&backing, &view);
    let both = MountOptions { kernel_cache: true, clock: Clock::manual(), ..options() };
    let refused = mount(both).map(drop).expect_err("it is refused").0;
    assert!(
        refused.starts_with("`kernel_cache` cannot be used with `clock: Clock::manual()`: "),
        "{refused}"
    );
    let client: Mount = mount(options()).expect("a client");
    let refused = client.advance(Duration::ZERO).expect_err("a real clock").0;
    assert!(refused.contains("mount it with `clock: Clock::manual()` to"), "{refused}");
}
