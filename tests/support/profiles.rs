//! What stands in profiles: names of functions, and which of them were on the processor themselves.
#![forbid(unsafe_code)]

use pprof::protos::{Message, Profile};
use std::io::Read;
use std::path::Path;
use std::{fs, io};

/// Whether a function is one of this crate's: defined in the sources, by a name that nobody else is likely to use.
pub(crate) fn is_ours(name: &str) -> bool {
    let path = name.split('<').next().unwrap_or(name);
    let bare = path.rsplit("::").next().unwrap_or(path);
    let definition = format!("fn {bare}");
    let is_defined = |text: &str| {
        text.match_indices(&definition).any(|(at, found)| text[at + found.len()..].starts_with(['(', '<']))
    };
    bare.len() > 6
        && is_in_sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &is_defined).expect("sources")
}

fn is_in_sources(folder: &Path, found: &impl Fn(&str) -> bool) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        if path.is_dir() && is_in_sources(&path, found)? || is_source && found(&fs::read_to_string(&path)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Names of a flamegraph's functions, and of those that have samples which no function above them has.
pub(crate) fn of_flamegraph(svg: &str) -> (Vec<String>, Vec<String>) {
    let number = |text: &str, from: &str| -> i64 {
        let digits = text.split(from).nth(1).and_then(|rest| rest.split('"').next()).expect("an attribute");
        digits.parse().expect("a number")
    };
    let boxes = svg.split("<g><title>").skip(1).map(|text| {
        let name = text.split(" (").next().expect("a name").replace("&lt;", "<").replace("&gt;", ">");
        (name, number(text, " y=\""), number(text, "fg:x=\""), number(text, "fg:w=\""))
    });
    let boxes: Vec<_> = boxes.collect();
    // Sixteen lines of pixels a function.
    let above = |y: i64, x: i64, w: i64| {
        let over = boxes.iter().filter(move |(_, other, from, _)| *other == y - 16 && (x..x + w).contains(from));
        over.map(|(.., w)| w).sum::<i64>()
    };
    let leaves = boxes.iter().filter(|(_, y, x, w)| above(*y, *x, *w) < *w);
    (boxes.iter().map(|(name, ..)| name.clone()).collect(), leaves.map(|(name, ..)| name.clone()).collect())
}

/// Names of the functions of a `.pb.gz`, and of those that were on the processor in its samples.
pub(crate) fn of_samples(gzip: &[u8]) -> (Vec<String>, Vec<String>) {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut bytes).expect("gzip");
    let profile = Profile::decode(&bytes[..]).expect("a profile");
    let location = |id: u64| profile.location.iter().find(|location| location.id == id).expect("a location");
    let function = |id: u64| profile.function.iter().find(|function| function.id == id).expect("a function");
    let name = |index: i64| profile.string_table[index as usize].clone();
    let leaf = |locations: &[u64]| Some(name(function(location(*locations.first()?).line.first()?.function_id).name));
    let leaves = profile.sample.iter().filter_map(|sample| leaf(&sample.location_id)).collect();
    (profile.function.iter().map(|function| name(function.name)).collect(), leaves)
}
