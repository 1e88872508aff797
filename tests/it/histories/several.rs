//! Two clients with delays and times to live, over one directory: what each may see of the other (laws 3 to 5), and what
//! is left in the end (law 6).

use std::time::Duration;

use chaosfs::{clock::Clock, knobs::Knobs, time::Time};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    host::{Host, HostFile, KERNELS, Kernel},
    machine::{Machine, Step},
    plain::Plain,
    program::{At, How, Move, Op, SAME, Times, cases, op, times},
    reference::{Reference, Touched},
    scratch,
    tree::assert_same,
};

/// One step of one of the clients.
#[derive(Clone, Copy, Debug)]
struct By(usize, Op);

struct World {
    _folder: tempfile::TempDir,
    shared: std::path::PathBuf,
    hosts: [Host; 2],
    files: [Vec<HostFile>; 2],
    clock: Clock,
    reference: Reference,
    steps: usize,
}

impl World {
    fn new(knobs: [Knobs; 2], kernel: Kernel) -> World {
        let folder = scratch();
        let shared = folder.path().join("shared");
        std::fs::create_dir(&shared).expect("a folder");
        let clock = Clock::manual();
        let reference = Reference::new(&shared, knobs.to_vec(), clock.now());
        let [first, second] = knobs;
        let hosts =
            [("a", first), ("b", second)].map(|(id, knobs)| Host::new(&shared, id, knobs, &clock, kernel));
        World { _folder: folder, shared, hosts, files: Default::default(), clock, reference, steps: 0 }
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn step(&mut self, By(who, op): &By) {
        self.steps += 1;
        match op {
            Op::Advance(millis) => self.advance(Duration::from_millis(*millis)),
            Op::Look => self.look(*who),
            _ => self.act(*who, op),
        }
    }

    fn act(&mut self, who: usize, op: &Op) {
        let directories = self.hosts[who].directories();
        let step = Step { number: self.steps, directories: &directories };
        let touched = self.touched(who, &step, op);
        let answer = step.run(&self.hosts[who], &mut self.files[who], op);
        let now = self.now();
        if let Op::Sync(_) = op {
            self.reference.hurry(who, now);
        } else if matches!(answer, Some(Ok(_))) {
            let is_data = !matches!(
                op,
                Op::SetMode(..)
                    | Op::SetTimes(..)
                    | Op::Mkdir(_)
                    | Op::Rmdir(_)
                    | Op::Unlink(_)
                    | Op::Symlink(_)
                    | Op::Mkfifo(_)
                    | Op::Link(..)
                    | Op::Rename(..)
            );
            self.reference.acknowledge(who, now, is_data, touched);
        }
        self.reference.look_at_store(now);
    }

    /// Everything that an operation could touch, as its client sees it.
    fn touched(&self, who: usize, step: &Step<'_>, op: &Op) -> Touched {
        let mut touched = Touched::default();
        let mut at = |at: At| self.hosts[who].touch(&step.path(at), &mut touched);
        match *op {
            // What is there, as this client sees it, is opened, and perhaps cut: neither its name nor the listing.
            Op::Open(place, how) if self.hosts[who].has(&step.path(place)) => {
                let cut = (how.flags() & libc::O_TRUNC != 0).then(|| step.path(place));
                cut.into_iter().for_each(|path| self.hosts[who].touch_inode(&path, &mut touched));
            }
            Op::Open(_, How::ToRead | How::ToWrite | How::ToChange | How::ToAppend | How::Truncate) => {}
            // These change what stands there, and neither its name nor the listing.
            Op::SetLength(place, _) | Op::SetMode(place, _) | Op::SetTimes(place, _) => {
                self.hosts[who].touch_inode(&step.path(place), &mut touched);
            }
            Op::Open(place, _)
            | Op::Mkdir(place)
            | Op::Rmdir(place)
            | Op::Unlink(place)
            | Op::Symlink(place)
            | Op::Mkfifo(place) => at(place),
            Op::Rename(from, to, _) if self.hosts[who].is_same(&step.path(from), &step.path(to)) => {}
            Op::Link(from, to) | Op::Rename(from, to, _) => {
                at(from);
                at(to);
            }
            Op::Write(file, ..)
            | Op::SetFileLength(file, _)
            | Op::PunchHole(file, ..)
            | Op::Allocate(file, ..)
            | Op::Copy(_, _, file, ..) => {
                let index = file.checked_rem(self.files[who].len());
                touched.inodes.extend(index.map(|index| self.files[who][index].ino));
            }
            _ => {}
        }
        touched
    }

    /// Lets time pass, and everything land at its own moment.
    fn pass(&mut self, span: Duration, land: fn(&mut World)) {
        let target = self.now() + span;
        loop {
            let dues = self.hosts.iter().filter_map(|host| host.client.next_due());
            let Some(due) = dues.min().filter(|due| *due <= target) else { break };
            self.clock.advance(due.since(self.now()));
            land(self);
        }
        self.clock.advance(target.since(self.now()));
    }

    /// The same before the eyes of the reference.
    fn advance(&mut self, span: Duration) {
        self.pass(span, World::land);
        for who in 0..2 {
            let (mutations, _) = self.hosts[who].client.in_flight();
            assert!(
                mutations == 0 || !self.reference.must_be_quiet(who, self.now()),
                "step {}: client {who} has {mutations} mutations that should have landed",
                self.steps
            );
        }
    }

    fn land(&mut self) {
        for who in 0..2 {
            self.hosts[who].client.land_due();
            self.reference.look_at_store(self.clock.now());
        }
    }

    /// Walks one client's view and asks the reference about each answer.
    fn look(&mut self, who: usize) {
        let now = self.now();
        self.hosts[who].walk(&mut |seen| {
            let reference = &mut self.reference;
            reference.check_listing(who, now, seen.directory, &seen.listed);
            for (name, found) in &seen.found {
                let place = (seen.directory, name.clone());
                reference.check_name(who, now, &place, found.as_ref().map(|found| found.ino));
                if let Some(found) = found {
                    reference.check_facts(who, now, found.ino, &found.facts);
                    if let (Some(content), Some(size)) = (&found.content, found.facts.size) {
                        reference.check_content(who, now, found.ino, size, content);
                    }
                }
            }
        });
    }

    /// All leave; then all agree, and nothing was lost but to somebody else.
    fn finish(mut self) {
        for who in 0..2 {
            self.look(who);
            for file in std::mem::take(&mut self.files[who]) {
                let _ = self.hosts[who].close(file);
            }
        }
        for host in &self.hosts {
            let (lost, named) = (host.finish().lost, host.events("lost"));
            assert_eq!(lost.len(), named.len(), "lost without a word: {lost:?}");
        }
        let expected = Plain::new(&self.shared).look();
        for host in &self.hosts {
            host.expire();
            assert_same("after all have left a client", &host.look(), &expected);
        }
    }
}

/// The knobs of both, and what their kernels do.
#[derive(Clone, Copy, Debug)]
struct Case(Times, Times, Kernel);

fn run(case: Case, steps: &[By]) {
    let mut world = World::new([case.0.knobs(), case.1.knobs()], case.2);
    steps.iter().for_each(|step| world.step(step));
    world.finish();
}

#[derive(Clone)]
struct Steps(Vec<By>);

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> = self.0.iter().map(|step| format!("    {step:?},\n")).collect();
        write!(f, "&[\n{}]", lines.concat())
    }
}

