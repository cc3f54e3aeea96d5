//! What a service manager is told, where one started the process: that it is ready, reloads or drains. It is systemd's
//! protocol, sd_notify(3); without a manager nothing is told to nobody.
#![forbid(unsafe_code)]

use sd_notify::{NotifyState, notify};

/// The node listens, or has read again what it was to read.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It reads again: [`ready`] follows.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("the service manager is not told of the reload: {error}"),
    }
}

/// It drains.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = notify(state) {
        tracing::warn!("the service manager is not told {state:?}: {error}");
    }
}
