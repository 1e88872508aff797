//! What SECURITY.md promises and nothing else tests.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
};

use crate::{
    sandbox::{Sandbox, run},
    shortage::limited,
    strangers::with_theirs,
};

#[test]
fn an_ordinary_users_mount_is_closed_to_root_and_gives_nobody_rights() {
    let script = r#"
options, = [fields[5].split(",") for fields in mounts() if fields[4] == FOLDER + "/theirs/d/m"]
try: print(os.listdir("theirs/d/m"))
except PermissionError: print("closed", "nosuid" in options, "nodev" in options)
"#;
    let Some(said) = with_theirs("", script) else { return };
    assert_eq!(said, "closed True True\n");
}

#[test]
fn a_mount_is_made_where_it_was_examined_whatever_is_put_in_the_way() {
    // The helper is found by PATH, so that it can wait until somebody has renamed the folder above the mountpoint.
    let script = r##"
os.makedirs("other/m"); os.mkdir("tools"); os.chmod("theirs", 0o777)
with open("tools/fusermount3", "w") as helper:
    helper.write(f"#!/bin/sh\nif [ ! -h {FOLDER}/theirs/e ]; then mv {FOLDER}/theirs/e {FOLDER}/theirs/away\n"
        f"ln -s {FOLDER}/other {FOLDER}/theirs/e; fi\nPATH=${{PATH#*:}} exec fusermount3 \"$@\"\n")
os.chmod("tools/fusermount3", 0o755)
def mount_late():
    os.environ["PATH"] = FOLDER + "/tools:" + os.environ["PATH"]
    os.chdir("theirs"); os.makedirs("e/m")
    subprocess.call([BINARY, "mount", "back", "e/m", "--client-id", "late", "--background", "--log-file", "late.log"])
done(as_nobody(mount_late))
print(sorted(fields[4] for fields in mounts() if fields[4].endswith("/m") and "fuse.chaosfs" in fields))
chaosfs("umount", "theirs/away/m")
"##;
    let Some(said) = with_theirs("", script) else { return };
    assert_eq!(said, "['DIR/theirs/away/m', 'DIR/theirs/d/m']\n");
}

#[test]
fn a_program_that_opens_more_files_than_fit_is_refused_and_everything_else_goes_on() {
    let sandbox = Sandbox::for_mounting();
    let flags = ["mount", "shared", "a", "--background", "--client-id", "a", "--log-dir", "logs"];
    let mounted = run(&mut limited("ulimit -n 32", &sandbox.chaosfs(&flags)));
    assert_eq!(mounted.code, Some(0), "{}", mounted.err);
    for number in 0..100 {
        fs::write(sandbox.path(&format!("shared/f{number}")), "text").unwrap();
    }
    let open = |number: u32| File::open(sandbox.path(&format!("a/f{number}")));
    let opened: Vec<_> = (0..100).map(open).collect();
    let refusals: Vec<_> = opened.iter().filter_map(|file| file.as_ref().err()?.raw_os_error()).collect();
    assert!(!refusals.is_empty() && refusals.iter().all(|errno| *errno == libc::EMFILE), "{refusals:?}");
    fs::create_dir(sandbox.path("a/made")).expect("what needs no descriptor for long goes on");
    for command in [["status", "a"], ["flush", "a"]] {
        let said = run(&mut sandbox.chaosfs(&command));
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    assert!(sandbox.path("shared/made").is_dir());
    drop(opened);
    let said = run(&mut sandbox.chaosfs(&["umount", "a"]));
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[test]
fn a_run_works_in_a_folder_that_only_its_user_can_enter() {
    let sandbox = Sandbox::for_mounting();
    let script = "stat -c '%a %F' \"$TMPDIR\"/*";
    let said = run(&mut sandbox.run_command(&["--", "sh", "-c", script]));
    assert_eq!((said.code, said.out.as_str()), (Some(0), "700 directory\n"), "{}", said.err);
}

#[test]
fn a_log_names_paths_and_no_content_and_its_mode_follows_the_umask() {
    let sandbox = Sandbox::for_mounting();
    let flags = ["mount", "shared", "a", "--background", "--client-id", "a", "--log-file", "log", "--debug"];
    let mounted = run(&mut limited("umask 027", &sandbox.chaosfs(&flags)));
    assert_eq!(mounted.code, Some(0), "{}", mounted.err);
    fs::write(sandbox.path("a/name"), "confidential").unwrap();
    assert_eq!(fs::read_to_string(sandbox.path("a/name")).unwrap(), "confidential");
    assert_eq!(run(&mut sandbox.chaosfs(&["umount", "a"])).code, Some(0));
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(log.contains("path=/name") && !log.contains("confidential"), "{log}");
    assert_eq!(fs::metadata(sandbox.path("log")).unwrap().permissions().mode() & 0o777, 0o640);
}
