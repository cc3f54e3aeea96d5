//! What a sweep's points look like: throughput by batch size, latency by load, transports side by side.
#![forbid(unsafe_code)]

use crate::bench::report::Report;
use crate::bench::sweep::Point;
use crate::bench::text::{counted, grouped, what_ran};
use crate::plot::{Chart, Line, Panel};
use crate::transport::Scheme;
use std::collections::BTreeMap;

const PER_MILLION: f64 = 1e-6;

/// Every chart that there are points for, by name.
pub(super) fn charts(points: &[Point]) -> BTreeMap<String, Chart> {
    let measured: Vec<(&Point, &Report)> =
        points.iter().filter_map(|point| Some((point, point.report.as_ref()?))).collect();
    let Some((_, first)) = measured.first() else { return BTreeMap::new() };
    let of = what_ran(&first.config);
    let (open, closed): (Vec<_>, Vec<_>) = measured.into_iter().partition(|(point, _)| point.load_percent.is_some());
    let all = [
        ("throughput", format!("Throughput: {of}"), throughput(&closed)),
        ("latency", format!("Latency under load: {of}"), latency(&open)),
        ("transports", format!("Transports: {of}"), transports(&closed)),
    ];
    let drawn = all.into_iter().filter(|(_, _, panels)| !panels.is_empty());
    drawn.map(|(name, title, panels)| (name.to_owned(), Chart { title, panels })).collect()
}

type Measured<'a> = (&'a Point, &'a Report);

