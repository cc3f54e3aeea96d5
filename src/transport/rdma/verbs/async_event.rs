//! Asynchronous events: what a device reports unasked, what each is about, and what to do about it.
#![forbid(unsafe_code)]

use super::abi;
use std::fmt;

/// What a device reports, unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct AsyncEvent {
    pub(super) kind: i32,
    /// The address of the queue or pair that it is about, as the library has it; or the number of a port.
    pub(super) element: usize,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum About {
    /// The device, which does nothing any more.
    Device,
    /// The completion queue at this address, and so one connection, which ends.
    Queue(usize),
    /// The queue pair at this address, likewise.
    Pair(usize),
    /// Something that connections live through, or notice by themselves.
    Nobody,
}

impl AsyncEvent {
    /// What it is about.
    pub(in super::super) fn about(self) -> About {
        match self.kind {
            abi::EVENT_DEVICE_FATAL => About::Device,
            abi::EVENT_QUEUE_ERROR => About::Queue(self.element),
            abi::EVENT_PAIR_FATAL | abi::EVENT_PAIR_REQUEST | abi::EVENT_PAIR_ACCESS => About::Pair(self.element),
            _ => About::Nobody,
        }
    }

    pub(super) fn is_of_device(self) -> bool {
        self.about() == About::Device
    }

    /// What happened to what it is about.
    pub(in super::super) fn what(self) -> &'static str {
        match self.kind {
            abi::EVENT_DEVICE_FATAL => "the device failed",
            abi::EVENT_QUEUE_ERROR => "a completion queue overran",
            abi::EVENT_PAIR_FATAL => "a queue pair failed",
            abi::EVENT_PAIR_REQUEST => "a queue pair was asked for what it does not do",
            abi::EVENT_PAIR_ACCESS => "a queue pair was asked for memory that it does not give",
            abi::EVENT_PORT_ACTIVE => "a port came up",
            abi::EVENT_PORT_ERROR => "a port went down",
            abi::EVENT_LID_CHANGE => "a port has another LID",
            abi::EVENT_PARTITION_CHANGE => "a port has other partition keys",
            abi::EVENT_MANAGER_CHANGE => "a port has another subnet manager",
            abi::EVENT_REGISTER => "a port was told to register with its subnet manager anew",
            abi::EVENT_GID_CHANGE => "the table of GIDs changed",
            _ => "something happened that is none of ours",
        }
    }

    /// What comes of it, and what there is to do.
    fn consequence(self) -> &'static str {
        match self.kind {
            abi::EVENT_DEVICE_FATAL => "its connections end, and new ones open it anew; see `dmesg`",
            abi::EVENT_QUEUE_ERROR => "its connection ends; try a smaller --tx-depth and --rx-depth",
            abi::EVENT_PAIR_FATAL | abi::EVENT_PAIR_REQUEST | abi::EVENT_PAIR_ACCESS => "its connection ends",
            abi::EVENT_PORT_ERROR => {
                "who sends ends in a few seconds, who is idle waits; see `rdma link` and the cable"
            }
            abi::EVENT_LID_CHANGE => "who sends to the old one ends in a few seconds",
            abi::EVENT_PARTITION_CHANGE => "where connections end, ask who runs the subnet manager",
            abi::EVENT_GID_CHANGE => "endpoints must be among them: `freight rdma devices`",
            _ => "connections go on",
        }
    }
}

impl fmt::Display for AsyncEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())?;
        match (self.about(), self.kind) {
            (About::Nobody, abi::EVENT_PORT_ACTIVE..=abi::EVENT_MANAGER_CHANGE)
            | (About::Nobody, abi::EVENT_REGISTER..=abi::EVENT_GID_CHANGE) => write!(f, " (port {})", self.element)?,
            (About::Nobody, kind) => write!(f, " (event {kind})")?,
            _ => {}
        }
        write!(f, ": {}", self.consequence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_says_what_happened_where_and_what_to_do() {
        let told = [
            (0, "a completion queue overran: its connection ends; try a smaller --tx-depth and --rx-depth"),
            (1, "a queue pair failed: its connection ends"),
            (2, "a queue pair was asked for what it does not do: its connection ends"),
            (3, "a queue pair was asked for memory that it does not give: its connection ends"),
            (8, "the device failed: its connections end, and new ones open it anew; see `dmesg`"),
            (9, "a port came up (port 1): connections go on"),
            (11, "a port has another LID (port 1): who sends to the old one ends in a few seconds"),
            (12, "a port has other partition keys (port 1): where connections end, ask who runs the subnet manager"),
            (13, "a port has another subnet manager (port 1): connections go on"),
            (17, "a port was told to register with its subnet manager anew (port 1): connections go on"),
            (18, "the table of GIDs changed (port 1): endpoints must be among them: `freight rdma devices`"),
            (99, "something happened that is none of ours (event 99): connections go on"),
        ];
        for (kind, words) in told {
            assert_eq!(AsyncEvent { kind, element: 1 }.to_string(), words);
        }
        let down = AsyncEvent { kind: abi::EVENT_PORT_ERROR, element: 2 }.to_string();
        assert!(down.starts_with("a port went down (port 2): ") && down.contains("`rdma link`"), "{down}");
    }
}
