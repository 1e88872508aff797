//! Root's client that other users share: what one of them changes late never harms another, whatever has happened in the
//! backing directory since. These tests need a second user, so they are root's.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::unistd::geteuid;

use crate::sandbox::{Said, Sandbox, run};

const NOBODY: u32 = 65534;
const LATE: [&str; 6] = ["--allow-other", "--clock", "manual", "--meta-ttl", "1h", "--seed=1"];

/// A client `a` of root's over a directory in which everybody makes files; `None` for ordinary users.
fn shared(mode: u32, knobs: &[&str]) -> Option<Sandbox> {
    if !geteuid().is_root() {
        return None;
    }
    let sandbox = Sandbox::for_mounting();
    for (folder, mode) in [("", 0o755), ("shared", mode)] {
        fs::set_permissions(sandbox.path(folder), fs::Permissions::from_mode(mode)).expect("own folders");
    }
    let said = sandbox.mount("a", knobs);
    assert_eq!(said.code, Some(0), "{}", said.err);
    Some(sandbox)
}

/// A program of an ordinary user, in the folder with `a` and `shared`.
#[track_caller]
fn by_nobody(sandbox: &Sandbox, program: &str) -> Said {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "python3", "-c"]);
    // Not one that only root may run.
    command.env("PATH", "/usr/bin:/bin");
    let program = format!("import os\nos.umask(0)\n{program}");
    run(command.arg(program).current_dir(sandbox.path("")))
}

