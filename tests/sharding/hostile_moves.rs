//! Steps of moves that nobody may ask for, or that come at the wrong time: refused with the reason, and nothing done.
#![forbid(unsafe_code)]

use crate::sharded::{give_all, keys, node_of, plan, turned};
use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::scripted::Peer;
use freight::limits::SLOTS;
use freight::map::{MapMemory, MapStore, ShardMap};
use freight::op::Carried;
use freight::slots::SlotSet;
use freight::wire::{
    Handed, MoveBody, MoveChunk, MoveCommand, MoveReplyBody, MoveReplyView, MoveStatus, Refusal, RefusalCode,
    move_request,
};
use std::sync::Arc;

pub(crate) const ID: [u8; 16] = [1; 16];
const OTHER: [u8; 16] = [2; 16];

/// The key of a record that was handed over.
fn key_of(handed: Handed<'_>) -> Option<Vec<u8>> {
    match handed {
        Handed::Record(carried) => Some(carried.key.to_vec()),
        Handed::Completions(_) => None,
    }
}

/// A peer that asks one node for steps.
pub(crate) struct Asking {
    pub(crate) peer: Peer,
}

impl Asking {
    pub(crate) async fn connect(cluster: &Cluster, node: usize) -> Self {
        Self { peer: Peer::connect(&cluster.endpoints()[node]).await }
    }

    /// Asks for a step, and gives its status and the entries that came back.
    async fn ask(&mut self, body: MoveBody, payload: &[u8]) -> (MoveStatus, Vec<Vec<u8>>) {
        self.peer.send(&move_request(1, &body, payload)).await;
        let reply = self.peer.next().await;
        let view = MoveReplyView::parse(&reply).expect("a reply");
        (view.status, view.entries().filter_map(key_of).collect())
    }

    pub(crate) async fn expect(
        &mut self,
        command: MoveCommand,
        id: [u8; 16],
        numbers: [u64; 3],
        payload: &[u8],
        status: MoveStatus,
    ) {
        let [epoch, sequence, argument] = numbers;
        let (got, _) = self.ask(MoveBody::new(command, id, epoch, sequence, argument), payload).await;
        assert_eq!(got, status, "{command:?} {numbers:?}");
    }
}

/// Three nodes that follow a keeper whose map deals the slots evenly.
async fn following(cluster: &Cluster) -> ShardMap {
    let map = cluster.map(1, turned(0));
    give_all(cluster, &map);
    let store = Arc::new(MapMemory::default());
    store.replace(0, &map).await.expect("nothing was there");
    (0..3).for_each(|node| cluster.follow(node, Arc::<MapMemory>::clone(&store)));
    map
}

/// Records as a step brings them.
fn entries(records: &[(&[u8], u64, &[u8])]) -> Vec<u8> {
    let mut chunk = MoveChunk::new(Vec::new()).expect("room");
    for (key, version, value) in records {
        assert!(chunk.push(Carried { key, version: *version, value, deadline: None }));
    }
    let (epoch, keys_left, version_max) = (0.into(), 0.into(), 0.into());
    let body = MoveReplyBody { status: MoveStatus::Done.code(), reserved: [0; 7], epoch, keys_left, version_max };
    let (frame, bytes) = chunk.finish(1, &body);
    MoveReplyView::parse(&frame[..bytes as usize]).expect("valid").payload.to_vec()
}

#[test]
fn a_node_that_could_not_end_a_move_takes_part_in_none() {
    for mapped in [true, false] {
        Plan::new(Wire::Sim).node(move |config| config.mapped = mapped).run(async |cluster: &mut Cluster| {
            let mut asking = Asking::connect(cluster, 0).await;
            let all = SlotSet::ALL.to_bytes();
            asking.expect(MoveCommand::ExportBegin, ID, [0, 0, 0], &all, MoveStatus::NoKeeper).await;
            asking.expect(MoveCommand::ImportBegin, ID, [0, 0, 0], &all, MoveStatus::NoKeeper).await;
            asking.expect(MoveCommand::Look, ID, [0, 0, 0], &[], MoveStatus::NoKeeper).await;
        });
    }
}