fn steps() -> impl Strategy<Value = Steps> {
    let step = prop_oneof![4 => op(), 1 => Just(Op::Look)];
    vec((0_usize..2, step).prop_map(|(who, op)| By(who, op)), 1..40).prop_map(Steps)
}

fn case() -> impl Strategy<Value = Case> {
    (times(), times(), select(&KERNELS)).prop_map(|(first, second, kernel)| Case(first, second, kernel))
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_others_see_was_there_is_due_and_never_goes_back(case in case(), steps in steps()) {
        run(case, &steps.0);
    }
}

/// What each step answered and each look showed, but for numbers and times.
fn told(case: Case, kernel: Kernel, steps: &[By]) -> Vec<String> {
    let mut world = World::new([case.0.knobs(), case.1.knobs()], kernel);
    let mut told = Vec::new();
    for By(who, op) in steps {
        world.steps += 1;
        match op {
            Op::Advance(millis) => world.pass(Duration::from_millis(*millis), |world| {
                world.hosts.iter().for_each(|host| host.client.land_due());
            }),
            Op::Look => world.hosts[*who].walk(&mut |seen| {
                let found = seen
                    .found
                    .iter()
                    .map(|(name, found)| (name, found.as_ref().map(|found| (&found.facts, &found.content))));
                told.push(format!("{}: {:?}, {:?}", world.steps, seen.listed, found.collect::<Vec<_>>()));
            }),
            _ => {
                let directories = world.hosts[*who].directories();
                let step = Step { number: world.steps, directories: &directories };
                let answer = step.run(&world.hosts[*who], &mut world.files[*who], op);
                told.push(format!("{}: {op:?}: {answer:?}", world.steps));
            }
        }
    }
    for who in 0..2 {
        for file in std::mem::take(&mut world.files[who]) {
            let _ = world.hosts[who].close(file);
        }
        told.push(format!("{:?}", world.hosts[who].finish().lost));
    }
    told
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_the_kernel_remembers_changes_nothing(case in case(), steps in steps()) {
        let [forgetting, remembering] =
            [Kernel::Forgets, Kernel::Remembers].map(|kernel| told(case, kernel, &steps.0));
        let first = forgetting.iter().zip(&remembering).find(|(one, other)| one != other);
        prop_assert!(first.is_none(), "{first:#?}");
    }
}

