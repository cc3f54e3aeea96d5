//! Plots of reports, as SVG and PNG, without a library of the system's.
//!
//! ```text
//!   title
//!   panel title                                  legend
//!   y label | lines over a grid                  -- name
//!           +--------------------- x label
//!   the next panel, under it
//! ```
//!
//! [`Chart`] is what to draw, and reads from JSON; `draw.rs` and `axis.rs` are how. Linear axes begin at 0: a plot of a
//! rate that begins elsewhere shows differences that are not there. What spans decades has logarithmic ones. The font
//! travels with the program: a plot looks alike everywhere.
#![forbid(unsafe_code)]

mod axis;
mod draw;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::drawing::IntoDrawingArea;
use serde::{Deserialize, Serialize};

/// Pixels of the PNG for each of the SVG, along a side: letters stand on whole pixels, and would run together on few.
const PNG_SCALE: u32 = 2;

/// One picture: panels, one under the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// What the picture is of.
    pub title: String,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

/// One pair of axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// What the panel is of; empty where the chart's title says it.
    #[serde(default)]
    pub title: String,
    /// What goes to the right, with its unit.
    pub x: String,
    /// What goes up, with its unit.
    pub y: String,
    /// Where the x axis begins, if it is linear.
    #[serde(default)]
    pub x_from: f64,
    /// Whether the x axis is logarithmic.
    #[serde(default)]
    pub x_log: bool,
    /// Whether the y axis is logarithmic.
    #[serde(default)]
    pub y_log: bool,
    /// What is drawn, the first at the bottom.
    pub lines: Vec<Line>,
}

/// Points in the order in which they are joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Whether it is drawn in dashes: what is expected, not measured, or a second kind of thing.
    #[serde(default)]
    pub dashed: bool,
    /// Whether it is drawn in dots: a third kind of thing.
    #[serde(default)]
    pub dotted: bool,
    /// Its colour: lines of one number have the same; by default its place in the panel.
    #[serde(default)]
    pub colour: Option<usize>,
    /// `[x, y]`, none negative, and on a logarithmic axis none 0.
    pub points: Vec<[f64; 2]>,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// A panel has no point.
    #[error("panel '{panel}' of '{chart}' has nothing to draw")]
    Empty {
        /// The chart's title.
        chart: String,
        /// The panel's y label.
        panel: String,
    },
    /// A coordinate is negative, infinite or no number, or is 0 on a logarithmic axis.
    #[error("line '{line}' has the coordinate {value}, which its axis does not reach")]
    Coordinate {
        /// The line's name.
        line: String,
        /// The coordinate.
        value: f64,
    },
    /// The drawing failed.
    #[error("cannot draw: {0}")]
    Draw(String),
    /// The pixels could not be written.
    #[error("cannot encode the PNG: {0}")]
    Png(#[from] png::EncodingError),
}

impl Chart {
    /// The picture as SVG.
    ///
    /// # Errors
    /// [`PlotError`], where there is nothing to draw, or nothing that can be.
    pub fn svg(&self) -> Result<String, PlotError> {
        self.check()?;
        let mut text = String::new();
        draw::chart(self, &SVGBackend::with_string(&mut text, draw::size(self, 1)).into_drawing_area(), 1)?;
        Ok(text)
    }

