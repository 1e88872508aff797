//! Programs that have nothing in common: two clients in a directory each end up with what a plain directory would hold
//! (law 6), and faults repeat for each of them however the two are interleaved (law 7).

use std::time::Duration;

use chaosfs::{clock::Clock, knobs::Knobs};
use proptest::{collection::vec, prelude::*};

use super::{
    host::{Host, Kernel},
    machine::{Machine, Step, Twin},
    plain::Plain,
    program::{Op, Program, Times, cases, program, times},
    scratch,
    tree::assert_same,
};

const HOMES: [&str; 2] = ["a", "b"];

fn folders(root: &std::path::Path) -> [std::path::PathBuf; 2] {
    let folders = ["shared", "plain"].map(|name| root.join(name));
    for folder in &folders {
        HOMES.iter().for_each(|home| std::fs::create_dir_all(folder.join(home)).expect("a folder"));
    }
    folders
}

/// Runs each step by the client whose home it is in; answers and the end are those of a plain directory.
fn run_apart(times: [Times; 2], steps: &[(usize, Op)]) {
    let folder = scratch();
    let [shared, plain] = folders(folder.path());
    let clock = Clock::manual();
    let plain = Plain::new(&plain);
    let host =
        |who: usize| Twin::new(Host::new(&shared, HOMES[who], times[who].knobs(), &clock, Kernel::Remembers));
    let mut twins = [host(0), host(1)];
    for (number, (who, op)) in steps.iter().enumerate() {
        twins[*who].step(number, &plain, &[HOMES[*who].to_string()], op);
        if let Op::Advance(millis) = op {
            clock.advance(Duration::from_millis(*millis));
            twins.iter().for_each(|twin| twin.machine.client.land_due());
        }
    }
    for twin in &mut twins {
        twin.close_all();
        let lost = twin.machine.finish().lost;
        assert_eq!((lost, twin.machine.events("conflict")), (Vec::new(), Vec::<String>::new()));
    }
    assert_same("the backing directory", &Plain::new(&shared).look(), &plain.look());
}

/// Runs two programs on one client that injects faults, the steps of the second between those of the first where
/// `turns` says so. Returns the fault lines without times, by program.
fn faults(programs: [&Program; 2], turns: &[bool]) -> [Vec<String>; 2] {
    let folder = scratch();
    let [shared, _] = folders(folder.path());
    let clock = Clock::manual();
    let host =
        Host::new(&shared, "a", Knobs { drop_prob: 0.2, ..Knobs::default() }, &clock, Kernel::Remembers);
    let mut queues = programs.map(|program| program.0.iter().enumerate());
    let mut files = [Vec::new(), Vec::new()];
    let mut turns = turns.iter().copied().chain(std::iter::repeat(false));
    loop {
        let first = usize::from(turns.next() == Some(true));
        let Some((who, (number, op))) =
            [first, 1 - first].into_iter().find_map(|who| Some((who, queues[who].next()?)))
        else {
            break;
        };
        Step { number, directories: &[HOMES[who].to_string()] }.run(&host, &mut files[who], op);
    }
    let lines = host.events("fault");
    HOMES.map(|home| {
        let path = format!(" path=/{home}");
        let own = lines.iter().filter(|line| line.contains(&path));
        own.map(|line| line.split(" event=").nth(1).expect("an event").to_string()).collect()
    })
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn clients_that_work_apart_leave_what_a_plain_directory_would_hold(
        first in times(), second in times(), steps in vec((0_usize..2, super::program::op()), 1..40)
    ) {
        run_apart([first, second], &steps);
    }

    #[test]
    fn faults_of_one_program_are_the_same_whatever_another_does_meanwhile(
        first in program(30), second in program(30), turns in vec(any::<bool>(), 0..60)
    ) {
        let one_after_the_other = faults([&first, &second], &[]);
        prop_assert_eq!(faults([&first, &second], &turns), one_after_the_other);
    }
}
