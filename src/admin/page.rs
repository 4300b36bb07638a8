//! The status page: one request, no outside assets, problems first.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::observe::status::{Actor, Hydrator, Ledger, Pod, Problem, Sequence, Status};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Three stacked blocks. Its colour suits both grounds.
const ICON: &str = concat!(
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' fill='#4878b8'>",
    "<rect x='5' y='1' width='6' height='4' rx='1'/>",
    "<rect x='1' y='6' width='6.5' height='4' rx='1'/><rect x='8.5' y='6' width='6.5' height='4' rx='1'/>",
    "<rect x='3' y='11' width='10' height='4' rx='1'/></svg>"
);

/// The whole page. Its script fetches it again every two seconds and swaps the parts marked `data-part`.
pub(super) fn render(status: &Status) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (title(status)) }
                link rel="icon" href=(format!("data:image/svg+xml,{}", ICON.replace('#', "%23")));
                style { (PreEscaped(STYLE)) }
                noscript { meta http-equiv="refresh" content="5"; }
            }
            body {
                p #stale hidden { "No answer from this process. What follows is the last that it said." }
                header data-part="head" { (head(status)) }
                main {
                    div data-part="problems" { (problems(&status.problems)) }
                    section data-part="ledger" { (ledger(&status.ledger)) }
                    section data-part="pods" { (pods(&status.pods)) }
                    section data-part="sequences" { (sequences(&status.sequences)) }
                    section data-part="actors" { (actors(&status.actors, &status.hydrator)) }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

/// So that a tab tells at a glance.
fn title(status: &Status) -> String {
    match status.problems.len() {
        0 => format!("{} · blockhouse", status.instance),
        count => format!("({count}) {} · blockhouse", status.instance),
    }
}

fn head(status: &Status) -> Markup {
    html! {
        (PreEscaped(ICON))
        h1 { (status.instance) }
        (state(&status.state))
        p {
            (status.environment) " · " (status.stage) " · cluster " (status.cluster) " · " (status.roles.join(", "))
            " · " (status.version) " (" (status.revision) ") · up " (duration(status.uptime_seconds as f64))
        }
    }
}

fn state(name: &str) -> Markup {
    html! { span class=(format!("state {name}")) { (name) } }
}

fn problems(problems: &[Problem]) -> Markup {
    html! {
        @if problems.is_empty() {
            section { p { "No problems." } }
        } @else {
            section.problems {
                h2 { "Problems" }
                ul {
                    @for problem in problems {
                        li {
                            p { strong { (problem.what) } " " span.soft.time { "since " (problem.since) } }
                            p { (problem.remedy) }
                        }
                    }
                }
            }
        }
    }
}

fn ledger(ledger: &Ledger) -> Markup {
    html! {
        h2 { "Ledger " (state(&ledger.state)) }
        dl {
            dt { "Address" } dd { (ledger.url) }
            dt { "Id" } dd { (ledger.id.as_deref().unwrap_or("not known yet")) }
            @if let Some(epoch) = ledger.epoch { dt { "Epoch" } dd { (epoch) } }
            @if let Some(error) = &ledger.last_error { dt { "Last error" } dd { (error) } }
        }
    }
}

fn pods(pods: &[Pod]) -> Markup {
    html! {
        h2 { "Pods" }
        @if pods.is_empty() {
            p.soft { "None known: every request that memory can't answer goes to the ledger." }
        } @else {
            table {
                thead { tr { th { "Address" } th { "State" } th.number { "Blocks" } th { "Last error" } } }
                tbody {
                    @for pod in pods {
                        tr {
                            td { (pod.address) }
                            td data-label="State" { (state(&pod.state)) }
                            td.number data-label="Blocks" {
                                @if !pod.blocks.is_empty() { (grouped(pod.blocks.values().sum::<u64>())) }
                            }
                            td data-label="Last error" { (pod.last_error.as_deref().unwrap_or_default()) }
                        }
                    }
                }
            }
        }
    }
}

fn sequences(sequences: &[Sequence]) -> Markup {
    html! {
        h2 { "Sequences" }
        @if sequences.is_empty() {
            p.soft { "None yet: " code { "blockhouse sequence create NAME" } }
        } @else {
            table {
                thead {
                    tr {
                        th { "Name" } th { "State" } th.number { "Granted up to" } th.number { "Used" }
                        th.number { "Reserve" } th.number { "In pods" } th.number { "Supply" } th.number { "IDs/s" }
                    }
                }
                tbody { @for sequence in sequences { (sequence_row(sequence)) } }
            }
        }
    }
}

fn sequence_row(sequence: &Sequence) -> Markup {
    html! {
        tr {
            td { (sequence.name) }
            td data-label="State" { (state(&sequence.state)) }
            td.number data-label="Granted up to" { (decimal(&sequence.granted)) }
            td.number data-label="Used" { (used(&sequence.granted, &sequence.last)) }
            td.number data-label="Reserve" { (grouped(sequence.reserve_ids.max(0).unsigned_abs())) }
            td.number data-label="In pods" { (grouped(sequence.pod_ids.max(0).unsigned_abs())) }
            td.number data-label="Supply" { (sequence.supply_seconds.map(duration).unwrap_or_else(|| "–".to_owned())) }
            td.number data-label="IDs/s" { (rate(sequence.ids_per_second)) }
        }
    }
}

fn actors(actors: &[Actor], hydrator: &Hydrator) -> Markup {
    html! {
        h2 { "Actors" }
        @if let Some(leads) = hydrator.leader {
            p {
                "This hydrator " @if leads { "leads its cluster" } @else { "stands by" } "; last successful pass: "
                (hydrator.last_success.as_deref().unwrap_or("none yet")) "."
            }
        }
        @if !actors.is_empty() {
            table {
                thead { tr { th { "Name" } th.number { "Waiting messages" } th.number { "Restarts" } } }
                tbody {
                    @for actor in actors {
                        tr {
                            td { (actor.name) }
                            td.number data-label="Waiting messages" { (grouped(actor.queued)) }
                            td.number data-label="Restarts" { (grouped(actor.restarts)) }
                        }
                    }
                }
            }
        }
    }
}

/// A decimal number for people, or whatever else stands there.
fn decimal(digits: &str) -> String {
    digits.parse().map_or_else(|_| digits.to_owned(), grouped)
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The share of a sequence that is granted.
fn used(granted: &str, last: &str) -> String {
    match (granted.parse::<f64>(), last.parse::<f64>()) {
        (Ok(granted), Ok(last)) if last > 0.0 => match 100.0 * granted / last {
            percent if percent > 0.0 && percent < 0.1 => "< 0.1 %".to_owned(),
            percent => format!("{percent:.1} %"),
        },
        _ => "–".to_owned(),
    }
}

/// The two greatest units: `23 h 5 min`.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn rate(per_second: f64) -> String {
    if per_second >= 10.0 { grouped(per_second.round() as u64) } else { format!("{per_second:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_escaped() {
        let evil = "<script>alert(1)</script>\"'";
        let status = Status {
            instance: evil.into(),
            state: "\"><script>".into(),
            ledger: Ledger { url: evil.into(), last_error: Some(evil.into()), ..Ledger::default() },
            pods: vec![Pod { address: evil.into(), last_error: Some(evil.into()), ..Pod::default() }],
            sequences: vec![Sequence { name: evil.into(), granted: evil.into(), ..Sequence::default() }],
            actors: vec![Actor { name: evil.into(), ..Actor::default() }],
            problems: vec![Problem { what: evil.into(), since: evil.into(), remedy: evil.into() }],
            ..Status::default()
        };
        let page = render(&status).into_string();
        assert_eq!(page.matches("<script>").count(), 1, "only its own");
        assert!(!page.contains("alert(1)</script>"));
    }

    #[test]
    fn problems_stand_before_everything_else_and_in_the_title() {
        let problem = Problem { what: "pod down".into(), since: "now".into(), remedy: "look".into() };
        let page = render(&Status { problems: vec![problem], ..Status::default() }).into_string();
        assert!(page.contains("<title>(1) "));
        assert!(page.find("pod down") < page.find(">Ledger "));
        assert!(render(&Status::default()).into_string().contains("No problems."));
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        let page = render(&Status::default()).into_string();
        let addresses = page.matches("http://").count() + page.matches("https://").count();
        assert_eq!(addresses, page.matches("xmlns='http://www.w3.org/2000/svg'").count());
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            ["0", "999", "1000", "9007199254740991"].map(decimal),
            ["0", "999", "1,000", "9,007,199,254,740,991"]
        );
        assert_eq!(
            [0.0, 61.0, 3_700.0, 90_000.0].map(duration),
            ["0 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
        );
        assert_eq!(used("5", "100"), "5.0 %");
        assert_eq!(used("1", "9007199254740991"), "< 0.1 %");
        assert_eq!(used("0", "100"), "0.0 %");
        assert_eq!(used("", ""), "–");
        assert_eq!([0.25, 12_345.6].map(rate), ["0.2", "12,346"]);
    }
}