#[test]
fn slots_leave_their_owner_alone_and_arrive_where_they_are_not() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let map = following(cluster).await;
        let (own, foreign) = (map.slots_of(0).to_bytes(), map.slots_of(1).to_bytes());
        let (both, none) = (SlotSet::ALL.to_bytes(), SlotSet::NONE.to_bytes());
        let mut asking = Asking::connect(cluster, 0).await;
        for epoch in [0, 2, u64::MAX] {
            asking.expect(MoveCommand::ExportBegin, ID, [epoch, 0, 0], &own, MoveStatus::OtherEpoch).await;
            asking.expect(MoveCommand::ImportBegin, ID, [epoch, 0, 0], &foreign, MoveStatus::OtherEpoch).await;
        }
        for slots in [&foreign, &both, &none] {
            asking.expect(MoveCommand::ExportBegin, ID, [1, 0, 0], slots, MoveStatus::BadSlots).await;
        }
        for slots in [&own, &both, &none] {
            asking.expect(MoveCommand::ImportBegin, ID, [1, 0, 0], slots, MoveStatus::BadSlots).await;
        }
        assert_eq!(cluster.stats(0).moves, Vec::<String>::new());
    });
}

#[test]
fn steps_of_no_move_and_out_of_order_do_nothing() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let map = following(cluster).await;
        let mut asking = Asking::connect(cluster, 0).await;
        for command in [MoveCommand::ExportNext, MoveCommand::Freeze, MoveCommand::Import, MoveCommand::ImportFinish] {
            asking.expect(command, ID, [1, 1, 0], &[], MoveStatus::NoMove).await;
        }
        asking.expect(MoveCommand::End, ID, [1, 0, 0], &[], MoveStatus::Done).await;

        let own = map.slots_of(0).to_bytes();
        asking.expect(MoveCommand::ExportBegin, ID, [1, 0, 0], &own, MoveStatus::Done).await;
        asking.expect(MoveCommand::ExportBegin, ID, [1, 0, 0], &own, MoveStatus::Done).await;
        asking.expect(MoveCommand::ExportNext, ID, [1, 0, 0], &[], MoveStatus::OutOfOrder).await;
        asking.expect(MoveCommand::ExportNext, ID, [1, 2, 0], &[], MoveStatus::Done).await;
        asking.expect(MoveCommand::ExportNext, ID, [1, 2, 2], &[], MoveStatus::OutOfOrder).await;
        asking.expect(MoveCommand::ExportNext, ID, [1, 1, 0], &[], MoveStatus::OutOfOrder).await;
        asking.expect(MoveCommand::ExportBegin, ID, [1, 0, 0], &own, MoveStatus::OutOfOrder).await;
        asking.expect(MoveCommand::ExportNext, OTHER, [1, 3, 0], &[], MoveStatus::NoMove).await;
        asking.expect(MoveCommand::Freeze, OTHER, [1, 0, 0], &[], MoveStatus::NoMove).await;
        // Another move ends the one before; one that has given its slots up stays.
        asking.expect(MoveCommand::ExportBegin, OTHER, [1, 0, 0], &own, MoveStatus::Done).await;
        asking.expect(MoveCommand::ExportNext, ID, [1, 9, 0], &[], MoveStatus::NoMove).await;
        asking.expect(MoveCommand::Freeze, OTHER, [1, 0, 0], &[], MoveStatus::Done).await;
        asking.expect(MoveCommand::Freeze, OTHER, [1, 0, 0], &[], MoveStatus::Done).await;
        asking.expect(MoveCommand::ExportBegin, ID, [1, 0, 0], &own, MoveStatus::Frozen).await;
        asking.expect(MoveCommand::End, OTHER, [1, 0, 0], &[], MoveStatus::Frozen).await;
        assert!(cluster.stats(0).moves[0].ends_with("given up"), "{:?}", cluster.stats(0).moves);
    });
}

#[test]
fn records_come_in_order_once_and_only_of_the_slots_that_move() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let map = following(cluster).await;
        let mut asking = Asking::connect(cluster, 0).await;
        let foreign = map.slots_of(1).to_bytes();
        let (keys, command) = (keys(), MoveCommand::Import);
        let mut of_1 = keys.iter().filter(|key| node_of(key, 0) == 1);
        let (first, second) = (of_1.next().expect("a third"), of_1.next().expect("a third"));
        let own = keys.iter().find(|key| node_of(key, 0) == 0).expect("a third");
        asking.expect(MoveCommand::ImportBegin, ID, [1, 0, 0], &foreign, MoveStatus::Done).await;
        asking.expect(command, ID, [1, 2, 0], &[], MoveStatus::OutOfOrder).await;
        asking.expect(command, ID, [1, 0, 0], &[], MoveStatus::OutOfOrder).await;
        asking.expect(command, ID, [1, 1, 0], &entries(&[(own, 5, b"forged")]), MoveStatus::BadSlots).await;
        let both = entries(&[(first, 5, b"v"), (own, 5, b"forged")]);
        asking.expect(command, ID, [1, 1, 0], &both, MoveStatus::BadSlots).await;
        assert_eq!(cluster.stats(0).store.records, 0, "nothing of a frame with a foreign key");
        asking.expect(command, ID, [1, 1, 0], &entries(&[(first, 5, b"v")]), MoveStatus::Done).await;
        // The same number again is the same step, whatever it brings.
        asking.expect(command, ID, [1, 1, 0], &entries(&[(second, 5, b"v")]), MoveStatus::Done).await;
        assert_eq!(cluster.stats(0).store.records, 1);
        asking.expect(MoveCommand::ImportFinish, ID, [1, 2, 7], &[], MoveStatus::Done).await;
        asking.expect(MoveCommand::ImportFinish, ID, [1, 2, 7], &[], MoveStatus::Done).await;
        asking.expect(command, ID, [1, 3, 0], &[], MoveStatus::OutOfOrder).await;
        // What is all there may be the node's by the map: only a map ends it.
        asking.expect(MoveCommand::ImportBegin, OTHER, [1, 0, 0], &foreign, MoveStatus::Frozen).await;
        asking.expect(MoveCommand::End, ID, [1, 0, 0], &[], MoveStatus::Frozen).await;
        cluster.take_map(0, &map.fenced().expect("a map"));
        assert_eq!((cluster.stats(0).store.records, cluster.stats(0).moves.len()), (0, 0));
    });
}

