//! What the machine sets limits to: locked memory, a port that goes down.
#![forbid(unsafe_code)]

use crate::support::{End, HANG, address, config, connect_to, endpoint, rdma, run, run_alone};
use freight::transport::rdma::{Failure, RdmaError, RdmaListener, VerbsError};
use freight::transport::{FrameReceiver, FrameSender, Incoming, Listener, Transport, TransportError};
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::time::timeout;

async fn exchange(near: &mut End, far: &mut End) {
    tokio::join!(near.send(300), far.expect(300));
    tokio::join!(far.send(100_000), near.expect(100_000));
}

/// The reason inside a transport's error.
fn reason<E: Error + Clone + 'static>(error: &TransportError) -> Option<E> {
    let (TransportError::Connect { source, .. } | TransportError::Accept { source } | TransportError::Lost { source }) =
        error
    else {
        return None;
    };
    source.get_ref()?.downcast_ref::<E>().cloned()
}

/// Says in which of the two processes of the next test one is.
const LIMITED: &str = "FREIGHT_TEST_LIMITED";

#[test]
#[ignore = "needs an RDMA device, and the user `tester`: scripts/rdma-lab makes both"]
fn a_user_out_of_locked_memory_is_told_the_limit() {
    if std::env::var_os(LIMITED).is_some() {
        return run(async || timeout(HANG, connects_until_refused()).await.expect("it ends"));
    }
    run_alone(async || runs_as_a_user_with_a_limit());
}

fn runs_as_a_user_with_a_limit() {
    let this = std::env::current_exe().expect("this binary");
    let test = "rdma_limits::a_user_out_of_locked_memory_is_told_the_limit";
    // Root is not limited.
    let command = format!(
        "ulimit -l 3000; {LIMITED}=1 FREIGHT_RDMA_ADDRESS={} {} --include-ignored --exact {test}",
        address(),
        this.display()
    );
    let output = Command::new("su").args(["tester", "-c", &command]).output().expect("su");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

async fn connects_until_refused() {
    let mut listener = rdma().listen(&endpoint()).await.expect("the endpoint is free");
    let (mut near, mut far) = connect_to(&mut listener).await;
    exchange(&mut near, &mut far).await;
    let mut others = Vec::new();
    let refused = loop {
        match try_connect(&mut listener).await {
            Ok(ends) => others.push(ends),
            Err(error) => break error,
        }
        assert!(others.len() < 10, "3000 KiB are enough for ten connections");
    };
    assert!(!others.is_empty(), "3000 KiB are not enough for two connections");
    let error: VerbsError = reason(&refused).expect("verbs say why");
    assert!(matches!(&error, VerbsError::LockedMemory { limit, .. } if limit == "3000 KiB"), "{error:?}");
    assert!(error.to_string().contains("ulimit -l"), "{error}");
    // Those that are there go on, and what they give back is there for others.
    exchange(&mut near, &mut far).await;
    drop(others);
    let (mut again, mut other) = connect_to(&mut listener).await;
    tokio::join!(again.send(100), other.expect(100));
}

async fn try_connect(listener: &mut RdmaListener) -> Result<(End, End), TransportError> {
    let (near, far) = (config(), config());
    let connected = rdma().connect(&listener.endpoint().clone(), &near).await?;
    let attached = listener.accept().await.expect("a connection").attach(&far)?;
    Ok((End::new(connected, &near), End::new(attached, &far)))
}

/// A new connection, at a new endpoint, that has carried a frame.
async fn try_open() -> Result<(End, End), TransportError> {
    let mut listener = rdma().listen(&endpoint()).await?;
    let (mut near, mut far) = try_connect(&mut listener).await?;
    let frame = near.frame(300);
    near.sender.send(frame).await?;
    far.receiver.receive().await?.expect("a frame");
    Ok((near, far))
}

/// What this thread logs from now on.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    async fn wait_for(&self, words: &str) {
        let said = || String::from_utf8(self.0.lock().expect("nobody panics").clone()).expect("text");
        let waiting = async {
            while !said().contains(words) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(HANG, waiting).await.is_ok(), "no {words:?} in\n{}", said());
    }
}

/// Takes the device's network interface down or up.
fn set_interface(state: &str) {
    assert!(std::env::var_os("FREIGHT_LAB_ROLE").is_some(), "this takes the port down: only in the lab");
    let device = fs::read_dir("/sys/class/infiniband").expect("devices").next().expect("a device").expect("its name");
    let interface = fs::read_to_string(device.path().join("ports/1/gid_attrs/ndevs/0")).expect("an interface");
    let done = Command::new("ip").args(["link", "set", interface.trim(), state]).status().expect("ip");
    assert!(done.success(), "{done}");
}

#[test]
#[ignore = "needs an RDMA device, and takes its port down: scripts/rdma-lab makes one"]
fn a_port_that_goes_down_ends_who_sends_and_can_be_used_again() {
    run_alone(async || {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _logged = tracing::subscriber::set_default(subscriber);
        let mut listener = rdma().listen(&endpoint()).await.expect("the endpoint is free");
        let (mut near, mut far) = connect_to(&mut listener).await;
        let (mut idle, mut other) = connect_to(&mut listener).await;
        exchange(&mut near, &mut far).await;
        exchange(&mut idle, &mut other).await;
        set_interface("down");
        log.wait_for("a port went down").await;
        let began = Instant::now();
        let refused = timeout(HANG, try_connect(&mut listener)).await.expect("it ends").err().expect("no port");
        println!("connecting, after {:?}: {refused}", began.elapsed());
        let missing = reason::<VerbsError>(&refused);
        assert!(matches!(missing, Some(VerbsError::NoOwner { .. } | VerbsError::PortDown { .. })), "{refused}");
        near.send(300).await;
        let lost = timeout(HANG, near.receiver.receive()).await.expect("it ends").expect_err("the port is down");
        println!("sending, after {:?}: {lost}", began.elapsed());
        set_interface("up");
        log.wait_for("a port came up").await;
        // Soft-RoCE finds no way out of the machine; a card sends into the void.
        let failure = reason::<RdmaError>(&lost);
        let failed = matches!(failure, Some(RdmaError::Completion { failure: Failure::Local | Failure::Unreachable }));
        assert!(failed, "{lost}");
        let opening = async {
            loop {
                match try_open().await {
                    Ok(ends) => return ends,
                    Err(error) => println!("after {:?}: {error}", began.elapsed()),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let (mut again, mut there) = timeout(HANG, opening).await.expect("its address comes back");
        exchange(&mut again, &mut there).await;
        // Who had nothing on the way has noticed nothing.
        exchange(&mut idle, &mut other).await;
    });
}