#[test]
fn a_directory_merged_with_somebody_elses_shows_their_times() {
    let steps = [
        By(0, Op::Mkdir(At(0, 0))),
        By(0, Op::SetTimes(At(0, 0), 1)),
        By(0, Op::Look),
        By(1, Op::Mkdir(At(0, 0))),
    ];
    run(
        Case(
            Times(0, (0, 0), (400, 400), SAME),
            Times(1500, (100, 1300), (400, 400), SAME),
            Kernel::Remembers,
        ),
        &steps,
    );
}

#[test]
fn a_directory_that_a_merge_left_alone_keeps_the_time_that_was_set() {
    let steps = [
        By(0, Op::Mkdir(At(0, 1))),
        By(1, Op::SetTimes(At(2, 1), 1)),
        By(1, Op::Mkdir(At(1, 2))),
        By(0, Op::Mkdir(At(1, 2))),
    ];
    run(Case(Times(0, (0, 0), (0, 0), SAME), Times(0, (0, 0), (400, 400), SAME), Kernel::Remembers), &steps);
}

#[test]
fn a_listing_is_believed_on_after_a_change_of_what_is_listed() {
    let steps = [
        By(0, Op::Mkdir(At(0, 2))),
        By(0, Op::Look),
        By(1, Op::Rmdir(At(2, 2))),
        By(0, Op::SetMode(At(0, 2), 384)),
        By(0, Op::Advance(1)),
    ];
    run(Case(Times(1500, (0, 0), (0, 0), SAME), Times(0, (0, 0), (0, 0), SAME), Kernel::Remembers), &steps);
}

#[test]
fn a_name_is_believed_on_after_what_it_led_to_was_cut() {
    let steps = [
        By(0, Op::Open(At(0, 1), How::Create)),
        By(0, Op::Open(At(0, 2), How::Create)),
        By(0, Op::Advance(300)),
        By(0, Op::Advance(1200)),
        By(0, Op::Close(0)),
        By(1, Op::Rename(At(0, 2), At(0, 1), Move::Over)),
        By(0, Op::Open(At(0, 1), How::Truncate)),
        By(0, Op::Advance(1)),
    ];
    run(Case(Times(1500, (0, 0), (0, 0), SAME), Times(0, (0, 0), (0, 0), SAME), Kernel::Remembers), &steps);
}

#[test]
fn what_was_moved_here_and_removed_elsewhere_can_be_removed_with_its_directory() {
    use Op::*;
    let late = Times(0, (500, 500), (500, 500), SAME).knobs();
    let mut world = World::new([late, Knobs::zero()], Kernel::Forgets);
    let (file, folder, inside) = (At(0, 0), At(0, 1), At(1, 0));
    world.step(&By(1, Open(file, How::Create)));
    world.step(&By(0, Mkdir(folder)));
    world.step(&By(0, Rename(file, inside, Move::Over)));
    world.step(&By(1, Unlink(file)));
    let directories = world.hosts[0].directories();
    let step = Step { number: 1, directories: &directories };
    let mut files = Vec::new();
    for op in [Unlink(inside), Rmdir(folder)] {
        let answer = step.run(&world.hosts[0], &mut files, &op);
        assert!(matches!(answer, Some(Ok(_))), "{op:?}: {answer:?}");
    }
    world.step(&By(0, Advance(2_000)));
    assert!(world.hosts[0].events("conflict").iter().any(|line| line.ends_with(" outcome=dropped")));
    world.finish();
}

