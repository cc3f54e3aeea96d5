//! An axis of a panel: where each value lies, and which values are named.
//!
//! A linear axis begins at 0, or where the panel says; a logarithmic one just before its least value.
#![forbid(unsafe_code)]

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Decades up to which a logarithmic axis names twos and fives too.
const FINE_DECADES_MAX: f64 = 2.2;

/// Free space behind the largest value, and on a logarithmic axis before the least, as a share of the axis.
const MARGIN: f64 = 0.05;

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    log: bool,
    from: f64,
    to: f64,
    named: Vec<f64>,
    /// Values of thin lines, which have no name.
    thin: Vec<f64>,
}

impl Axis {
    /// An axis from `from` on that shows `values` and names about `names` of them, whole ones where all are whole.
    pub(super) fn linear(values: &[f64], from: f64, names: f64) -> Self {
        let most = values.iter().copied().fold(from, f64::max);
        let most = if most > from { most } else { from + 1.0 };
        let step = nice_step((most - from) / names);
        let whole = values.iter().all(|value| value.fract() == 0.0);
        let step = if whole { step.max(1.0) } else { step };
        let to = most + MARGIN * (most - from);
        // A step too much on either side for what rounding takes.
        let steps = (from / step).floor() as i64..=(to / step).ceil() as i64;
        let named = steps.map(|i| i as f64 * step).filter(|value| (from..=to).contains(value));
        Self { log: false, from, to, named: named.collect(), thin: Vec::new() }
    }

    /// An axis that shows `values`, each above 0, by their logarithms.
    pub(super) fn logarithmic(values: &[f64]) -> Self {
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        // One value alone still has neighbours.
        let margin = if most > least { (most / least).powf(MARGIN) } else { 3.0 };
        let (from, to) = (least / margin, most * margin);
        let names: &[f64] = if (to / from).log10() <= FINE_DECADES_MAX { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let multiples = |of: &[f64]| -> Vec<f64> {
            let decades = from.log10().floor() as i32..=to.log10().floor() as i32;
            let all = decades.flat_map(|decade| of.iter().map(move |i| i * 10_f64.powi(decade)));
            all.filter(|value| (from..=to).contains(value)).collect()
        };
        let thin = multiples(&[2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        Self { log: true, from, to, named: multiples(names), thin }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let share = if self.log {
            (value / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { self.thin.clone() } else { self.named.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        number(*value)
    }
}

/// The least of 1, 2 and 5 times a power of ten that is no less than `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|step| *step >= least).unwrap_or(10.0 * power)
}

/// As short as it can be read: thousands apart, no zeros behind the point, none of the noise of binary fractions.
fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: &Axis) -> Vec<String> {
        axis.named.iter().map(|value| axis.format_ext(value)).collect()
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [(0.0, "0"), (0.1 + 0.2, "0.3"), (25.0, "25"), (12.5, "12.5"), (0.001, "0.001")] {
            assert_eq!(number(value), expected);
        }
        for (value, expected) in [(999.0, "999"), (1000.0, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn a_linear_axis_begins_at_zero_or_where_it_is_told_to() {
        assert_eq!(names(&Axis::linear(&[3.0, 22.5], 0.0, 7.0)), ["0", "5", "10", "15", "20"]);
        assert_eq!(names(&Axis::linear(&[50.0, 95.0], 40.0, 6.0)), ["40", "50", "60", "70", "80", "90"]);
        assert_eq!(names(&Axis::linear(&[0.05, 0.2], 0.0, 4.0)), ["0", "0.05", "0.1", "0.15", "0.2"]);
    }

    #[test]
    fn there_is_nothing_between_whole_numbers() {
        assert_eq!(names(&Axis::linear(&[1.0, 2.0, 3.0], 0.0, 9.0)), ["0", "1", "2", "3"]);
    }

    #[test]
    fn a_logarithmic_axis_names_powers_of_ten_and_over_few_decades_more() {
        let wide = Axis::logarithmic(&[1.0, 10_000.0]);
        assert_eq!(names(&wide), ["1", "10", "100", "1,000", "10,000"]);
        assert!(wide.from < 1.0 && wide.to > 10_000.0);
        assert_eq!(names(&Axis::logarithmic(&[30.0, 900.0])), ["50", "100", "200", "500", "1,000"]);
        assert_eq!(names(&Axis::logarithmic(&[0.05, 60.0])), ["0.1", "1", "10"]);
        assert_eq!([1.0, 10.0, 100.0].map(|value| Axis::logarithmic(&[1.0, 100.0]).map(&value, (100, 0))), [95, 50, 5]);
    }

    #[test]
    fn one_value_alone_has_an_axis() {
        assert_eq!(names(&Axis::logarithmic(&[100.0])), ["50", "100", "200"]);
        assert_eq!(names(&Axis::linear(&[0.0], 0.0, 5.0)), ["0", "1"]);
    }
}
