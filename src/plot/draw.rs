//! A [`Chart`] on any of plotters' backends.
#![forbid(unsafe_code)]

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
    let most = |axis: usize| {
        let all = panel.lines.iter().flat_map(|line| &line.points).map(|point| point[axis]);
        Some(all.fold(0.0, f64::max)).filter(|most| *most > 0.0).unwrap_or(1.0)
    };
    let mut builder = ChartBuilder::on(area);
    builder.margin(10 * scale).margin_right(16 * scale).x_label_area_size(46 * scale).y_label_area_size(74 * scale);
    if !panel.title.is_empty() {
        builder.caption(&panel.title, text(scale * (TEXT + 1)));
    }
    let mut context = builder.build_cartesian_2d(0.0..most(0) * 1.04, 0.0..most(1) * 1.08).map_err(failed)?;
    let mut mesh = context.configure_mesh();
    mesh.x_desc(&panel.x)
        .y_desc(&panel.y)
        .x_labels(ticks(panel, most(0)))
        .y_labels(7)
        .axis_desc_style(text(scale * TEXT))
        .label_style(text(scale * (TEXT - 1)));
    mesh.x_label_formatter(&|x| number(*x)).y_label_formatter(&|y| number(*y));
    mesh.bold_line_style(RGBColor(0xDD, 0xDD, 0xDD)).light_line_style(TRANSPARENT).draw().map_err(failed)?;
    for (place, line) in panel.lines.iter().enumerate() {
        let style = stroke(line, place, scale);
        let points = line.points.iter().map(|[x, y]| (*x, *y));
        if line.dashed {
            context.draw_series(DashedLineSeries::new(points.clone(), 7 * scale, 5 * scale, style)).map_err(failed)?;
        } else {
            context.draw_series(LineSeries::new(points.clone(), style)).map_err(failed)?;
        }
        if line.points.len() <= MARKED_POINTS_MAX && !line.dashed {
            context.draw_series(points.map(|point| Circle::new(point, 4 * scale, style.filled()))).map_err(failed)?;
        }
    }
    Ok(())
}

fn legend<B: DrawingBackend>(panel: &Panel, area: &Area<B>, scale: u32) -> Result<(), PlotError> {
    for (place, line) in panel.lines.iter().enumerate() {
        let at = |x: u32| ((scale * x) as i32, (scale * LEGEND_ROW * (place as u32 + 2)) as i32);
        let style = stroke(line, place, scale);
        let sample: &[(u32, u32)] = if line.dashed { &[(4, 13), (19, 28)] } else { &[(4, 28)] };
        for (from, to) in sample {
            area.draw(&PathElement::new(vec![at(*from), at(*to)], style)).map_err(failed)?;
        }
        let name = text(scale * (TEXT - 1)).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(line.name.as_str(), at(36), name)).map_err(failed)?;
    }
    Ok(())
}

/// Ticks of the x axis, at most: whole numbers have none between them.
fn ticks(panel: &Panel, most: f64) -> usize {
    let whole = panel.lines.iter().flat_map(|line| &line.points).all(|[x, _]| x.fract() == 0.0);
    if whole && most < 9.0 { most as usize + 1 } else { 9 }
}

fn stroke(line: &Line, place: usize, scale: u32) -> ShapeStyle {
    let [red, green, blue] = COLOURS[line.colour.unwrap_or(place) % COLOURS.len()];
    RGBColor(red, green, blue).stroke_width(2 * scale)
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

/// As short as it can be read: no zeros behind the point, none of the noise of binary fractions.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError::Draw(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [(0.0, "0"), (0.1 + 0.2, "0.3"), (25.0, "25"), (12.5, "12.5"), (1000.0, "1000")] {
            assert_eq!(number(value), expected);
        }
    }
}
