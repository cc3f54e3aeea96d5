//! What clients may take of a node, as far as that can change while it runs.
#![forbid(unsafe_code)]

use super::accounts::{Bounds, Member, Owner, TooMany};
use super::config::NodeConfig;
use super::node::{Node, Shared};
use crate::auth::{User, Users};
use crate::transport::Source;
use std::sync::PoisonError;
use std::time::Duration;

/// How many may come, how much each may ask for, and how long it may take. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// As [`NodeConfig::connections_max`].
    pub connections_max: usize,
    /// As [`NodeConfig::connections_per_client_max`].
    pub connections_per_client_max: Option<usize>,
    /// As [`NodeConfig::connections_per_user_max`].
    pub connections_per_user_max: Option<usize>,
    /// As [`NodeConfig::bytes_in_flight_max`].
    pub bytes_in_flight_max: Option<u64>,
    /// As [`NodeConfig::ops_per_second`].
    pub ops_per_second: Option<u32>,
    /// As [`NodeConfig::hello_wait`].
    pub hello_wait: Duration,
    /// As [`NodeConfig::idle_wait`].
    pub idle_wait: Option<Duration>,
}

impl NodeConfig {
    /// The limits that a node of this configuration starts with.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            connections_max: self.connections_max,
            connections_per_client_max: self.connections_per_client_max,
            connections_per_user_max: self.connections_per_user_max,
            bytes_in_flight_max: self.bytes_in_flight_max,
            ops_per_second: self.ops_per_second,
            hello_wait: self.hello_wait,
            idle_wait: self.idle_wait,
        }
    }
}

impl Shared {
    /// The limits of the moment.
    pub(super) fn limits(&self) -> Limits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        let connections_max = self.config.connections_served_max(limits.connections_max, &self.budget);
        let limits = Limits { connections_max, ..limits };
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
        self.accounts.renew(|owner| self.bounds(owner));
    }

    /// A connection from there.
    pub(super) fn enter(&self, source: Source) -> Result<Member<'_>, TooMany> {
        self.accounts.enter(Owner::Client(source), |owner| self.bounds(owner))
    }

    /// A connection of a user who has shown who it is.
    pub(super) fn enter_as(&self, user: &User) -> Result<Member<'_>, TooMany> {
        self.accounts.enter(Owner::User(user.name.clone()), |owner| self.bounds(owner))
    }

    /// What somebody may have, by the limits and the users of the moment.
    fn bounds(&self, owner: &Owner) -> Bounds {
        let limits = self.limits();
        let (connections_max, own) = match owner {
            Owner::Client(_) => (limits.connections_per_client_max, None),
            Owner::User(name) => {
                let users = self.users.as_ref().map(|known| known.now().0);
                let user = users.as_ref().and_then(|users| users.get(name));
                (limits.connections_per_user_max, user.and_then(|user| user.ops_per_second))
            }
        };
        let ops_per_second = own.or(limits.ops_per_second).filter(|ops| *ops > 0);
        Bounds { connections_max, ops_per_second, bytes_in_flight_max: limits.bytes_in_flight_max }
    }
}

impl Node {
    /// From here on these are its limits. Whoever is connected stays, also where there are more than may be now; how
    /// fast they may go and how much they may have in flight holds from the next batch on, how long they may be idle
    /// within a minute.
    pub fn set_limits(&self, limits: Limits) {
        self.shared.set_limits(limits);
    }

    /// From here on these are its users. Who is connected and is no longer one of them, or has another password now, is
    /// refused with its next frame; rights change with it too, and how fast it may go.
    ///
    /// # Panics
    /// On a node that was started without users.
    pub fn set_users(&self, users: Users) {
        self.shared.users.as_ref().expect("a node that has users").set(users);
        self.shared.accounts.renew(|owner| self.shared.bounds(owner));
    }
}
