//! The life of a mount that a program makes through the library.

use std::{fs, fs::File, path::Path, sync::Arc, thread};

use chaosfs::{EventLog, Knobs, Mount, MountOptions, Unmounted, mount, mounts_below, unmount};
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["shared", "view"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Place(folder)
    }

    fn view(&self) -> std::path::PathBuf {
        self.0.path().join("view")
    }

    fn mount(&self) -> Mount {
        let mut options = MountOptions::new(self.0.path().join("shared"), self.view());
        options.knobs = Knobs::zero();
        options.log = Some(EventLog::silent());
        mount(options).expect("a mount")
    }

    fn is_mounted(&self) -> bool {
        !mounts_below(self.0.path()).expect("a mount table").is_empty()
    }
}

fn open(path: &Path) -> File {
    File::open(path).expect("it opens")
}

#[test]
fn a_busy_mount_goes_on_serving_until_it_is_free() {
    let place = Place::new();
    let mount = place.mount();
    let user = open(mount.mountpoint());
    let refusal = mount.unmount().unwrap_err().to_string();
    assert!(
        refusal.ends_with("cannot unmount: busy: a program has a file or its working directory there"),
        "{refusal}"
    );
    assert!(place.is_mounted());
    drop(user);
    assert_eq!(mount.unmount(), Ok(()));
    assert!(!place.is_mounted());
    assert_eq!(mount.land().lost, Vec::<String>::new());
}

#[test]
fn dropping_a_mount_leaves_even_when_it_is_busy() {
    let place = Place::new();
    let mount = place.mount();
    let user = open(mount.mountpoint());
    drop(mount);
    assert!(!place.is_mounted());
    drop(user);
}

#[test]
fn leaving_ends_the_wait_and_nothing_of_somebody_else_is_unmounted() {
    let place = Place::new();
    let first = Arc::new(place.mount());
    let waiter = thread::spawn({
        let first = first.clone();
        move || first.wait()
    });
    first.leave();
    waiter.join().expect("the wait ends");
    let second = place.mount();
    first.land();
    drop(first);
    assert!(place.is_mounted());
    drop(second);
}

#[test]
fn a_client_that_was_unmounted_from_outside_leaves_the_next_mount_alone() {
    let place = Place::new();
    let first = place.mount();
    thread::scope(|scope| {
        let outside = scope.spawn(|| unmount(&place.view()));
        first.wait();
        // The kernel gives the same device number to the next mount.
        let second = place.mount();
        first.leave();
        first.land();
        assert!(place.is_mounted());
        drop(second);
        assert!(outside.join().expect("an outcome").is_success());
    });
}

#[test]
fn whoever_unmounts_from_outside_hears_the_farewell() {
    let place = Place::new();
    let mount = place.mount();
    let outcome = thread::scope(|scope| {
        let outside = scope.spawn(|| unmount(&place.view()));
        mount.wait();
        let farewell = mount.land();
        (outside.join().expect("an outcome"), farewell)
    });
    let Unmounted::Gone(heard) = outcome.0 else { panic!("{:?}", outcome.0) };
    assert_eq!((heard.landed, heard.lost), (outcome.1.landed, outcome.1.lost));
    assert_eq!(unmount(&place.view()), Unmounted::NotMounted);
}
