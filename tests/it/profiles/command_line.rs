//! Profiles on the command line.

use std::{io::Write, process::Stdio};

use crate::sandbox::{Sandbox, run};

#[test]
fn a_profile_and_what_outranks_it_are_named_by_the_log_and_by_status() {
    let sandbox = Sandbox::for_mounting();
    let options = [
        "--profile",
        "nfs3",
        "-o",
        "actimeo=7,rsize=4096,_netdev",
        "--time-scale",
        "0.5",
        "--name-ttl",
        "9s",
    ];
    let said = sandbox.mount("a", &options);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let log = sandbox.log("a");
    for part in [
        " profile=nfs3 ",
        " attr_ttl=3500ms ",
        " name_ttl=9000ms ",
        " time_scale=0.5 ",
        " options=actimeo=7,rsize=4096,_netdev ",
    ] {
        assert!(log.contains(part), "no {part} in {log}");
    }
    assert!(!log.contains(" names_by="), "that is as in the profile: {log}");
    assert!(log.contains("options that change nothing that is imitated: rsize=4096,_netdev"), "{log}");
    let status = run(&mut sandbox.chaosfs(&["status", "--json", "a"])).out;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(
        (&status["knobs"]["profile"], &status["knobs"]["names_by"]),
        (&"nfs3".into(), &"directory".into())
    );
    let said = run(&mut sandbox.chaosfs(&["set", "a", "profile=nfs4"]));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let status = run(&mut sandbox.chaosfs(&["status", "--json", "a"])).out;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let knobs = &status["knobs"];
    assert_eq!((&knobs["profile"], &knobs["unlinked"]), (&"nfs4".into(), &"held".into()));
    assert_eq!(knobs["name_ttl"], "9000ms", "what was set outranks the profile still");
    let said = run(&mut sandbox.chaosfs(&["set", "a", "locks=client"]));
    assert!(
        said.code == Some(1) && said.err.contains("cannot become `client` while it runs"),
        "{}",
        said.err
    );
}

#[test]
fn a_run_has_a_profile_and_each_client_may_have_its_own() {
    let sandbox = Sandbox::for_mounting();
    let script = "chaosfs status --json A B";
    let mut command = sandbox.run_command(&[
        "--profile",
        "nfs4",
        "--client",
        "A",
        "--client",
        "B:profile=sshfs,attr-ttl=1s",
        "--",
        "sh",
        "-c",
        script,
    ]);
    let said = run(command.env("PATH", path_with_binary()));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let profiles: Vec<String> = serde_json::Deserializer::from_str(&said.out)
        .into_iter::<serde_json::Value>()
        .flat_map(|value| match value.expect("JSON") {
            serde_json::Value::Array(all) => all,
            one => vec![one],
        })
        .map(|status| format!("{} {}", status["knobs"]["profile"], status["knobs"]["attr_ttl"]))
        .collect();
    assert_eq!(profiles, ["\"nfs4\" \"3000ms\"", "\"sshfs\" \"1000ms\""]);
}

fn path_with_binary() -> String {
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_chaosfs")).parent().expect("a folder").display();
    format!("{folder}:{}", std::env::var("PATH").unwrap_or_default())
}

#[test]
fn profiles_are_listed_shown_and_compared() {
    let sandbox = Sandbox::new();
    let out = |args: &[&str]| {
        let said = run(&mut sandbox.chaosfs(&[&["profiles"], args].concat()));
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{args:?}");
        said.out
    };
    let list = out(&[]);
    assert_eq!(list.lines().count(), 33);
    assert!(
        list.lines().any(|line| line.starts_with("nfs4-delegation ") && line.contains(" NFSv4 where ")),
        "{list}"
    );
    let one = out(&["nfs4"]);
    for part in
        ["Extends nfs3.", "\nabsent-ttl = forever\n", "Measured; lookupcache=all", "\nNot imitated:\n- "]
    {
        assert!(one.contains(part), "no {part} in {one}");
    }
    let both = out(&["nfs3", "nfs4"]);
    assert!(both.lines().any(|line| line.split_whitespace().eq(["unlinked", "stale", "held"])), "{both}");
    assert!(!both.contains("dir-attr-ttl"), "{both}");
    let json: serde_json::Value = serde_json::from_str(&out(&["efs", "--json"])).expect("JSON");
    assert_eq!((&json["name"], &json["extends"]), (&"efs".into(), &"nfs4".into()));
    // What is printed as TOML is a profile again, and the same one.
    std::fs::write(sandbox.path("mine.toml"), out(&["nfs3", "--toml"])).expect("a file");
    assert_eq!(out(&["nfs3", "./mine.toml"]), "nfs3 and ./mine.toml do not differ\n");
}

