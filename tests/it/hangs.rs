//! A backing directory in which calls hang: what lies there is another mount whose server has been stopped.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::sandbox::{Sandbox, eventually, run};

/// A client `a` over a directory in which `hanging` is a mount that does not answer.
struct Hanging {
    server: Pid,
    waiting: Vec<Child>,
    sandbox: Sandbox,
}

impl Hanging {
    fn new(knobs: &[&str]) -> Hanging {
        let sandbox = Sandbox::for_mounting();
        for folder in ["theirs", "shared/hanging"] {
            fs::create_dir(sandbox.path(folder)).expect("a folder");
        }
        fs::write(sandbox.path("shared/file"), "text").expect("a file");
        let nested =
            ["mount", "theirs", "shared/hanging", "--background", "--client-id", "n", "--log-dir", "logs"];
        let said = run(&mut sandbox.chaosfs(&nested));
        assert_eq!(said.code, Some(0), "{}", said.err);
        let status = run(&mut sandbox.chaosfs(&["status", "shared/hanging", "--json"])).out;
        let pid = status.split("\"pid\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
        let server = Pid::from_raw(pid.expect("a pid").trim().parse().expect("a number"));
        let said = sandbox.mount("a", knobs);
        assert_eq!(said.code, Some(0), "{}", said.err);
        fs::metadata(sandbox.path("a/hanging")).expect("it answers still");
        kill(server, Signal::SIGSTOP).expect("it runs");
        Hanging { server, waiting: Vec::new(), sandbox }
    }

    /// Programs of which each waits for another name there.
    fn wait_for(&mut self, names: usize) {
        for number in 0..names {
            let mut stat = Command::new("stat");
            stat.arg(self.sandbox.path("a/hanging").join(number.to_string()));
            self.waiting.push(stat.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("stat(1)"));
        }
    }

    fn answers_again(&mut self) {
        kill(self.server, Signal::SIGCONT).expect("it is there");
        for mut child in self.waiting.drain(..) {
            child.wait().expect("it ends");
        }
    }

    /// What another program hears, in a process of its own that can be given up.
    fn another_reads(&self) -> Option<i32> {
        let mut cat = Command::new("timeout");
        cat.args(["10", "cat"]).arg(self.sandbox.path("a/file"));
        run(&mut cat).code
    }

    /// The threads of the client that serve requests: each is called fuser-N.
    fn loops(&self) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.sandbox.daemon("a"))).expect("it runs");
        let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("fuser-")).count()
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = kill(self.server, Signal::SIGCONT);
        let _ = run(&mut self.sandbox.chaosfs(&["umount", "-m", "a"]));
        let _ = run(&mut self.sandbox.chaosfs(&["umount", "-m", "shared/hanging"]));
    }
}

#[test]
fn calls_that_hang_in_the_backing_directory_stop_nobody_else() {
    let mut hanging = Hanging::new(&["--meta-ttl", "1h"]);
    assert_eq!(hanging.loops(), 2);
    hanging.wait_for(11);
    for _ in 0..20 {
        assert_eq!(hanging.another_reads(), Some(0));
    }
    assert!(hanging.loops() > 11);
    hanging.answers_again();
    // What is not needed any more ends.
    let ended = || {
        hanging.another_reads();
        hanging.loops()
    };
    eventually("two threads", ended, |loops| *loops == 2);
    let umount = run(&mut hanging.sandbox.chaosfs(&["umount", "-m", "a"]));
    assert_eq!(umount.code, Some(0), "{}", umount.err);
}

/// Writes a file, which lands some time later.
fn write(path: &std::path::Path) {
    fs::write(path, "late").expect("it goes in flight");
}

#[test]
fn a_landing_that_hangs_keeps_nothing_waiting_that_does_not_need_it() {
    let mut hanging = Hanging::new(&["--meta-ttl", "1h", "--write-delay", "300", "--rename-delay", "300"]);
    // Acknowledged while the store answers, and due when it does not.
    kill(hanging.server, Signal::SIGCONT).expect("it is there");
    for number in 0..5 {
        write(&hanging.sandbox.path("a/hanging").join(format!("late-{number}")));
    }
    kill(hanging.server, Signal::SIGSTOP).expect("it runs");
    std::thread::sleep(std::time::Duration::from_millis(600));
    write(&hanging.sandbox.path("a/other"));
    let landed = || hanging.sandbox.path("shared/other").exists();
    eventually("the other file", landed, |landed| *landed);
    hanging.answers_again();
    let umount = run(&mut hanging.sandbox.chaosfs(&["umount", "-m", "a"]));
    assert_eq!(umount.code, Some(0), "{}", umount.err);
    let late = fs::read_to_string(hanging.sandbox.path("shared/hanging/late-4"));
    assert_eq!(late.expect("it has landed in time"), "late");
}
