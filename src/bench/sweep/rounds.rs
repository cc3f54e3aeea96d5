//! Several rounds of a point as one: the host of a virtual machine takes its time back now and then, and one run of two
//! seconds that it stopped for twenty milliseconds says more of the host than of the load.
#![forbid(unsafe_code)]

use super::Point;
use crate::bench::report::Report;

impl Point {
    /// What its rounds are compared by: operations a second in a closed loop, an operation's p99 in microseconds in an
    /// open one.
    fn figure(&self) -> Option<f64> {
        let Report { throughput, latency_us, .. } = self.report.as_ref()?;
        match self.load_percent {
            None => Some(throughput.ops_per_second),
            Some(_) => Some(latency_us.operation.as_ref()?.p99),
        }
    }
}

/// Each point once, in the order in which they first come, with the report of its median round. A round that is not
/// good stands for all.
#[must_use]
pub fn medians(measured: &[Point]) -> Vec<Point> {
    let mut points: Vec<Vec<&Point>> = Vec::new();
    let name = |point: &Point| (point.transport, point.batch, point.workers, point.load_percent);
    for point in measured {
        match points.iter_mut().find(|rounds| name(rounds[0]) == name(point)) {
            Some(rounds) => rounds.push(point),
            None => points.push(vec![point]),
        }
    }
    points.into_iter().map(median).collect()
}

fn median(mut rounds: Vec<&Point>) -> Point {
    let order = |one: &Option<f64>, other: &Option<f64>| one.partial_cmp(other).expect("figures are numbers");
    rounds.sort_by(|one, other| order(&one.figure(), &other.figure()));
    let figures: Vec<f64> = rounds.iter().filter_map(|point| point.figure()).collect();
    let at = rounds.iter().position(|point| !point.is_good()).unwrap_or(middle(rounds.len()));
    Point { rounds: if figures.len() > 1 { figures } else { Vec::new() }, ..rounds[at].clone() }
}

/// Where the median of so many stands among them in order, or the lower of the two in the middle.
pub(super) fn middle(rounds: usize) -> usize {
    (rounds - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Scheme;

    fn failed(batch: u32, error: &str) -> Point {
        Point {
            transport: Scheme::Tcp,
            batch,
            workers: Some(1),
            load_percent: None,
            rounds: Vec::new(),
            report: None,
            error: Some(error.to_owned()),
        }
    }

    #[test]
    fn a_point_that_fails_in_each_round_is_told_once() {
        let points = medians(&[failed(1, "first"), failed(2, "other"), failed(1, "second")]);
        let told: Vec<_> = points.iter().map(|point| (point.batch, point.error.as_deref())).collect();
        assert_eq!(told, [(1, Some("first")), (2, Some("other"))]);
    }
}
