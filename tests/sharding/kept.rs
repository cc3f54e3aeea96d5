//! What was sent more than once and meets newer maps: it keeps its number and its order, and waits while that helps.
#![forbid(unsafe_code)]

use crate::sharded::{DEADLINE, DONE, client_of};
use crate::support::cluster::Wire;
use crate::support::scripted::{Peer, ScriptedNode};
use freight::client::{Batch, BatchError, Client, ClientConfig, ClientError, Loss};
use freight::hash::slot;
use freight::limits::{FRAME_BYTES_MIN, SLOTS};
use freight::map::{Id, MapMemory, MapNode, MapStore, Pending, ShardMap};
use freight::op::{Batch as _, Op, Outcome};
use freight::slots::SlotSet;
use freight::transport::Frame;
use freight::wire::RequestView;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Nodes that do what they are told, each another incarnation.
pub(crate) async fn scripted<const NODES: usize>() -> [ScriptedNode; NODES] {
    let mut nodes = Vec::new();
    for number in 0..NODES as u8 {
        let mut node = ScriptedNode::start().await;
        node.hello.incarnation = [number; 16];
        node.hello.frame_bytes_max = FRAME_BYTES_MIN.into();
        nodes.push(node);
    }
    nodes.try_into().unwrap_or_else(|_| unreachable!("as many"))
}

/// A map of these nodes, whose slots are dealt by a function.
pub(crate) fn map_of(nodes: &[&ScriptedNode], epoch: u64, owner: impl Fn(u16) -> Option<usize>) -> ShardMap {
    let named =
        |node: &ScriptedNode| MapNode { addresses: vec![node.endpoint()], incarnation: Id(node.hello.incarnation) };
    let slots = |place| (0..SLOTS as u16).filter(|slot| owner(*slot) == Some(place)).collect();
    let nodes = nodes.iter().enumerate().map(|(place, node)| (named(node), slots(place))).collect();
    ShardMap::new(Id([7; 16]), epoch, nodes).expect("a map")
}

pub(crate) fn view(frame: &Frame) -> RequestView<'_> {
    RequestView::parse(frame).expect("a request")
}

/// Where the operations of a frame stood when it was sent first.
pub(crate) fn places(frame: &Frame) -> Vec<u32> {
    (0..view(frame).op_count()).map(|index| view(frame).first_index(index)).collect()
}

pub(crate) fn assert_same(first: &Frame, copy: &Frame) {
    let named = |frame| (view(frame).header().session.get(), view(frame).header().sequence.get());
    assert_eq!(named(first), named(copy));
    assert!(view(copy).header().is_retry());
}

pub(crate) async fn answer_all(peer: &mut Peer, request: &Frame, outcome: Outcome<'_>) {
    let outcomes = vec![outcome; view(request).op_count() as usize];
    peer.answer(request, &outcomes).await;
}

/// Takes a frame, loses its connection, takes it again on the next, and does not own anything of it.
async fn lose_and_disown(node: &mut ScriptedNode) -> Frame {
    let mut peer = node.accept().await;
    let first = peer.next().await;
    drop(peer);
    let mut peer = node.accept().await;
    let copy = peer.next().await;
    assert_same(&first, &copy);
    answer_all(&mut peer, &copy, Outcome::WrongNode).await;
    first
}

/// A call, while nodes do what they are told: that is what the client makes them do, or the test fails.
pub(crate) async fn call<T, S>(call: impl Future<Output = T>, script: impl Future<Output = S>) -> T {
    let script = async { timeout(3 * DEADLINE, script).await.expect("the client asks whom it should ask") };
    let (called, _) = tokio::join!(call, script);
    called
}

/// A put by itself, or in a batch.
pub(crate) async fn put(client: &Client, is_single: bool) -> Result<(), ClientError> {
    if is_single {
        return client.put(b"k", b"v").await;
    }
    let mut batch = client.batch(1);
    batch.put(b"k", b"v").expect("room");
    let reply = client.execute(batch).await?;
    if let Some(failure) = reply.failures().next() {
        return Err(failure.error.clone());
    }
    assert_eq!(reply.outcome(0), DONE);
    Ok(())
}

fn adds(client: &Client, keys: &[&[u8]]) -> Batch {
    let mut batch = client.batch(keys.len() as u32);
    keys.iter().for_each(|key| batch.add(key, 1).expect("room"));
    batch
}

fn counter(value: i64) -> Outcome<'static> {
    Outcome::Counter { value, version: None }
}

