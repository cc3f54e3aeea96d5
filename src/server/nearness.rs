//! Whether a connection's next frame, or commands, are looked for before its thread sleeps.
#![forbid(unsafe_code)]

use crate::cores;

/// Arrivals between two times that the transport is asked where its peer is: it moves seldom, and the kernel is asked.
const ASKED_EVERY: u32 = 64;

/// Where the client of a connection is, as far as is known.
#[derive(Debug)]
pub(super) struct Nearness {
    may_look: bool,
    arrivals: u32,
    has_another_core: bool,
}

impl Nearness {
    /// Of a client about which nothing is known; nothing is looked for unless one `may_look`.
    pub(super) fn new(may_look: bool) -> Self {
        Self { may_look, arrivals: 0, has_another_core: false }
    }

    /// Something came, from the processor that `sender_cpu` tells. Before it is answered: the client's acknowledgement
    /// of an answer may be taken for its next bytes, and is handled here.
    pub(super) fn arrived(&mut self, sender_cpu: impl FnOnce() -> Option<usize>) {
        if self.may_look && self.arrivals.is_multiple_of(ASKED_EVERY) {
            self.has_another_core = sender_cpu().is_some_and(|cpu| cpu != cores::current());
        }
        self.arrivals = self.arrivals.wrapping_add(1);
    }

    /// Whether looking for what comes next may pay: whether the client is on this machine, on another processor. On one
    /// that both share the look would only take time from the client, and across a network a wake-up is the least.
    pub(super) fn is_worth_a_look(&self) -> bool {
        self.has_another_core
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polling::arrivals;
    use crate::server::{Identity, LocalNode, NodeConfig};
    use rustix::thread::CpuSet;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::thread;
    use std::time::Duration;
    use tokio::sync::oneshot;

    const PINGS: u64 = 100;

    #[test]
    fn a_client_of_another_processor_of_this_machine_is_worth_a_look() {
        let here = cores::available()[0];
        assert!(cores::pin_current_thread(here));
        let mut nearness = Nearness::new(true);
        assert!(!nearness.is_worth_a_look(), "nothing is known");
        for (cpu, is_worth_a_look) in [(Some(CpuSet::MAX_CPU), true), (Some(here), false), (None, false)] {
            nearness.arrived(|| cpu);
            assert_eq!(nearness.is_worth_a_look(), is_worth_a_look, "{cpu:?}");
            (1..ASKED_EVERY).for_each(|_| nearness.arrived(|| unreachable!("it is asked seldom")));
        }
        let mut nearness = Nearness::new(false);
        nearness.arrived(|| unreachable!("nobody looks"));
        assert!(!nearness.is_worth_a_look());
    }

    /// How often a node on this thread had a look's worth of a Redis client of another processor that pings it, and
    /// sends so many bytes at a time.
    async fn looks(busy_polling: bool, of_client: usize, bytes: usize) -> u64 {
        let mut config = NodeConfig::new(Vec::new(), Identity { incarnation: [1; 16], hash_secret: [2; 32] });
        config.redis = vec!["resp://127.0.0.1:0".parse().expect("an endpoint")];
        config.busy_polling = busy_polling;
        let node = LocalNode::start(config).await.expect("a node");
        let (host, port) = node.redis_endpoints()[0].host_port().expect("an address");
        let address = format!("{host}:{port}");
        let (over, is_over) = oneshot::channel();
        let client = thread::spawn(move || {
            assert!(cores::pin_current_thread(of_client));
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.set_nodelay(true).expect("an option");
            for _ in 0..PINGS {
                for part in b"PING\r\n".chunks(bytes) {
                    stream.write_all(part).expect("it reads");
                    thread::sleep(Duration::from_micros(if bytes < 6 { 200 } else { 0 }));
                }
                stream.read_exact(&mut [0; 7]).expect("it answers");
            }
            over.send(()).expect("somebody waits");
        });
        let before = arrivals();
        is_over.await.expect("every ping was answered");
        let arrivals = arrivals() - before;
        client.join().expect("an end");
        node.drain().await;
        arrivals
    }

    #[tokio::test]
    async fn a_redis_clients_next_commands_are_looked_for_and_not_their_bytes_one_by_one() {
        let available = cores::available();
        let [of_node, of_client, ..] = available[..] else { return eprintln!("nobody looks on one processor") };
        assert!(cores::pin_current_thread(of_node));
        assert_eq!(looks(true, of_client, 6).await, PINGS - 1, "of the first nothing is known");
        assert!((1..=PINGS).contains(&looks(true, of_client, 1).await), "between commands alone");
        assert_eq!(looks(false, of_client, 6).await, 0);
    }
}
