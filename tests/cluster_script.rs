//! `scripts/cluster` as people run it: what it would do, what it does in network namespaces and over ssh, and that
//! nothing is left behind, however it ends.
#![forbid(unsafe_code)]

use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for a machine that is busy with other tests.
const WAIT_MAX: Duration = Duration::from_secs(120);

const SHORT: &[&str] = &["--records", "2000", "--batch", "100", "--duration", "500ms", "--warmup", "100ms", "--verify"];

/// A run that would take longer than any test waits.
const LONG: &[&str] = &["--records", "2000", "--batch", "100", "--duration", "10m", "--warmup", "100ms"];

fn script() -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cluster"));
    command.args(["--binary", env!("CARGO_BIN_EXE_freight")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with a list of hosts on its standard input.
fn with_hosts(list: &str, arguments: &[&str]) -> Output {
    let mut running = script().args(["--hosts", "-", "--dry-run"]).args(arguments).spawn().expect("python3 is there");
    running.stdin.take().expect("it is piped").write_all(list.as_bytes()).expect("it reads");
    running.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_dry_run_prints_each_command_over_ssh() {
    let output = with_hosts("a\nu@b slots=2\nc address=10.0.0.3\n", &["2", "2", "--", "--records", "10"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let lines = |words: &[&str]| printed.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    for host in [" a ", " u@b ", " c "] {
        assert_eq!(lines(&[host, "cat >", "/freight "]), 1, "{printed}");
        assert_eq!(lines(&[host, "rm -rf /tmp/freight-"]), 1, "{printed}");
        assert_eq!(lines(&[host, "sample.sh", "watched.sh"]), 1, "{printed}");
    }
    assert_eq!(lines(&[" a ", "freight serve --listen tcp://a:7411"]), 1, "{printed}");
    assert_eq!(lines(&[" u@b ", "freight serve --listen tcp://b:7412"]), 1, "{printed}");
    let client = "freight bench --servers tcp://a:7411,tcp://b:7412 --part";
    assert_eq!(lines(&[" c ", &format!("{client} 1/2 --records 10")]), 1, "{printed}");
    assert_eq!(lines(&[" u@b ", &format!("{client} 2/2 --records 10")]), 1, "{printed}");
}

#[test]
fn a_transport_is_the_scheme_of_every_endpoint() {
    let output = with_hosts("a address=10.0.0.1\nb\n", &["--transport", "rdma", "1", "1"]);
    let printed = text(&output.stdout);
    assert!(printed.contains("serve --listen rdma://10.0.0.1:7411"), "{printed}");
    assert!(printed.contains("bench --servers rdma://10.0.0.1:7411"), "{printed}");
}

#[test]
fn slurm_s_hosts_are_those_of_the_job() {
    let run = |nodes: Option<&str>| {
        let mut command = script();
        command.args(["--slurm", "--dry-run", "1", "1"]).env_remove("SLURM_JOB_NODELIST");
        command.envs(nodes.map(|nodes| ("SLURM_JOB_NODELIST", nodes))).output().expect("python3 is there")
    };
    let printed = text(&run(Some("cn[07-08]")).stdout);
    assert!(printed.contains("serve --listen tcp://cn07:7411") && printed.contains(" cn08 "), "{printed}");
    let outside = run(None);
    assert_eq!(outside.status.code(), Some(1));
    assert!(text(&outside.stderr).contains("SLURM_JOB_NODELIST"), "{}", text(&outside.stderr));
}

#[test]
fn what_makes_no_sense_is_refused_in_a_line() {
    for (arguments, words) in [
        (&["3", "1"][..], "4 slots, and there are 2 on 2 hosts"),
        (&["1,2", "1,2,3"], "do not pair"),
        (&["1", "1", "--", "--json", "x"], "--json is the script's to say"),
        (&["--batch-a-node", "9", "1", "1", "--", "--batch=1"], "leave --batch out"),
    ] {
        let output = with_hosts("a\nb\n", arguments);
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(words), "{arguments:?}: {}", text(&output.stderr));
    }
}

/// A run in network namespaces of this machine, in a folder of its own; all of its processes work below it.
struct Local {
    folder: TempDir,
    running: Child,
}

impl Local {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let running = Self::command(&folder).args(arguments).spawn().expect("python3 is there");
        Self { folder, running }
    }

    fn command(folder: &TempDir) -> Command {
        let mut command = script();
        command.env("TMPDIR", folder.path()).arg("--local").arg("--out").arg(folder.path().join("out"));
        command.stdin(Stdio::null());
        command
    }

    /// Starts a run that lasts, and waits until its clients measure.
    fn measuring() -> Self {
        let mut local = Self::start(&[&["2", "2", "--"], LONG].concat());
        let log = local.folder.path().join("out/2+2/client2.log");
        wait_until("the clients measure", || {
            assert_eq!(local.running.try_wait().expect("a child"), None, "it ended before");
            fs::read_to_string(&log).is_ok_and(|log| log.contains("measuring"))
        });
        local
    }

    /// The number of one of its processes.
    fn pid_of(&self, name: &str) -> String {
        let folders = fs::read_dir(self.folder.path()).expect("a folder");
        let files = folders.map(|entry| entry.expect("an entry").path().join(format!("{name}.pid")));
        let found = files.filter_map(|file| fs::read_to_string(file).ok()).next();
        found.expect("it runs").trim().to_owned()
    }

    fn kill(&self, signal: &str) {
        signal_to(signal, &self.running.id().to_string());
    }

    /// Its exit status and standard error, once it has ended, and nothing of it runs or lies about.
    fn ended(self) -> (std::process::ExitStatus, String) {
        let (folder, pid) = (self.folder, self.running.id());
        let output = self.running.wait_with_output().expect("it ends");
        wait_until("all processes have ended", || processes_in(folder.path()).is_empty());
        let stderr = text(&output.stderr);
        if output.status.signal().is_none() {
            assert!(!namespaces().contains(&format!("freight-{pid}-")), "{stderr}\n{}", namespaces());
            let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
            assert!(left.iter().all(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() == "out")), "{left:?}");
        }
        (output.status, stderr)
    }
}

fn signal_to(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().expect("kill is there").success());
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < WAIT_MAX, "in vain: {what}");
        sleep(Duration::from_millis(50));
    }
}