    /// The picture as PNG, of 8-bit colours.
    ///
    /// # Errors
    /// [`PlotError`], where there is nothing to draw, or nothing that can be.
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        self.check()?;
        let (width, height) = draw::size(self, PNG_SCALE);
        let mut pixels = vec![0xFF; 3 * width as usize * height as usize];
        draw::chart(self, &BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area(), PNG_SCALE)?;
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(&pixels)?;
        Ok(file)
    }

    fn check(&self) -> Result<(), PlotError> {
        for panel in &self.panels {
            if panel.lines.iter().all(|line| line.points.is_empty()) {
                return Err(PlotError::Empty { chart: self.title.clone(), panel: panel.y.clone() });
            }
            let axes = [(panel.x_log, panel.x_from), (panel.y_log, 0.0)];
            let is_off = |value: f64, (log, from): (bool, f64)| {
                !value.is_finite() || value < 0.0 || if log { value == 0.0 } else { value < from }
            };
            for line in &panel.lines {
                let coordinates = line.points.iter().flat_map(|point| point.iter().copied().zip(axes));
                if let Some((value, _)) = coordinates.into_iter().find(|(value, axis)| is_off(*value, *axis)) {
                    return Err(PlotError::Coordinate { line: line.name.clone(), value });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let measured = Line {
            name: "measured".into(),
            dashed: false,
            dotted: false,
            colour: None,
            points: vec![[1.0, 6.46], [2.0, 12.29], [4.0, 22.53]],
        };
        let ideal =
            Line { name: "ideal".into(), dashed: true, points: vec![[1.0, 6.46], [4.0, 25.84]], ..measured.clone() };
        let panel = Panel {
            title: String::new(),
            x: "nodes".into(),
            y: "M op/s".into(),
            x_from: 0.0,
            x_log: false,
            y_log: false,
            lines: vec![measured, ideal],
        };
        Chart { title: "Throughput".into(), panels: vec![panel.clone(), panel] }
    }

    #[test]
    fn a_picture_has_its_words_and_a_panel_its_place() {
        let svg = chart().svg().unwrap();
        assert_eq!(svg.matches("M op/s").count(), 2);
        for word in ["Throughput", "measured", "ideal", "nodes"] {
            assert!(svg.contains(word), "{word}");
        }
    }

    #[test]
    fn a_png_has_twice_the_size_of_the_svg_and_ink_of_every_colour_used() {
        let file = chart().png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let info = reader.info();
        assert_eq!((info.width, info.height), draw::size(&chart(), PNG_SCALE));
        let has = |colour: [u8; 3]| pixels.as_chunks::<3>().0.contains(&colour);
        assert!(has(draw::COLOURS[0]) && has(draw::COLOURS[1]) && !has(draw::COLOURS[2]));
    }

    #[test]
    fn letters_are_drawn_and_not_boxes() {
        // A font that is not registered draws nothing: the same picture with other words is other pixels.
        let (one, mut other) = (chart(), chart());
        other.title = "throughput".into();
        assert_ne!(one.png().unwrap(), other.png().unwrap());
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        let mut empty = chart();
        empty.panels[1].lines.clear();
        assert!(matches!(empty.svg(), Err(PlotError::Empty { .. })));
        for value in [f64::NAN, -1.0, f64::INFINITY] {
            let mut wrong = chart();
            wrong.panels[0].lines[1].points[0][1] = value;
            assert!(matches!(wrong.png(), Err(PlotError::Coordinate { line, .. }) if line == "ideal"));
        }
    }

    #[test]
    fn a_logarithmic_axis_has_no_zero_and_a_linear_one_nothing_before_its_begin() {
        let mut log = chart();
        (log.panels[0].x_log, log.panels[0].y_log) = (true, true);
        assert!(log.svg().is_ok() && log.png().is_ok());
        log.panels[0].lines[0].points[0][1] = 0.0;
        assert!(matches!(log.svg(), Err(PlotError::Coordinate { value: 0.0, .. })));
        let mut late = chart();
        late.panels[1].x_from = 1.5;
        assert!(matches!(late.svg(), Err(PlotError::Coordinate { value: 1.0, .. })));
    }

    #[test]
    fn zeros_alone_are_a_picture() {
        let mut idle = chart();
        for line in &mut idle.panels[0].lines {
            line.points = vec![[0.0, 0.0]];
        }
        assert!(idle.svg().is_ok() && idle.png().is_ok());
    }

    #[test]
    fn a_line_of_one_point_is_seen_however_it_is_drawn() {
        let mut single = chart();
        single.panels.truncate(1);
        let circles = |chart: &Chart| chart.svg().unwrap().matches("<circle").count();
        for line in &mut single.panels[0].lines {
            line.points.truncate(1);
        }
        let (both, sample) = (circles(&single), 1);
        single.panels[0].lines.truncate(1);
        assert_eq!((both, circles(&single)), (2 + sample, 1 + sample));
    }

    #[test]
    fn a_chart_reads_from_json() {
        let text = r#"{"title": "t", "panels": [{"x": "a", "y": "b", "lines": [{"name": "n", "points": [[0, 1]]}]}]}"#;
        let chart: Chart = serde_json::from_str(text).unwrap();
        assert_eq!(chart.panels[0].lines[0].points, [[0.0, 1.0]]);
    }
}
