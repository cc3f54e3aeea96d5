//! What a map refuses, and that its text says the same as the map.
#![forbid(unsafe_code)]

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn id(number: u8) -> Id {
    Id([number; 16])
}

fn node(number: u8) -> MapNode {
    MapNode {
        addresses: vec![format!("tcp://10.0.0.{number}:7411").parse().expect("an endpoint")],
        incarnation: id(number),
    }
}

fn slots(text: &str) -> SlotSet {
    text.split(',').filter_map(crate::slots::parse_range).flatten().collect()
}

fn map(epoch: u64) -> ShardMap {
    let nodes = vec![(node(1), slots("0-4095,9000")), (node(2), slots("4096-8191"))];
    ShardMap::new(id(9), epoch, nodes).expect("a map")
}

const TEXT: &str = r#"cluster = "09090909090909090909090909090909"
epoch = 3

[[nodes]]
addresses = ["tcp://10.0.0.1:7411"]
incarnation = "01010101010101010101010101010101"
slots = ["0-4095", "9000"]

[[nodes]]
addresses = ["tcp://10.0.0.2:7411"]
incarnation = "02020202020202020202020202020202"
slots = ["4096-8191"]
"#;

#[test]
fn the_text_of_a_map_is_the_one_of_the_manual() {
    assert_eq!(map(3).to_string(), TEXT);
    assert_eq!(TEXT.parse(), Ok(map(3)));
}

#[test]
fn a_map_says_who_owns_what() {
    let map = map(1);
    assert_eq!([0, 4095, 9000, 4096, 8192].map(|slot| map.owner(slot)), [Some(0), Some(0), Some(0), Some(1), None]);
    assert_eq!(map.slots_of(0), slots("0-4095,9000"));
    assert_eq!(map.slots_of_incarnation(id(2)), Some(slots("4096-8191")));
    assert_eq!(map.slots_of_incarnation(id(3)), None);
}

#[test]
fn slots_are_dealt_evenly_and_all_of_them() {
    for count in 1..20 {
        let map = ShardMap::dealt(id(9), (1..=count).map(node).collect()).expect("a map");
        let shares: Vec<u32> = (0..usize::from(count)).map(|node| map.slots_of(node).count()).collect();
        assert_eq!((map.epoch(), shares.iter().sum::<u32>()), (1, SLOTS));
        let (least, most) = (shares.iter().min(), shares.iter().max());
        assert!(most.expect("a share") - least.expect("a share") <= 1, "{shares:?}");
    }
}

#[test]
fn what_is_no_map_is_refused_with_the_reason() {
    let new = |epoch, nodes| ShardMap::new(id(9), epoch, nodes).expect_err("no map");
    assert_eq!(new(0, vec![]), MapError::Epoch { got: 0 });
    assert_eq!(new(1 << 63, vec![]), MapError::Epoch { got: 1 << 63 });
    let twice = vec![(node(1), slots("0-7")), (node(2), slots("7"))];
    assert_eq!(new(1, twice), MapError::Overlap { slot: 7, first: id(1), second: id(2) });
    let same = MapNode { incarnation: id(1), ..node(2) };
    assert_eq!(
        new(1, vec![(node(1), SlotSet::NONE), (same, SlotSet::NONE)]),
        MapError::SameIncarnation { incarnation: id(1) }
    );
    let same = MapNode { incarnation: id(2), ..node(1) };
    let address = node(1).addresses.remove(0);
    assert_eq!(new(1, vec![(node(1), SlotSet::NONE), (same, SlotSet::NONE)]), MapError::SameAddress { address });
    let nowhere = MapNode { addresses: vec![], ..node(1) };
    assert_eq!(new(1, vec![(nowhere, SlotSet::NONE)]), MapError::NoAddress { incarnation: id(1) });
    let many = |number: u32| MapNode {
        addresses: vec![format!("tcp://h{number}:1").parse().expect("an endpoint")],
        incarnation: Id(u128::from(number).to_be_bytes()),
    };
    let many = (0..=SLOTS).map(|number| (many(number), SlotSet::NONE)).collect();
    assert_eq!(new(1, many), MapError::TooManyNodes { got: 16_385 });
}

