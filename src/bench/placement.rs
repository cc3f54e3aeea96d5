//! Which core each thread runs on.
//!
//! ```text
//!              core 0           core 1           core 2           core 3
//!   paired     client 0 node 0  client 1 node 1  client 2 node 2  client 3 node 3
//!   split      node 0           node 1           client 0         client 1
//!   free       as many of each, where the kernel likes
//! ```
//!
//! Paired keeps a connection's two ends on one core: its bytes stay in that core's cache and nobody is woken across
//! cores. Split is what two machines look like. Both are honest and they differ by a factor of two, so the choice is
//! a flag and stands in every report.
#![forbid(unsafe_code)]

use super::config::Placement;

/// The threads of client and node, and the core of each; no cores where the kernel chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seats {
    /// Threads of the client.
    pub client_threads: u32,
    /// Threads of the node, where it is in this process.
    pub node_threads: u32,
    /// The core of each client thread.
    pub client_cores: Vec<usize>,
    /// The core of each node thread.
    pub node_cores: Vec<usize>,
}

/// Threads can't be placed as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Nothing to run on.
    #[error("there is no core to run on")]
    NoCore,
    /// Two halves need two cores.
    #[error("--placement split needs two cores, there is one")]
    OneCore,
}

impl Seats {
    /// Deals threads out over `cores`: one a core of their side, or `threads` on each side, in turn over its cores.
    ///
    /// # Errors
    /// Where there are too few cores.
    pub fn dealt(placement: Placement, cores: &[usize], threads: Option<u32>) -> Result<Self, PlacementError> {
        if cores.is_empty() {
            return Err(PlacementError::NoCore);
        }
        let (node, client) = match placement {
            Placement::Paired | Placement::Free => (cores, cores),
            Placement::Split if cores.len() == 1 => return Err(PlacementError::OneCore),
            Placement::Split => cores.split_at(cores.len() / 2),
        };
        let count = |cores: &[usize]| threads.unwrap_or(cores.len() as u32);
        let seats = |cores: &[usize]| match placement {
            Placement::Free => Vec::new(),
            _ => cores.iter().copied().cycle().take(count(cores) as usize).collect(),
        };
        Ok(Self {
            client_threads: count(client),
            node_threads: count(node),
            client_cores: seats(client),
            node_cores: seats(node),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealt(placement: Placement, cores: &[usize], threads: Option<u32>) -> (u32, u32, Vec<usize>, Vec<usize>) {
        let seats = Seats::dealt(placement, cores, threads).unwrap();
        (seats.client_threads, seats.node_threads, seats.client_cores, seats.node_cores)
    }

    #[test]
    fn paired_threads_share_cores() {
        assert_eq!(dealt(Placement::Paired, &[0, 1], None), (2, 2, vec![0, 1], vec![0, 1]));
        assert_eq!(dealt(Placement::Paired, &[4, 6], Some(1)), (1, 1, vec![4], vec![4]));
        assert_eq!(dealt(Placement::Paired, &[0, 1], Some(3)), (3, 3, vec![0, 1, 0], vec![0, 1, 0]));
    }

    #[test]
    fn split_threads_share_no_core() {
        assert_eq!(dealt(Placement::Split, &[0, 1], None), (1, 1, vec![1], vec![0]));
        assert_eq!(dealt(Placement::Split, &[0, 1, 2], None), (2, 1, vec![1, 2], vec![0]));
    }

    #[test]
    fn free_threads_have_no_core_of_their_own() {
        assert_eq!(dealt(Placement::Free, &[0, 1], None), (2, 2, vec![], vec![]));
    }

    #[test]
    fn too_few_cores_are_refused() {
        assert_eq!(Seats::dealt(Placement::Split, &[0], None), Err(PlacementError::OneCore));
        assert_eq!(Seats::dealt(Placement::Paired, &[], None), Err(PlacementError::NoCore));
    }
}
