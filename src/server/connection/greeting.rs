//! The first words on a connection: who is there, and what it may do.
#![forbid(unsafe_code)]

use super::{Ended, Serving};
use crate::auth::{Method, Nonce};
use crate::server::users::Pass;
use crate::session::{Accepted, SessionError};
use crate::transport::{Frame, FrameReceiver, FrameSender};
use crate::wire::{challenge, hello_message, proof_message};
use tokio::time::timeout_at;

impl<S: FrameSender, R: FrameReceiver> Serving<'_, S, R> {
    /// Takes a hello, and a proof where this node has users; `None` where the client leaves instead.
    pub(super) async fn greet(&mut self) -> Result<Option<Accepted>, Ended> {
        let Some(frame) = self.receive_greeting().await? else { return Ok(None) };
        let (hello, method) = self.shared.session.hello(&frame)?;
        let mut last = Vec::new();
        match (&self.shared.users, method) {
            (None, Method::None) => {}
            (None, Method::ScramSha256) => return Err(SessionError::NoUsers.into()),
            (Some(_), Method::None) => return Err(SessionError::AuthenticationRequired.into()),
            (Some(known), Method::ScramSha256) => {
                let (users, generation) = known.now();
                let mut nonce = Nonce::default();
                getrandom::fill(&mut nonce).map_err(|error| Ended::NoRandomness(error.to_string()))?;
                let message = hello_message(&frame).map_err(SessionError::from)?;
                let (exchange, asked) =
                    users.challenge(message, &nonce, self.channel_binding.as_ref()).map_err(SessionError::from)?;
                self.hold(Frame::unaccounted(challenge(&asked)));
                self.send_held().await?;
                let Some(frame) = self.receive_greeting().await? else { return Ok(None) };
                let message = proof_message(&frame).map_err(SessionError::from)?;
                let (user, signature) = exchange.prove(message).map_err(SessionError::from)?;
                self.user = Some(self.shared.enter_as(&user)?);
                self.pass = Pass::of(user, generation);
                last = signature;
            }
        }
        Ok(Some(self.shared.session.welcome(&hello, self.worker.core, self.wire_limit(), &last)))
    }

    /// The next frame, if it comes in time.
    async fn receive_greeting(&mut self) -> Result<Option<Frame>, Ended> {
        let received = tokio::select! {
            biased;
            () = &mut self.drain => return Err(Ended::Draining),
            received = timeout_at(self.greet_until, self.receiver.receive()) => received,
        };
        Ok(received.map_err(|_| Ended::NoHello(self.hello_wait))??)
    }
}
