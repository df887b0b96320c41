//! The outcome as a page that needs nothing else: a file to look at and to send on.

use super::table::{load_line, times};
use super::{label, short, spread, time, warnings};
use crate::bench::outcome::{Figure, Outcome, Spread, TargetOutcome};
use crate::bench::tally::Times;
use std::fmt::Write as _;

/// Colours of the targets, in their order: told apart by most colour-blind readers, on white and
/// on black (after Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1b1b1f;--bg:#fff;--dim:#666;--line:#ddd}\
@media(prefers-color-scheme:dark){:root{--fg:#e6e6ea;--bg:#16161a;--dim:#9a9aa2;--line:#3a3a42}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);\
max-width:62rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .4rem}p{margin:.3rem 0}\
.dim{color:var(--dim)}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{text-align:right;padding:.25rem .8rem;border-bottom:1px solid var(--line)}\
th:first-child,td:first-child{text-align:left}.scroll{overflow-x:auto}\
.bad{color:#c62828;font-weight:600}@media(prefers-color-scheme:dark){.bad{color:#ff8a80}}\
svg{width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:var(--fg)}\
svg .dim{fill:var(--dim)}svg .grid{stroke:var(--line)}\
pre{white-space:pre-wrap;border-left:3px solid #c62828;padding-left:.8rem}\
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .35em 0 1em}";

/// The page.
#[must_use]
pub fn html(outcome: &Outcome) -> String {
    let mut out = String::new();
    let title = escaped(&outcome.plan.title);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>patchbay bench: {title}</title><style>{STYLE}</style></head><body>\n\
         <h1>{title}</h1><p class=\"dim\">{}; {} rounds, patchbay {}</p>\n",
        escaped(&load_line(&outcome.plan.load)),
        outcome.plan.rounds,
        env!("CARGO_PKG_VERSION")
    );
    let _ = write!(out, "<p>{}</p>", verdict(outcome));
    for warning in warnings(outcome) {
        let _ = write!(out, "<p class=\"bad\">Warning: {}</p>", escaped(&warning));
    }
    for (heading, figure) in
        [("CPU for each request", Figure::CpuRequest), ("CPU for each delta", Figure::CpuDelta)]
    {
        bars(outcome, heading, figure, &mut out);
    }
    figures(outcome, &mut out);
    for at in 0..5 {
        curves(outcome, at, &mut out);
    }
    defects(outcome, &mut out);
    out.push_str(
        "<p class=\"dim\">Bars show the median of the rounds, thin lines the smallest and largest. \
         Ratios are made round by round. Both ends of every connection shared this machine.</p>\n\
         </body></html>\n",
    );
    out
}

fn verdict(outcome: &Outcome) -> String {
    let mut parts = Vec::new();
    for target in &outcome.targets {
        let (wrong, answers) = (target.wrong(), target.total().answers);
        let name = escaped(&target.target.name);
        parts.push(if wrong == 0 {
            format!("{name}: all {} answers right", super::grouped(answers))
        } else {
            let wrong = super::grouped(wrong);
            format!("<span class=\"bad\">{name}: {wrong} answers wrong</span>")
        });
    }
    parts.join("; ")
}

fn colour(at: usize) -> &'static str {
    COLOURS[at % COLOURS.len()]
}

/// A horizontal bar for each target, with its ratio to the first.
fn bars(outcome: &Outcome, heading: &str, figure: Figure, out: &mut String) {
    const ROW: f64 = 34.0;
    const LEFT: f64 = 150.0;
    const WIDE: f64 = 520.0;
    let known: Vec<(usize, Spread)> = (0..outcome.targets.len())
        .filter_map(|at| Some((at, outcome.targets[at].figure(figure)?)))
        .collect();
    let Some(top) = known.iter().map(|(_, it)| it.max).reduce(f64::max).filter(|top| *top > 0.0)
    else {
        return;
    };
    #[allow(clippy::cast_precision_loss, reason = "a handful of rows")]
    let height = known.len() as f64 * ROW + 6.0;
    let _ = write!(
        out,
        "<h2>{heading} (us)</h2><svg viewBox=\"0 0 900 {height}\" role=\"img\" \
         aria-label=\"{heading}\">"
    );
    for (row, (at, it)) in known.iter().enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "a handful of rows")]
        let y = row as f64 * ROW + 6.0;
        let x = |value: f64| LEFT + value / top * WIDE;
        let ratio = outcome.ratio(*at, figure).filter(|_| *at > 0);
        let ratio = ratio.map_or(String::new(), |ratio| {
            let first = &outcome.targets[0].target.name;
            let text = spread(ratio, &|ratio| format!("{ratio:.2}x"));
            format!(", {text} of {first}")
        });
        let middle = y + 12.0;
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"22\" rx=\"2\" fill=\"{}\"/>\
             <path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"currentColor\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}{}</text>",
            LEFT - 8.0,
            y + 16.0,
            escaped(&outcome.targets[*at].target.name),
            x(it.median) - LEFT,
            colour(*at),
            x(it.min),
            x(it.max),
            x(it.max) + 8.0,
            y + 16.0,
            short(it.median),
            escaped(&ratio)
        );
    }
    out.push_str("</svg>\n");
}

