//! All figures as JSON, for scripts that compare runs.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::about::About;
use crate::limits::Limits;
use crate::options::Options;
use crate::result::{Entry, Looked, Outcome, Results};

pub(crate) fn json(options: &Options, about: &About, limits: &Limits, results: &Results) -> String {
    let all_limits = limits.0.iter().map(|limit| {
        let place = limit.place.map_or("null".to_string(), text);
        format!(
            r#"{{"name": {}, "fs": {place}, "wall_s_per_gib": {}, "cpu_s_per_gib": {}}}"#,
            text(limit.name),
            number(limit.cost.wall),
            number(limit.cost.cpu)
        )
    });
    let left_out = results.left_out.iter().map(|(row, place, error)| {
        format!(r#"{{"row": {}, "fs": {}, "error": {}}}"#, text(row), text(place), text(error))
    });
    let words: Vec<String> = std::env::args().skip(1).collect();
    let fields = [
        ("at", SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()).to_string()),
        ("arguments", text(&words.join(" "))),
        ("complete", results.complete.to_string()),
        ("took_s", number(results.took)),
        ("machine", map(&about.machine)),
        ("versions", map(&about.clients)),
        ("bytes", options.bytes().to_string()),
        ("rounds", options.common.rounds.to_string()),
        ("limits", list(all_limits)),
        ("rows", list(results.outcomes.iter().map(row))),
        ("ptorrent", list(results.looked.iter().map(looked))),
        ("left_out", list(left_out)),
    ];
    let fields = fields.map(|(name, value)| format!("{}: {value}", text(name)));
    format!("{{\n{}\n}}\n", fields.join(",\n"))
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[\n  {}\n]", values.collect::<Vec<_>>().join(",\n  "))
}

fn map(pairs: &[(&'static str, String)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn row(outcome: &Outcome) -> String {
    let entries = outcome.entries.iter().map(|entry| self::entry(outcome, entry));
    format!(
        "{{\"row\": {}, \"fs\": {}, \"bytes\": {}, \"files\": {}, \"took_s\": {}, \"limit\": {{\"wall_s\": {}, \"cpu_s_per_gib\": {}}}, \"clients\": [\n{}\n ]}}",
        text(outcome.row.name),
        text(outcome.place),
        outcome.bytes,
        outcome.files.unwrap_or(1),
        number(outcome.took),
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
        "  {{\"client\": {}, \"left_out\": {}, \"wall_s\": {}, \"cpu_s_per_gib\": {}, \"anonymous_kib\": {}, \"resident_kib\": {}, \"calls_per_mib\": {}, \"wall_ratio\": {}, \"cpu_ratio\": {}, \"samples\": [\n{}\n  ]}}",
        text(entry.name),
        entry.failed.as_deref().map_or("null".to_string(), text),
        number(entry.median(|sample| sample.wall)),
        number(entry.median(|sample| sample.cpu) / outcome.gib()),
        number(entry.median(|sample| sample.memory.anonymous as f64)),
        number(entry.median(|sample| sample.memory.resident as f64)),
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
        "{{\"row\": {}, \"fs\": {}, \"took_s\": {}, \"figures\": [\n{}\n ]}}",
        text(looked.row.name),
        text(looked.place),
        number(looked.took),
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
