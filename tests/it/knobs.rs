//! What is written about the knobs elsewhere is what their table says.

use std::{env, fs, path::Path};

use chaosfs::{
    Knobs,
    knobs::{Kind, Knob, Topic, Tunable},
};

chaosfs::knobs! {
    /// A table that is not ours, to see that an entry is enough.
    pub struct Others {
        /// How fast it goes; 0 stands still.
        ///
        /// More about it.
        pub speed: u64 = 1 << 20, Faults, "OTHERS_SPEED";

        /// How likely it is.
        pub chance: f64 = 0.5, Faults, "OTHERS_CHANCE";

        /// How fast it goes down.
        pub descent: Option<u64> = None, Consistency, "OTHERS_DESCENT", follows speed;
    }
}

/// The rows of a table of those knobs that are, or are not, rules of the storage.
fn rows<K: Tunable>(are_rules: bool) -> String {
    let row = |knob: &Knob<K>| {
        format!(
            "| `--{}` | `{}` | {} | {} |\n",
            knob.flag(),
            knob.variable,
            usual(knob),
            in_a_sentence(&knob.summary())
        )
    };
    K::TABLE.iter().filter(|knob| (knob.topic == Topic::Storage) == are_rules).map(row).collect()
}

/// The default as people would write it.
fn usual<K: Tunable>(knob: &Knob<K>) -> String {
    match knob.follows {
        Some(leader) => format!("as `--{}`", leader.replace('_', "-")),
        None => knob.usual(),
    }
}

fn in_a_sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect()
}

/// What Python's module of knobs says of each.
fn stubs<K: Tunable>() -> String {
    let stub = |knob: &Knob<K>| {
        format!("    #: {}.\n    {}: {}\n", knob.summary(), knob.name, type_in_python(knob.kind))
    };
    K::TABLE.iter().map(stub).collect()
}

fn type_in_python(kind: Kind) -> &'static str {
    match kind {
        Kind::Span => "Span",
        Kind::Delay => "Delay",
        Kind::Probability => "float",
        Kind::Switch => "bool",
        Kind::Bytes | Kind::Count => "int",
        Kind::Factor => "float",
        Kind::Choice(_) | Kind::Set(_) | Kind::Text => "str",
    }
}

/// How Python checks what it is given for each.
fn checks<K: Tunable>() -> String {
    let check = |knob: &Knob<K>| {
        let check = match knob.kind {
            Kind::Span => "arguments.span",
            Kind::Delay => "arguments.delay",
            Kind::Probability => "arguments.probability",
            Kind::Switch => "arguments.switch",
            Kind::Bytes | Kind::Count => "arguments.whole",
            Kind::Factor => "arguments.factor",
            Kind::Choice(_) | Kind::Set(_) | Kind::Text => "arguments.text",
        };
        let check = match knob.follows {
            Some(leader) => format!("arguments.or_that_of(\"{leader}\", {check})"),
            None => check.to_string(),
        };
        format!("    \"{}\": {check},\n", knob.name)
    };
    K::TABLE.iter().map(check).collect()
}

/// Compares what a file says between two lines; `CHAOSFS_BLESS=1` writes it there.
#[track_caller]
fn assert_part(file: &str, (before, after): (&str, &str), wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(&path).expect("the file can be read");
    let start = text.find(before).unwrap_or_else(|| panic!("{file} has no `{before}`")) + before.len();
    let end =
        start + text[start..].find(after).unwrap_or_else(|| panic!("{file} has no `{after}` after that"));
    if env::var_os("CHAOSFS_BLESS").is_some() {
        let text = format!("{}{wanted}{}", &text[..start], &text[end..]);
        return fs::write(&path, text).expect("the file can be written");
    }
    assert_eq!(&text[start..end], wanted, "{file} differs; if the table is right, run with CHAOSFS_BLESS=1");
}

#[test]
fn the_readme_and_python_say_what_the_table_says() {
    let table = ("| flag | variable | default | meaning |\n|---|---|---|---|\n", "| `--clock`");
    assert_part("README.md", table, &rows::<Knobs>(false));
    let table = ("| flag | variable | default | meaning |\n|---|---|---|---|\n", "\n\n");
    assert_part("docs/profiles.md", table, rows::<Knobs>(true).trim_end());
    let python = "python/src/chaosfs/_knobs.py";
    assert_part(python, ("    # From the table of knobs.\n", "\n\n#: What each may be"), &stubs::<Knobs>());
    assert_part(python, ("_TEXTS: dict[str, Callable[[str, object], str]] = {\n", "}\n"), &checks::<Knobs>());
}

#[test]
fn one_entry_in_a_table_is_in_everything_that_is_made_from_it() {
    let mut others = Others::default();
    assert_eq!(others.line_beside(&Others::default()), "speed=1048576 chance=0.5");
    others.set("descent", "2KiB").expect("it is in the table");
    assert_eq!(others.line_beside(&Others::default()), "speed=1048576 chance=0.5 descent=2048");
    assert_eq!(others.changed_since(&Others::default()), [("descent", "2048".to_string())]);
    let json = chaosfs::knobs::write(&others, serde_json::value::Serializer).expect("JSON can hold it");
    assert_eq!(json, serde_json::json!({ "speed": 1_048_576, "chance": 0.5, "descent": 2048 }));
    assert_eq!(chaosfs::knobs::read::<Others, _>(json).expect("it was written so"), others);
    assert_eq!(
        rows::<Others>(false),
        "| `--speed` | `OTHERS_SPEED` | 1MiB | how fast it goes; 0 stands still |\n\
         | `--chance` | `OTHERS_CHANCE` | 0.5 | how likely it is |\n\
         | `--descent` | `OTHERS_DESCENT` | as `--speed` | how fast it goes down |\n"
    );
    assert!(stubs::<Others>().starts_with("    #: How fast it goes; 0 stands still.\n    speed: int\n"));
    assert!(
        checks::<Others>().ends_with("    \"descent\": arguments.or_that_of(\"speed\", arguments.whole),\n")
    );
    let refusal = others.set("height", "1").expect_err("there is no such knob").to_string();
    assert_eq!(refusal, "`height` is not a knob; there are speed, chance, descent");
}
