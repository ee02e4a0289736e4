//! All figures as JSON, for scripts that compare runs.

use crate::calls::Counter;
use crate::limits::Limits;
use crate::machine::cores;
use crate::options::Options;
use crate::result::{Entry, Looked, Outcome, Results};

pub(crate) fn json(
    options: &Options,
    limits: &Limits,
    results: &Results,
    counter: Option<Counter>,
) -> String {
    let all_limits = limits.0.iter().map(|limit| {
        let place = limit.place.map_or("null".to_string(), text);
        format!(
            r#"{{"name": {}, "fs": {place}, "wall_s_per_gib": {}, "cpu_s_per_gib": {}}}"#,
            text(limit.name),
            number(limit.cost.wall),
            number(limit.cost.cpu)
        )
    });
    let rows = results.outcomes.iter().map(row);
    let looked = results.looked.iter().map(looked);
    format!(
        "{{\n\"cores\": {}, \"bytes\": {}, \"rounds\": {}, \"calls_counted_by\": {},\n\"limits\": [\n  {}\n],\n\"rows\": [\n{}\n],\n\"ptorrent\": [\n{}\n]\n}}\n",
        cores(),
        options.size,
        options.rounds,
        counter.map_or("null".to_string(), |counter| text(counter.name())),
        all_limits.collect::<Vec<_>>().join(",\n  "),
        rows.collect::<Vec<_>>().join(",\n"),
        looked.collect::<Vec<_>>().join(",\n")
    )
}

fn row(outcome: &Outcome) -> String {
    let entries = outcome.entries.iter().map(|entry| self::entry(outcome, entry));
    format!(
        " {{\"row\": {}, \"fs\": {}, \"bytes\": {}, \"limit\": {{\"wall_s\": {}, \"cpu_s_per_gib\": {}}}, \"clients\": [\n{}\n ]}}",
        text(outcome.row.name),
        text(outcome.place),
        outcome.bytes,
        number(outcome.limit.wall * outcome.gib()),
        number(outcome.limit.cpu),
        entries.collect::<Vec<_>>().join(",\n")
    )
}

fn entry(outcome: &Outcome, entry: &Entry) -> String {
    let base = outcome.base().filter(|base| base.name != entry.name);
    let ratio = |figure: fn(&crate::rows::Sample) -> f64| {
        base.map_or("null".to_string(), |base| number(entry.ratio(base, figure)))
    };
    let samples = entry.samples.iter().map(|(round, sample)| {
        format!(
            "   {{\"round\": {round}, \"wall_s\": {}, \"moving_s\": {}, \"cpu_s\": {}, \"anonymous_kib\": {}, \"resident_kib\": {}}}",
            number(sample.wall),
            number(sample.moving.unwrap_or(f64::NAN)),
            number(sample.cpu),
            sample.memory.anonymous,
            sample.memory.resident
        )
    });
    format!(
        "  {{\"client\": {}, \"left_out\": {}, \"wall_s\": {}, \"cpu_s_per_gib\": {}, \"calls_per_mib\": {}, \"wall_ratio\": {}, \"cpu_ratio\": {}, \"samples\": [\n{}\n  ]}}",
        text(entry.name),
        entry.failed.as_deref().map_or("null".to_string(), text),
        number(entry.median(|sample| sample.wall)),
        number(entry.median(|sample| sample.cpu) / outcome.gib()),
        number(entry.calls.map_or(f64::NAN, |calls| calls as f64 / outcome.mib())),
        ratio(|sample| sample.wall),
        ratio(|sample| sample.cpu),
        samples.collect::<Vec<_>>().join(",\n")
    )
}

fn looked(looked: &Looked) -> String {
    let figures = looked.figures.iter().map(|figure| {
        let (name, unit) = (text(figure.name), text(figure.unit));
        format!("  {{\"name\": {name}, \"value\": {}, \"unit\": {unit}}}", number(figure.value))
    });
    format!(
        " {{\"row\": {}, \"fs\": {}, \"figures\": [\n{}\n ]}}",
        text(looked.row.name),
        text(looked.place),
        figures.collect::<Vec<_>>().join(",\n")
    )
}

fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { "null".into() }
}

fn text(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out + "\""
}
