//! A map as text that people read and write.
//!
//! ```toml
//! cluster = "2f0c5a7e9b1d4c3f8e6a7b8c9d0e1f2a"
//! epoch = 1
//!
//! [[nodes]]
//! addresses = ["tcp://10.0.0.1:7411"]
//! incarnation = "00112233445566778899aabbccddeeff"
//! slots = ["0-8191", "9000"]
//! arrived_by = "0123456789abcdef0123456789abcdef"    # the last move that brought it slots, if one did
//! ```
#![forbid(unsafe_code)]

use super::{Id, MapError, MapNode, ShardMap, TEXT_BYTES_MAX};
use crate::limits::SLOTS;
use crate::slots::{SlotSet, parse_range, range_text};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MapText {
    cluster: String,
    epoch: u64,
    #[serde(default)]
    nodes: Vec<NodeText>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeText {
    addresses: Vec<String>,
    incarnation: String,
    #[serde(default)]
    slots: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arrived_by: Option<String>,
}

/// Reads what a keeper has.
pub(super) fn parse(bytes: &[u8]) -> Result<ShardMap, MapError> {
    check_length(bytes.len())?;
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        MapError::Syntax { line, message: "not UTF-8".to_owned() }
    })?;
    text.parse()
}

/// What a keeper gets: nothing that it would refuse to give back.
pub(super) fn to_keep(map: &ShardMap) -> Result<String, MapError> {
    let text = map.to_string();
    check_length(text.len())?;
    Ok(text)
}

fn check_length(got: usize) -> Result<(), MapError> {
    if got > TEXT_BYTES_MAX { Err(MapError::TooLong { got }) } else { Ok(()) }
}

impl FromStr for ShardMap {
    type Err = MapError;

    fn from_str(text: &str) -> Result<Self, MapError> {
        check_length(text.len())?;
        let map: MapText = toml::from_str(text).map_err(|error| no_map_text(text, &error))?;
        // Before each of them gets a set of slots.
        if map.nodes.len() > SLOTS as usize {
            return Err(MapError::TooManyNodes { got: map.nodes.len() });
        }
        let arrived_by =
            map.nodes.iter().map(|node| node.arrived_by.clone().map(|text| id("arrived_by", text)).transpose());
        let arrived_by = arrived_by.collect::<Result<_, _>>()?;
        let nodes = map.nodes.into_iter().map(NodeText::parse).collect::<Result<_, _>>()?;
        Ok(Self::new(id("cluster", map.cluster)?, map.epoch, nodes)?.with_arrivals(arrived_by))
    }
}

fn no_map_text(text: &str, error: &toml::de::Error) -> MapError {
    // By serde's words: to look for the key in a tree of the text's own would take its memory and time twice.
    let unknown = error.message().strip_prefix("unknown field `").and_then(|rest| rest.rsplit_once("`, expected"));
    if let Some((key, _)) = unknown {
        return MapError::UnknownKey { key: key.escape_debug().to_string() };
    }
    MapError::Syntax {
        line: 1 + error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count()),
        message: error.message().lines().next().unwrap_or("not a map").to_owned(),
    }
}

fn id(key: &'static str, text: String) -> Result<Id, MapError> {
    text.parse().map_err(|_| MapError::BadId { key, got: text.escape_debug().to_string() })
}

impl NodeText {
    fn parse(self) -> Result<(MapNode, SlotSet), MapError> {
        let incarnation = id("incarnation", self.incarnation)?;
        let address = |text: String| {
            let got = text.escape_debug().to_string();
            text.parse().map_err(|error| MapError::BadAddress { got, why: format!("{error}") })
        };
        let addresses = self.addresses.into_iter().map(address).collect::<Result<_, _>>()?;
        let mut slots = SlotSet::NONE;
        for text in self.slots {
            let range =
                parse_range(&text).ok_or_else(|| MapError::BadSlots { got: text.escape_debug().to_string() })?;
            for slot in range {
                if !slots.insert(slot) {
                    return Err(MapError::Overlap { slot, first: incarnation, second: incarnation });
                }
            }
        }
        Ok((MapNode { addresses, incarnation }, slots))
    }
}

/// The text form, which [`FromStr`] reads.
impl fmt::Display for ShardMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = |(place, node): (usize, &MapNode)| NodeText {
            addresses: node.addresses.iter().map(ToString::to_string).collect(),
            incarnation: node.incarnation.to_string(),
            slots: self.slots_of(place).ranges().map(|range| range_text(&range)).collect(),
            arrived_by: self.arrived_by(place).map(|id| id.to_string()),
        };
        let nodes = self.nodes.iter().enumerate().map(node).collect();
        let map = MapText { cluster: self.cluster.to_string(), epoch: self.epoch, nodes };
        f.write_str(&toml::to_string(&map).map_err(|_| fmt::Error)?)
    }
}