#[test]
fn what_a_broken_move_brought_is_swept_out_before_the_next() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let map = following(cluster).await;
        let mut asking = Asking::connect(cluster, 0).await;
        let foreign = map.slots_of(1).to_bytes();
        let keys: Vec<_> = keys().into_iter().filter(|key| node_of(key, 0) == 1).collect();
        for (id, key) in [(ID, &keys[0]), (OTHER, &keys[1]), (ID, &keys[2])] {
            asking.expect(MoveCommand::ImportBegin, id, [1, 0, 0], &foreign, MoveStatus::Done).await;
            asking.expect(MoveCommand::Import, id, [1, 1, 0], &entries(&[(key, 5, b"v")]), MoveStatus::Done).await;
            assert_eq!(cluster.stats(0).store.records, 1, "its own alone");
        }
        asking.expect(MoveCommand::End, ID, [1, 0, 0], &[], MoveStatus::Done).await;
        asking.expect(MoveCommand::Look, ID, [1, 0, 0], &[], MoveStatus::Done).await;
        assert_eq!(cluster.stats(0).store.records, 0);
    });
}

#[test]
fn a_full_node_refuses_records_and_takes_no_harm() {
    let capped = plan(Wire::Sim).node(|config| (config.mapped, config.memory_bytes_max) = (true, Some(64 << 20)));
    capped.run(async |cluster: &mut Cluster| {
        let map = following(cluster).await;
        let mut asking = Asking::connect(cluster, 0).await;
        let foreign = map.slots_of(1).to_bytes();
        asking.expect(MoveCommand::ImportBegin, ID, [1, 0, 0], &foreign, MoveStatus::Done).await;
        let of_1 = (0..).map(|number: u32| number.to_le_bytes()).filter(|key| node_of(key, 0) == 1);
        let value = vec![7; 1 << 20];
        let mut refused = None;
        for (sequence, key) in (1..).zip(of_1) {
            let body = MoveBody::new(MoveCommand::Import, ID, 1, sequence, 0);
            let (status, _) = asking.ask(body, &entries(&[(&key, 5, &value)])).await;
            if status != MoveStatus::Done {
                refused = Some((status, sequence));
                break;
            }
        }
        let (status, sequence) = refused.expect("a cap of 64 MiB");
        assert_eq!(status, MoveStatus::OutOfMemory);
        assert!((16..64).contains(&sequence), "{sequence} MiB");
        asking.expect(MoveCommand::End, ID, [1, 0, 0], &[], MoveStatus::Done).await;
        asking.expect(MoveCommand::ImportBegin, OTHER, [1, 0, 0], &foreign, MoveStatus::Done).await;
        assert_eq!(cluster.stats(0).store.records, 0);
    });
}

#[test]
fn a_malformed_step_ends_the_connection_and_no_move() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let map = following(cluster).await;
        let own = map.slots_of(0).to_bytes();
        Asking::connect(cluster, 0).await.expect(MoveCommand::ExportBegin, ID, [1, 0, 0], &own, MoveStatus::Done).await;
        let mut forged = move_request(1, &MoveBody::new(MoveCommand::Freeze, ID, 1, 0, 0), &[]);
        forged[64] = 77;
        let mut asking = Asking::connect(cluster, 0).await;
        asking.peer.send(&forged).await;
        let refusal = asking.peer.next().await;
        assert_eq!(Refusal::parse(&refusal).expect("a refusal").code, RefusalCode::Malformed);
        assert_eq!((cluster.stats(0).slots, cluster.stats(0).moves.len()), (SLOTS / 3 + 1, 1));
    });
}
