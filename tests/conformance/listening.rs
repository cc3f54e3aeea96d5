//! Listening and connecting: typed refusals, and no peer spoils it for the next.
#![forbid(unsafe_code)]

use crate::lab::{End, Lab, Side, connect_to, pair, poll_once};
use freight::transport::{Connection, FrameReceiver, Incoming, Listener, Transport, TransportError};

pub(crate) async fn nobody_listening_is_a_typed_refusal<T: Transport>(transport: T, lab: Lab) {
    let Err(error) = transport.connect(&lab.nobody, &Side::CLIENT.config()).await else { panic!("somebody listens") };
    let TransportError::Connect { endpoint, source } = error else { panic!("{error}") };
    assert_eq!((endpoint, source.kind()), (lab.nobody, std::io::ErrorKind::ConnectionRefused));
}

pub(crate) async fn one_endpoint_has_one_listener<T: Transport>(transport: T, lab: Lab) {
    let listener = transport.listen(&lab.endpoint).await.expect("the endpoint is free");
    let endpoint = listener.endpoint().clone();
    let Err(error) = transport.listen(&endpoint).await else { panic!("{endpoint} was taken twice") };
    assert!(matches!(error, TransportError::Listen { .. }), "{error}");
    drop(listener);
    transport.listen(&endpoint).await.expect("the endpoint is free again");
}

pub(crate) async fn the_endpoint_is_the_real_one<T: Transport>(transport: T, lab: Lab) {
    let mut listener = transport.listen(&lab.endpoint).await.expect("the endpoint is free");
    assert_eq!(listener.local_only(), lab.local_only);
    assert_eq!(listener.endpoint().scheme(), lab.endpoint.scheme());
    for number in 0..3 {
        let (mut near, mut far) = connect_to(&transport, &mut listener, &Side::CLIENT, &Side::NODE).await;
        tokio::join!(near.send(number, 64), far.expect(number, 64));
    }
}

pub(crate) async fn a_listener_outlives_bad_peers<T: Transport>(transport: T, lab: Lab) {
    let mut listener = transport.listen(&lab.endpoint).await.expect("the endpoint is free");
    let endpoint = listener.endpoint().clone();
    // Gone before it was accepted.
    drop(transport.connect(&endpoint, &Side::CLIENT.config()).await.expect("a listener"));
    let gone = listener.accept().await.expect("a connection");
    if let Ok(mut connection) = gone.attach(&Side::NODE.config())
        && connection.establish().await.is_ok()
    {
        let (_sender, mut receiver) = connection.split();
        assert!(matches!(receiver.receive().await, Ok(None) | Err(TransportError::Lost { .. })));
    }
    // Speaks something else, then nothing at all.
    let (mut rude, mut far) = connect_to(&transport, &mut listener, &Side::CLIENT, &Side::NODE).await;
    rude.send_bytes(b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(matches!(far.expect_error().await, TransportError::Framing(_)));
    let (mut near, mut far) = connect_to(&transport, &mut listener, &Side::CLIENT, &Side::NODE).await;
    tokio::join!(near.send(1, 100_000), far.expect(1, 100_000));
}

pub(crate) async fn asking_for_the_processor_loses_nothing<T: Transport>(transport: T, lab: Lab) {
    let mut listener = transport.listen(&lab.endpoint).await.expect("the endpoint is free");
    let endpoint = listener.endpoint().clone();
    for silent in [true, false] {
        let (near_side, far_side) = (Side::CLIENT.config(), Side::NODE.config());
        let (connected, accepted) = tokio::join!(transport.connect(&endpoint, &near_side), listener.accept());
        let (connection, incoming) = (connected.expect("a listener"), accepted.expect("a connection"));
        assert!(!connection.peer().is_empty());
        if silent {
            incoming.cpu().await;
        }
        let sending = async {
            let mut near = End::<T>::open(connection, &near_side).await;
            near.send(1, 5_000).await;
            near
        };
        let receiving = async {
            if !silent {
                incoming.cpu().await;
            }
            let attached = incoming.attach(&far_side).expect("room for a connection");
            assert!(!attached.peer().is_empty());
            End::<T>::open(attached, &far_side).await.expect(1, 5_000).await;
        };
        tokio::join!(sending, receiving);
    }
}

pub(crate) async fn a_dropped_accept_loses_no_connection<T: Transport>(transport: T, lab: Lab) {
    let mut listener = transport.listen(&lab.endpoint).await.expect("the endpoint is free");
    let endpoint = listener.endpoint().clone();
    assert!(poll_once(listener.accept()).await.is_none(), "nobody connected yet");
    let (near_side, far_side) = (Side::CLIENT.config(), Side::NODE.config());
    let connected = transport.connect(&endpoint, &near_side).await.expect("a listener");
    let accepted = match poll_once(listener.accept()).await {
        Some(accepted) => accepted,
        None => listener.accept().await,
    };
    let attached = accepted.expect("a connection").attach(&far_side).expect("room for a connection");
    let (mut near, mut far) = tokio::join!(End::<T>::open(connected, &near_side), End::<T>::open(attached, &far_side));
    tokio::join!(near.send(1, 64), far.expect(1, 64));
}

pub(crate) async fn an_abandoned_connect_harms_nobody<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    let side = Side::CLIENT.config();
    for _ in 0..20 {
        drop(poll_once(transport.connect(&lab.nobody, &side)).await);
    }
    tokio::join!(near.send(1, 64), far.expect(1, 64));
}
