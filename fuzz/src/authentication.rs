//! What must hold of any bytes as a message of SCRAM-SHA-256: the body of a fuzz target, and of the test that replays
//! its corpus.
//!
//! Each message is given to each of the four places where one is read. No place panics, and nobody is let in but by the
//! one proof there is.
#![forbid(unsafe_code)]

use freight::auth::{
    AuthError, ChannelBinding, ClientExchange, Credentials, Expected, ITERATIONS_MAX, ITERATIONS_MIN, NodeExchange,
    Rights, User, Users, Verifier,
};
use std::sync::LazyLock;

/// What a message was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    First,
    Challenge,
    Proof,
    Signature,
}

/// Bytes as a message; what it is, or why it is none. Where a proof is bound to nothing, and where it is.
pub(crate) fn message(bytes: &[u8]) -> Result<Taken, AuthError> {
    message_of(bytes, None).or_else(|_| message_of(bytes, Some([7; 32])))
}

fn message_of(bytes: &[u8], binding: Option<ChannelBinding>) -> Result<Taken, AuthError> {
    if let Ok((exchange, challenge)) = USERS.challenge(bytes, &[2; 18], binding.as_ref()) {
        assert!(challenge.len() <= 1_024 && challenge.is_ascii());
        // A first message is no last one.
        assert!(exchange.prove(bytes).is_err());
        return Ok(Taken::First);
    }
    let (exchange, _) = ClientExchange::begin("ada", &[1; 18], binding);
    match ADA.answer(exchange, bytes) {
        Ok(_) => return Ok(Taken::Challenge),
        Err(AuthError::Iterations { got }) => assert!(!(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&got)),
        Err(_) => {}
    }
    let Began { node, expected, proof, signature } = begin(binding);
    match node.prove(bytes) {
        Ok((user, said)) => {
            assert_eq!((&*user.name, bytes), ("ada", &proof[..]));
            assert_eq!(said, signature);
            return Ok(Taken::Proof);
        }
        Err(error) => assert_ne!(bytes, proof, "{error}"),
    }
    let checked = expected.check(bytes);
    assert_eq!(checked.is_ok(), bytes == signature);
    checked.map(|()| Taken::Signature)
}

/// An exchange of fixed nonces, before its proof.
struct Began {
    node: NodeExchange,
    expected: Expected,
    proof: Vec<u8>,
    signature: Vec<u8>,
}

static USERS: LazyLock<Users> = LazyLock::new(|| {
    let mut users = Users::new([9; 32]);
    let verifier = Verifier::new(b"word", [5; 16], ITERATIONS_MIN);
    users.set(User { name: "ada".to_owned(), rights: Rights::ALL, verifier, ops_per_second: None }).expect("a user");
    users
});

/// Derives its keys once.
static ADA: LazyLock<Credentials> = LazyLock::new(|| Credentials::new("ada", b"word").expect("a name and a password"));

fn begin(binding: Option<ChannelBinding>) -> Began {
    let again = || {
        let (exchange, first) = ClientExchange::begin("ada", &[1; 18], binding);
        let (node, challenge) = USERS.challenge(&first, &[2; 18], binding.as_ref()).expect("a first message");
        let (expected, proof) = ADA.answer(exchange, &challenge).expect("a challenge").prove();
        (node, expected, proof)
    };
    let (node, expected, proof) = again();
    let (_, signature) = again().0.prove(&proof).expect("the proof");
    Began { node, expected, proof, signature }
}
