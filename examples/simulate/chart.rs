//! Curves over time as SVG. Whole numbers only, so that each machine writes the same.

use std::fmt::Write as _;

const WIDTH: u64 = 760;
const HEIGHT: u64 = 340;
/// Where the curves are: left, top, right, bottom.
const PLOT: [u64; 4] = [70, 62, WIDTH - 20, HEIGHT - 48];

/// Curves, each a value a second.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    /// What stands on the left.
    pub(crate) unit: &'static str,
    /// A time that is marked, in seconds, and what happens in it.
    pub(crate) marked: (u64, u64, &'static str),
    pub(crate) curves: Vec<Curve>,
}

#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) color: &'static str,
    pub(crate) values: Vec<u64>,
}

impl Chart {
    pub(crate) fn to_svg(&self) -> String {
        let [left, top, right, bottom] = PLOT;
        let seconds = self.curves.iter().map(|curve| curve.values.len() as u64).max().unwrap_or(1).max(1);
        let most = self.curves.iter().flat_map(|curve| &curve.values).copied().max().unwrap_or(1);
        let step = step(most);
        let most = most.div_ceil(step).max(1) * step;
        let x = |second: u64| left + second * (right - left) / seconds;
        let y = |value: u64| bottom - value * (bottom - top) / most;

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"#333\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{left}\" y=\"22\" font-size=\"15\">{}</text>\n",
            self.title
        );
        let (from, to, what) = self.marked;
        let _ = writeln!(
            svg,
            "<rect x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{}\" fill=\"#f3e3e3\"/>\n<text x=\"{}\" y=\"{}\" \
             font-size=\"11\" fill=\"#955\">{what}</text>",
            x(from),
            x(to) - x(from),
            bottom - top,
            x(from) + 4,
            top + 14,
        );
        for value in (0..=most).step_by(step as usize) {
            let at = y(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {at}H{right}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{value}</text>",
                left - 6,
                at + 4,
            );
        }
        for second in (0..=seconds).step_by(5) {
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{second} s</text>",
                x(second),
                bottom + 18
            );
        }
        let _ =
            writeln!(svg, "<text x=\"{left}\" y=\"{}\" font-size=\"11\">{}</text>", HEIGHT - 8, self.unit);
        let mut legend = left;
        for Curve { name, color, values } in &self.curves {
            let line: Vec<_> =
                (0_u64..).zip(values).map(|(second, value)| format!("{} {}", x(second), y(*value))).collect();
            let _ = writeln!(
                svg,
                "<path d=\"M{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n<path d=\"M{legend} 42h18\" \
                 stroke=\"{color}\" stroke-width=\"3\"/><text x=\"{}\" y=\"46\">{name}</text>",
                line.join("L"),
                legend + 24,
            );
            legend += 44 + 7 * name.len() as u64;
        }
        svg + "</svg>\n"
    }
}

/// A round number of which there are four to ten in `most`.
fn step(most: u64) -> u64 {
    let mut step = 1;
    loop {
        for factor in [1, 2, 5] {
            if most <= step * factor * 8 {
                return step * factor;
            }
        }
        step *= 10;
    }
}