/// Processes that work below a folder.
fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir("/proc").expect("/proc is there").filter_map(|entry| Some(entry.ok()?.path().join("cwd")));
    all.filter(|cwd| fs::read_link(cwd).is_ok_and(|cwd| cwd.starts_with(folder))).collect()
}

fn namespaces() -> String {
    text(&Command::new("ip").args(["netns", "list"]).output().expect("ip is there").stdout)
}

/// Whether namespaces can be made here; CI has no machine where they cannot.
fn has_namespaces() -> bool {
    let can = Command::new("ip").args(["netns", "list"]).output().is_ok_and(|output| output.status.success())
        && text(&Command::new("id").arg("-u").output().expect("id is there").stdout).trim() == "0";
    assert!(can || std::env::var("CI").as_deref() != Ok("true"), "CI has root and iproute2");
    if !can {
        eprintln!("not run: this takes root and iproute2");
    }
    can
}

#[test]
fn two_nodes_and_two_clients_in_namespaces_make_a_report_with_plots() {
    if !has_namespaces() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // On a busy machine clients begin some time apart, and the rate is of the time in which all measured.
    let bench = SHORT.iter().map(|word| if *word == "500ms" { "4s" } else { word });
    let arguments: Vec<_> = ["--profile", "1,2", "1,2", "--"].into_iter().chain(bench).collect();
    let output = Local::command(&folder).args(arguments).output().expect("python3 is there");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let out = folder.path().join("out");
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    let figures = &report["runs"][1]["figures"];
    assert_eq!((&figures["errors"], &figures["hit_rate"]), (&Value::from(0), &Value::from(1.0)));
    assert!(figures["ops_per_second"].as_f64().unwrap() > 0.0);
    assert!(figures["nodes"].as_array().unwrap().iter().all(|node| node["operations"].as_f64().unwrap() > 0.0));
    for name in ["throughput", "cpu", "usage-1+1", "usage-2+2"] {
        assert!(fs::read(out.join(name).with_extension("png")).unwrap().starts_with(b"\x89PNG"), "{name}");
        assert!(fs::read_to_string(out.join(format!("{name}.svg"))).unwrap().starts_with("<svg"), "{name}");
    }
    for name in ["node1", "node2", "client1", "client2"] {
        assert!(report["runs"][1]["usage"][name].as_array().is_some_and(|readings| !readings.is_empty()), "{name}");
        assert!(out.join(format!("2+2/{name}.log")).is_file() && out.join(format!("2+2/{name}.svg")).is_file());
    }
    assert!(text(&output.stdout).contains("| 2 + 2 |"), "{}", text(&output.stdout));
}

