//! No two clients over one backing directory have the same id.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

use chaosfs::{Clients, EventLog, MountOptions, mount};

use crate::sandbox::{Foreground, Said, Sandbox, run};

fn say(sandbox: &Sandbox, args: &[&str]) -> Said {
    run(&mut sandbox.chaosfs(args))
}

/// Mounts a client that is given no id.
fn mount_unnamed(sandbox: &Sandbox, name: &str) -> Said {
    say(sandbox, &["mount", "shared", name, "--background", "--log-dir", "logs"])
}

#[track_caller]
fn assert_refused(said: &Said, id: &str, backing: &str, by: &str) {
    let start =
        format!("chaosfs: client id `{id}` is in use over {backing} already by the client at {by} (process ");
    assert!(said.err.starts_with(&start) && said.err.ends_with("); choose another id\n"), "{said:?}");
}

#[test]
fn a_client_that_is_given_no_id_gets_one_of_its_own_and_says_so() {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(mount_unnamed(&sandbox, "a").err, "");
    let said = mount_unnamed(&sandbox, "b");
    let notice = "client id `client` is in use over shared already: this client is `client-2`";
    assert_eq!((said.code, said.err), (Some(0), format!("chaosfs: {notice}\n")));
    assert!(sandbox.log("client").contains(" client=client "));
    assert!(sandbox.log("client-2").contains(" client=client-2 "));

    // The id of a client that was killed is free at once, and so is that of one that has been unmounted.
    sandbox.kill_daemon("a");
    assert_eq!(say(&sandbox, &["umount", "b"]).code, Some(0));
    assert_eq!(mount_unnamed(&sandbox, "b").err, "");
    assert!(mount_unnamed(&sandbox, "a").err.ends_with("`client-2`\n"));
}

#[test]
fn an_id_given_twice_over_one_directory_is_refused_whatever_path_leads_there() {
    let sandbox = Sandbox::for_mounting();
    fs::create_dir(sandbox.path("other")).unwrap();
    symlink("shared", sandbox.path("alias")).unwrap();
    assert_eq!(sandbox.mount("a", &[]).code, Some(0));
    let by = sandbox.path("a").display().to_string();
    for backing in ["shared", "alias"] {
        let said = say(&sandbox, &["mount", backing, "b", "--client-id", "a", "--background"]);
        assert_refused(&said, "a", backing, &by);
    }
    let said = run(&mut sandbox.run_command(&["--backing", "shared", "--client", "a", "--", "true"]));
    assert!(said.err.contains("client id `a` is in use over ") && said.code != Some(0), "{said:?}");
    let mut options = MountOptions::new(sandbox.path("alias"), sandbox.path("b"));
    options.client_id = Some("a".to_string());
    let refusal = mount(options).err().expect("it is refused").to_string();
    assert!(refusal.starts_with("client id `a` is in use over "), "{refusal}");

    let said =
        say(&sandbox, &["mount", "other", "b", "--client-id", "a", "--background", "--log-file", "log"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn two_sets_of_one_process_over_one_directory_have_different_names() {
    let sandbox = Sandbox::for_mounting();
    let set = || Clients::builder().backing(sandbox.path("shared")).log(|_| EventLog::silent());
    let first = set().clients(2).mount().expect("two clients");
    let refusal = set().client("B").mount().err().expect("it is refused").to_string();
    assert!(refusal.starts_with("client id `B` is in use over "), "{refusal}");
    drop(first);
    set().client("B").mount().expect("the name is free again");
}

#[test]
fn of_many_that_start_at_once_each_gets_an_id_of_its_own() {
    const MANY: usize = 6;
    let sandbox = Sandbox::for_mounting();
    let names: Vec<String> = (0..MANY).map(|number| format!("m{number}")).collect();
    for name in &names {
        fs::create_dir(sandbox.path(name)).unwrap();
    }
    let starting: Vec<Foreground> = names
        .iter()
        .map(|name| {
            let args = ["mount", "shared", name, "--background", "--log-dir", "logs"];
            Foreground::start(&mut sandbox.chaosfs(&args))
        })
        .collect();
    for said in starting.into_iter().map(Foreground::wait) {
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    let logs = fs::read_dir(sandbox.path("logs")).unwrap();
    let logs: BTreeSet<String> = logs.map(|log| log.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(logs.len(), MANY, "{logs:?}");
    assert!(logs.contains("client.log") && logs.contains("client-6.log"), "{logs:?}");
}
