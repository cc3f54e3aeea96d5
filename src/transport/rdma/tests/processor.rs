//! Where a client of this machine runs is known to who places its connection.
#![forbid(unsafe_code)]

use super::super::greeting::Greeting;
use super::super::verbs::PairAddress;
use super::super::{Rdma, RdmaOptions};
use super::{config, run};
use crate::transport::{Incoming, Listener, Transport};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn the_processor_of_a_client_is_known_on_its_own_machine() {
    run(async |mut scene| {
        let (all, client) = (sched_getaffinity(None).expect("processors"), Rdma::new(RdmaOptions::default()));
        let endpoint = scene.listener.endpoint().clone();
        for processor in (0..CpuSet::MAX_CPU).filter(|processor| all.is_set(*processor)) {
            let mut one = CpuSet::new();
            one.set(processor);
            sched_setaffinity(None, &one).expect("it is one of ours");
            let connected = client.connect(&endpoint, &config()).await.expect("a listener");
            let incoming = scene.listener.accept().await.expect("a connection");
            assert_eq!(incoming.cpu().await, Some(processor));
            drop(connected);
        }
        sched_setaffinity(None, &all).expect("as it was");
        // From another address it would be another machine's; who says nothing has none.
        let address = PairAddress { gid: [0; 16], number: 1, packet_number: 1, lid: 0 };
        let greeting = Greeting {
            address,
            mtu_bytes: 4096,
            receive_bytes: 8192,
            credits: 1,
            reads_served: 1,
            announcements: 1,
            processor: Some(0),
        };
        let own = format!("{}:0", super::address());
        let other = "127.0.0.1:0";
        let of_other = if own == other { Some(0) } else { None };
        for (from, bytes, known) in [
            (own.as_str(), &greeting.encode()[..], Some(0)),
            (own.as_str(), b"", None),
            (other, &greeting.encode(), of_other),
        ] {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind(from.parse().expect("an address")).expect("a free port");
            let (host, port) = endpoint.host_port().expect("host and port");
            let to = format!("{host}:{port}").parse().expect("an address");
            let mut stream = socket.connect(to).await.expect("a listener");
            stream.write_all(bytes).await.expect("room");
            assert_eq!(scene.listener.accept().await.expect("a connection").cpu().await, known);
        }
    });
}
