//! RFC 7677's exchange, and exchanges that go wrong.
#![forbid(unsafe_code)]

use super::*;
use crate::auth::{Credentials, Rights, Verifier};

/// The example of RFC 7677, section 3: user "user", password "pencil".
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const NODE_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const NODE_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
/// The same exchange with a binding of 32 zeros, by another implementation.
const PROOF_BOUND: &str = ",p=DjQnJVl+UsopIRl1rNSgnCXRLt41NZySXLn3ksUR6eA=";
const NODE_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn users() -> Users {
    let mut users = Users::new([7; 32]);
    let salt = message::decode_array(SALT, "salt").expect("base64");
    let verifier = Verifier::new(b"pencil", salt, 4_096);
    users.set(User { name: "user".to_owned(), rights: Rights::READ, verifier, ops_per_second: None }).expect("a user");
    users
}

fn pencil() -> Credentials {
    Credentials::new("user", b"pencil").expect("a name and a password")
}

/// The exchange up to the client's last message.
fn proof_of(credentials: &Credentials, node_nonce: u8) -> (NodeExchange, Expected, Vec<u8>) {
    let (exchange, first) = ClientExchange::begin(credentials.name(), &[1; 18], None);
    let (node, challenge) = users().challenge(&first, &[node_nonce; 18], None).expect("a first message");
    let (expected, last) = credentials.answer(exchange, &challenge).expect("a challenge").prove();
    (node, expected, last)
}

#[test]
fn the_exchange_of_rfc_7677_is_word_for_word() {
    let (exchange, first) = ClientExchange::begin_with("user", CLIENT_NONCE.to_owned(), None);
    assert_eq!(first, CLIENT_FIRST.as_bytes());
    let (node, challenge) = users().challenge_with(&first, NODE_NONCE, None).expect("a first message");
    assert_eq!(String::from_utf8(challenge.clone()).expect("text"), NODE_FIRST);
    let (expected, last) = pencil().answer(exchange, &challenge).expect("a challenge").prove();
    assert_eq!(String::from_utf8(last.clone()).expect("text"), CLIENT_FINAL);
    let (user, signature) = node.prove(&last).expect("the right proof");
    assert_eq!((&*user.name, user.rights), ("user", Rights::READ));
    assert_eq!(String::from_utf8(signature.clone()).expect("text"), NODE_FINAL);
    assert_eq!(expected.check(&signature), Ok(()));
}

#[test]
fn a_wrong_password_and_a_wrong_name_are_told_alike() {
    for (name, password) in [("user", "pencils"), ("nobody", "pencil")] {
        let credentials = Credentials::new(name, password.as_bytes()).expect("a name and a password");
        let (node, _, last) = proof_of(&credentials, 2);
        assert_eq!(node.prove(&last).expect_err("wrong"), AuthError::Wrong, "{name}");
    }
}

#[test]
fn a_proof_that_was_recorded_is_worth_nothing_in_another_exchange() {
    let (node, _, last) = proof_of(&pencil(), 2);
    assert!(node.prove(&last).is_ok());
    let (later, _, fresh) = proof_of(&pencil(), 3);
    assert_eq!(later.prove(&last).expect_err("recorded"), AuthError::OtherExchange);
    // Under the nonces of the other exchange the old proof is wrong.
    let (later, _, _) = proof_of(&pencil(), 3);
    let text = |message: &[u8]| String::from_utf8(message.to_vec()).expect("text");
    let (fresh, last) = (text(&fresh), text(&last));
    let (said, _) = fresh.split_once(",p=").expect("a proof");
    let (_, old) = last.split_once(",p=").expect("a proof");
    assert_eq!(later.prove(format!("{said},p={old}").as_bytes()).expect_err("wrong"), AuthError::Wrong);
}

#[test]
fn a_node_that_does_not_know_the_user_is_found_out() {
    let (_, expected, _) = proof_of(&pencil(), 2);
    let (node, _, last) = proof_of(&pencil(), 4);
    let (_, signature) = node.prove(&last).expect("right");
    assert_eq!(expected.check(&signature), Err(AuthError::NotTheNode));
    assert_eq!(expected.check(b"e=other-error"), Err(AuthError::Malformed { what: "signature" }));
}

#[test]
fn an_unknown_user_is_asked_for_the_same_proof_each_time() {
    let salt_of = |name: &str, nonce: u8| {
        let (_, first) = ClientExchange::begin(name, &[nonce; 18], None);
        let (_, challenge) = users().challenge(&first, &[nonce; 18], None).expect("a first message");
        String::from_utf8(challenge).expect("text").split_once(',').expect("attributes").1.to_owned()
    };
    assert_eq!(salt_of("nobody", 1), salt_of("nobody", 2));
    assert_ne!(salt_of("nobody", 1), salt_of("somebody", 1));
    assert_eq!(salt_of("nobody", 1).len(), salt_of("user", 1).len());
    assert!(salt_of("nobody", 1).ends_with(",i=4096"));
}

#[test]
fn keys_are_derived_once() {
    let credentials = pencil();
    let ask = || {
        let (exchange, first) = ClientExchange::begin("user", &[1; 18], None);
        let (_, challenge) = users().challenge(&first, &[2; 18], None).expect("a first message");
        credentials.answer(exchange, &challenge).expect("a challenge")
    };
    assert!(ask().is_work());
    let (_, first) = ask().prove();
    assert!(!ask().is_work());
    assert_eq!(ask().prove().1, first);
}