#[test]
fn the_likeness_of_a_mount_is_taken_from_its_line() {
    let sandbox = Sandbox::for_mounting();
    let like = |line: &str, more: &[&str]| {
        let args = [
            &[
                "mount",
                "shared",
                "a",
                "--background",
                "--log-dir",
                "logs",
                "--client-id",
                "a",
                "--like-mount",
                "-",
            ],
            more,
        ];
        let mut command = sandbox.chaosfs(&args.concat());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let _ = child.stdin.take().expect("a pipe").write_all(line.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = like("/dev/sda1 / ext4 rw 0 0\n", &[]);
    assert!(code == Some(2) && said.starts_with("error: --like-mount / is a mount of type ext4"), "{said}");
    let (code, said) = like("srv:/x /x nfs4 rw 0 0\n", &["--profile", "smb"]);
    assert!(code == Some(2) && said.contains("--like-mount chooses what --profile says"), "{said}");
    let line = "98 26 0:52 / /data rw shared:5 - nfs4 srv:/export rw,vers=4.1,actimeo=4,sec=krb5p,frob\n";
    let (code, said) = like(line, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said,
        "chaosfs: --like-mount takes --profile nfs4 -o actimeo=4, and not frob, which it does not know\n"
    );
    assert!(sandbox.log("a").contains(" profile=nfs4 "));
}

#[test]
fn what_is_wrong_with_a_profile_is_said_in_one_line_and_nothing_is_mounted() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("wrong.toml"), "about = \"x\"\n[rules]\nattr-ttl = \n").expect("a file");
    std::fs::write(sandbox.path("circle.toml"), "about = \"x\"\nextends = \"./circle.toml\"\n")
        .expect("a file");
    for (args, reason) in [
        (&["--profile", "nfs5"] as &[&str], "`nfs5` is not a profile; there are posix, eventual, nfs3,"),
        (&["--profile", "./wrong.toml"], "wrong.toml: line 3, column 12: "),
        (&["--profile", "./circle.toml"], "circle.toml: it extends itself ("),
        (&["--profile", "./none.toml"], "profile ./none.toml: No such file or directory"),
        (&["--profile", "nfs3", "-o", "acregmin=1,frob"], "`frob` is no mount option of nfs3"),
        (
            &["--profile", "nfs3", "-o", "acregmax=1"],
            "attr_ttl_max: 1000ms is less than attr_ttl, which is 3000ms",
        ),
        (&["-o", "actimeo=1"], "the profile eventual takes no mount options"),
        (&["--time-scale", "0"], "`0` is not a factor"),
        (&["--names-by", "luck"], "`luck` is none of time, directory"),
        (&["--flush-on", "close+luck"], "`luck` is none of close, stat, setattr, link, rename, lock"),
        (&["--profile", "nfs4", "--kernel-cache"], "--kernel-cache cannot be used with this --profile"),
    ] {
        for command in ["mount", "run"] {
            let places: &[&str] = if command == "mount" { &["shared", "a"] } else { &[] };
            let after: &[&str] = if command == "mount" { &[] } else { &["--", "true"] };
            let said = run(&mut sandbox.chaosfs(&[&[command], places, args, after].concat()));
            assert_eq!(said.code, Some(if command == "mount" { 2 } else { 125 }), "{args:?}: {}", said.err);
            assert!(
                said.err.lines().next().is_some_and(|line| line.contains(reason)),
                "{args:?}: {}",
                said.err
            );
        }
    }
}

#[test]
fn a_profile_of_one_s_own_is_found_from_wherever_its_path_begins() {
    let sandbox = Sandbox::for_mounting();
    std::fs::create_dir(sandbox.path("mine")).expect("a folder");
    let write =
        |name: &str, text: &str| std::fs::write(sandbox.path("mine").join(name), text).expect("a file");
    write("base.toml", "about = \"x\"\nextends = \"nfs4\"\n[rules]\nattr-ttl = \"7s\"\n");
    write("own.toml", "about = \"x\"\nextends = \"./base.toml\"\n[rules]\nname-ttl = \"9s\"\n");
    let said = sandbox.mount("a", &["--profile", "mine/own.toml"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let log = sandbox.log("a");
    assert!(
        log.contains("/mine/own.toml ")
            && log.contains(" attr_ttl=7000ms ")
            && log.contains(" name_ttl=9000ms "),
        "{log}"
    );
    assert!(!log.contains(" names_by="), "that is as in the profile: {log}");
    let said = run(&mut sandbox.chaosfs(&["set", "a", "profile=mine/base.toml"]));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let said = run(&mut sandbox.chaosfs(&["set", "a", "profile=mine/none.toml"]));
    assert!(said.code == Some(2) && said.err.contains("none.toml: No such file"), "{}", said.err);
    // What a client tells of itself can be read when the file is gone.
    std::fs::remove_dir_all(sandbox.path("mine")).expect("they go");
    let said = run(&mut sandbox.chaosfs(&["status", "a"]));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let said = run(&mut sandbox.chaosfs(&["set", "a", "attr-ttl=1s"]));
    assert_eq!(said.code, Some(0), "{}", said.err);
}
