//! `chaosfs exec`: a command that sees a client where other hosts see it.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use nix::{sys::signal::Signal, unistd::geteuid};

use crate::sandbox::{CHAOSFS, Foreground, Sandbox, eventually, run};

fn mounted() -> Sandbox {
    let sandbox = Sandbox::for_mounting();
    fs::create_dir(sandbox.path("shared/sub")).unwrap();
    for name in ["a", "b"] {
        let slow = ["--meta-ttl", "1h", "--write-delay", "1h", "--rename-delay", "1h"];
        assert_eq!(sandbox.mount(name, &slow).code, Some(0));
    }
    sandbox
}

#[test]
fn two_hosts_use_the_same_path_and_disagree_about_it() {
    let sandbox = mounted();
    let shared = sandbox.path("shared");
    let script = format!("ls {0}; echo $1 > {0}/of-$1; ls {0}", shared.display());
    for (name, seen) in [("a", "sub\nof-a\nsub\n"), ("b", "sub\nof-b\nsub\n")] {
        let said = run(&mut sandbox.chaosfs(&["exec", name, "--", "sh", "-c", &script, "sh", name]));
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), seen, ""));
    }
    assert!(!shared.join("of-a").exists(), "nobody else sees the client there");
}

#[test]
fn it_becomes_the_command() {
    let sandbox = mounted();
    let child = Foreground::start(&mut sandbox.chaosfs(&["exec", "a", "--", "sh", "-c", "echo $$; exit 7"]));
    let pid = child.pid();
    let said = child.wait();
    assert_eq!((said.code, said.out, said.err.as_str()), (Some(7), format!("{pid}\n"), ""));

    let script = "trap 'exit 9' TERM; : > here; while :; do sleep 0.01; done";
    let child = Foreground::start(&mut sandbox.chaosfs(&["exec", "a", "--", "sh", "-c", script]));
    eventually("the trap", || sandbox.path("here").exists(), |there| *there);
    child.signal(Signal::SIGTERM);
    assert_eq!(child.wait().code, Some(9));
}

#[test]
fn a_working_directory_there_is_entered_again_on_the_client() {
    let sandbox = mounted();
    let sub = sandbox.path("shared/sub");
    let mut command = sandbox.chaosfs(&["exec", "../../a", "--", "sh", "-c", "pwd; echo hello > file; ls"]);
    let said = run(command.current_dir(&sub));
    assert_eq!((said.code, said.out), (Some(0), format!("{}\nfile\n", sub.display())), "{}", said.err);
    assert!(!sub.join("file").exists() && sandbox.path("a/sub/file").exists());
    assert!(!sandbox.path("a/late").exists());

    let elsewhere = sandbox.path("logs");
    let mut command = sandbox.chaosfs(&["exec", "../a", "--", "pwd"]);
    assert_eq!(run(command.current_dir(&elsewhere)).out, format!("{}\n", elsewhere.display()));

    fs::create_dir(sandbox.path("shared/late")).unwrap();
    let mut command = sandbox.chaosfs(&["exec", "../../a", "--", "true"]);
    let said = run(command.current_dir(sandbox.path("shared/late")));
    let reason = "cannot be entered on the client: No such file or directory";
    let line = format!("chaosfs: working directory {} {reason}\n", sandbox.path("shared/late").display());
    assert_eq!((said.code, said.err), (Some(125), line));
}

#[test]
fn the_path_may_be_any_directory() {
    let sandbox = mounted();
    fs::create_dir(sandbox.path("data")).unwrap();
    let script = "ls data; echo hello > data/file";
    let said = run(&mut sandbox.chaosfs(&["exec", "a", "--at", "data", "--", "sh", "-c", script]));
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "sub\n", ""));
    assert!(sandbox.path("a/file").exists() && !sandbox.path("data/file").exists());
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let sandbox = mounted();
    fs::write(sandbox.path("shared/plain"), "").unwrap();
    fs::set_permissions(sandbox.path("shared/plain"), fs::Permissions::from_mode(0o644)).unwrap();
    let plain = sandbox.path("shared/plain").display().to_string();
    for (args, code, reason) in [
        (&["shared", "--", "true"] as &[&str], 125, "shared: not mounted"),
        (&["none", "--", "true"], 125, "none: No such file or directory"),
        (
            &["a", "--at", "none", "--", "true"],
            125,
            "--at none does not exist; create it first with `mkdir -p none`",
        ),
        (
            &["a", "--at", &plain, "--", "true"],
            125,
            &format!("--at {plain} is not a directory; name a directory"),
        ),
        (
            &["a", "--at", "/", "--", "true"],
            125,
            "--at /: a client cannot appear at /; name a directory below it",
        ),
        (&["a", "--", "no-such-command"], 127, "no-such-command: command not found"),
        (
            &["a", "--at", "logs", "--", &plain],
            126,
            &format!("{plain}: cannot be executed: Permission denied"),
        ),
    ] {
        let said = run(&mut sandbox.chaosfs(&[&["exec"], args].concat()));
        assert_eq!((said.code, said.err), (Some(code), format!("chaosfs: {reason}\n")), "{args:?}");
    }
    sandbox.kill_daemon("a");
    let said = run(&mut sandbox.chaosfs(&["exec", "a", "--", "true"]));
    let reason = "a: its daemon has died; remove the mount with `chaosfs umount a`";
    assert_eq!((said.code, said.err), (Some(125), format!("chaosfs: {reason}\n")));
}

#[test]
fn where_namespaces_are_not_allowed_it_says_what_would_allow_them() {
    let sandbox = mounted();
    // In a user namespace that may have no more of them, without the privilege to do without.
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && \
         exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin --ambient-caps -sys_admin {CHAOSFS} exec a -- true"
    );
    let mut command = Command::new("unshare");
    let said = run(command
        .args(["--user", "--map-current-user", "--keep-caps", "sh", "-c", &script])
        .current_dir(sandbox.path("")));
    let advice = "root can allow it with `sysctl user.max_user_namespaces=10000`; or do this as root";
    assert_eq!(
        (said.code, said.err),
        (Some(125), format!("chaosfs: cannot make a mount namespace here: {advice}\n"))
    );
}

#[test]
fn an_ordinary_user_stays_who_they_are() {
    let sandbox = Sandbox::for_ordinary_users();
    let script = format!(
        "{0} exec {{A}} -- sh -c 'id -u; cd $CHAOSFS_BACKING; touch x; ls'",
        sandbox.binary().display()
    );
    let said = run(&mut sandbox.as_ordinary_user(&["run", "--clients", "1", "--", "sh", "-c", &script]));
    let user = if geteuid().is_root() { 65534 } else { geteuid().as_raw() };
    assert_eq!((said.code, said.out, said.err.as_str()), (Some(0), format!("{user}\nx\n"), ""));
}