/// A panel for each number of workers, with the wire limit above each line.
fn throughput(points: &[Measured<'_>]) -> Vec<Panel> {
    let workers = distinct(points, |point| point.workers);
    let panel = |workers: Option<u32>| {
        let points = these(points, |point| point.workers == workers);
        let lines = each_transport(&points, |line, transport, points| {
            let limit = |report: &Report| Some(report.wire_limit.as_ref()?.ops_per_second * PER_MILLION);
            vec![
                line(transport, by_batch(points, |report| Some(report.throughput.ops_per_second * PER_MILLION))),
                Line { dashed: true, ..line(&format!("{transport}, its wire limit"), by_batch(points, limit)) },
            ]
        });
        let title = counted(workers.unwrap_or(0).into(), "worker");
        Panel { title, y: "M operations a second".to_owned(), y_log: true, ..against_batches(lines) }
    };
    drawable(workers.into_iter().map(panel))
}

/// A panel for each batch size.
fn latency(points: &[Measured<'_>]) -> Vec<Panel> {
    let batches = distinct(points, |point| point.batch);
    let panel = |batch: u32| {
        let points = these(points, |point| point.batch == batch);
        let lines = each_transport(&points, |line, transport, points| {
            let at = |pick: fn(&Report) -> Option<f64>| {
                let at = |(point, report): &Measured<'_>| Some([f64::from(point.load_percent?), pick(report)?]);
                points.iter().filter_map(at).collect()
            };
            vec![
                line(&format!("{transport}, p50"), at(|report| Some(report.latency_us.operation.as_ref()?.p50))),
                Line {
                    dashed: true,
                    ..line(&format!("{transport}, p99"), at(|report| Some(report.latency_us.operation.as_ref()?.p99)))
                },
                Line {
                    dotted: true,
                    ..line(
                        &format!("{transport}, p99.9"),
                        at(|report| Some(report.latency_us.operation.as_ref()?.p999)),
                    )
                },
            ]
        });
        let least = points.iter().filter_map(|(point, _)| point.load_percent).min().unwrap_or(0);
        Panel {
            title: format!("batches of {}", grouped(batch.into())),
            x: "load, % of the transport's best rate in a closed loop".to_owned(),
            y: "an operation's latency, us".to_owned(),
            x_from: f64::from(least.saturating_sub(1) / 10 * 10),
            x_log: false,
            y_log: true,
            lines,
        }
    };
    drawable(batches.into_iter().map(panel))
}

/// Every figure by transport, where each had the most workers.
fn transports(points: &[Measured<'_>]) -> Vec<Panel> {
    let most = points.iter().filter_map(|(point, _)| point.workers).max();
    let points = these(points, |point| point.workers == most);
    let one = |pick: fn(&Report) -> Option<f64>| {
        each_transport(&points, |line, transport, points| vec![line(transport, by_batch(points, pick))])
    };
    let two = |names: [&str; 2], picks: [fn(&Report) -> Option<f64>; 2]| {
        each_transport(&points, |line, transport, points| {
            let named = |which: usize| line(&format!("{transport}, {}", names[which]), by_batch(points, picks[which]));
            vec![named(0), Line { dashed: true, ..named(1) }]
        })
    };
    let workers = counted(most.unwrap_or(0).into(), "worker");
    let rates = one(|report| Some(report.throughput.ops_per_second * PER_MILLION));
    let shares = one(|report| Some(report.wire_limit.as_ref()?.share * 100.0));
    let latencies =
        two(["p50", "p99"], [|report| Some(report.latency_us.batch.p50), |report| Some(report.latency_us.batch.p99)]);
    let cpu =
        two(["node", "client"], [|report| report.cpu_ns_per_op.server, |report| Some(report.cpu_ns_per_op.client)]);
    drawable(
        [
            Panel { title: workers, y: "M operations a second".to_owned(), ..against_batches(rates) },
            Panel { y: "a batch's latency, us".to_owned(), y_log: true, ..against_batches(latencies) },
            Panel { y: "CPU an operation, ns".to_owned(), y_log: true, ..against_batches(cpu) },
            Panel { y: "share of the wire limit, %".to_owned(), ..against_batches(shares) },
        ]
        .into_iter(),
    )
}

fn against_batches(lines: Vec<Line>) -> Panel {
    let x = "operations a batch".to_owned();
    Panel { title: String::new(), x, y: String::new(), x_from: 0.0, x_log: true, y_log: false, lines }
}

/// Lines of one colour a transport, wherever it stands.
fn each_transport(
    points: &[Measured<'_>],
    lines: impl Fn(&dyn Fn(&str, Vec<[f64; 2]>) -> Line, &str, &[Measured<'_>]) -> Vec<Line>,
) -> Vec<Line> {
    let mut all = Vec::new();
    for transport in distinct(points, |point| point.transport) {
        let line = |name: &str, points| Line {
            name: name.to_owned(),
            dashed: false,
            dotted: false,
            colour: Some(colour(transport)),
            points,
        };
        all.extend(lines(&line, &transport.to_string(), &these(points, |point| point.transport == transport)));
    }
    all.retain(|line| !line.points.is_empty());
    all
}

fn colour(transport: Scheme) -> usize {
    match transport {
        Scheme::Tcp => 0,
        Scheme::Shm => 1,
        Scheme::Rdma => 2,
        Scheme::Sim => 3,
        Scheme::Tls => 4,
    }
}

fn by_batch(points: &[Measured<'_>], pick: impl Fn(&Report) -> Option<f64>) -> Vec<[f64; 2]> {
    let at = |(point, report): &Measured<'_>| Some([f64::from(point.batch), pick(report)?]);
    let mut line: Vec<[f64; 2]> = points.iter().filter_map(at).collect();
    line.sort_by(|one, other| one[0].total_cmp(&other[0]));
    line
}

fn these<'a>(points: &[Measured<'a>], wanted: impl Fn(&Point) -> bool) -> Vec<Measured<'a>> {
    points.iter().copied().filter(|(point, _)| wanted(point)).collect()
}

/// The values of `pick`, each once, as they come.
fn distinct<T: PartialEq>(points: &[Measured<'_>], pick: impl Fn(&Point) -> T) -> Vec<T> {
    let mut values = Vec::new();
    for value in points.iter().map(|(point, _)| pick(point)) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

/// A rate of nothing has no place on a logarithmic axis, and a panel without a line none in a chart.
fn drawable(panels: impl Iterator<Item = Panel>) -> Vec<Panel> {
    let clean = panels.map(|mut panel| {
        for line in &mut panel.lines {
            line.points.retain(|[_, y]| !panel.y_log || *y > 0.0);
        }
        panel.lines.retain(|line| !line.points.is_empty());
        panel
    });
    clean.filter(|panel| !panel.lines.is_empty()).collect()
}
