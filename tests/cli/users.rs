//! Users at a shell: the file, the flags, and what a node says to whom.
#![forbid(unsafe_code)]

use crate::binary::{Done, Served, freight, run, run_with_input, serve, serve_one};
use freight::auth::Credentials;
use freight::client::ClientConfig;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// A folder with a file of users, whose passwords are their names and `-word`, and a file for each password.
struct Users {
    folder: TempDir,
}

impl Users {
    fn new() -> Self {
        let users = Self { folder: tempfile::tempdir().expect("a folder") };
        for (name, rights) in [("ada", "read,write,admin"), ("reader", "read")] {
            assert_eq!(users.add(name, &["--rights", rights]).code, Some(0));
            users.write(&format!("{name}.password"), &format!("{name}-word\n"));
        }
        users
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn file(&self) -> String {
        self.path("users.toml")
    }

    fn add(&self, name: &str, flags: &[&str]) -> Done {
        let file = self.file();
        let words = [&["user", "add", name, "--users", &file, "--iterations", "4096"], flags].concat();
        run_with_input(&words, format!("{name}-word\n").as_bytes())
    }

    /// A command at a node, as a user.
    fn run_as(&self, node: &Served, name: &str, words: &[&str]) -> Done {
        let password = self.path(&format!("{name}.password"));
        node.run(&[words, &["--user", name, "--password-file", &password]].concat())
    }

    fn serve(&self) -> Served {
        serve_one(&["--users", &self.file()])
    }
}

#[test]
fn users_are_added_listed_and_removed_and_no_password_is_in_their_file() {
    let users = Users::new();
    let list = || String::from_utf8(run(&["user", "list", "--users", &users.file()]).stdout).expect("text");
    assert_eq!(list(), "ada read,write,admin\nreader read\n");
    assert_eq!(fs::metadata(users.file()).expect("it is there").permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(users.file()).expect("text").contains("ada-word"));
    users.add("ada", &[]).assert_one_line("there is a user 'ada': `freight user passwd` gives it another password");
    users.add("a,b", &[]).assert_one_line("'a,b' is no user's name");
    users.add("bob", &["--rights", "read,fly"]).assert_one_line("'fly' is no right: read, write and admin are");
    assert_eq!(run(&["user", "remove", "ada", "--users", &users.file()]).code, Some(0));
    for what in ["remove", "passwd", "limit"] {
        let absent = run(&["user", what, "ada", "--users", &users.file()]);
        assert_eq!((absent.code, &absent.stderr[..]), (Some(1), "freight: there is no user 'ada'\n"));
    }
    assert_eq!(list(), "reader read\n");
    run_with_input(&["user", "add", "eve", "--users", &users.file()], b"\n").assert_one_line("no password");
    fs::set_permissions(users.file(), PermissionsExt::from_mode(0o644)).expect("ours");
    run(&["user", "list", "--users", &users.file()]).assert_one_line("others may read or change it (mode 644)");
    run(&["serve", "--users", &users.file()]).assert_one_line("others may read or change it (mode 644)");
}

#[test]
fn a_node_with_users_serves_those_who_show_that_they_know_a_password() {
    let users = Users::new();
    let node = users.serve();
    assert_eq!(users.run_as(&node, "ada", &["put", "k", "v"]).code, Some(0));
    assert_eq!(users.run_as(&node, "reader", &["get", "k"]).stdout, b"v");
    let denied = users.run_as(&node, "reader", &["put", "k", "w"]);
    assert_eq!(denied.code, Some(2));
    let words = "not allowed: it takes the right to write, and user 'reader' has only read";
    assert!(denied.stderr.lines().last().is_some_and(|line| line.ends_with(words)), "{}", denied.stderr);
    node.run(&["get", "k"]).assert_one_line("this node requires authentication: give a user and a password");
    users.write("ada.password", "wrong\n");
    users.run_as(&node, "ada", &["get", "k"]).assert_one_line("refuses: wrong user or password");
    users.write("eve.password", "wrong\n");
    users.run_as(&node, "eve", &["get", "k"]).assert_one_line("refuses: wrong user or password");
    let plain = serve_one(&[]);
    users.run_as(&plain, "reader", &["ping"]).assert_one_line("this node has no users and authenticates nobody");
}

#[test]
fn a_user_is_held_to_what_the_file_says_once_the_node_reads_it_again() {
    let users = Users::new();
    let limit =
        |name: &str, flags: &[&str]| run(&[&["user", "limit", name, "--users", &users.file()], flags].concat()).code;
    assert_eq!(users.add("bob", &["--ops-per-second", "1"]).code, Some(0));
    users.write("bob.password", "bob-word\n");
    assert_eq!((limit("reader", &["--ops-per-second", "0"]), limit("nobody", &[])), (Some(0), Some(1)));
    let list = String::from_utf8(run(&["user", "list", "--users", &users.file()]).stdout).expect("text");
    assert_eq!(list, "ada read,write,admin\nbob read,write 1-a-second\nreader read any-number-a-second\n");
    run(&["user", "limit", "bob", "--users", &users.file(), "--ops-per-second", "-1"]).assert_one_line("-1");
    let mut node = users.serve();
    let credentials = Credentials::new("bob", b"bob-word").expect("a name and a password");
    let as_bob = || ClientConfig { credentials: Some(credentials.clone()), ..ClientConfig::default() };
    let denied = crate::denial(node.endpoint(), as_bob(), 11).expect("too many");
    assert!(denied.ends_with("user 'bob' may have 1 a second, 10 at once"), "{denied}");
    assert_eq!(limit("bob", &[]), Some(0));
    node.process.signal(Signal::HUP);
    node.process.wait_for("SIGHUP: 3 users");
    assert_eq!(crate::denial(node.endpoint(), as_bob(), 11), None);
}

#[test]
fn a_terminal_shows_again_what_is_typed_however_the_question_ends() {
    let users = Users::new();
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("ours");
    let name = ptsname(&controller, Vec::new()).expect("it has one").into_string().expect("text");
    let terminal = fs::File::options().read(true).write(true).open(name).expect("it is there");
    let echoes = || tcgetattr(&terminal).expect("a terminal").local_modes.contains(LocalModes::ECHO);
    // In the last rounds while it works on the password, for longer than anybody waits.
    let (int, term) = (Some(Signal::INT), Some(Signal::TERM));
    for (rounds, signal, code) in
        [("4096", None, 0), ("4096", int, 130), ("4096", term, 143), ("10000000", int, 130), ("10000000", term, 143)]
    {
        let is_working = rounds != "4096";
        let mut command = freight(&["user", "passwd", "ada", "--iterations", rounds, "--users", &users.file()]);
        let mut asks = command.stdin(terminal.try_clone().expect("ours")).spawn().expect("the binary starts");
        let mut said = asks.stderr.take().expect("piped");
        let mut question = [0; 10];
        said.read_exact(&mut question).expect("a question");
        assert_eq!((&question, echoes()), (b"Password: ", false));
        if is_working || signal.is_none() {
            rustix::io::write(&controller, b"new-word\n").expect("a terminal");
            said.read_exact(&mut question).expect("once more");
            assert_eq!((&question, echoes()), (b"Once more:", false));
            rustix::io::write(&controller, b"new-word\n").expect("a terminal");
        }
        while is_working && !echoes() {
            std::thread::yield_now();
        }
        if let Some(signal) = signal {
            kill_process(Pid::from_child(&asks), signal).expect("it runs");
        }
        assert_eq!((asks.wait().expect("it ends").code(), echoes()), (Some(code), true), "{signal:?}");
    }
}

#[test]
fn credentials_may_stand_in_the_environment() {
    let users = Users::new();
    let node = users.serve();
    let with = |name: &str, words: &[&str]| {
        let mut command = freight(&[words, &["--servers", node.endpoint()]].concat());
        command.env("FREIGHT_USER", name).env("FREIGHT_PASSWORD_FILE", users.path(&format!("{name}.password")));
        command.output().expect("it ends").status.code()
    };
    assert_eq!(with("ada", &["put", "k", "v"]), Some(0));
    assert_eq!(with("reader", &["stats"]), Some(0));
    let bench = ["bench", "--records", "100", "--duration", "100ms", "--warmup", "100ms", "--wire-limit=false"];
    assert_eq!(with("ada", &bench), Some(0));
    let alone = node.run(&["get", "k", "--user", "ada"]);
    alone.assert_one_line("--password-file");
    let missing = node.run(&["get", "k", "--user", "ada", "--password-file", "/nowhere"]);
    missing.assert_one_line("No such file");
}

#[test]
fn sighup_takes_the_file_of_users_anew() {
    let users = Users::new();
    let mut node = users.serve();
    assert_eq!(users.add("bob", &["--rights", "read"]).code, Some(0));
    users.write("bob.password", "bob-word\n");
    users.run_as(&node, "bob", &["ping"]).assert_one_line("wrong user or password");
    node.process.signal(Signal::HUP);
    node.process.wait_for("SIGHUP: 3 users");
    assert_eq!(users.run_as(&node, "bob", &["ping"]).code, Some(0));
    users.write("users.toml", "x = 1");
    node.process.signal(Signal::HUP);
    node.process.wait_for("SIGHUP: the users stay as they are");
    assert_eq!(users.run_as(&node, "bob", &["ping"]).code, Some(0));
}

/// Sets keys of every node through a node's door, as ada; how many of them were set.
fn set_through(door: &str, keys: usize) -> usize {
    let mut client = TcpStream::connect(door.trim_start_matches("resp://")).expect("it listens");
    let sets: String = (0..keys).map(|key| format!("SET k{key} v\r\n")).collect();
    client.write_all(format!("AUTH ada ada-word\r\n{sets}QUIT\r\n").as_bytes()).expect("it reads");
    let mut replies = String::new();
    client.read_to_string(&mut replies).expect("text");
    assert_eq!(replies.lines().count(), keys + 2, "{replies}");
    replies.matches("+OK").count() - 2
}

#[test]
fn sighup_takes_the_node_s_own_password_anew() {
    let users = Users::new();
    assert_eq!(users.add("peer", &["--rights", "read,write"]).code, Some(0));
    users.write("peer.password", "peer-word\n");
    let (file, map, password) = (users.file(), users.path("cluster.toml"), users.path("peer.password"));
    let flags = ["--users", &file, "--map", &map, "--user", "peer", "--password-file", &password];
    let mut nodes: Vec<_> = (0..2).map(|_| serve(&["tcp://127.0.0.1:0", "resp://127.0.0.1:0"], &flags)).collect();
    let servers = nodes.iter().map(Served::endpoint).collect::<Vec<_>>().join(",");
    let ada = users.path("ada.password");
    let create = ["cluster", "create", "--servers", &servers, "--map", &map, "--user", "ada", "--password-file", &ada];
    assert_eq!(run(&create).code, Some(0));
    let tell = |nodes: &mut [Served], words: &str| {
        for node in nodes {
            node.process.signal(Signal::HUP);
            node.process.wait_for(words);
        }
    };
    tell(&mut nodes, "map of epoch 1");
    let door = nodes[0].endpoints[1].clone();
    assert_eq!(set_through(&door, 20), 20);
    let passwd = ["user", "passwd", "peer", "--users", &file, "--iterations", "4096"];
    assert_eq!(run_with_input(&passwd, b"another-word\n").code, Some(0));
    tell(&mut nodes, "SIGHUP: 3 users");
    let own = set_through(&door, 20);
    assert!((1..20).contains(&own), "{own} of 20: others refuse the password of before");
    users.write("peer.password", "another-word\n");
    nodes[0].process.signal(Signal::HUP);
    // What it logs behind that may be of the signal before.
    assert!((0..100).any(|_| set_through(&door, 20) == 20), "the password is read again");
    users.write("peer.password", "\n");
    nodes[0].process.signal(Signal::HUP);
    nodes[0].process.wait_for("the node's own password stays as it is");
    assert_eq!(set_through(&door, 20), 20);
}

#[test]
fn beyond_this_machine_a_node_wants_users_or_says_what_insecure_means() {
    let users = Users::new();
    run(&["serve", "--listen", "tcp://0.0.0.0:0"]).assert_one_line("--users names those who may use it");
    let node = serve(&["tcp://0.0.0.0:0"], &["--users", &users.file()]);
    assert_eq!(node.endpoints.len(), 1);
    let mut node = serve(&["tcp://0.0.0.0:0"], &["--insecure"]);
    node.process.wait_for("may read, change and remove every record, and move slots away");
}

#[test]
fn shared_memory_asks_for_a_proof_too() {
    let users = Users::new();
    let endpoint = format!("shm://{}", users.path("node.sock"));
    let node = serve(&[&endpoint], &["--users", &users.file()]);
    assert!(Path::new(&users.path("node.sock")).exists());
    assert_eq!(users.run_as(&node, "ada", &["put", "k", "v"]).code, Some(0));
    node.run(&["get", "k"]).assert_one_line("this node requires authentication");
}

#[test]
fn slots_move_between_nodes_that_have_users_for_whoever_may_move_them() {
    let users = Users::new();
    let (file, map) = (users.file(), users.path("cluster.toml"));
    let mut nodes: Vec<_> = (0..2).map(|_| serve_one(&["--users", &file, "--map", &map])).collect();
    let run_as = |name: &str, words: &[&str]| {
        let password = users.path(&format!("{name}.password"));
        run(&[words, &["--map", &map, "--user", name, "--password-file", &password]].concat())
    };
    let servers: Vec<_> = nodes.iter().map(Served::endpoint).collect();
    let (servers, to) = (servers.join(","), servers[1].to_owned());
    run(&["cluster", "create", "--servers", &servers, "--map", &map]).assert_one_line("requires authentication");
    assert_eq!(run_as("ada", &["cluster", "create", "--servers", &servers]).code, Some(0));
    for node in &mut nodes {
        node.process.signal(Signal::HUP);
        node.process.wait_for("map of epoch 1");
    }
    assert_eq!(run_as("ada", &["put", "k", "v"]).code, Some(0));
    let refused = run_as("reader", &["cluster", "move", "0-99", &to]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("it takes the right to admin"), "{}", refused.stderr);
    let moved = run_as("ada", &["cluster", "move", "0-8191", &to]);
    assert_eq!(moved.code, Some(0), "{}", moved.stderr);
    assert_eq!(run_as("reader", &["get", "k"]).stdout, b"v");
}

#[test]
fn keys_and_profiles_are_for_whoever_may_administer_the_node() {
    let users = Users::new();
    let node = serve_one(&["--users", &users.file(), "--allow-profile"]);
    let profile = users.path("out.pb.gz");
    let needs_admin = "it takes the right to admin, and user 'reader' has only read";
    let stats = users.run_as(&node, "reader", &["stats"]);
    assert!(stats.code == Some(0) && stats.stderr.contains(needs_admin), "{}", stats.stderr);
    assert!(String::from_utf8_lossy(&stats.stdout).contains("\"hot_keys\": null"));
    for asked in [&["stats", "--hot-keys"][..], &["flame", &profile, "--seconds", "1"]] {
        let denied = users.run_as(&node, "reader", asked);
        assert!(denied.code == Some(2) && denied.stderr.contains(needs_admin), "{asked:?}: {}", denied.stderr);
        assert_eq!(users.run_as(&node, "ada", asked).code, Some(0), "{asked:?}");
    }
}
