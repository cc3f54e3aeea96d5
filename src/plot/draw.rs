//! A [`Chart`] on any of plotters' backends.
#![forbid(unsafe_code)]

use super::axis::Axis;
use super::{Chart, Line, Panel, PlotError};
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Of lines, in turn; told apart by eyes of every kind (Okabe and Ito).
pub(super) const COLOURS: [[u8; 3]; 8] = [
    [0x00, 0x72, 0xB2],
    [0xD5, 0x5E, 0x00],
    [0x00, 0x9E, 0x73],
    [0xCC, 0x79, 0xA7],
    [0xE6, 0x9F, 0x00],
    [0x56, 0xB4, 0xE9],
    [0x00, 0x00, 0x00],
    [0x99, 0x99, 0x33],
];

static FONT: &[u8] = include_bytes!("DejaVuSans.ttf");

/// Sizes in pixels, before they are scaled.
const WIDTH: u32 = 1000;
const TITLE_HEIGHT: u32 = 44;
const PANEL_HEIGHT_MIN: u32 = 300;
const LEGEND_WIDTH: u32 = 210;
const LEGEND_ROW: u32 = 20;
const TEXT: u32 = 15;
const SAMPLE: u32 = 24;

/// Names along a linear axis, about.
const X_NAMES: f64 = 9.0;
const Y_NAMES: f64 = 6.0;

/// Points are marked where they are few enough to be looked at one by one.
const MARKED_POINTS_MAX: usize = 16;

/// Width and height of the picture, in pixels.
pub(super) fn size(chart: &Chart, scale: u32) -> (u32, u32) {
    (scale * WIDTH, scale * (TITLE_HEIGHT + chart.panels.iter().map(panel_height).sum::<u32>()))
}

fn panel_height(panel: &Panel) -> u32 {
    PANEL_HEIGHT_MIN.max(LEGEND_ROW * (panel.lines.len() as u32 + 4))
}

type Area<B> = DrawingArea<B, plotters::coord::Shift>;

/// Draws all of it, each length `scale` times.
pub(super) fn chart<B: DrawingBackend>(chart: &Chart, root: &Area<B>, scale: u32) -> Result<(), PlotError> {
    register_font("sans-serif", FontStyle::Normal, FONT).map_err(|_| PlotError::Draw("the font is broken".into()))?;
    root.fill(&WHITE).map_err(failed)?;
    let title = text(scale * (TEXT + 5)).pos(Pos::new(HPos::Left, VPos::Center));
    root.draw(&Text::new(chart.title.as_str(), ((16 * scale) as i32, (scale * TITLE_HEIGHT / 2) as i32), title))
        .map_err(failed)?;
    let (_, mut rest) = root.split_vertically(scale * TITLE_HEIGHT);
    for panel in &chart.panels {
        let (area, below) = rest.split_vertically(scale * panel_height(panel));
        rest = below;
        let (plot, legend_area) = area.split_horizontally(scale * (WIDTH - LEGEND_WIDTH));
        axes(panel, &plot, scale)?;
        legend(panel, &legend_area, scale)?;
    }
    root.present().map_err(failed)
}

fn axes<B: DrawingBackend>(panel: &Panel, area: &Area<B>, scale: u32) -> Result<(), PlotError> {
    let values = |axis: usize| -> Vec<f64> {
        panel.lines.iter().flat_map(|line| &line.points).map(|point| point[axis]).collect()
    };
    let axis = |log: bool, at: usize, from: f64, names: f64| {
        if log { Axis::logarithmic(&values(at)) } else { Axis::linear(&values(at), from, names) }
    };
    let (x, y) = (axis(panel.x_log, 0, panel.x_from, X_NAMES), axis(panel.y_log, 1, 0.0, Y_NAMES));
    let mut builder = ChartBuilder::on(area);
    builder.margin(10 * scale).margin_right(16 * scale).x_label_area_size(46 * scale).y_label_area_size(88 * scale);
    if !panel.title.is_empty() {
        builder.caption(&panel.title, text(scale * (TEXT + 1)));
    }
    let mut context = builder.build_cartesian_2d(x, y).map_err(failed)?;
    let mut mesh = context.configure_mesh();
    mesh.x_desc(&panel.x).y_desc(&panel.y).axis_desc_style(text(scale * TEXT)).label_style(text(scale * (TEXT - 1)));
    mesh.set_all_tick_mark_size(7 * scale)
        .bold_line_style(grey(0xD4))
        .light_line_style(grey(0xF0))
        .draw()
        .map_err(failed)?;
    for (place, line) in panel.lines.iter().enumerate() {
        let style = stroke(line, place, scale);
        let points = line.points.iter().map(|[x, y]| (*x, *y));
        match dashes(line) {
            Some((long, apart)) => {
                let broken = DashedLineSeries::new(points.clone(), long * scale, apart * scale, style);
                context.draw_series(broken).map_err(failed)?;
            }
            None => _ = context.draw_series(LineSeries::new(points.clone(), style)).map_err(failed)?,
        }
        let marked = match dashes(line) {
            None => (line.points.len() <= MARKED_POINTS_MAX).then(|| style.filled()),
            // No stroke would show it.
            Some(_) => (line.points.len() == 1).then_some(style),
        };
        if let Some(style) = marked {
            context.draw_series(points.map(|point| Circle::new(point, 4 * scale, style))).map_err(failed)?;
        }
    }
    Ok(())
}

fn legend<B: DrawingBackend>(panel: &Panel, area: &Area<B>, scale: u32) -> Result<(), PlotError> {
    for (place, line) in panel.lines.iter().enumerate() {
        let at = |x: u32| ((scale * x) as i32, (scale * LEGEND_ROW * (place as u32 + 2)) as i32);
        let style = stroke(line, place, scale);
        let (long, apart) = dashes(line).unwrap_or((SAMPLE, 1));
        for from in (4..4 + SAMPLE).step_by((long + apart) as usize) {
            area.draw(&PathElement::new(vec![at(from), at((from + long).min(4 + SAMPLE))], style)).map_err(failed)?;
        }
        if dashes(line).is_none() {
            area.draw(&Circle::new(at(4 + SAMPLE / 2), 4 * scale, style.filled())).map_err(failed)?;
        }
        let name = text(scale * (TEXT - 1)).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(line.name.as_str(), at(36), name)).map_err(failed)?;
    }
    Ok(())
}

/// Lengths of strokes and of the gaps between them, where a line is broken.
fn dashes(line: &Line) -> Option<(u32, u32)> {
    match (line.dashed, line.dotted) {
        (_, true) => Some((2, 4)),
        (true, false) => Some((8, 5)),
        (false, false) => None,
    }
}

fn stroke(line: &Line, place: usize, scale: u32) -> ShapeStyle {
    let [red, green, blue] = COLOURS[line.colour.unwrap_or(place) % COLOURS.len()];
    RGBColor(red, green, blue).stroke_width(2 * scale)
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

fn grey(light: u8) -> RGBColor {
    RGBColor(light, light, light)
}

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError::Draw(error.to_string())
}
