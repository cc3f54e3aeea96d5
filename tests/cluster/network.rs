//! A network on this machine: hosts with an address each, and ways between them that can be cut.
//!
//! ```text
//!   this process, 10.77.0.1 -- switch --+-- node0   10.77.1.1    a network namespace each; processes run in them,
//!                               (bridge) +-- client0 10.77.2.1    and threads of this process that moved there
//!                                       +-- relay0  10.77.3.1
//! ```
//!
//! A test runs itself again in namespaces of its own (user where it must be, network, mounts, processes), so that all
//! it makes and starts is gone with it. Where the kernel allows no namespaces every host is a loopback address, all
//! nodes are behind relays, and those cut.
#![forbid(unsafe_code)]

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU8, Ordering};

/// Set for a test that runs in namespaces of its own: a file that it makes to say that it did.
const INSIDE: &str = "FREIGHT_NETWORK_INSIDE";

/// `loopback` asks for what is done where there are no namespaces.
const WANTED: &str = "FREIGHT_NETWORK";

/// Nobody's: what is sent to it is lost without a word.
const NOWHERE: &str = "02:00:00:00:00:ff";

/// Where this process is.
const HERE: &str = "10.77.0.1";

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Node = 1,
    Client = 2,
    Relay = 3,
}

/// A host of the network.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
}

/// Hosts, and the ways between them.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// Of the second and third byte of loopback addresses; `None` where hosts are namespaces.
    loopback: Option<(u8, u8)>,
}

/// Runs a test on a network. `name` is the test's: it is run again, by that name and with this seed.
pub(crate) fn in_a_network(name: &str, seed: u64, run: impl FnOnce(&Network)) {
    if let Some(mark) = std::env::var_os(INSIDE) {
        fs::write(mark, "").expect("writable");
        run(&Network::of_namespaces());
        // Before the harness tells of a test that whoever started this tells too.
        process::exit(0);
    }
    match unshare() {
        Ok(mut command) => {
            let folder = tempfile::tempdir().expect("a scratch folder");
            let mark = folder.path().join("inside");
            let test = std::env::current_exe().expect("this test");
            command.arg(test).args(["--exact", name, "--nocapture", "--include-ignored"]);
            let status = command.env(INSIDE, &mark).env("FREIGHT_SEED", seed.to_string()).status().expect("it starts");
            assert!(status.success(), "{name}, in namespaces of its own: {status}");
            assert!(mark.exists(), "there is no test {name:?}");
        }
        Err(why) => {
            println!("no network namespaces: {why}; loopback addresses instead, and relays that cut");
            run(&Network::of_loopback());
        }
    }
}

/// A command that runs another in namespaces of its own.
///
/// # Errors
/// Why this machine has none.
fn unshare() -> Result<Command, String> {
    if std::env::var_os(WANTED).is_some_and(|wanted| wanted == "loopback") {
        return Err(format!("{WANTED}=loopback"));
    }
    let all = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
    let mut why = String::new();
    for user in [&[][..], &["--user", "--map-root-user"]] {
        let command = || {
            let mut command = Command::new("unshare");
            command.args(user).args(all);
            command
        };
        let all_there_is = "mount -t tmpfs tmpfs /run && ip netns add a && ip link add switch type bridge \
                            && ip link add eth0 netns a type veth peer name port && ip link set port master switch";
        match command().args(["sh", "-c", all_there_is]).output() {
            Ok(output) if output.status.success() => return Ok(command()),
            Ok(output) => why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', ", "),
            Err(error) => why = format!("unshare: {error}"),
        }
    }
    Err(format!("{why} (needed: unshare, mount, ip of iproute2, and root or user namespaces)"))
}

impl Network {
    fn of_namespaces() -> Self {
        must("mount", "-t tmpfs tmpfs /run");
        ip("link set lo up");
        ip("link add switch type bridge");
        ip("link set switch up");
        ip(&format!("address add {HERE}/16 dev switch"));
        Self { loopback: None }
    }

    fn of_loopback() -> Self {
        static NETWORKS: AtomicU8 = AtomicU8::new(0);
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        Self { loopback: Some(((process::id() % 251 + 1) as u8, number)) }
    }

    /// Whether ways can be cut; where not, relays do.
    pub(crate) fn cuts(&self) -> bool {
        self.loopback.is_none()
    }

    /// The address at which hosts reach what runs in this process's place; `None` where any of loopback will do.
    pub(crate) fn address(&self) -> Option<&'static str> {
        self.loopback.is_none().then_some(HERE)
    }

    /// Adds a host: the `number`th of its role, of 250 at most.
    pub(crate) fn host(&self, role: Role, number: usize) -> Host {
        let name = format!("{role:?}{number}").to_lowercase();
        if let Some((second, third)) = self.loopback {
            assert!(number < 80, "addresses of a role");
            let last = role as u8 * 80 - 80 + number as u8 + 1;
            return Host { name, address: Ipv4Addr::new(127, second, third, last) };
        }
        let address = Ipv4Addr::new(10, 77, role as u8, number as u8 + 1);
        ip(&format!("netns add {name}"));
        ip(&format!("link add eth0 netns {name} type veth peer name {name}"));
        ip(&format!("link set {name} master switch up"));
        ip(&format!("-n {name} address add {address}/16 dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} link set lo up"));
        Host { name, address }
    }

    /// A command that runs at a host.
    pub(crate) fn at(&self, host: &Host, command: &Command) -> Command {
        let mut moved = Command::new(command.get_program());
        if self.loopback.is_none() {
            moved = Command::new("ip");
            moved.args(["netns", "exec", &host.name]).arg(command.get_program());
        }
        moved.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => moved.env(name, value),
                None => moved.env_remove(name),
            };
        }
        moved
    }

    /// Moves the calling thread to a host: what it opens from here on, it opens there.
    pub(crate) fn enter(&self, host: &Host) {
        if self.loopback.is_none() {
            let namespace = File::open(format!("/run/netns/{}", host.name)).expect("a host of this network");
            let moved = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
            moved.expect("a thread may move");
        }
    }

    /// Loses, without a word, what `from` sends to `to`, until [`Network::mend`].
    pub(crate) fn cut(&self, from: &Host, to: &Host) {
        assert!(self.cuts(), "loopback addresses have no neighbours");
        ip(&format!("-n {} neighbour replace {} lladdr {NOWHERE} dev eth0 nud permanent", from.name, to.address));
    }

    /// Undoes [`Network::cut`].
    pub(crate) fn mend(&self, from: &Host, to: &Host) {
        ip(&format!("-n {} neighbour delete {} dev eth0", from.name, to.address));
    }

    /// Takes a host's cable out, or puts it in again.
    pub(crate) fn plug(&self, host: &Host, is_in: bool) {
        assert!(self.cuts(), "loopback addresses have no cable");
        ip(&format!("link set {} {}", host.name, if is_in { "up" } else { "down" }));
    }
}

fn ip(words: &str) {
    must("ip", words);
}

fn must(program: &str, words: &str) {
    let output = Command::new(program).args(words.split_whitespace()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&output.stderr));
}
