//! Who issues frames where: one plan, for the measured run and for the wire limit.
//!
//! ```text
//!   lane l -> worker l / depth -> thread worker mod threads
//!                              -> client worker mod clients: its own, or the one that all share; over RESP, where
//!                                 nobody is answered out of turn, one a lane
//!
//!   run          a lane: one batch in flight, a frame to each node that it touches
//!   wire limit   as many carriers a lane as its batches have frames in flight, a raw frame each
//! ```
#![forbid(unsafe_code)]

use super::config::{BenchConfig, Connections};

/// How many there are of everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    lanes: usize,
    depth: usize,
    threads: usize,
    /// Clients: one a worker, one for all, or one a lane.
    pub(super) clients: usize,
    nodes: usize,
    coalesced: bool,
    /// Whether each lane has a client of its own.
    is_resp: bool,
}

/// Where a lane is at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    /// The thread that runs it.
    pub(super) thread: usize,
    /// The client that carries its frames.
    pub(super) client: usize,
}

/// One raw frame in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carrier {
    /// The lane's that it stands for.
    pub(super) seat: Seat,
    /// The node it begins with.
    pub(super) node: usize,
    /// From the node of one frame to that of the next.
    pub(super) step: usize,
}

impl Plan {
    /// The plan of resolved flags.
    pub(super) fn new(config: &BenchConfig, threads: usize, nodes: usize) -> Self {
        let workers = config.workers.expect("the flags are resolved") as usize;
        let depth = config.depth.expect("the flags are resolved") as usize;
        let is_resp = config.via().is_redis();
        let clients = match config.connections {
            Connections::Own if is_resp => workers * depth,
            Connections::Own => workers,
            Connections::Shared => 1,
        };
        Self { lanes: workers * depth, depth, threads, clients, nodes, coalesced: config.is_coalesced(), is_resp }
    }

    /// Where lane `lane` is at home.
    pub(super) fn seat(&self, lane: usize) -> Seat {
        let worker = lane / self.depth;
        let client = if self.is_resp { lane } else { worker % self.clients };
        Seat { thread: worker % self.threads, client }
    }

    /// The thread of a client.
    pub(super) fn thread_of(&self, client: usize) -> usize {
        if self.is_resp { self.seat(client).thread } else { client % self.threads }
    }

    /// Where each lane is at home.
    pub(super) fn lanes(&self) -> impl Iterator<Item = Seat> {
        (0..self.lanes).map(|lane| self.seat(lane))
    }

    /// What carries raw frames as the lanes carry theirs, where a batch has `frames_per_batch` on average. Frames that
    /// ask again for what a full reply left out follow each other: no more than one a node is in flight.
    pub(super) fn carriers(&self, frames_per_batch: f64) -> Vec<Carrier> {
        // A client that merges operations has one frame a node in flight, whoever waits.
        let (lanes, frames) = if self.coalesced {
            (1, self.nodes)
        } else {
            (self.lanes, (frames_per_batch.round() as usize).clamp(1, self.nodes))
        };
        // Lanes begin at different nodes, and go round where a batch touches only some of them.
        let carrier = |lane, frame| Carrier {
            seat: self.seat(lane),
            node: (lane * frames + frame) % self.nodes,
            step: frames % self.nodes,
        };
        (0..lanes).flat_map(|lane| (0..frames).map(move |frame| carrier(lane, frame))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::parse;
    use super::*;

    fn plan(flags: &str, threads: usize, nodes: usize) -> Plan {
        let config = parse(&flags.split(' ').collect::<Vec<_>>()).expect("flags");
        Plan::new(&config.resolved(), threads, nodes)
    }

    #[test]
    fn raw_frames_travel_as_the_run_s_do() {
        for connections in ["own", "shared"] {
            for (workers, depth, threads, nodes) in [(1, 1, 1, 1), (2, 3, 2, 1), (5, 2, 2, 3), (4, 4, 4, 2)] {
                let flags = format!("--connections {connections} --workers {workers} --depth {depth}");
                let plan = plan(&flags, threads, nodes);
                for frames in 1..=nodes {
                    let run: Vec<_> = plan.lanes().flat_map(|seat| vec![seat; frames]).collect();
                    let carriers = plan.carriers(frames as f64);
                    let seats: Vec<_> = carriers.iter().map(|carrier| carrier.seat).collect();
                    assert_eq!(seats, run, "{flags}, {threads} threads, {frames} of {nodes} nodes");
                }
                let threads_used: std::collections::BTreeSet<_> = plan.lanes().map(|seat| seat.thread).collect();
                assert_eq!(threads_used.len(), threads.min(workers), "{flags}");
            }
        }
    }

    #[test]
    fn a_client_that_merges_has_one_frame_a_node_in_flight() {
        let plan = plan("--connections shared --batch 1 --workers 50", 2, 2);
        let nodes: Vec<_> = plan.carriers(0.02).iter().map(|carrier| (carrier.seat.client, carrier.node)).collect();
        assert_eq!(nodes, [(0, 0), (0, 1)]);
    }

    #[test]
    fn a_frame_to_every_node_stays_with_its_node_and_fewer_go_round() {
        let plan = plan("--workers 2", 2, 3);
        assert!(plan.carriers(3.0).iter().all(|carrier| carrier.step == 0));
        assert!(
            plan.carriers(7.0).iter().all(|carrier| carrier.step == 0),
            "asking again is no second frame in flight"
        );
        let few = plan.carriers(1.0);
        assert_eq!(few.iter().map(|carrier| (carrier.node, carrier.step)).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
    }
}