#[test]
fn text_that_is_no_map_is_refused_with_the_reason() {
    let read = |from: &str, to: &str| {
        assert!(TEXT.contains(from), "{from}");
        TEXT.replacen(from, to, 1).parse::<ShardMap>().expect_err("no map")
    };
    let owned = str::to_owned;
    assert_eq!(read("epoch = 3", "epoch = 0"), MapError::Epoch { got: 0 });
    assert_eq!(read("epoch = 3", "epoch = 3\nleader = 1"), MapError::UnknownKey { key: owned("leader") });
    assert_eq!(read("slots = [\"4", "slot = [\"4"), MapError::UnknownKey { key: owned("slot") });
    assert_eq!(read("0-4095", "0-16384"), MapError::BadSlots { got: owned("0-16384") });
    assert_eq!(read("9000", "9000 "), MapError::BadSlots { got: owned("9000 ") });
    assert_eq!(read("9000", "12"), MapError::Overlap { slot: 12, first: id(1), second: id(1) });
    assert_eq!(read("9000", "5000"), MapError::Overlap { slot: 5000, first: id(1), second: id(2) });
    assert_eq!(read("0909", "09"), MapError::BadId { key: "cluster", got: "09".repeat(15) });
    assert!(matches!(read("0101", "x101"), MapError::BadId { key: "incarnation", .. }));
    assert!(matches!(read("tcp://10.0.0.1:7411", "10.0.0.1"), MapError::BadAddress { .. }));
    assert!(matches!(read("epoch = 3", "epoch = \"3\""), MapError::Syntax { line: 2, .. }));
    assert!(matches!(read("epoch = 3", ""), MapError::Syntax { .. }));
    assert!(matches!(read("[[nodes]]", "[[nodes"), MapError::Syntax { line: 4, .. }));
    assert!(matches!("".parse::<ShardMap>(), Err(MapError::Syntax { .. })));
}

#[test]
fn the_largest_map_that_makes_sense_is_kept_and_read() {
    let node = |slot: u16| {
        let bytes = [slot.to_be_bytes(); 8].concat().try_into().expect("16 bytes");
        let port = 40_000 + slot;
        let addresses = [format!("rdma://255.255.255.255:{port}"), format!("tcp://node-{port}.example.org:{port}")];
        let addresses = addresses.map(|address| address.parse().expect("an endpoint")).to_vec();
        (MapNode { addresses, incarnation: Id(bytes) }, SlotSet::from_iter([slot]))
    };
    let map = ShardMap::new(id(9), EPOCH_MAX, (0..SLOTS as u16).map(node).collect()).expect("a map");
    let text = text::to_keep(&map).expect("not too long");
    assert!(text.len() > TEXT_BYTES_MAX / 2, "{} bytes", text.len());
    assert!(text::parse(text.as_bytes()) == Ok(map));
}

#[test]
fn nodes_are_counted_before_they_get_slots() {
    let node = |number: u32| format!("[[nodes]]\naddresses=[]\nincarnation=\"{number:032x}\"\n");
    let nodes: String = (0..=SLOTS).map(node).collect();
    let text = format!("cluster = \"{}\"\nepoch = 1\n{nodes}", id(9));
    assert_eq!(text.parse::<ShardMap>(), Err(MapError::TooManyNodes { got: SLOTS as usize + 1 }));
}

#[test]
fn a_map_follows_older_ones_of_its_cluster_only() {
    let of_other = ShardMap::new(id(8), 9, vec![]).expect("a map");
    assert_eq!(of_other.check_follows(&map(1)), Err(MapError::OtherCluster { got: id(8), expected: id(9) }));
    assert_eq!(map(2).check_follows(&map(3)), Err(MapError::OlderEpoch { got: 2, at: 3 }));
    let same = ShardMap::new(id(9), 3, vec![]).expect("a map");
    assert_eq!(same.check_follows(&map(3)), Err(MapError::SameEpoch { epoch: 3 }));
    assert_eq!((map(3).check_follows(&map(3)), map(4).check_follows(&map(3))), (Ok(()), Ok(())));
}

proptest! {
    #[test]
    fn a_map_comes_back_from_its_text(
        owners in vec(0..6_usize, 1..64), count in 0..5_u8, epoch in 1..=EPOCH_MAX, shm in any::<bool>()
    ) {
        let nodes = (0..count).map(|number| {
            let mut node = node(number);
            if shm {
                node.addresses.insert(0, format!("shm:///tmp/\"{number}\\'#.sock").parse().expect("an endpoint"));
            }
            let is_own = |slot: &u16| owners[usize::from(*slot) / 7 % owners.len()] == usize::from(number);
            (node, (0..SLOTS as u16).filter(is_own).collect())
        });
        let map = ShardMap::new(id(200), epoch, nodes.collect()).expect("a map");
        prop_assert_eq!(map.to_string().parse(), Ok(map));
    }

    #[test]
    fn any_text_is_a_map_or_an_error_of_one_line(text in "\\PC*|(cluster|epoch|nodes|\\[\\[nodes\\]\\]|=|\"|1|\n| )*") {
        if let Err(error) = text.parse::<ShardMap>() {
            prop_assert_eq!(error.to_string().lines().count(), 1, "{}", error);
        }
    }
}
