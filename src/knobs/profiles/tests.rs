use std::time::Duration;

use super::{mounted::Mounted, *};
use crate::consistency::policy::Word;

#[test]
fn every_profile_in_the_binary_can_be_used_and_says_where_its_values_come_from() {
    for name in names() {
        let line = line_of(name).unwrap_or_else(|refusal| panic!("{refusal}"));
        assert_eq!(knobs_of(name, "", 1.0).and_then(|knobs| knobs.check()), Ok(()), "{name}");
        assert!(!line[0].about.is_empty() && !line[0].about.ends_with('.'), "{name}");
        for rule in &line[0].rules {
            assert!(rule.source.is_some(), "{name}: {} has no source", rule.knob.name);
        }
    }
}

#[test]
fn the_default_and_zero_are_profiles() {
    assert_eq!(knobs_of("eventual", "", 1.0), Ok(Knobs::default()));
    assert_eq!(knobs_of("posix", "", 1.0), Ok(Knobs::zero()));
}

#[test]
fn spans_of_a_profile_are_scaled_and_nothing_else() {
    let knobs = knobs_of("eventual", "", 0.1).expect("a profile");
    assert_eq!((knobs.meta_ttl, knobs.write_delay), (Duration::from_millis(150), Delay::fixed_millis(80)));
    assert_eq!((knobs.max_belief, knobs.attr_ttl), (Knobs::default().max_belief, None));
    assert_eq!(scaled(Knobs::knob("name_ttl").expect("a knob"), "forever", 0.1), "forever");
}

#[test]
fn a_profile_that_is_wrong_is_refused_in_one_line_that_says_where() {
    for (text, told) in [
        ("about = 1\n", "profile p: line 1, column 9: invalid type: integer `1`, expected a string"),
        ("about = \"a\"\nrules = \n", "profile p: line 2, column 9: "),
        ("about = \"a\"\nspeed = 3\n", "profile p: line 2, column 1: unknown field `speed`"),
        ("about = \"a\"\n[rules]\nspeed = 3\n", "profile p: `speed` is not a knob; there are "),
        ("about = \"a\"\n[rules]\nwrite-delay = \"soon\"\n", "profile p: write-delay: `soon` is not a span"),
        ("about = \"a\"\n[rules]\nprofile = \"nfs3\"\n", "profile p: `profile` chooses a profile"),
        ("about = \"a\"\n[rules]\nattr-ttl = 1\nattr_ttl = 2\n", "profile p: attr-ttl: given twice"),
        ("about = \"a\"\n[rules]\nattr-ttl = { was = 1 }\n", "profile p: line 3, column 12: "),
    ] {
        let refusal = Profile::read("p", text).expect_err(text).to_string();
        assert!(refusal.starts_with(told) && !refusal.contains('\n'), "{text}: {refusal}");
    }
}

#[test]
fn profiles_extend_others_but_not_in_a_circle() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, text: &str| fs::write(path(name), text).expect("a file");
    write("a.toml", "about = \"a\"\nextends = \"eventual\"\n[rules]\nattr-ttl = \"2s\"\n");
    let knobs = knobs_of(&path("a.toml"), "", 1.0).expect("a profile");
    assert_eq!((knobs.attr_ttl, knobs.meta_ttl), (Some(Duration::from_secs(2)), Duration::from_millis(1500)));
    let extends = |other: &str| format!("about = \"a\"\nextends = \"{}\"\n", path(other));
    write("b.toml", &extends("c.toml"));
    write("c.toml", &extends("b.toml"));
    let refusal = knobs_of(&path("b.toml"), "", 1.0).expect_err("a circle").to_string();
    assert!(refusal.contains("it extends itself"), "{refusal}");
    write("d.toml", "about = \"a\"\nextends = \"nsf4\"\n");
    let refusal = knobs_of(&path("d.toml"), "", 1.0).expect_err("unknown").to_string();
    assert!(
        refusal.contains("d.toml: extends `nsf4` is not a profile; there are posix, eventual, "),
        "{refusal}"
    );
    assert!(load("missing.toml").expect_err("no file").to_string().starts_with("profile missing.toml: "));
}

fn with_options(profile: &str, options: &str) -> Result<Knobs, String> {
    knobs_of(profile, options, 1.0).map_err(|refusal| refusal.0)
}

#[test]
fn mount_options_set_what_they_set_on_the_real_storage() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let knobs =
        with_options("nfs3", "rw,acregmin=1,acdirmax=99,lookupcache=pos,nocto,noalignwrite,rsize=4096")
            .unwrap();
    assert_eq!((knobs.attr_ttl, knobs.attr_ttl_max), (seconds(1), seconds(60)));
    assert_eq!((knobs.dir_attr_ttl, knobs.dir_attr_ttl_max), (seconds(30), seconds(99)));
    assert_eq!((knobs.absent_ttl, knobs.name_ttl), (seconds(0), Some(FOREVER)));
    assert_eq!(
        (knobs.listing_asks.word(), knobs.write_unit.word(), knobs.open_asks.word()),
        ("never", "bytes", "nothing")
    );
    let knobs = with_options("nfs4", "actimeo=5,vers=4.0,local_lock=all").unwrap();
    assert_eq!((knobs.attr_ttl, knobs.dir_attr_ttl_max), (seconds(5), seconds(5)));
    assert_eq!((knobs.open_asks.word(), knobs.locks.word()), ("name", "local"));
    assert_eq!(with_options("nfs3", "noac").unwrap().write_delay, Delay::fixed_millis(0));
    assert_eq!(with_options("smb", "cache=none,vers=3.1.1").unwrap().attr_ttl, seconds(0));
    assert_eq!(with_options("sshfs", "dcache_timeout=3,idmap=user").unwrap().name_ttl, seconds(3));
    assert_eq!(with_options("rclone", "dir_cache_time=1m,attr-timeout=2s").unwrap().attr_ttl, seconds(2));
    assert_eq!(
        with_options("s3fs", "stat_cache_expire=7,disable_noobj_cache").unwrap().absent_ttl,
        seconds(0)
    );
    assert_eq!(with_options("gcsfuse", "stat-cache-ttl=1s,type-cache-ttl=4s").unwrap().name_ttl, seconds(4));
}

