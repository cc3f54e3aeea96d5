//! The annotated example against the flags it is about, and every way to get a value wrong.
#![forbid(unsafe_code)]

use super::*;
use crate::cli::serve::ServeArgs;
use clap::FromArgMatches;
use std::fs;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/freight.toml");

fn serve() -> Command {
    <ServeArgs as clap::Args>::augment_args(Command::new("serve"))
}

fn sources(line: &[&str], environment: &[(&str, &str)]) -> Sources {
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Sources::new(serve(), line.iter().map(OsString::from), environment)
}

/// The settings of a file with this text.
fn of_file(text: &str) -> Result<Settings, String> {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("node.toml");
    fs::write(&path, text).expect("it is ours");
    let read = sources(&["--config", path.to_str().expect("text")], &[]).read();
    read.map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

fn value(settings: &Settings, key: &str) -> (String, String) {
    let setting = settings.all.iter().find(|setting| setting.key == key).expect("a key");
    (setting.value(), setting.origin.to_string())
}

#[test]
fn the_example_has_every_flag_and_says_its_default() {
    let example = fs::read_to_string(EXAMPLE).expect("it is there");
    let read = of_file(&example).expect("it is understood");
    let defaults = sources(&[], &[]).read().expect("nothing is said");
    for setting in &defaults.all {
        let (key, is_set) = (&setting.key, !setting.values.is_empty());
        let entry = if is_set { format!("\n{key} = ") } else { format!("\n# {key} = ") };
        assert_eq!(example.matches(&entry).count(), 1, "docs/freight.toml has no line that begins with {entry:?}");
        assert_eq!(value(&read, key).0, setting.value(), "{key}: the example's value and the default");
        assert_eq!(value(&read, key).1.contains("node.toml:"), is_set, "{key}");
    }
}

#[test]
fn what_the_example_has_commented_out_is_understood() {
    let example = fs::read_to_string(EXAMPLE).expect("it is there");
    let defaults = sources(&[], &[]).read().expect("nothing is said");
    let unset = defaults.all.iter().filter(|setting| setting.values.is_empty());
    let text: String = unset.fold(example, |text, setting| {
        text.replace(&format!("\n# {} = ", setting.key), &format!("\n{} = ", setting.key))
    });
    // A password is read where it is named.
    let folder = tempfile::tempdir().expect("a scratch folder");
    let password = folder.path().join("node.password");
    fs::write(&password, "secret").expect("it is ours");
    let text = text.replace("/etc/freight/node.password", password.to_str().expect("text"));
    let read = of_file(&text).expect("it is understood");
    assert!(read.all.iter().all(|setting| !setting.values.is_empty()), "{read}");
    ServeArgs::from_arg_matches(&read.matches).expect("flags");
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("node.toml");
    fs::write(
        &path,
        "shards = 4\nthreads = 4\nmemory = \"1GiB\"\ninsecure = true\nlisten = [\"tcp://a:1\", \"tcp://b:2\"]",
    )
    .expect("it is ours");
    let path = path.to_str().expect("text");
    let environment =
        [("FREIGHT_CONFIG", path), ("FREIGHT_SHARDS", "2"), ("FREIGHT_THREADS", "2"), ("FREIGHT_MTU", "")];
    let read = sources(&["--shards=1", "--insecure=false"], &environment).read().expect("all of it is understood");
    for (key, expected, origin) in [
        ("shards", "1", "command line"),
        ("insecure", "false", "command line"),
        ("threads", "2", "FREIGHT_THREADS"),
        ("memory", "\"1GiB\"", &format!("{path}:3")),
        ("listen", r#"["tcp://a:1", "tcp://b:2"]"#, &format!("{path}:5")),
        ("mtu", "none", "default"),
        ("cq-mod", "16", "default"),
    ] {
        assert_eq!(value(&read, key), (expected.to_owned(), origin.to_owned()), "{key}");
    }
    assert_eq!(of_file(&read.to_string()).map(|read| value(&read, "listen").0), Ok(value(&read, "listen").0));
    let one = sources(&["--listen", "tcp://c:3"], &environment).read().expect("a flag's list takes the file's place");
    assert_eq!(value(&one, "listen").0, r#"["tcp://c:3"]"#);
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line() {
    for (text, words) in [
        ("\nmemroy = \"1GiB\"", "node.toml:2: unknown key 'memroy'; the nearest known one is 'memory'"),
        ("[node]\nshards = 4", "node.toml:1: unknown key 'node'; the nearest known one is"),
        (
            "connections_max = 3",
            "node.toml:1: unknown key 'connections_max'; the nearest known one is 'connections-max'",
        ),
        ("config = \"b.toml\"", "unknown key 'config'"),
        ("check-config = true", "unknown key 'check-config'"),
        ("shards = 4\n\nshards = 4", "node.toml:3: duplicate key"),
        ("shards = ", "node.toml:1: "),
        ("insecure = \"yes\"", "node.toml:1: insecure is \"yes\", expected true or false"),
        ("shards = true", "node.toml:1: shards is true, expected a whole number, or one with a unit in quotes"),
        ("shards = 1.5", "node.toml:1: shards is 1.5, expected a whole number"),
        ("index = 1", "node.toml:1: index is 1, expected a text in quotes"),
        ("index = [\"buckets\"]", "node.toml:1: index is [\"buckets\"], expected a text in quotes"),
        ("listen = []", "node.toml:1: listen is [], expected a text in quotes, or a list of them"),
        ("listen = [\n \"tcp://a:1\",\n 5]", "node.toml:3: listen is 5, expected a text in quotes, or a list of them"),
        ("listen = [\"tcp://a:1\",\n\"ib://b\"]", "node.toml:2: listen is \"ib://b\": unknown transport 'ib'"),
        ("shards = 3", "node.toml:1: shards is 3: 3 is no power of two up to"),
        ("memory = \"much\"", "node.toml:1: memory is \"much\": 'much' is no size"),
        ("connections-max = 0", "node.toml:1: connections-max is 0: 0 is not in 1.."),
        ("tx-depth = -8", "node.toml:1: tx-depth is -8: "),
        ("placement = \"near\"", "node.toml:1: placement is \"near\": expected one of paired, split, free"),
        ("log-level = \"loud\"", "node.toml:1: log-level is \"loud\": expected one of error, warn"),
    ] {
        let error = of_file(text).expect_err(text);
        assert!(error.contains(words) && error.lines().count() == 1, "{text:?} is\n{error}, not\n{words}");
    }
    let absent = sources(&["--config", "/nowhere/node.toml"], &[]).read().expect_err("nothing is there");
    assert!(absent.to_string().starts_with("/nowhere/node.toml: No such file"), "{absent}");
}

#[test]
fn what_is_wrong_in_the_environment_is_told_with_its_variable() {
    let wrong = sources(&[], &[("FREIGHT_MEMORY", "much")]).read().expect_err("no size");
    assert!(wrong.to_string().starts_with("FREIGHT_MEMORY is 'much': 'much' is no size"), "{wrong}");
    let wrong = sources(&[], &[("FREIGHT_INSECURE", "yes")]).read().expect_err("no truth");
    assert_eq!(wrong.to_string(), "FREIGHT_INSECURE is 'yes': expected one of true, false");
}

#[test]
fn only_variables_that_resemble_ours_are_told() {
    let environment = [
        ("FREIGHT_MEMROY", "1GiB"),
        ("FREIGHT_PORT_7411_TCP_ADDR", "10.0.0.1"),
        ("FREIGHT_MEMORY", "1GiB"),
        ("PATH", "x"),
    ];
    let sources = sources(&[], &environment);
    let misspelt: Vec<_> = sources.misspelt().collect();
    assert_eq!(misspelt, [("FREIGHT_MEMROY", "FREIGHT_MEMORY".to_owned())]);
}