#[track_caller]
fn does(sandbox: &Sandbox, program: &str) {
    let said = by_nobody(sandbox, program);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

/// Owner, permissions and content of a file.
#[track_caller]
fn of(path: &Path) -> (u32, u32, String) {
    let facts = fs::symlink_metadata(path).expect("it is there");
    (facts.uid(), facts.mode() & 0o7777, fs::read_to_string(path).unwrap_or_default())
}

fn root_makes(path: &Path, mode: u32) {
    fs::write(path, "root's").expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("own file");
}

#[track_caller]
fn ends_well(sandbox: &Sandbox, conflicts: &[&str]) {
    sandbox.advance("1h");
    let umount = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
    assert_eq!(umount.code, Some(0), "{}", umount.err);
    let log = sandbox.log("a");
    let outcomes: Vec<&str> =
        log.lines().filter_map(|line| line.split_once(" outcome=")).map(|(_, o)| o).collect();
    assert_eq!(outcomes, conflicts, "{log}");
}

#[test]
fn a_file_of_root_is_never_given_away_it_makes_way() {
    let Some(sandbox) = shared(0o777, &LATE) else { return };
    let (tool, other) = (sandbox.path("shared/tool"), sandbox.path("other-name"));
    does(&sandbox, "os.close(os.open('a/tool', os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o4777))");
    root_makes(&tool, 0o4755);
    fs::hard_link(&tool, &other).expect("another name");
    ends_well(&sandbox, &["taken-over"]);
    assert_eq!(of(&tool), (NOBODY, 0o4777, String::new()));
    assert_eq!(of(&other), (0, 0o4755, "root's".to_string()));
}

#[test]
fn a_directory_with_the_sticky_bit_keeps_what_another_user_has_made_there_meanwhile() {
    let Some(sandbox) = shared(0o1777, &LATE) else { return };
    let path = |name: &str| sandbox.path("shared").join(name);
    for name in ["gone", "moved", "source"] {
        fs::write(path(name), "nobody's").unwrap();
        chown(path(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::create_dir(path("empty")).unwrap();
    chown(path("empty"), Some(NOBODY), Some(NOBODY)).unwrap();
    does(
        &sandbox,
        "os.close(os.open('a/file', os.O_CREAT | os.O_WRONLY, 0o4777))
os.mkfifo('a/fifo')
os.symlink('/', 'a/link')
os.mkdir('a/folder'); open('a/folder/inside', 'w').write('x')
os.unlink('a/gone')
os.rmdir('a/empty')
os.rename('a/moved', 'a/to')
os.rename('a/source', 'a/target')",
    );
    fs::remove_dir(path("empty")).unwrap();
    fs::create_dir(path("empty")).unwrap();
    for name in ["file", "fifo", "link", "folder", "gone", "moved", "target"] {
        let _ = fs::remove_file(path(name));
        root_makes(&path(name), 0o644);
    }
    sandbox.advance("1h");
    let umount = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
    let named: Vec<&str> = umount.err.lines().skip(1).map(str::trim_start).collect();
    let expected = ["/file: create: kept-theirs", "/fifo: make: kept-theirs"];
    assert!(umount.code == Some(1) && expected.iter().all(|line| named.contains(line)), "{}", umount.err);
    for name in ["file", "fifo", "link", "folder", "gone", "moved", "target"] {
        assert_eq!(of(&path(name)), (0, 0o644, "root's".to_string()), "{name}");
    }
    assert_eq!(of(&path("empty")).0, 0);
    assert_eq!(of(&path("source")), (NOBODY, 0o644, "nobody's".to_string()));
    assert!(!path("to").exists());
    let log = sandbox.log("a");
    for (verb, outcome, times) in [
        ("create", "kept-theirs", 1),
        ("make", "kept-theirs", 3),
        ("rename", "dropped", 2),
        ("rmdir", "kept-theirs", 1),
    ] {
        let seen = log.lines().filter(|line| line.contains(&format!(" mutation={verb} ")));
        assert_eq!(
            seen.filter(|line| line.ends_with(&format!("={outcome}"))).count(),
            times,
            "{verb}\n{log}"
        );
    }
}

#[test]
fn what_its_maker_owns_is_taken_over_as_it_is_and_the_owner_of_the_directory_removes_all() {
    let Some(sandbox) = shared(0o1777, &LATE) else { return };
    let file = sandbox.path("shared/file");
    let other = sandbox.path("other-name");
    does(&sandbox, "os.close(os.open('a/file', os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))");
    root_makes(&file, 0o644);
    chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::hard_link(&file, &other).expect("another name");
    fs::create_dir(sandbox.path("shared/own")).unwrap();
    ends_well(&sandbox, &["taken-over"]);
    assert_eq!(of(&other), (NOBODY, 0o600, String::new()), "the same inode");
}

/// Every kind of attribute on every kind of file, asked for, listed, set and removed: the answers.
const ATTRIBUTES: &str = "import errno
def said(call, *args):
    try: return call(*args)
    except OSError as error: return errno.errorcode[error.errno]
names = ['user.a', 'trusted.a', 'security.a', 'system.a', 'system.posix_acl_access', 'system.posix_acl_default', 'bogus.a']
for file in ['own', 'others', 'sticky', 'sticky/own', 'link', 'fifo']:
    path = os.path.join(root, file)
    print(file, sorted(os.listxattr(path, follow_symlinks=False)))
    for name in names:
        print(file, name, said(lambda: os.getxattr(path, name, follow_symlinks=False)),
              said(lambda: os.setxattr(path, name, b'2', follow_symlinks=False)),
              said(lambda: os.removexattr(path, name, follow_symlinks=False)))
";

#[test]
fn extended_attributes_are_for_whom_they_are_in_the_directory_itself() {
    const AT_ONCE: [&str; 7] =
        ["--allow-other", "--write-delay", "0", "--rename-delay", "0", "--meta-ttl", "0"];
    for knobs in [&AT_ONCE[..], &LATE] {
        let Some(sandbox) = shared(0o777, knobs) else { return };
        for root in ["shared", "plain"] {
            let path = |name: &str| sandbox.path(root).join(name);
            let _ = fs::create_dir(sandbox.path(root));
            fs::create_dir(path("sticky")).unwrap();
            for name in ["own", "others", "sticky/own"] {
                fs::write(path(name), "x").unwrap();
            }
            std::os::unix::fs::symlink("own", path("link")).unwrap();
            nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            for name in ["own", "sticky/own", "fifo"] {
                chown(path(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
            fs::set_permissions(path("others"), fs::Permissions::from_mode(0o666)).unwrap();
            fs::set_permissions(path("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
            for (name, file) in
                [("user.a", "own"), ("user.a", "others"), ("trusted.a", "own"), ("trusted.a", "link")]
            {
                let mut set = Command::new("setfattr");
                let set = set.args(["-h", "-n", name, "-v", "1"]).arg(path(file)).status();
                assert!(set.expect("setfattr(1) is installed").success());
            }
        }
        let asked = |root: &str| {
            let said = by_nobody(&sandbox, &format!("root = '{root}'\n{ATTRIBUTES}"));
            assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
            said.out
        };
        assert_eq!(asked("a"), asked("plain"), "{knobs:?}");
        let by_root = Command::new("getfattr").args(["-h", "-m", "-"]).arg(sandbox.path("a/own")).output();
        let by_root = by_root.expect("getfattr(1) is installed").stdout;
        assert!(String::from_utf8_lossy(&by_root).contains("trusted.a"), "root sees all");
    }
}

#[test]
fn nothing_new_is_ever_set_user_id_root_on_its_way_to_its_owner() {
    for knobs in [
        &["--allow-other", "--write-delay", "0", "--rename-delay", "0"],
        &["--allow-other", "--write-delay", "1", "--rename-delay", "1"],
    ] {
        let Some(sandbox) = shared(0o777, knobs) else { return };
        let (done, folder) = (AtomicBool::new(false), sandbox.path("shared"));
        let look = || {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                for entry in fs::read_dir(&folder).unwrap().flatten() {
                    let Ok(facts) = entry.metadata() else { continue };
                    let open_to_all = facts.mode() & 0o6007 != 0 && !facts.file_type().is_symlink();
                    seen += usize::from(facts.uid() == 0 && open_to_all && !facts.file_type().is_socket());
                }
            }
            seen
        };
        let seen = std::thread::scope(|scope| {
            let watcher = scope.spawn(look);
            let said = by_nobody(
                &sandbox,
                "for i in range(60):
    os.close(os.open('a/f', os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o4777)); os.unlink('a/f')
    os.mkfifo('a/p', 0o666); os.unlink('a/p')
    os.mkdir('a/d', 0o777); os.rmdir('a/d')",
            );
            done.store(true, Ordering::Relaxed);
            assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
            watcher.join().expect("it looks to the end")
        });
        assert_eq!(seen, 0);
    }
}

/// A file of nobody's in the backing directory.
fn nobody_has(path: &Path) {
    fs::write(path, "nobody's").expect("a file");
    chown(path, Some(NOBODY), Some(NOBODY)).expect("theirs");
}

#[test]
fn attributes_are_not_changed_on_what_its_owner_has_given_away_meanwhile() {
    let Some(sandbox) = shared(0o777, &LATE) else { return };
    let path = |name: &str| sandbox.path("shared").join(name);
    let names = ["mode", "times", "xattr", "acl", "stays"];
    names.iter().for_each(|name| nobody_has(&path(name)));
    // An ACL that lets user 1 write: user, named user, group, mask, others.
    does(
        &sandbox,
        "import struct
acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in
    [(1, 7, 0xffffffff), (2, 7, 1), (4, 0, 0xffffffff), (16, 7, 0xffffffff), (32, 0, 0xffffffff)])
os.chmod('a/mode', 0o4777)
os.utime('a/times', (1, 1))
os.setxattr('a/xattr', 'user.key', b'value')
os.setxattr('a/acl', 'system.posix_acl_access', acl)
os.chmod('a/stays', 0o6711)",
    );
    for name in &names[..4] {
        chown(path(name), Some(0), Some(0)).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    // The ACL was also a change of the mode.
    ends_well(&sandbox, &["kept-theirs"; 5]);
    for name in &names[..4] {
        assert_eq!(of(&path(name)), (0, 0o644, "nobody's".to_string()), "{name}");
        let attributes = run(Command::new("getfattr").args(["-d", "-m", "-"]).arg(path(name)));
        assert_eq!(attributes.out, "", "{name}");
    }
    assert!(fs::metadata(path("times")).unwrap().mtime() > 1);
    assert_eq!(of(&path("stays")), (NOBODY, 0o6711, "nobody's".to_string()));
}

#[test]
fn nobody_changes_attributes_by_what_the_client_believes_of_an_owner() {
    let Some(sandbox) = shared(0o777, &[&LATE[..], &["--rename-delay", "0"]].concat()) else { return };
    let file = sandbox.path("shared/file");
    nobody_has(&file);
    does(&sandbox, "os.chmod('a/file', 0o640); os.stat('a/file')");
    root_makes(&file, 0o644);
    chown(&file, Some(0), Some(0)).unwrap();
    // It is believed to be nobody's for an hour.
    let said = by_nobody(&sandbox, "os.chmod('a/file', 0o4777)");
    assert!(said.err.contains("PermissionError"), "{}", said.err);
    assert_eq!(of(&file), (0, 0o644, "root's".to_string()));
    ends_well(&sandbox, &[]);
}

#[test]
fn attributes_of_what_others_have_removed_meanwhile_are_a_conflict() {
    let Some(sandbox) = shared(0o777, &LATE) else { return };
    for name in ["mode", "xattr"] {
        fs::write(sandbox.path("shared").join(name), "").unwrap();
    }
    let held = fs::File::open(sandbox.path("a/mode")).unwrap();
    fs::set_permissions(sandbox.path("a/mode"), fs::Permissions::from_mode(0o600)).unwrap();
    let set = ["-n", "user.key", "-v", "value", "a/xattr"];
    assert_eq!(run(Command::new("setfattr").args(set).current_dir(sandbox.path(""))).code, Some(0));
    fs::remove_file(sandbox.path("shared/mode")).unwrap();
    fs::remove_file(sandbox.path("shared/xattr")).unwrap();
    sandbox.advance("1h");
    drop(held);
    ends_well(&sandbox, &["unseen", "unseen"]);
}
