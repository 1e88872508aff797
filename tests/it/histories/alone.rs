//! One client, any knobs, no faults: programs see exactly what they would see on a plain directory (law 2), and so
//! does the backing directory in the end (law 6).

use std::{path::PathBuf, time::Duration};

use chaosfs::{Knobs, clock::Clock, knobs::profiles};
use proptest::{prelude::*, sample::select};

use crate::sandbox::as_root_among_users;

use super::{
    host::{Host, KERNELS, Kernel},
    machine::{Machine, Twin},
    plain::Plain,
    program::{
        At,
        How::*,
        Move::*,
        Op::{self, *},
        SAME, Times, cases, program, times,
    },
    scratch,
    tree::{Tree, assert_same},
};

/// What a program does not say: knobs, whether the whole tree is compared after every step, and whether the kernel
/// forgets at once what it knows, or nothing, or even keeps what it may.
#[derive(Clone, Copy, Debug)]
struct Case {
    times: Times,
    /// A profile in place of these knobs.
    profile: Option<&'static str>,
    looks: bool,
    kernel: Kernel,
}

impl Case {
    fn knobs(&self) -> Knobs {
        let Some(name) = self.profile else { return self.times.knobs() };
        let mut knobs = Knobs::of_profile(name).expect("it is in the binary");
        // Programs wait for about a second: as long as a name of NFS lives at this scale. What the storage itself does
        // otherwise than a plain directory is left out.
        for (knob, value) in [
            ("time_scale", "0.03"),
            ("hide_open_as", "nothing"),
            ("rename_flags", "noreplace+exchange"),
            ("refuses", "none"),
            ("writes_at", "anywhere"),
            ("link_counts", "counted"),
            ("modes", "stored"),
            ("rename_by", "move"),
        ] {
            knobs.set(knob, value).expect("it is right");
        }
        knobs
    }
}

/// A client over one directory, and a plain directory beside it.
struct History {
    _folder: tempfile::TempDir,
    shared: PathBuf,
    twin: Twin<Host>,
    plain: Plain,
    clock: Clock,
    expected: Tree,
    /// What the client last showed, until an operation changes something.
    last_look: Option<Tree>,
    steps: usize,
    case: Case,
}

impl History {
    fn new(case: Case) -> History {
        let folder = scratch();
        let [shared, plain] = ["shared", "plain"].map(|name| folder.path().join(name));
        std::fs::create_dir(&shared).and_then(|()| std::fs::create_dir(&plain)).expect("two folders");
        let clock = Clock::manual();
        let twin = Twin::new(Host::new(&shared, "a", case.knobs(), &clock, case.kernel));
        let plain = Plain::new(&plain);
        let expected = plain.look();
        History { _folder: folder, shared, twin, plain, clock, expected, last_look: None, steps: 0, case }
    }

    fn step(&mut self, op: &Op) {
        self.steps += 1;
        if self.twin.step(self.steps, &self.plain, &self.expected.directories(), op) {
            self.last_look = None;
            self.expected = self.plain.look();
        }
        if let Advance(millis) = op {
            self.clock.advance(Duration::from_millis(*millis));
            self.twin.machine.client.land_due();
        }
        if self.case.looks || *op == Look {
            self.compare();
        }
    }

    /// Compares all that can be seen. While nothing is changed, numbers and times stay, whatever lands meanwhile, for
    /// as long as they are not forgotten.
    fn compare(&mut self) {
        let seen = self.twin.machine.look();
        assert_same(&format!("after step {} the client", self.steps), &seen, &self.expected);
        if let Some(last) = self.last_look.as_ref().filter(|_| self.case.kernel != Kernel::Forgets)
            // A server dates data when it gets it.
            && self.case.profile.is_none()
        {
            assert_eq!(seen.marks, last.marks, "after step {}: numbers and times, and before it", self.steps);
        }
        self.twin.compare_files(self.steps, &self.plain);
        self.last_look = Some(seen);
    }

    /// Leaves, and compares the backing directory.
    fn finish(mut self) {
        self.compare();
        if self.steps.is_multiple_of(2) {
            self.twin.close_all();
        }
        let farewell = self.twin.machine.finish();
        let conflicts = self.twin.machine.events("conflict");
        assert_eq!((farewell.lost, conflicts), (Vec::new(), Vec::<String>::new()));
        assert_same("the backing directory", &Plain::new(&self.shared).look(), &self.expected);
        self.compare();
        self.twin.close_all();
        self.twin.machine.forget_all();
        self.twin.machine.client.let_nothing_linger();
        let known = self.twin.machine.client.known_inodes().0;
        assert_eq!(known, 1, "only the root is known when all is closed and forgotten");
    }
}

fn run(case: Case, ops: &[Op]) {
    let mut history = History::new(case);
    ops.iter().for_each(|op| history.step(op));
    history.finish();
}

/// Runs a program by every kind of looking and forgetting.
fn run_always(times: Times, ops: &[Op]) {
    for kernel in KERNELS {
        for looks in [false, true] {
            run(Case { times, profile: None, looks, kernel }, ops);
        }
    }
}

