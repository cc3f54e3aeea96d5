//! Users as text and as a file.
#![forbid(unsafe_code)]

use super::*;
use crate::auth::UsersFileError;
use crate::files::FileError;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

fn users() -> Users {
    let mut users = Users::new([7; 32]);
    for (name, rights) in [("ada", Rights::ALL), ("bob", Rights::READ)] {
        let verifier = Verifier::new(name.as_bytes(), [3; SALT_BYTES], ITERATIONS_MIN);
        users.set(User { name: name.to_owned(), rights, verifier, ops_per_second: None }).expect("a user");
    }
    users
}

#[test]
fn users_are_the_same_from_their_text() {
    let text = users().text();
    assert_eq!(Users::parse(&text), Ok(users()));
    assert!(text.starts_with("# ") && text.contains("rights = [\"read\", \"write\", \"admin\"]"), "{text}");
    assert!(users().get("ada").expect("she is there").verifier.is_password(b"ada"));
    assert!(!users().get("ada").expect("she is there").verifier.is_password(b"bob"));
}

#[test]
fn a_rate_is_written_where_there_is_one() {
    let mut users = users();
    assert!(!users.text().contains("ops_per_second"), "files of before are files of now");
    for ops_per_second in [Some(0), Some(50_000), Some(u32::MAX)] {
        let ada = User { ops_per_second, ..User::clone(users.get("ada").expect("she is there")) };
        users.set(ada).expect("a user");
        assert_eq!(Users::parse(&users.text()), Ok(users.clone()));
    }
    let text = users.text().replace("ops_per_second = 4294967295", "ops_per_second = -1");
    assert!(Users::parse(&text).expect_err("no rate").to_string().starts_with("TOML parse error at line "));
}

#[test]
fn the_iterations_of_a_challenge_do_not_tell_who_is_there() {
    let mut users = users();
    let verifier = Verifier::new(b"dave", [3; SALT_BYTES], 2 * ITERATIONS_MIN);
    users.set(User { name: "dave".to_owned(), rights: Rights::READ, verifier, ops_per_second: None }).expect("a user");
    let asked = |name: &str| users.verifier(name.as_bytes()).1.iterations;
    let strangers: Vec<_> = (0..60).map(|number| asked(&format!("stranger{number}"))).collect();
    assert!([ITERATIONS_MIN, 2 * ITERATIONS_MIN].iter().all(|iterations| strangers.contains(iterations)));
    assert_eq!(asked("stranger1"), strangers[1], "the same each time");
}

#[test]
fn what_is_wrong_with_a_text_is_said_in_one_line() {
    let wrong = |from: &str, to: &str| {
        let text = users().text().replacen(from, to, 1);
        let said = Users::parse(&text).expect_err("wrong").to_string();
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    assert!(wrong("secret = ", "secrets = ").starts_with("TOML parse error at line 3"));
    assert_eq!(wrong("\"write\"", "\"wride\""), "user 'ada': 'wride' is no right: read, write and admin are");
    assert_eq!(wrong("name = \"bob\"", "name = \"ada\""), "there are two users 'ada'");
    let name = "'b,b' is no user's name: letters, digits and .-_@+ are, 64 at most";
    assert_eq!(wrong("name = \"bob\"", "name = \"b,b\""), name);
    let iterations = "user 'ada': 4095 iterations, allowed are 4096 to 10000000";
    assert_eq!(wrong("iterations = 4096", "iterations = 4095"), iterations);
    assert_eq!(wrong("stored_key = \"", "stored_key = \"AAAA"), "user 'ada': unreadable stored_key");
    assert_eq!(wrong("server_key = \"", "server_key = \"-"), "user 'ada': unreadable server_key");
    assert_eq!(wrong("salt = \"", "salt = \"-"), "user 'ada': unreadable salt");
    assert_eq!(wrong("secret = \"", "secret = \"AAAA"), "the file's secret is not 32 bytes in base64");
}

#[test]
fn a_file_is_written_for_nobody_else_and_read_only_where_nobody_else_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users.toml");
    users().write(&path).expect("written");
    let mode = || fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    assert_eq!(Users::read(&path).expect("readable"), users());
    for (open, expected) in [(0o604, false), (0o620, false), (0o602, false), (0o640, true)] {
        fs::set_permissions(&path, Permissions::from_mode(open)).expect("it is ours");
        let read = Users::read(&path);
        assert_eq!(read.is_ok(), expected, "{open:o}");
        if let Err(error) = read {
            assert!(matches!(error, UsersFileError::File(FileError::TooOpen { mode, .. }) if mode == open), "{error}");
        }
    }
    users().write(&path).expect("written");
    assert_eq!(mode(), 0o640, "a group that may read it still may");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
}

#[test]
fn a_file_that_is_not_there_or_holds_something_else_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users.toml");
    let said = |path: &std::path::Path| Users::read(path).expect_err("refused").to_string();
    assert!(said(&path).contains("users.toml: No such file"), "{}", said(&path));
    fs::write(&path, "x = 1").expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
    assert!(said(&path).contains("users.toml: TOML parse error at line 1"), "{}", said(&path));
    let file = fs::File::options().write(true).open(&path).expect("ours");
    file.set_len(17 << 20).expect("a long file");
    assert!(said(&path).ends_with("longer than 16777216 bytes"), "{}", said(&path));
}