#[test]
fn spans_from_options_are_scaled_as_the_profile_s_are() {
    let knobs = knobs_of("nfs3", "actimeo=10", 0.1).expect("right");
    assert_eq!(
        (knobs.attr_ttl, knobs.write_delay),
        (Some(Duration::from_secs(1)), Delay::fixed_millis(3000))
    );
}

#[test]
fn options_without_effect_are_told_and_others_refused_by_name() {
    let meaning = meaning_of("nfs4", "rw,hard,_netdev,x-systemd.automount,actimeo=1").expect("all are known");
    assert_eq!(meaning.without_effect, ["rw", "hard", "_netdev", "x-systemd.automount"]);
    for (profile, options, told) in [
        ("nfs3", "actime=3", "`actime` is no mount option of nfs3 that chaosfs knows"),
        ("nfs3", "acregmin=soon", "acregmin: `soon` is not a whole number of seconds"),
        ("nfs3", "acregmin", "`acregmin` needs a value"),
        ("nfs3", "nocto=1", "`nocto` takes no value"),
        (
            "nfs3",
            "lookupcache=some",
            "lookupcache: `some` is not imitated; there are all, none, pos, positive",
        ),
        ("nfs3", "vers=4.2", "`vers=4.2` contradicts the profile nfs3; it goes with nfs4"),
        ("efs", "vers=3", "`vers=3` contradicts the profile efs; it goes with nfs3"),
        ("nfs3", "cto,nocto", "`cto` and `nocto` contradict each other"),
        ("nfs3", "actimeo=1,actimeo=2", "`actimeo` is given twice"),
        ("eventual", "actimeo=1", "the profile eventual takes no mount options"),
    ] {
        let refusal = with_options(profile, options).expect_err(options);
        assert!(refusal.starts_with(told), "{profile} {options}: {refusal}");
    }
}

#[test]
fn a_backwards_lifetime_is_refused() {
    let knobs = with_options("nfs3", "acregmin=90").expect("each by itself is right");
    let refusal = knobs.check().expect_err("60 s at most").0;
    assert_eq!(
        refusal,
        "attr_ttl_max: 60000ms is less than attr_ttl, which is 90000ms; give it at least that"
    );
}

#[test]
fn a_mount_is_recognised_by_its_line() {
    let info = "98 26 0:52 / /mnt/my\\040data rw,relatime shared:5 - nfs4 srv:/export rw,vers=4.2,rsize=1048576,acregmin=7,hard,addr=10.0.0.1";
    let mounted = Mounted::of_line(info).expect("a line of mountinfo");
    assert_eq!((mounted.at.as_str(), mounted.kind.as_str()), ("/mnt/my data", "nfs4"));
    let likeness = mounted.likeness().expect("it is known");
    assert_eq!((likeness.profile, likeness.options.as_str()), ("nfs4", "acregmin=7"));
    assert!(likeness.unknown.is_empty(), "{:?}", likeness.unknown);
    for (line, profile) in [
        ("srv:/x /x nfs vers=3,nolock 0 0", "nfs3"),
        ("fs-1.efs.eu-west-1.amazonaws.com:/ /x nfs4 vers=4.1 0 0", "efs"),
        ("acc.file.core.windows.net:/a/b /x nfs4 vers=4.1 0 0", "azure-files-nfs"),
        ("//srv/share /x cifs vers=3.1.1,cache=strict 0 0", "smb"),
        ("me@host: /x fuse.sshfs rw,user_id=0,group_id=0 0 0", "sshfs"),
        ("remote: /x fuse.rclone rw 0 0", "rclone"),
        ("srv:/vol /x fuse.glusterfs rw 0 0", "glusterfs"),
        ("bucket /x fuse.gcsfuse rw 0 0", "gcsfuse"),
    ] {
        let likeness = Mounted::of_line(line).and_then(|mounted| mounted.likeness().ok());
        assert_eq!(likeness.map(|likeness| likeness.profile), Some(profile), "{line}");
    }
    let other =
        Mounted::of_line("/dev/sda1 /x ext4 rw 0 0").expect("a line").likeness().expect_err("unknown").0;
    assert!(
        other.starts_with("/x is a mount of type ext4 from /dev/sda1, which no profile imitates; there are ")
    );
    assert_eq!(Mounted::of_line("nonsense"), None);
}
