use std::time::Duration;

use super::*;
use crate::knobs::Tunable;

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