#[test]
fn a_client_answers_no_challenge_that_would_give_its_password_away() {
    let challenge = |text: &str| {
        let (exchange, _) = ClientExchange::begin_with("user", CLIENT_NONCE.to_owned(), None);
        pencil().answer(exchange, text.as_bytes()).expect_err("refused")
    };
    let with = |iterations: &str| NODE_FIRST.replace("4096", iterations);
    assert_eq!(challenge(&with("4095")), AuthError::Iterations { got: 4_095 });
    assert_eq!(challenge(&with("10000001")), AuthError::Iterations { got: 10_000_001 });
    assert_eq!(challenge(&with("+4096")), AuthError::Malformed { what: "number of iterations" });
    assert_eq!(challenge(&NODE_FIRST.replace("rOprN", "rOprM")), AuthError::OtherExchange);
    assert_eq!(challenge(&NODE_FIRST.replace(NODE_NONCE, "")), AuthError::OtherExchange);
    assert_eq!(challenge(&NODE_FIRST.replace(SALT, "!")), AuthError::Malformed { what: "salt" });
    assert_eq!(challenge(&format!("m=x,{NODE_FIRST}")), AuthError::Malformed { what: "nonce" });
    assert_eq!(challenge(&format!("{NODE_FIRST},x=y")), AuthError::Malformed { what: "end" });
    let long = format!("{NODE_FIRST},{}", "x".repeat(1_024));
    assert_eq!(challenge(&long), AuthError::TooLong { got: long.len(), max: 1_024 });
}

#[test]
fn a_node_says_what_is_wrong_with_a_message() {
    let first = |message: &[u8]| users().challenge(message, &[2; 18], None).map(drop).expect_err("malformed");
    assert_eq!(first(b"x=tls-unique,,n=user,r=x"), AuthError::Malformed { what: "beginning" });
    assert_eq!(first(b"n,,r=x"), AuthError::Malformed { what: "name" });
    assert_eq!(first(b"n,,n=user"), AuthError::Malformed { what: "nonce" });
    assert_eq!(first(b"n,,n=user,r=a b"), AuthError::Malformed { what: "nonce" });
    assert_eq!(first(b"n,,n=user,r=x,m=y"), AuthError::Malformed { what: "end" });
    assert_eq!(first(b"n,,n=\xff,r=x"), AuthError::Malformed { what: "text" });
    let last = |text: &str| proof_of(&pencil(), 2).0.prove(text.as_bytes()).map(drop).expect_err("malformed");
    assert_eq!(last("c=eSws,r=x,p=AAAA"), AuthError::Malformed { what: "proof" });
    let (_, _, right) = proof_of(&pencil(), 2);
    let right = String::from_utf8(right).expect("text");
    assert_eq!(last(&right.replace("biws", "eSws")), AuthError::Binding);
    assert_eq!(last(&right.replace("biws", "!")), AuthError::Malformed { what: "channel binding" });
    assert_eq!(last(""), AuthError::Malformed { what: "channel binding" });
}

/// An exchange in which both ends have a binding, or none: what the node says to the proof.
fn bound(client: Option<ChannelBinding>, node: Option<ChannelBinding>) -> Result<String, AuthError> {
    let (exchange, first) = ClientExchange::begin("user", &[1; 18], client);
    let (node, challenge) = users().challenge(&first, &[2; 18], node.as_ref())?;
    let (expected, last) = pencil().answer(exchange, &challenge)?.prove();
    let (user, signature) = node.prove(&last)?;
    expected.check(&signature)?;
    Ok(user.name.clone())
}

#[test]
fn a_proof_is_bound_to_its_connection_and_to_no_other() {
    let (one, other) = (Some([7; 32]), Some([8; 32]));
    assert_eq!(bound(one, one), Ok("user".to_owned()));
    assert_eq!(bound(one, other), Err(AuthError::OtherChannel));
}

#[test]
fn nobody_is_talked_out_of_a_binding_or_into_one() {
    assert_eq!(bound(None, Some([7; 32])), Err(AuthError::Binding));
    assert_eq!(bound(Some([7; 32]), None), Err(AuthError::Binding));
    let first = |message: &[u8]| users().challenge(message, &[2; 18], Some(&[7; 32])).map(drop).expect_err("refused");
    // A client that could bind and believes that the node cannot; and one that binds to something else.
    assert_eq!(first(b"y,,n=user,r=x"), AuthError::Binding);
    assert_eq!(first(b"p=tls-unique,,n=user,r=x"), AuthError::Binding);
}

#[test]
fn a_bound_exchange_is_scram_sha_256_plus_word_for_word() {
    let (exchange, first) = ClientExchange::begin_with("user", CLIENT_NONCE.to_owned(), Some([0; 32]));
    assert_eq!(first, b"p=tls-exporter,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let (_, challenge) = users().challenge_with(&first, NODE_NONCE, Some(&[0; 32])).expect("a first message");
    assert_eq!(String::from_utf8(challenge.clone()).expect("text"), NODE_FIRST);
    let (_, last) = pencil().answer(exchange, &challenge).expect("a challenge").prove();
    // The header and 32 bytes of binding; the proof as Python's hmac and hashlib have it.
    let last = String::from_utf8(last).expect("text");
    assert!(last.starts_with("c=cD10bHMtZXhwb3J0ZXIsLAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA,r="), "{last}");
    assert!(last.ends_with(PROOF_BOUND), "{last}");
}
