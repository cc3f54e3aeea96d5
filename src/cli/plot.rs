//! `freight plot`: the charts in a report, as pictures.
#![forbid(unsafe_code)]

use super::{CommandResult, print};
use crate::plot::Chart;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct PlotArgs {
    /// A report whose `charts` are drawn, like the report.json of scripts/cluster or a sweep.json
    #[arg(value_name = "FILE")]
    report: PathBuf,
    /// Where NAME.svg and NAME.png of each chart go [default: beside the report]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// What is read of a report.
#[derive(Debug, serde::Deserialize)]
struct Charts {
    charts: BTreeMap<String, Chart>,
}

pub(super) fn run(args: &PlotArgs) -> CommandResult {
    let report = args.report.display();
    let text = fs::read_to_string(&args.report).map_err(|error| format!("{report}: {error}"))?;
    let Charts { charts } =
        serde_json::from_str(&text).map_err(|error| format!("{report}: no report with charts: {error}"))?;
    let folder = args.folder.as_deref().or(args.report.parent()).unwrap_or(Path::new("."));
    if let Some(name) = charts.keys().find(|name| name.contains('/')) {
        return Err(format!("{report}: the chart's name '{name}' is none of a file").into());
    }
    draw(&charts, folder)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes each chart as NAME.svg and NAME.png, and says so.
pub(super) fn draw(charts: &BTreeMap<String, Chart>, folder: &Path) -> Result<(), Box<dyn Error>> {
    for (name, chart) in charts {
        for (extension, picture) in [("svg", chart.svg()?.into_bytes()), ("png", chart.png()?)] {
            let path = folder.join(format!("{name}.{extension}"));
            fs::write(&path, picture).map_err(|error| format!("{}: {error}", path.display()))?;
            print(path.display())?;
        }
    }
    Ok(())
}
