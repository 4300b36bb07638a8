//! Two plots, one beside the other, as SVG.

use std::fmt::Write as _;

use super::WhileItRan;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 40.0;
/// Between the two.
const APART: f64 = 90.0;
const SECOND: f64 = 260.0;

/// The whole picture.
pub fn draw(ran: &WhileItRan, saved: &[(f64, f64)]) -> String {
    let (wide, high) = (LEFT + WIDTH + APART + SECOND + 30.0, TOP + HEIGHT + 50.0);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {wide} {high}' font-family='sans-serif' font-size='11'>\n\
         <rect width='100%' height='100%' fill='white'/>\n"
    );
    requests(&mut svg, ran);
    routing(&mut svg, saved);
    svg + "</svg>\n"
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x='{x:.0}' y='{y:.0}' text-anchor='{anchor}'>{text}</text>");
}

fn line(svg: &mut String, points: &[(f64, f64)], colour: &str, width: f64) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let points = points.join(" ");
    let _ =
        writeln!(svg, "<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='{width}'/>");
}

fn frame(svg: &mut String, left: f64, wide: f64, title: &str) {
    text(svg, left, 18.0, "start", title);
    line(svg, &[(left, TOP), (left, TOP + HEIGHT), (left + wide, TOP + HEIGHT)], "black", 1.0);
}

/// Requests to the ledger, on a scale where each step is tenfold.
fn requests(svg: &mut String, ran: &WhileItRan) {
    frame(svg, LEFT, WIDTH, "requests to the ledger each second, of 1,200 processes that serve 10 M IDs/s");
    let (x, y) = (
        |tens: usize| LEFT + WIDTH * tens as f64 / ran.requests_a_second.len() as f64,
        |requests: f64| TOP + HEIGHT * (1.0 - requests.max(1.0).log10() / 4.0),
    );
    for power in 0..=4 {
        let at = y(10_f64.powi(power));
        text(svg, LEFT - 6.0, at + 4.0, "end", &format!("{}", 10_i32.pow(power as u32)));
        line(svg, &[(LEFT, at), (LEFT + WIDTH, at)], "#ddd", 0.5);
    }
    for (number, (from, what)) in ran.phases.iter().enumerate() {
        line(svg, &[(x(*from), TOP), (x(*from), TOP + HEIGHT)], "#999", 0.5);
        text(svg, x(*from) + 2.0, TOP - 4.0 + 11.0 * (number % 2) as f64, "start", what);
    }
    for minute in (0..ran.requests_a_second.len() / 6).step_by(10) {
        text(svg, x(minute * 6), TOP + HEIGHT + 14.0, "middle", &format!("{minute} min"));
    }
    // The scale that one request for each ID or each call would need lies far above.
    let points: Vec<(f64, f64)> =
        ran.requests_a_second.iter().enumerate().map(|(tens, requests)| (x(tens), y(*requests))).collect();
    line(svg, &points, "#0a5", 1.2);
    let calls = y(1_000.0);
    line(svg, &[(LEFT, calls), (LEFT + WIDTH, calls)], "#c33", 0.8);
    text(svg, LEFT + WIDTH - 4.0, calls - 4.0, "end", "callers' requests");
}

fn routing(svg: &mut String, saved: &[(f64, f64)]) {
    let left = LEFT + WIDTH + APART;
    frame(svg, left, SECOND, "ledger requests saved by trying every pod");
    let (x, y) = (|held: f64| left + SECOND * held / 2.0, |part: f64| TOP + HEIGHT * (1.0 - part));
    for percent in [0, 40, 100] {
        let at = y(f64::from(percent) / 100.0);
        text(svg, left - 6.0, at + 4.0, "end", &format!("{percent} %"));
        line(svg, &[(left, at), (left + SECOND, at)], "#ddd", 0.5);
    }
    for held in [0.5, 1.0, 1.5, 2.0] {
        text(svg, x(held), TOP + HEIGHT + 14.0, "middle", &format!("{:.0} %", held * 100.0));
    }
    text(
        svg,
        left + SECOND / 2.0,
        TOP + HEIGHT + 30.0,
        "middle",
        "what unevenly filled pods hold of what is needed",
    );
    let points: Vec<(f64, f64)> = saved.iter().map(|(held, part)| (x(*held), y(*part))).collect();
    line(svg, &points, "#05a", 1.5);
}
