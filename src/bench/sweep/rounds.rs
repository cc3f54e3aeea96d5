//! Several rounds of a point as one: the host of a virtual machine takes its time back now and then, and one run of a
//! second that it stopped for twenty milliseconds says more of the host than of the load.
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
    let figure = |point: &Point| point.figure().unwrap_or(f64::MIN);
    rounds.sort_by(|one, other| figure(one).total_cmp(&figure(other)));
    let figures: Vec<f64> = rounds.iter().filter_map(|point| point.figure()).collect();
    let good: Vec<bool> = rounds.iter().map(|point| point.is_good()).collect();
    let told = rounds[told(&good, rounds[0].load_percent.is_some())];
    Point { rounds: if rounds.len() > 1 { figures } else { Vec::new() }, ..told.clone() }
}

/// Which of the rounds, in ascending order of their figures, is told: one that is not good, else the median, of two in
/// the middle the worse.
fn told(good: &[bool], less_is_better: bool) -> usize {
    let bad = good.iter().position(|good| !good);
    bad.unwrap_or(if less_is_better { good.len() / 2 } else { (good.len() - 1) / 2 })
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

    #[test]
    fn the_median_is_told_unless_a_round_is_not_good() {
        assert_eq!([1, 2, 3, 4, 7].map(|rounds| told(&vec![true; rounds], false)), [0, 0, 1, 1, 3]);
        assert_eq!([1, 2, 3, 4, 7].map(|rounds| told(&vec![true; rounds], true)), [0, 1, 1, 2, 3]);
        for bad in 0..3 {
            let good: Vec<bool> = (0..3).map(|round| round != bad).collect();
            assert_eq!([told(&good, true), told(&good, false)], [bad; 2]);
        }
    }
}