/// All figures in a table.
fn figures(outcome: &Outcome, out: &mut String) {
    out.push_str("<h2>Figures</h2><div class=\"scroll\"><table><tr><th></th>");
    for target in &outcome.targets {
        let _ = write!(out, "<th>{}</th>", escaped(&target.target.name));
    }
    out.push_str("</tr>\n");
    for figure in Figure::ALL {
        let known: Vec<_> = outcome.targets.iter().map(|target| target.figure(figure)).collect();
        if known.iter().all(Option::is_none) {
            continue;
        }
        let write: &dyn Fn(f64) -> String = if figure.is_time() { &time } else { &short };
        let _ = write!(out, "<tr><td>{}</td>", label(figure));
        for value in known {
            let cell = value.map_or("-".to_owned(), |it| spread(it, write));
            let _ = write!(out, "<td>{cell}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

/// Where a chart of times has its points: across, each nine of the share takes the same room; up,
/// each power of ten of the time.
struct Chart {
    /// The powers of ten at the lower and upper edge.
    low: f64,
    high: f64,
}

impl Chart {
    const LEFT: f64 = 70.0;
    const WIDE: f64 = 800.0;
    const TOP: f64 = 10.0;
    const TALL: f64 = 240.0;
    /// Nines on the scale: up to 99.99 %.
    const NINES: f64 = 4.0;

    /// A chart with room for these; `None` when there are none.
    fn of(all: &[(usize, &Times)]) -> Option<Self> {
        let top = all.iter().map(|(_, times)| micros(times, 0.9999)).reduce(f64::max)?;
        let low = all.iter().map(|(_, times)| micros(times, 0.0)).fold(f64::MAX, f64::min);
        let (low, high) = (low.log10().floor(), top.log10().ceil());
        Some(Self { low, high: high.max(low + 1.0) })
    }

    fn x(share: f64) -> f64 {
        Self::LEFT + (-(1.0 - share).log10()).clamp(0.0, Self::NINES) / Self::NINES * Self::WIDE
    }

    fn y(&self, micros: f64) -> f64 {
        Self::TOP + (self.high - micros.log10()) / (self.high - self.low) * Self::TALL
    }

    fn grid(&self, out: &mut String) {
        for (share, text) in [
            (0.0, "0"),
            (0.5, "50 %"),
            (0.9, "90 %"),
            (0.99, "99 %"),
            (0.999, "99.9 %"),
            (0.9999, "99.99 %"),
        ] {
            let (x, bottom) = (Self::x(share), Self::TOP + Self::TALL);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{x:.1} {}V{bottom}\"/><text class=\"dim\" \
                 x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
                Self::TOP,
                bottom + 18.0
            );
        }
        let mut power = self.low;
        while power <= self.high {
            let micros = 10f64.powf(power);
            let (y, left) = (self.y(micros), Self::LEFT);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{left} {y:.1}H{}\"/><text class=\"dim\" x=\"{}\" \
                 y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left + Self::WIDE,
                left - 8.0,
                y + 4.0,
                round_time(micros)
            );
            power += 1.0;
        }
    }

    fn line(&self, times: &Times, colour: &str, out: &mut String) {
        const STEPS: u32 = 160;
        let mut points = String::new();
        for step in 0..=STEPS {
            let nines = f64::from(step) / f64::from(STEPS) * Self::NINES;
            let share = 1.0 - 10f64.powf(-nines);
            let _ = write!(points, "{:.1},{:.1} ", Self::x(share), self.y(micros(times, share)));
        }
        let _ = write!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
    }
}

/// A power of ten of microseconds with its unit.
fn round_time(micros: f64) -> String {
    let (number, unit) = match micros {
        less if less < 999.0 => (less, "us"),
        less if less < 999_000.0 => (less / 1e3, "ms"),
        more => (more / 1e6, "s"),
    };
    format!("{number:.0} {unit}")
}

/// A time of which a logarithm can be taken.
#[allow(clippy::cast_precision_loss, reason = "at most an hour")]
fn micros(times: &Times, share: f64) -> f64 {
    (times.quantile(share) as f64).max(1.0)
}

/// One kind of time for all targets.
fn curves(outcome: &Outcome, which: usize, out: &mut String) {
    let totals: Vec<_> = outcome.targets.iter().map(TargetOutcome::total).collect();
    let all: Vec<(usize, &Times)> = totals
        .iter()
        .enumerate()
        .map(|(at, total)| (at, times(total)[which].1))
        .filter(|(_, times)| times.count() > 0)
        .collect();
    let Some(chart) = Chart::of(&all) else { return };
    let name = totals.first().map_or("", |total| times(total)[which].0);
    let _ = write!(
        out,
        "<h2>Time: {name}</h2><p>{}</p><svg viewBox=\"0 0 900 {}\" role=\"img\" \
         aria-label=\"{name}: the share that did not take longer, by time\">",
        key(outcome),
        Chart::TOP + Chart::TALL + 30.0
    );
    chart.grid(out);
    for (at, times) in all {
        chart.line(times, colour(at), out);
    }
    out.push_str("</svg>\n");
}

fn key(outcome: &Outcome) -> String {
    let keys = outcome.targets.iter().enumerate().map(|(at, target)| {
        let name = escaped(&target.target.name);
        format!("<span class=\"key\" style=\"background:{}\"></span>{name}", colour(at))
    });
    keys.collect()
}

fn defects(outcome: &Outcome, out: &mut String) {
    for target in &outcome.targets {
        for (defect, count, example) in target.defects() {
            let _ = write!(
                out,
                "<h2 class=\"bad\">{}: {} ({count} answers)</h2><pre>expected  {}\ncame      {}</pre>\n",
                escaped(&target.target.name),
                defect.meaning(),
                escaped(&example.expected),
                escaped(&example.came)
            );
        }
    }
}

/// Text for a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