#[test]
fn a_lost_call_waits_for_its_node_whatever_maps_come_that_leave_it_its_slots() {
    for is_single in [false, true] {
        Wire::Sim.runtime().block_on(async {
            let [mut node] = scripted().await;
            let map = map_of(&[&node], 1, |_| Some(0));
            let (store, client) = client_of(&map).await;
            let put = call(put(&client, is_single), async {
                let mut peer = node.accept().await;
                let first = peer.next().await;
                let changes = async {
                    drop(peer);
                    for (epoch, map) in [(1, map.fenced()), (2, map.fenced().and_then(|map| map.fenced()))] {
                        store.replace(epoch, &map.expect("a map")).await.expect("the epoch is right");
                        sleep(Duration::from_secs(2)).await;
                    }
                };
                node.away_during(changes).await;
                let mut peer = node.accept().await;
                let copy = peer.next().await;
                assert_same(&first, &copy);
                answer_all(&mut peer, &copy, DONE).await;
            })
            .await;
            put.expect("its node came back in time");
        });
    }
}

/// A keeper that takes its time, and counts how often it is asked.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    map: MapMemory,
    pub(crate) loads: AtomicU64,
}

impl MapStore for Counting {
    fn load(&self) -> Pending<'_, Option<Arc<ShardMap>>> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            sleep(Duration::from_millis(1)).await;
            self.map.load().await
        })
    }

    fn newer_than(&self, epoch: u64) -> Pending<'_, Arc<ShardMap>> {
        self.map.newer_than(epoch)
    }

    fn replace<'a>(&'a self, expected: u64, map: &'a ShardMap) -> Pending<'a, ()> {
        self.map.replace(expected, map)
    }
}

#[test]
fn frames_that_wait_for_the_same_node_share_their_looks_at_the_map() {
    Wire::Sim.runtime().block_on(async {
        let [mut node] = scripted().await;
        let store = Arc::new(Counting::default());
        store.replace(0, &map_of(&[&node], 1, |_| Some(0))).await.expect("nothing was there");
        let config = ClientConfig { deadline: DEADLINE, jitter_seed: Some(1), ..ClientConfig::default() };
        let client = Client::connect_mapped(Arc::<Counting>::clone(&store), config).await.expect("a map");
        let mut puts = JoinSet::new();
        for _ in 0..50 {
            let client = client.clone();
            puts.spawn(async move { put(&client, false).await });
        }
        let mut peer = node.accept().await;
        for _ in 0..50 {
            peer.next().await;
        }
        node.away_during(async {
            drop(peer);
            sleep(Duration::from_secs(2)).await;
        })
        .await;
        let mut peer = node.accept().await;
        for _ in 0..50 {
            let copy = peer.next().await;
            answer_all(&mut peer, &copy, DONE).await;
        }
        puts.join_all().await.into_iter().for_each(|put| put.expect("its node came back"));
        // Fewer tries than ten, doubled from 10 ms on, and two looks each; alone, each frame looks behind each try.
        let loads = store.loads.load(Ordering::Relaxed);
        assert!((2..50).contains(&loads), "{loads}");
    });
}

#[test]
fn a_lost_call_goes_to_whom_a_newer_map_names_while_its_node_is_away() {
    for is_single in [false, true] {
        Wire::Sim.runtime().block_on(async {
            let [mut old, mut new] = scripted().await;
            let (before, after) = (map_of(&[&old, &new], 1, |_| Some(0)), map_of(&[&old, &new], 2, |_| Some(1)));
            let (store, client) = client_of(&before).await;
            let put = call(put(&client, is_single), async {
                let mut peer = old.accept().await;
                let first = peer.next().await;
                let change = async {
                    drop(peer);
                    sleep(Duration::from_secs(1)).await;
                    store.replace(1, &after).await.expect("the epoch is right");
                    let mut peer = new.accept().await;
                    let copy = peer.next().await;
                    assert_same(&first, &copy);
                    answer_all(&mut peer, &copy, DONE).await;
                };
                old.away_during(change).await;
            })
            .await;
            put.expect("whom the newer map names answers");
        });
    }
}

#[test]
fn a_call_to_a_node_that_only_listens_goes_to_whom_a_newer_map_names_before_its_deadline() {
    for is_single in [false, true] {
        Wire::Sim.runtime().block_on(async {
            let [mut old, mut new] = scripted().await;
            let (before, after) = (map_of(&[&old, &new], 1, |_| Some(0)), map_of(&[&old, &new], 2, |_| Some(1)));
            let (store, client) = client_of(&before).await;
            let began = Instant::now();
            let put = call(put(&client, is_single), async {
                let mut silent = old.accept().await;
                let first = silent.next().await;
                store.replace(1, &after).await.expect("the epoch is right");
                let mut peer = new.accept().await;
                let copy = peer.next().await;
                assert_same(&first, &copy);
                answer_all(&mut peer, &copy, DONE).await;
                silent
            })
            .await;
            put.expect("whom the newer map names answers");
            assert!(began.elapsed() < DEADLINE / 2, "{:?} of simulated time", began.elapsed());
        });
    }
}

