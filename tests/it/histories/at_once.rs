//! All knobs at zero: two clients and programs on the backing directory itself cannot be told from one plain directory
//! (law 1).

use chaosfs::{clock::Clock, knobs::Knobs};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    host::{Host, KERNELS, Kernel},
    machine::{Machine, Twin},
    plain::Plain,
    program::{Op, cases, op},
    scratch,
    tree::{Tree, assert_same},
};

/// Runs each step by one of two clients (0, 1) or on the backing directory (2); after each, all see the same.
fn run(kernel: Kernel, steps: &[(usize, Op)]) {
    let folder = scratch();
    let [shared, plain] = ["shared", "plain"].map(|name| folder.path().join(name));
    std::fs::create_dir(&shared).and_then(|()| std::fs::create_dir(&plain)).expect("two folders");
    let clock = Clock::manual();
    let mut hosts = ["a", "b"].map(|id| Twin::new(Host::new(&shared, id, Knobs::zero(), &clock, kernel)));
    let mut backing = Twin::new(Plain::new(&shared));
    let plain = Plain::new(&plain);
    let mut expected = plain.look();
    for (number, (who, op)) in steps.iter().enumerate() {
        let directories = expected.directories();
        let changed = match hosts.get_mut(*who) {
            Some(host) => host.step(number, &plain, &directories, op),
            None => backing.step(number, &plain, &directories, op),
        };
        if changed {
            expected = plain.look();
        }
        let seen = backing.machine.look();
        assert_same(&format!("after step {number} {op:?} the backing directory"), &seen, &expected);
        for host in &hosts {
            compare(host, number, &seen, &plain);
        }
    }
}

/// A client shows the backing directory to the last nanosecond.
fn compare(host: &Twin<Host>, number: usize, backing: &Tree, plain: &Plain) {
    let view = host.machine.look();
    assert_same(&format!("after step {number} a client"), &view, backing);
    assert_eq!(
        view.marks, backing.marks,
        "after step {number}: numbers and times of a client and of the directory"
    );
    host.compare_files(number, plain);
}

fn steps() -> impl Strategy<Value = Vec<(usize, Op)>> {
    vec((0_usize..3, op()), 1..30)
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn with_zero_knobs_all_are_one(kernel in select(&KERNELS), steps in steps()) {
        run(kernel, &steps);
    }
}