fn case() -> impl Strategy<Value = Case> {
    (times(), any::<bool>(), select(&KERNELS)).prop_map(|(times, looks, kernel)| Case {
        times,
        profile: None,
        looks,
        kernel,
    })
}

fn case_of_a_profile() -> impl Strategy<Value = Case> {
    let names: Vec<&'static str> = profiles::names().collect();
    let kernels = vec![Kernel::Forgets, Kernel::Remembers];
    (select(names), any::<bool>(), select(kernels)).prop_map(|(name, looks, kernel)| Case {
        times: Times(0, (0, 0), (0, 0), SAME),
        profile: Some(name),
        looks,
        kernel,
    })
}

#[test]
fn a_program_alone_sees_a_plain_directory() {
    // An ordinary user, and the root of a user namespace in part, are checked on a plain directory by the kernel. No kernel
    // stands before this client.
    if as_root_among_users("histories::alone::a_program_alone_sees_a_plain_directory") {
        proptest!(cases(600), |(case in case(), program in program(40))| run(case, &program.0));
    }
}

#[test]
fn a_program_alone_sees_a_plain_directory_whatever_the_profile() {
    if as_root_among_users("histories::alone::a_program_alone_sees_a_plain_directory_whatever_the_profile") {
        proptest!(cases(400), |(case in case_of_a_profile(), program in program(40))| run(case, &program.0));
    }
}

#[test]
fn a_write_to_a_file_that_is_unlinked_before_it_lands_is_no_conflict() {
    run_always(
        Times(0, (400, 400), (0, 0), SAME),
        &[Open(At(0, 1), Create), Unlink(At(0, 1)), Write(0, 0, 1)],
    );
}

#[test]
fn a_write_after_a_file_has_lost_one_of_its_names_is_no_conflict() {
    let program = [
        Open(At(0, 0), Create),
        Link(At(0, 0), At(0, 2)),
        Advance(300),
        SetMode(At(0, 2), 384),
        PunchHole(0, 0, 1),
        Advance(1200),
        Write(0, 0, 1),
        Write(0, 0, 1),
        Advance(300),
        Unlink(At(0, 0)),
        Write(0, 0, 1),
    ];
    run_always(Times(0, (100, 1300), (0, 0), SAME), &program);
}

#[test]
fn unlink_ends_when_nothing_is_believed_and_nothing_is_in_flight() {
    run_always(Times(0, (0, 0), (400, 400), SAME), &[Open(At(0, 0), Create), Advance(800), Unlink(At(0, 0))]);
}

#[test]
fn a_file_linked_elsewhere_keeps_its_old_name_until_it_has_the_new_one() {
    let ops = [
        Open(At(0, 1), Create),
        Write(0, 0, 1),
        Link(At(0, 1), At(0, 2)),
        Unlink(At(0, 1)),
        Advance(400),
        Look,
    ];
    run_always(Times(0, (400, 400), (100, 1300), SAME), &ops);
}

#[test]
fn a_directory_that_is_renamed_after_a_file_was_made_in_it_keeps_its_time() {
    let ops = [Mkdir(At(0, 2)), Open(At(1, 0), Create), Rename(At(0, 2), At(0, 0), Over), Sync(0)];
    run_always(Times(0, (0, 0), (400, 400), SAME), &ops);
}

#[test]
fn a_directory_keeps_its_time_when_names_land_in_it_in_another_order() {
    run_always(
        Times(0, (800, 800), (400, 400), SAME),
        &[Open(At(0, 0), Create), Mkdir(At(0, 1)), Advance(800)],
    );
}

#[test]
fn data_written_after_the_name_has_gone_is_no_conflict() {
    let replaced = [
        Open(At(0, 0), Create),
        Open(At(0, 1), Create),
        Advance(400),
        Rename(At(0, 1), At(0, 0), Over),
        PunchHole(2, 0, 1),
    ];
    run_always(Times(0, (400, 400), (0, 0), SAME), &replaced);
    let removed = [
        Open(At(0, 0), Create),
        Rename(At(0, 0), At(0, 1), Over),
        Advance(400),
        Unlink(At(0, 1)),
        Write(0, 0, 1),
    ];
    run_always(Times(0, (400, 400), (0, 0), SAME), &removed);
}

#[test]
fn data_in_flight_survives_the_removal_of_another_name() {
    let ops = [
        Open(At(0, 0), Create),
        Advance(400),
        Link(At(0, 0), At(0, 1)),
        Write(0, 0, 5),
        Close(0),
        Unlink(At(0, 0)),
        Advance(400),
    ];
    run_always(Times(0, (400, 400), (0, 0), SAME), &ops);
}

#[test]
fn attributes_land_on_what_was_made_in_a_directory_that_is_forgotten() {
    run_always(
        Times(0, (0, 0), (400, 400), SAME),
        &[Mkdir(At(0, 0)), Mkfifo(At(1, 1)), SetTimes(At(1, 1), 1)],
    );
}

#[test]
fn fsync_of_a_file_reaches_the_directory_of_a_second_name_that_is_forgotten() {
    let ops = [Open(At(0, 0), Create), Mkdir(At(0, 1)), Link(At(2, 0), At(1, 0)), Sync(0)];
    run_always(Times(0, (100, 1300), (0, 0), SAME), &ops);
}