#[test]
fn what_keeps_no_number_is_unknown_as_soon_as_a_newer_map_leaves_its_silent_node_out() {
    for is_single in [false, true] {
        Wire::Sim.runtime().block_on(async {
            let [mut old, new] = scripted().await;
            let (before, after) = (map_of(&[&old, &new], 1, |_| Some(0)), map_of(&[&new], 2, |_| Some(0)));
            let store = Arc::new(MapMemory::default());
            store.replace(0, &before).await.expect("nothing was there");
            let config = ClientConfig { deadline: DEADLINE, at_most_once: false, ..ClientConfig::default() };
            let client = Client::connect_mapped(Arc::<MapMemory>::clone(&store), config).await.expect("a map");
            let began = Instant::now();
            let put = call(put(&client, is_single), async {
                let mut silent = old.accept().await;
                silent.next().await;
                store.replace(1, &after).await.expect("the epoch is right");
                silent
            })
            .await;
            let error = put.expect_err("nobody answers");
            assert!(matches!(error, ClientError::Lost { source: Loss::Moved, .. }), "{error}");
            assert!(error.may_have_taken_effect() && began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
        });
    }
}

#[test]
fn what_a_full_frame_left_out_never_overtakes_what_keeps_its_number() {
    Wire::Sim.runtime().block_on(async {
        let [mut a, mut b, mut full, mut last] = scripted().await;
        let owner = |slot: u16| Some(usize::from(slot % 2));
        let maps = [1, 2, 3].map(|epoch| {
            map_of(&[&a, &b, &full, &last], epoch, |slot| if epoch == 1 { owner(slot) } else { Some(epoch as usize) })
        });
        let (store, client) = client_of(&maps[0]).await;
        let mut batch = client.batch(20);
        batch.add(b"counter", 1).expect("room");
        for half in 0..2 {
            let of_half = (0_u32..).map(u32::to_le_bytes).filter(|key| owner(slot(key)) == Some(half));
            of_half.take(6).for_each(|key| batch.put(&key, &vec![7; 1 << 20]).expect("half of it fits a frame"));
        }
        batch.get(b"counter").expect("room");
        let reply = call(client.execute(batch), async {
            let disown = async |node: &mut ScriptedNode| {
                let mut peer = node.accept().await;
                let request = peer.next().await;
                answer_all(&mut peer, &request, Outcome::WrongNode).await;
            };
            tokio::join!(disown(&mut a), disown(&mut b));
            store.replace(1, &maps[1]).await.expect("the epoch is right");
            let first = lose_and_disown(&mut full).await;
            assert!(
                (9..11).contains(&view(&first).op_count()),
                "all that fits 10 MiB, not {}",
                view(&first).op_count()
            );
            store.replace(2, &maps[2]).await.expect("the epoch is right");
            let mut peer = last.accept().await;
            // It has yet to read the map.
            for outcome in [Outcome::WrongNode, DONE] {
                let copy = peer.next().await;
                assert_same(&first, &copy);
                assert_eq!(view(&copy).op_count(), view(&first).op_count());
                let mut outcomes = vec![outcome; view(&copy).op_count() as usize];
                if outcome == DONE {
                    outcomes[0] = counter(1);
                }
                peer.answer(&copy, &outcomes).await;
            }
            let rest = peer.next().await;
            let mut outcomes = vec![DONE; view(&rest).op_count() as usize];
            *outcomes.last_mut().expect("the get") = Outcome::Value { value: b"1", version: None };
            peer.answer(&rest, &outcomes).await;
        })
        .await;
        let reply = reply.expect("an answer");
        let outcomes: Vec<_> = reply.outcomes().collect();
        assert_eq!(
            (&outcomes[0], outcomes.last()),
            (&counter(1), Some(&Outcome::Value { value: b"1", version: None }))
        );
        assert!(outcomes[1..outcomes.len() - 1].iter().all(|outcome| *outcome == DONE), "{outcomes:?}");
        assert_eq!(reply.failures().count(), 0);
    });
}

/// A batch whose frame has room for one byte more, and none for where its operations stood: a put and, behind all of
/// them, a get of each key.
fn full_to_the_byte(client: &Client) -> (Batch, usize) {
    // Descriptors for twenty at either node, so that each get takes a byte more.
    let mut batch = client.batch(40);
    let mut value = vec![7; 1 << 20];
    for key in 0_u8..9 {
        batch.put(&[key], &value).expect("room");
    }
    while let Err(error) = batch.put(&[9], &value) {
        let BatchError::FrameFull { needed, max } = error else { panic!("{error}") };
        value.truncate(value.len() - (needed - u64::from(max)) as usize - 11);
    }
    (0_u8..10).for_each(|key| batch.get(&[key]).expect("room"));
    (batch, 10)
}

#[test]
fn a_full_frame_that_keeps_its_number_goes_in_pieces_that_hold_all_of_a_key() {
    // The new owner has all; or says of the first piece that it does not, and is asked again.
    for disowned in [false, true] {
        Wire::Sim.runtime().block_on(async {
            let [mut old, mut new] = scripted().await;
            let (before, after) = (map_of(&[&old, &new], 1, |_| Some(0)), map_of(&[&old, &new], 2, |_| Some(1)));
            let (store, client) = client_of(&before).await;
            let (batch, keys) = full_to_the_byte(&client);
            let reply = call(client.execute(batch), async {
                let first = lose_and_disown(&mut old).await;
                store.replace(1, &after).await.expect("the epoch is right");
                let mut peer = new.accept().await;
                let (mut answered, mut pieces) = (0, 0);
                while answered < keys {
                    let piece = peer.next().await;
                    assert_same(&first, &piece);
                    let ops: Vec<Op<'_>> = view(&first).ops().collect();
                    let places = places(&piece);
                    let (puts, gets) = places.split_at(places.len() / 2);
                    assert!(puts.iter().zip(gets).all(|(put, get)| put + keys as u32 == *get), "{places:?}");
                    assert!(view(&piece).ops().eq(places.iter().map(|place| ops[*place as usize])));
                    let got = Outcome::Value { value: b"v", version: None };
                    let outcomes = if disowned && pieces == 0 {
                        vec![Outcome::WrongNode; places.len()]
                    } else {
                        answered += puts.len();
                        [vec![DONE; puts.len()], vec![got; gets.len()]].concat()
                    };
                    peer.answer(&piece, &outcomes).await;
                    pieces += 1;
                }
                assert!(pieces > 1, "it does not fit one frame");
            })
            .await;
            let reply = reply.expect("an answer");
            let got = Outcome::Value { value: b"v", version: None };
            for (index, outcome) in reply.outcomes().enumerate() {
                assert_eq!(outcome, if index < keys { DONE } else { got }, "operation {index}");
            }
            assert_eq!(reply.failures().count(), 0);
        });
    }
}

#[test]
fn what_keeps_its_number_and_is_nobody_s_for_a_while_gets_its_own_outcome() {
    Wire::Sim.runtime().block_on(async {
        let [mut old, mut new] = scripted().await;
        let keys: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];
        let slots: SlotSet = keys.iter().map(|key| slot(*key)).collect();
        assert_eq!(slots.count(), 4, "each has a slot of its own");
        let nobody = [slot(keys[1]), slot(keys[3])];
        let nodes = [&old, &new];
        let maps = [
            map_of(&nodes, 1, |_| Some(0)),
            map_of(&nodes, 2, |slot| (!nobody.contains(&slot)).then_some(1)),
            map_of(&nodes, 3, |_| Some(1)),
        ];
        let (store, client) = client_of(&maps[0]).await;
        let reply = call(client.execute(adds(&client, &keys)), async {
            let first = lose_and_disown(&mut old).await;
            store.replace(1, &maps[1]).await.expect("the epoch is right");
            let mut peer = new.accept().await;
            for (expected, outcomes) in [([0, 2], [1, 3]), ([1, 3], [2, 4])] {
                let part = peer.next().await;
                assert_same(&first, &part);
                assert_eq!(places(&part), expected);
                peer.answer(&part, &outcomes.map(counter)).await;
                if expected == [0, 2] {
                    assert!(timeout(DEADLINE / 4, peer.next()).await.is_err(), "nobody's is sent to nobody");
                    store.replace(2, &maps[2]).await.expect("the epoch is right");
                }
            }
        })
        .await;
        let reply = reply.expect("an answer");
        assert_eq!(reply.outcomes().collect::<Vec<_>>(), [1, 2, 3, 4].map(counter));
        assert_eq!(reply.failures().count(), 0);
    });
}
