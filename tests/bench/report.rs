//! The figures as tables.

use std::fmt::{self, Write};

use crate::limits::Limits;
use crate::result::{Entry, Looked, Outcome, Results};
use crate::shared::calls::Counter;

const KIB: f64 = 1024.0;

/// All that there is.
pub(crate) fn all(
    limits: &Limits,
    results: &Results,
    counter: Option<Counter>,
) -> Result<String, fmt::Error> {
    let mut text = self::limits(limits);
    for outcome in &results.outcomes {
        text += &self::outcome(outcome)?;
    }
    results.looked.iter().for_each(|looked| text += &self::looked(looked));
    for (row, place, error) in &results.left_out {
        writeln!(text, "\n{row}, {place}: left out: {error}")?;
    }
    text += &summary(results);
    text += &legend(counter);
    if !results.complete {
        text += "NOT COMPLETE: a signal has ended it before all rows were measured.\n";
    }
    Ok(text)
}

/// Of 1 GiB each.
pub(crate) fn limits(limits: &Limits) -> String {
    let mut text = String::from("\nThe machine's limits for 1 GiB:\n");
    for limit in &limits.0 {
        let place = limit.place.map_or(String::new(), |place| format!(", {place}"));
        let name = format!("{}{place}", limit.name);
        text += &format!("  {name:<34} {:>6.2} s  {:>6.2} CPU s\n", limit.cost.wall, limit.cost.cpu);
    }
    text
}

/// One row: medians of all rounds, and the median of the ratios of the first client's figures to each other's.
pub(crate) fn outcome(outcome: &Outcome) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let (wall, cpu) = (outcome.limit.wall * outcome.gib(), outcome.limit.cpu);
    let (title, place, mib) = (outcome.row.title, outcome.place, outcome.mib());
    let files = outcome.files.map_or(String::new(), |files| format!(", {files} files"));
    writeln!(text, "\n{title}{files}, {place}, {mib:.0} MiB; the limit: {wall:.2} s, {cpu:.2} CPU s/GiB")?;
    writeln!(
        text,
        "  {:<17}{:>7}{:>15}{:>8}{:>7}{:>9}{:>9}{:>7}{:>7}{:>7}{:>8}{:>8}{:>8}{:>4}",
        "",
        "wall s",
        "(least-most)",
        "moving",
        "CPU/G",
        "anon MiB",
        "HWM MiB",
        "sys/M",
        "x wall",
        "x CPU",
        "wall",
        "moving",
        "CPU",
        "n"
    )?;
    for entry in &outcome.entries {
        line(&mut text, outcome, entry)?;
    }
    Ok(text)
}

fn line(text: &mut String, outcome: &Outcome, entry: &Entry) -> fmt::Result {
    write!(text, "  {:<17}", entry.name)?;
    if let Some(reason) = &entry.failed {
        return writeln!(text, " left out: {reason}");
    }
    if entry.samples.is_empty() {
        return writeln!(text, " left out");
    }
    let walls = entry.figures(|sample| sample.wall);
    let (least, most) =
        walls.iter().fold((f64::MAX, 0.0f64), |(least, most), wall| (least.min(*wall), most.max(*wall)));
    let wall = entry.median(|sample| sample.wall);
    let moving = entry.median(|sample| sample.moving.unwrap_or(f64::NAN));
    let cpu = entry.median(|sample| sample.cpu) / outcome.gib();
    write!(text, "{wall:>7.2}{:>15}{:>8}{cpu:>7.2}", format!("({least:.2}-{most:.2})"), shown(moving, 2))?;
    write!(text, "{:>9.1}", entry.median(|sample| sample.memory.anonymous as f64 / KIB))?;
    write!(text, "{:>9.1}", entry.median(|sample| sample.memory.resident as f64 / KIB))?;
    let calls = entry.calls.map_or(f64::NAN, |calls| calls as f64 / outcome.mib());
    write!(text, "{:>7}", shown(calls, 1))?;
    write!(text, "{:>7}", shown(wall / (outcome.limit.wall * outcome.gib()), 2))?;
    write!(text, "{:>7}", shown(cpu / outcome.limit.cpu, 2))?;
    if let Some(base) = outcome.base().filter(|base| base.name != entry.name) {
        let wall = entry.ratio(base, |sample| sample.wall);
        let moving = entry.ratio(base, |sample| sample.moving.unwrap_or(f64::NAN));
        let cpu = entry.ratio(base, |sample| sample.cpu);
        write!(text, "{:>8}{:>8}{:>8}", shown(wall, 2), shown(moving, 2), shown(cpu, 2))?;
    } else {
        write!(text, "{:24}", "")?;
    }
    writeln!(text, "{:>4}", entry.samples.len())
}

/// What was found of ptorrent alone.
pub(crate) fn looked(looked: &Looked) -> String {
    let mut text = format!("\n{}, {}:\n", looked.row.title, looked.place);
    for figure in &looked.figures {
        text += &format!("  {:<40} {:>10.2} {}\n", figure.name, figure.value, figure.unit);
    }
    text
}

/// A line for each row: how ptorrent stands to the best of the others, and to the machine's limit.
fn summary(results: &Results) -> String {
    let mut text = String::from("\nIn short, ptorrent to the best of the others, pair by pair:\n");
    for outcome in &results.outcomes {
        let Some(own) = outcome.base() else { continue };
        let others = || outcome.entries[1..].iter().filter(|entry| !entry.samples.is_empty());
        let wall = best(others(), |entry| entry.median(|sample| sample.wall));
        let cpu = best(others(), |entry| entry.median(|sample| sample.cpu));
        let own_wall = own.median(|sample| sample.wall) / (outcome.limit.wall * outcome.gib());
        let own_cpu = own.median(|sample| sample.cpu) / outcome.gib() / outcome.limit.cpu;
        text += &format!("  {:<11}{:<7}", outcome.row.name, outcome.place);
        for (what, best, limit) in [("wall", wall, own_wall), ("CPU", cpu, own_cpu)] {
            let ratio = best.map_or(f64::NAN, |best| {
                best.ratio(own, |sample| if what == "wall" { sample.wall } else { sample.cpu })
            });
            let name = best.map_or("nobody", |best| best.name);
            text += &format!("{what} {:>5} of {name:<17}{:>6} x limit   ", shown(ratio, 2), shown(limit, 2));
        }
        let mib = own.median(|sample| sample.memory.anonymous as f64 / KIB);
        text += &format!("{mib:.1} MiB\n");
    }
    text
}

/// Whose figure is least.
fn best<'a>(entries: impl Iterator<Item = &'a Entry>, figure: impl Fn(&Entry) -> f64) -> Option<&'a Entry> {
    entries.min_by(|a, b| figure(a).total_cmp(&figure(b)))
}

/// A figure, or a dash where there is none.
fn shown(value: f64, places: usize) -> String {
    if value.is_finite() { format!("{value:.places$}") } else { "-".into() }
}

/// What the columns say.
fn legend(counter: Option<Counter>) -> String {
    let counted = match counter {
        Some(counter) => format!("counted by `{}` in a round of their own", counter.name()),
        None => "not counted: there is neither perf nor strace that may".into(),
    };
    format!(
        "\n\
         wall: start of the process to complete (uploads: first request to last byte); moving: from its first request.\n\
         CPU/G: its processor seconds for a GiB; sys/M: its system calls for a MiB, {counted}.\n\
         x wall, x CPU: times the machine's limit. The last columns: ptorrent's figures divided by its, pair by pair;\n\
         all figures are medians of n rounds. On disk: until the page cache has it; write-back is not waited for.\n"
    )
}
