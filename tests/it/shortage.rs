//! A client that runs out of descriptors or memory: it gets slower, or says so, and loses nothing.

use std::process::Command;

use crate::sandbox::{Sandbox, run};

/// The same command under limits of the shell, and killed where it does not end.
fn limited(limits: &str, command: &Command) -> Command {
    let mut limited = Command::new("timeout");
    limited.args(["-s", "KILL", "100", "sh", "-c", &format!("{limits} && exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args()).env_clear();
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(command.get_current_dir().expect("a folder"));
    limited
}

#[test]
fn a_deep_tree_lands_and_is_removed_with_few_descriptors_by_who_opens_nothing_by_handle() {
    let sandbox = Sandbox::for_ordinary_users();
    let script = "import os, subprocess, sys
os.chdir(sys.argv[1])
for depth in range(150):
    os.mkdir('d'); os.chdir('d'); open('f', 'w').write('x')
assert subprocess.call([sys.argv[2], 'flush', sys.argv[1]]) == 0
for depth in range(150):
    os.unlink('f'); os.chdir('..'); os.rmdir('d')
assert os.listdir(os.environ['CHAOSFS_BACKING']) == ['d']
";
    let args = ["run", "--clients", "1", "--write-delay", "100ms", "--rename-delay", "60s", "--"];
    let binary = sandbox.binary();
    let args = [&args[..], &["python3", "-c", script, "{A}", binary.to_str().expect("UTF-8")]].concat();
    let said = run(&mut limited("ulimit -n 40", &sandbox.as_ordinary_user(&args)));
    assert_eq!(said.code, Some(0), "{} {}", said.out, said.err);
}
