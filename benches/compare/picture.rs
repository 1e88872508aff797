//! The picture: for each workload a bar for each comparison, on a logarithmic scale, from the line at 1 to the ratio.

use crate::{mounts::Kind, results::Results, tables::figure, workloads::WORKLOADS};

/// What is shown beside each other: ours, theirs, in words, and the class that colours it.
const SERIES: &[(Kind, Kind, &str, &str)] = &[
    (Kind::Zero, Kind::Bindfs0, "all knobs zero, against bindfs with kernel timeouts 0", "one"),
    (Kind::Default, Kind::Bindfs, "default knobs, against bindfs", "two"),
    (Kind::Cached, Kind::Bindfs, "--kernel-cache without delays, against bindfs", "three"),
];

/// Readable on light and dark pages.
const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.small { font-size: 10px }
.grid { stroke: #8b949e; stroke-opacity: 0.35 }
.even { stroke: #24292f; stroke-width: 1.5 }
.one { fill: #0969da } .two { fill: #bf8700 } .three { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .even { stroke: #e6edf3 }
  .one { fill: #4493f8 } .two { fill: #d29922 } .three { fill: #3fb950 }
}
";

const WIDTH: f64 = 860.0;
/// Where the scale begins and ends, left and right.
const SCALE: (f64, f64) = (220.0, WIDTH - 50.0);
const BAR: f64 = 11.0;
const GAP: f64 = 8.0;

/// A bar: its ratio and its colour.
type Bar = (f64, &'static str);

/// The picture as SVG.
pub fn draw(results: &Results) -> String {
    let series: Vec<_> =
        SERIES.iter().filter(|(ours, theirs, ..)| results.has(*ours) && results.has(*theirs)).collect();
    let groups: Vec<(String, Vec<Bar>)> = WORKLOADS
        .iter()
        .map(|workload| {
            let bar = |(ours, theirs, _, class): &&(Kind, Kind, &'static str, &'static str)| {
                Some((results.ratio(workload.name, *ours, *theirs)?, *class))
            };
            (workload.title.replace('`', ""), series.iter().filter_map(bar).collect::<Vec<_>>())
        })
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    let axis = Axis::over(groups.iter().flat_map(|(_, bars)| bars).map(|(ratio, _)| *ratio));

    let top = 30.0 + 18.0 * series.len() as f64 + 20.0;
    let mut body = String::new();
    let mut y = top;
    for (title, bars) in &groups {
        body += &group(title, bars, &axis, y);
        y += bars.len() as f64 * BAR + GAP;
    }
    let mut head = text(10.0, 20.0, "", "How many times as fast: above 1 chaosfs is faster");
    for (index, (.., words, class)) in series.iter().enumerate() {
        let y = 38.0 + 18.0 * index as f64;
        head += &format!(r#"<rect class="{class}" x="10" y="{:.1}" width="18" height="9"/>"#, y - 8.5);
        head += &text(34.0, y, "", words);
    }
    let height = y + 10.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>chaosfs against bindfs</title>\n<style>\n{STYLE}</style>\n\
         {head}{}{body}{}</svg>\n",
        axis.grid(top, y),
        axis.even(top, y)
    )
}

fn text(x: f64, y: f64, attributes: &str, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{words}</text>\n")
}

fn group(title: &str, bars: &[Bar], axis: &Axis, top: f64) -> String {
    let middle = top + bars.len() as f64 * BAR / 2.0 + 4.0;
    let mut group = text(SCALE.0 - 10.0, middle, "text-anchor=\"end\"", title);
    for (index, (ratio, class)) in bars.iter().enumerate() {
        let (y, one, end) = (top + index as f64 * BAR, axis.at(1.0), axis.at(*ratio));
        let (left, width) = (one.min(end), (end - one).abs().max(0.5));
        let height = BAR - 1.5;
        group += &format!(
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\"/>\n"
        );
        let (x, anchor) = if end < one { (end - 3.0, "end") } else { (end + 3.0, "start") };
        let attributes = format!("class=\"small\" text-anchor=\"{anchor}\"");
        group += &text(x, y + BAR - 2.0, &attributes, &figure(*ratio));
    }
    group
}

/// A logarithmic scale from one power of two to another, with 1 on it.
struct Axis {
    least: i32,
    most: i32,
}

impl Axis {
    fn over(ratios: impl Iterator<Item = f64> + Clone) -> Axis {
        let least = ratios.clone().fold(1.0, f64::min).log2().floor() as i32;
        let most = ratios.fold(1.0, f64::max).log2().ceil() as i32;
        Axis { least: least.min(-1), most: most.max(1) }
    }

    fn at(&self, ratio: f64) -> f64 {
        let part = (ratio.log2() - f64::from(self.least)) / f64::from(self.most - self.least);
        SCALE.0 + 25.0 + part * (SCALE.1 - SCALE.0 - 25.0)
    }

    fn grid(&self, top: f64, bottom: f64) -> String {
        let line = |power: i32| {
            let (ratio, x) = (f64::from(power).exp2(), self.at(f64::from(power).exp2()));
            let label = if power < 0 { format!("1/{}", 1.0 / ratio) } else { format!("{ratio}") };
            text(x, top - 6.0, "class=\"small\" text-anchor=\"middle\"", &label)
                + &format!("<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>\n")
        };
        (self.least..=self.most).map(line).collect()
    }

    fn even(&self, top: f64, bottom: f64) -> String {
        format!("<path class=\"even\" d=\"M{:.1} {top:.1}V{bottom:.1}\"/>\n", self.at(1.0))
    }
}