#[test]
fn operations_that_fail_stand_in_the_report_and_in_the_exit_code() {
    if !has_namespaces() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // Room for a few hundred records more than are loaded, and a workload that inserts.
    let bench = ["--records", "34000", "--value-size", "1000", "--workload", "ycsb-d", "--duration", "1s"];
    let arguments = [&["--node-arguments", "--memory 64MiB", "1", "1", "--"], &bench[..]].concat();
    let output = Local::command(&folder).args(arguments).output().expect("python3 is there");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&fs::read(folder.path().join("out/report.json")).unwrap()).unwrap();
    assert!(report["runs"][0]["figures"]["errors"].as_u64().unwrap() > 0);
}

/// sshd for this user alone, at three loopback addresses: hosts as far as the script can tell.
struct Sshd {
    folder: TempDir,
    port: u16,
    running: Child,
}

impl Sshd {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key)).status();
            assert!(made.expect("ssh-keygen is there").success());
        }
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.2\nListenAddress 127.0.0.3\nListenAddress 127.0.0.4\nHostKey {}\n\
             AuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n",
            at("host").display(),
            at("user.pub").display()
        );
        fs::write(at("settings"), settings).expect("the folder is ours");
        // Where Debian's sshd of root separates its privileges.
        let _not_root = fs::create_dir_all("/run/sshd");
        let running = Command::new(SSHD).args(["-D", "-e", "-f"]).arg(at("settings")).stderr(Stdio::null()).spawn();
        let running = running.expect("sshd is there");
        wait_until("sshd listens", || TcpStream::connect(("127.0.0.4", port)).is_ok());
        Self { folder, port, running }
    }

    fn options(&self) -> String {
        let key = self.folder.path().join("user");
        format!(
            "-p {} -i {} -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            self.port,
            key.display()
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _gone = self.running.kill().and_then(|()| self.running.wait());
    }
}

const SSHD: &str = "/usr/sbin/sshd";

#[test]
fn hosts_behind_ssh_are_driven_and_left_as_they_were() {
    if !Path::new(SSHD).is_file() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has sshd");
        eprintln!("not run: this takes {SSHD}");
        return;
    }
    let (sshd, folder) = (Sshd::start(), tempfile::tempdir().expect("a folder"));
    let out = folder.path().join("out");
    let run = |arguments: &[&str]| {
        let mut command = script();
        command.args(["--host", "127.0.0.[2-4]", "--ssh-options", &sshd.options(), "--out"]).arg(&out);
        command.args(arguments).output().expect("python3 is there")
    };
    let output = run(&[&["2", "1", "--"], SHORT].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    let run = &report["runs"][0];
    assert_eq!((&run["figures"]["errors"], run["nodes"][1]["host"].as_str()), (&Value::from(0), Some("127.0.0.3")));
    assert_eq!(run["usage"].as_object().unwrap().len(), 3);
    let folders: Vec<_> = ["nodes", "drivers"].iter().flat_map(|kind| run[kind].as_array().unwrap()).collect();
    let left = |place: &&&Value| Path::new(place["folder"].as_str().unwrap()).exists();
    assert_eq!((folders.len(), folders.iter().filter(left).count()), (3, 0), "{folders:?}");
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    if !has_namespaces() {
        return;
    }
    let local = Local::measuring();
    local.kill("-INT");
    let (status, stderr) = local.ended();
    assert_eq!(status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("SIGINT: stopping"), "{stderr}");
}

#[test]
fn a_script_that_is_killed_outright_takes_its_processes_along() {
    if !has_namespaces() {
        return;
    }
    let local = Local::measuring();
    let mark = format!("freight-{}-", local.running.id());
    local.kill("-KILL");
    assert_eq!(local.ended().0.signal(), Some(9));
    // The names of its namespaces are all that is left, and the next run of whomever takes them away.
    let (status, stderr) = Local::start(&[&["1", "1", "--"], SHORT].concat()).ended();
    assert!(status.success() && !namespaces().contains(&mark), "{stderr}\n{}", namespaces());
}

#[test]
fn a_node_that_dies_in_the_middle_ends_the_run_in_words() {
    if !has_namespaces() {
        return;
    }
    let local = Local::measuring();
    signal_to("-KILL", &local.pid_of("node2"));
    let (status, stderr) = local.ended();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("node2 on node2 ended with 137, in the middle of the run"), "{stderr}");
}
