//! Who a client is, and what it may do: users, their rights, and how a password is shown to be known, and not told.
//!
//! ```text
//!   client                                                    node: salt, StoredKey, ServerKey of each user
//!      | -- n,,n=USER,r=NONCE -----------------------------------> |
//!      | <------------------ r=NONCE and its own,s=SALT,i=COUNT -- |   the same for a user who is not there
//!      | -- c=biws,r=BOTH NONCES,p=PROOF ------------------------> |   H(PROOF xor MAC(StoredKey, all that was said))
//!      | <----------------------------------------- v=SIGNATURE -- |       is StoredKey
//! ```
//!
//! That is SCRAM-SHA-256 (RFC 5802, RFC 7677), and where the connection has something to bind the proof to, as over
//! TLS, SCRAM-SHA-256-PLUS with `tls-exporter` (RFC 9266): `p=tls-exporter,,` instead of `n,,`, and the binding behind
//! it in `c=`. The password is never on the wire, a recorded proof is worth nothing, for both sides drew a nonce, and
//! the node shows that it knows the user too. Passwords are bytes as they are, names a few ASCII characters: neither is
//! normalised.
//!
//! Architecture invariant: no socket, runtime or randomness in here. Whoever drives an exchange draws the nonces.
#![forbid(unsafe_code)]

mod credentials;
mod file;
mod keys;
mod message;
mod rights;
mod scram;
mod users;

pub use credentials::{Answer, Credentials};
pub use file::UsersFileError;
pub use keys::{ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, Nonce, SALT_BYTES, SaltedKeys, Seal, Verifier};
pub use rights::{BadRight, Rights};
pub use scram::{AuthError, ChannelBinding, ClientExchange, Expected, Method, NodeExchange};
pub use users::{PASSWORD_BYTES_MAX, User, Users, UsersError, check_name};