/// Client 0 is late and client 1 is not. What 0 logs of its conflicts, and what is left: paths, in order.
fn conflicts(before: &[Op], late: &[Op], meanwhile: &[Op]) -> (Vec<String>, String) {
    let late_knobs = Times(0, (500, 500), (500, 500), SAME).knobs();
    let mut world = World::new([late_knobs, Knobs::zero()], Kernel::Remembers);
    before.iter().for_each(|op| world.step(&By(1, *op)));
    late.iter().for_each(|op| world.step(&By(0, *op)));
    meanwhile.iter().for_each(|op| world.step(&By(1, *op)));
    world.step(&By(0, Op::Advance(500)));
    let outcome = |line: &String| line.split(" outcome=").nth(1).expect("an outcome").to_string();
    let outcomes = world.hosts[0].events("conflict").iter().map(outcome).collect();
    let left: Vec<String> = Plain::new(&world.shared).look().seen.into_keys().skip(1).collect();
    world.finish();
    (outcomes, left.join(" "))
}

#[test]
fn the_last_writer_wins_and_every_conflict_is_an_event() {
    use How::*;
    use Op::*;
    let (a, b, inside) = (At(0, 0), At(0, 1), At(1, 0));
    let file = Open(a, Create);
    for (what, before, late, meanwhile, outcome, left) in [
        ("a file there is taken over", &[] as &[Op], &[file] as &[Op], &[file] as &[Op], "taken-over", "a"),
        (
            "a directory there is merged",
            &[],
            &[Mkdir(a)],
            &[Mkdir(a), Open(inside, Create)],
            "merged",
            "a a/a",
        ),
        ("something else is replaced", &[], &[Mkdir(a)], &[file], "replaced", "a"),
        ("a directory with entries stays", &[], &[file], &[Mkdir(a), Mkdir(inside)], "kept-theirs", "a a/a"),
        (
            "a name in a directory that is gone is unseen, with its data",
            &[Mkdir(a)],
            &[Open(inside, Create), Write(0, 0, 3)],
            &[Rmdir(a)],
            "unseen",
            "",
        ),
        (
            "a rename into a directory that is gone is dropped",
            &[Mkdir(a), Open(b, Create)],
            &[Rename(b, inside, Move::Over)],
            &[Rmdir(a)],
            "dropped",
            "b",
        ),
        ("a name gone stays gone", &[file], &[Unlink(a)], &[Unlink(a)], "stays-gone", ""),
        ("a directory gone stays gone", &[Mkdir(a)], &[Rmdir(a)], &[Rmdir(a)], "stays-gone", ""),
        (
            "a directory no longer empty stays",
            &[Mkdir(a)],
            &[Rmdir(a)],
            &[Mkdir(inside)],
            "kept-theirs",
            "a a/a",
        ),
        (
            "a rename without a source is dropped",
            &[file],
            &[Rename(a, b, Move::Over)],
            &[Unlink(a)],
            "dropped",
            "",
        ),
        ("a link to what is gone is dropped", &[file], &[Link(a, b)], &[Unlink(a)], "dropped", ""),
        ("a rename replaces", &[file], &[Rename(a, b, Move::Over)], &[Open(b, Create)], "replaced", "b"),
        (
            "data goes on top",
            &[file],
            &[Open(a, ToChange), Write(0, 0, 3)],
            &[Write(0, 0, 9)],
            "ours-on-top",
            "a",
        ),
        (
            "data of a removed file is unseen",
            &[file],
            &[Open(a, ToChange), Write(0, 0, 3)],
            &[Unlink(a)],
            "unseen",
            "",
        ),
    ] {
        assert_eq!(
            conflicts(before, late, meanwhile),
            (vec![outcome.to_string()], left.to_string()),
            "{what}"
        );
    }
}
