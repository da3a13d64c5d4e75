//! The report's plots, as SVG.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;

use super::Report;
use crate::cases::{bans, rules, sets};
use crate::contender::Heat;
use crate::wire::goodput::Clients;

/// One curve: its name, and points of size and value.
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A plot over sizes, on a logarithmic axis.
pub struct Plot<'a> {
    pub title: &'a str,
    pub across: &'a str,
    pub up: &'a str,
    /// Whether the values go over orders of magnitude.
    pub logarithmic: bool,
    pub curves: Vec<Curve>,
}

const SIZE: (u32, u32) = (820, 440);
/// Told apart on white, and by people who do not see all colours (Okabe and Ito, "Color universal
/// design", 2008).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(120, 120, 120),
];

/// Draws what was measured; what was not is left as it was.
pub fn draw(report: &Report, folder: &Path) -> Result<()> {
    let (mut over_rules, mut over_prefixes) = (Vec::new(), Vec::new());
    for (heat, v6, name) in [
        (Heat::Hot, false, "IPv4, hot"),
        (Heat::Hot, true, "IPv6, hot"),
        (Heat::Cold, false, "IPv4, every source new"),
        (Heat::Cold, true, "IPv6, every source new"),
    ] {
        let curve = |sizes: &[usize], case: &str, subject: fn(usize) -> String| {
            let point = |&size: &usize| {
                let line = report.line(&subject(size), case, heat, v6)?;
                Some((size as f64, line.over_empty_ns as f64))
            };
            sizes.iter().filter_map(point).collect::<Vec<_>>()
        };
        let named = |kind: &str, points| Curve {
            name: format!("{kind}{name}"),
            points,
        };
        over_rules.push(named(
            "",
            curve(&rules::COUNTS, rules::PASS, rules::subject),
        ));
        over_prefixes.push(named(
            "set, ",
            curve(&sets::COUNTS, rules::DEFAULT, sets::subject),
        ));
        over_prefixes.push(named(
            "bans, ",
            curve(&bans::COUNTS[1..], rules::PASS, bans::subject),
        ));
    }
    let mut rates: Vec<Curve> = Vec::new();
    for line in &report.throughput {
        // The sweep over rules, with every source new.
        if line.entries > 0 || !line.random_sources {
            continue;
        }
        let point = (line.rules as f64, line.per_second / 1e6);
        match rates.iter_mut().find(|curve| curve.name == line.filter) {
            Some(curve) => curve.points.push(point),
            None => rates.push(Curve {
                name: line.filter.to_owned(),
                points: vec![point],
            }),
        }
    }
    let packets = Plot {
        title: "Packets a second, generator and filter on one core",
        across: "rules",
        up: "million packets a second",
        logarithmic: true,
        curves: rates,
    };
    packets.draw(&folder.join("packets.svg"))?;
    let mut goodput: Vec<Curve> = Vec::new();
    for line in &report.goodput {
        if line.clients != Clients::Steady.name() {
            continue;
        }
        let name = format!("{}, queues: {}", line.filter, line.queues);
        // A logarithmic axis has no place for none.
        let point = ((line.flood / 1e6).max(0.01), line.requests);
        match goodput.iter_mut().find(|curve| curve.name == name) {
            Some(curve) => curve.points.push(point),
            None => goodput.push(Curve {
                name,
                points: vec![point],
            }),
        }
    }
    let plot = Plot {
        title: "Requests answered while a flood arrives",
        across: "million packets a second of flood",
        up: "requests a second",
        logarithmic: false,
        curves: goodput,
    };
    plot.draw(&folder.join("goodput.svg"))?;
    let ns = "ns over the empty program";
    let plots = [
        (
            "rules.svg",
            "A packet's cost against rules",
            "rules",
            over_rules,
        ),
        (
            "prefixes.svg",
            "A packet's cost against prefixes",
            "prefixes",
            over_prefixes,
        ),
    ];
    for (file, title, across, curves) in plots {
        let plot = Plot {
            title,
            across,
            up: ns,
            logarithmic: false,
            curves,
        };
        plot.draw(&folder.join(file))?;
    }
    Ok(())
}

impl Plot<'_> {
    /// Draws it, unless there is nothing to draw.
    pub fn draw(mut self, file: &Path) -> Result<()> {
        self.curves.retain(|curve| !curve.points.is_empty());
        if self.curves.is_empty() {
            return Ok(());
        }
        self.to_svg(file)
            .with_context(|| format!("drawing {}", file.display()))
    }

    fn to_svg(&self, file: &Path) -> Result<()> {
        let points = || {
            self.curves
                .iter()
                .flat_map(|curve| curve.points.iter().copied())
        };
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        let right = most(&mut points().map(|point| point.0)).max(0.1);
        let left = points()
            .map(|point| point.0)
            .fold(right, f64::min)
            .max(0.01);
        // Room on the right for the legend, so that it hides no curve.
        let right = right.max(left * 10.0) * (right / left).powf(0.4);
        let top = most(&mut points().map(|point| point.1)) * 1.15;
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area);
        chart
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64);
        let across = (left..right).log_scale();
        if self.logarithmic {
            let bottom = points().map(|point| point.1).fold(top, f64::min) / 1.5;
            let up = (bottom.max(1e-9)..top * 1.5).log_scale();
            self.curves_on(chart.build_cartesian_2d(across, up)?)?;
        } else {
            self.curves_on(chart.build_cartesian_2d(across, 0.0..top)?)?;
        }
        area.present()?;
        Ok(())
    }

    fn curves_on<'a, X, Y>(
        &self,
        mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    ) -> Result<()>
    where
        X: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
        Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .x_desc(self.across)
            .y_desc(self.up)
            .x_label_formatter(&|size| readable(*size))
            .y_label_formatter(&|value| readable(*value))
            .draw()?;
        for (number, curve) in self.curves.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            chart
                .draw_series(
                    LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2))
                        .point_size(3),
                )?
                .label(&curve.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::MiddleRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        Ok(())
    }
}

/// A size as people write it: 10k, 1M.
fn readable(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{value}"),
    }
}
