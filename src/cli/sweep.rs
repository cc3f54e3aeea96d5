//! `freight bench sweep`: points one after the other, a table, JSON and plots of them.
#![forbid(unsafe_code)]

use super::bench::{OwnNode, announce, node_cores, node_flags};
use super::serve::NodeArgs;
use super::tls::TlsArgs;
use super::{
    CommandResult, INTERRUPTED, NOT_AS_EXPECTED, check_cores, check_writable, plot, print, runtime, sweep_charts,
};
use crate::bench::Target;
use crate::bench::config::BenchConfig;
use crate::bench::sweep::config::SweepConfig;
use crate::bench::sweep::{Point, Sweep, medians, tables};
use crate::bench::via::Via;
use crate::plot::Chart;
use crate::transport::Scheme;
use serde::Serialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, clap::Args)]
pub(super) struct SweepArgs {
    /// Where sweep.json and the plots go; made where it is missing
    #[arg(long, value_name = "FOLDER", default_value = "sweep")]
    folder: PathBuf,
    #[command(flatten)]
    sweep: SweepConfig,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    node: NodeArgs,
}

/// What is written as JSON; `freight plot` draws its charts again.
#[derive(Debug, Serialize)]
struct SweepReport<'a> {
    report_version: u32,
    interrupted: bool,
    points: &'a [Point],
    charts: BTreeMap<String, Chart>,
}

pub(super) fn run(args: SweepArgs) -> CommandResult {
    check_cores(args.sweep.every().cores.as_ref())?;
    let mut config = args.sweep.resolved();
    config.check()?;
    if config.transports.contains(&Scheme::Tls) {
        config.every_mut().tls = args.tls.both()?;
    }
    let folder = args.folder;
    let runtime = runtime()?;
    let _entered = runtime.enter();
    // Before anything runs, so that no interrupt finds the default action.
    let interrupt = signal(SignalKind::interrupt())?;
    let reached = BenchConfig {
        transports: config.transports.iter().copied().map(Via::from).collect(),
        ..config.every().clone()
    };
    let mut own = OwnNode::start(&reached, &args.node)?;
    // A sweep that cannot begin leaves no folder behind.
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    check_writable(&folder.join(JSON))?;
    config.every_mut().node = node_flags(&args.node, true)?;
    let cores = node_cores(config.every());
    let at = |door| Target { endpoints: vec![door], node_cores: Some(cores.clone()) };
    let targets: Vec<Target> = own.doors.iter().cloned().map(at).collect();
    targets.iter().for_each(announce);
    let points = runtime.block_on(measure(&config, targets, interrupt, |points| {
        own.leave_no_socket();
        tell(points, &folder, true)
    }))?;
    tell(&points, &folder, false)?;
    own.node.drain();
    Ok(if points.iter().all(Point::is_good) { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_EXPECTED) })
}

/// Every point in turn, and their median rounds; an interrupt ends the process, after `keep` was given what was
/// measured until then.
async fn measure(
    config: &SweepConfig,
    targets: Vec<Target>,
    mut interrupt: Signal,
    mut keep: impl FnMut(&[Point]) -> Result<(), Box<dyn Error>>,
) -> Result<Vec<Point>, Box<dyn Error>> {
    let mut sweep = Sweep::start(config, targets).await?;
    let steps = config.steps();
    let mut points = Vec::with_capacity(steps.len());
    for step in &steps {
        let point = {
            let mut measuring = pin!(sweep.measure(*step, &points));
            tokio::select! {
                point = &mut measuring => point,
                _ = interrupt.recv() => {
                    keep(&medians(&points))?;
                    eprintln!("freight: interrupted, {} of {} runs measured", points.len(), steps.len());
                    // At once: whoever interrupts does not wait until client threads have drawn their pools.
                    std::process::exit(INTERRUPTED.into())
                }
            }
        };
        points.push(point);
    }
    Ok(medians(&points))
}

const JSON: &str = "sweep.json";

/// Prints the points, and writes them and their plots.
fn tell(points: &[Point], folder: &Path, interrupted: bool) -> Result<(), Box<dyn Error>> {
    print(tables(points))?;
    let charts = sweep_charts::charts(points);
    let report = SweepReport { report_version: 1, interrupted, points, charts };
    let path = folder.join(JSON);
    let written = fs::write(&path, serde_json::to_string_pretty(&report)? + "\n");
    written.map_err(|error| format!("{}: {error}", path.display()))?;
    print(path.display())?;
    plot::draw(&report.charts, folder)
}
