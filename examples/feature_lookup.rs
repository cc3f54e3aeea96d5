//! A recommender's feature store: ten thousand items scored for one request, their features fetched in one batch.
//!
//!     cargo run --release --example feature_lookup
#![forbid(unsafe_code)]

use freight::client::{Client, ClientConfig};
use freight::op::Outcome;
use freight::server::{Identity, Node, NodeConfig};
use freight::transport::Endpoint;
use std::error::Error;
use std::time::Instant;
use tokio::task::JoinSet;

const ITEMS: u32 = 100_000;
const CANDIDATES: u32 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    // A node inside this process, on any free port; `freight serve` runs the same as a process of its own.
    let node = Node::start(NodeConfig::new(vec!["tcp://127.0.0.1:0".parse()?], Identity::random()?))?;
    recommend(node.endpoints())?;
    node.drain();
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn recommend(endpoints: &[Endpoint]) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(endpoints, ClientConfig::default()).await?;

    // Load: one put an item, ten thousand to a batch.
    let began = Instant::now();
    for first in (0..ITEMS).step_by(CANDIDATES as usize) {
        let mut batch = client.batch(CANDIDATES);
        for item in first..first + CANDIDATES {
            batch.put(&key(item), &features(item))?;
        }
        let reply = client.execute(batch).await?;
        assert!(reply.outcomes().all(|outcome| outcome == Outcome::Done { version: None }));
    }
    println!("{ITEMS} items loaded in {:.1?}", began.elapsed());

    // Look up: the features of ten thousand candidates travel as one frame there and one back.
    let began = Instant::now();
    let candidates: Vec<u32> = (0..CANDIDATES).map(|i| i.wrapping_mul(2_654_435_761) % (ITEMS + 1_000)).collect();
    let mut batch = client.batch(CANDIDATES);
    for item in &candidates {
        batch.get(&key(*item))?;
    }
    let reply = client.execute(batch).await?;
    let mut best = (0.0, None);
    let mut unknown = 0;
    for (item, outcome) in candidates.iter().zip(reply.outcomes()) {
        match outcome {
            // The value lies in the frame that came back: nothing is copied to score it.
            Outcome::Value { value, .. } if score(value) > best.0 => best = (score(value), Some(item)),
            Outcome::Value { .. } => {}
            Outcome::NotFound => unknown += 1,
            other => return Err(format!("item {item}: {other:?}").into()),
        }
    }
    println!("{CANDIDATES} candidates scored in {:.1?}: best is {:?}, {unknown} are unknown", began.elapsed(), best.1);

    // Count: code written one key at a time. What many tasks ask at once shares frames by itself.
    let frames_before = client.stats().await?[0].frames;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for visitor in 0..1_000_u32 {
        let client = client.clone();
        tasks.spawn(async move { client.add(b"page views", i64::from(visitor % 3 + 1)).await });
    }
    let mut views = 0;
    while let Some(counted) = tasks.join_next().await {
        views = views.max(counted??);
    }
    let elapsed = began.elapsed();
    // The last one is that of these statistics.
    let frames = client.stats().await?[0].frames - frames_before - 1;
    println!("1000 tasks counted {views} page views in {elapsed:.1?}; frames they needed: {frames}");
    Ok(())
}

fn key(item: u32) -> [u8; 4] {
    item.to_le_bytes()
}

/// Sixteen numbers an item, made up.
fn features(item: u32) -> [u8; 64] {
    std::array::from_fn(|i| item.wrapping_mul(0x9E37_79B9).rotate_left(i as u32) as u8)
}

fn score(features: &[u8]) -> f32 {
    features.chunks(4).zip(1_u8..).map(|(feature, weight)| f32::from(feature[0]) / f32::from(weight)).sum()
}
