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
    use rustix::thread::CpuSet;

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
}
