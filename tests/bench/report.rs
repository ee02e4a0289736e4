//! The figures as a table and as JSON.

use std::fmt::Write;
use std::path::PathBuf;

use crate::machine::Cost;
use crate::options::Options;
use crate::run::Sample;

pub(crate) type Limits = Vec<(String, Cost)>;

/// Where files were written, and what every client took there, round by round.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    samples: Vec<Sample>,
    failed: bool,
}

impl Place {
    pub(crate) fn new(name: &'static str, dir: PathBuf) -> Place {
        Place { name, dir, rows: Vec::new() }
    }

    /// None: the run failed, and its row with it.
    pub(crate) fn add(&mut self, name: &'static str, sample: Option<Sample>) {
        let at = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name, samples: Vec::new(), failed: false });
            self.rows.len() - 1
        });
        let row = &mut self.rows[at];
        match sample {
            Some(sample) => row.samples.push(sample),
            None => row.failed = true,
        }
    }

    pub(crate) fn failed(&self, name: &str) -> bool {
        self.rows.iter().any(|row| row.name == name && row.failed)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.whole().any(|row| row.name == name)
    }

    /// The rows without a failure: of these, sample N is of round N.
    fn whole(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.failed)
    }
}

impl Row {
    fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect())
    }

    /// The median of the ratios of one row's figures to this one's, round by round.
    fn ratio(&self, base: &Row, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(base.samples.iter().zip(&self.samples).map(|(base, own)| figure(base) / figure(own)).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length.is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

const MIB: f64 = 1024.0;

fn gib(options: &Options) -> f64 {
    options.size as f64 / (1u64 << 30) as f64
}

/// Medians of all rounds; `base` is whom the ratios are of.
pub(crate) fn table(options: &Options, limits: &Limits, places: &[Place], base: &str) -> String {
    let mut text = String::new();
    let size = options.size >> 20;
    writeln!(text, "\nThe machine's limits, {size} MiB:").unwrap();
    for (name, cost) in limits {
        let per_gib = cost.cpu / gib(options);
        writeln!(text, "  {name:<18} {:>6.2} s  {per_gib:>6.2} CPU s/GiB", cost.wall).unwrap();
    }
    for place in places {
        writeln!(
            text,
            "\nLeech {size} MiB from one, {} ({}), median of {}:",
            place.name,
            place.dir.display(),
            options.rounds
        )
        .unwrap();
        writeln!(
            text,
            "  {:<18} {:>7} {:>15} {:>8} {:>10} {:>9} {:>9}   wall, moving, CPU of {base} to its",
            "", "wall s", "(least-most)", "moving", "CPU s/GiB", "anon MiB", "HWM MiB"
        )
        .unwrap();
        let base = place.whole().find(|row| row.name == base);
        for row in place.whole() {
            let walls = || row.samples.iter().map(|sample| sample.wall);
            let (least, most) = (walls().fold(f64::MAX, f64::min), walls().fold(0.0, f64::max));
            write!(
                text,
                "  {:<18} {:>7.2} {:>15} {:>8.2} {:>10.2} {:>9.1} {:>9.1}",
                row.name,
                row.median(|sample| sample.wall),
                format!("({least:.2}-{most:.2})"),
                row.median(|sample| sample.moving),
                row.median(|sample| sample.cpu) / gib(options),
                row.median(|sample| sample.memory.anonymous as f64 / MIB),
                row.median(|sample| sample.memory.resident as f64 / MIB),
            )
            .unwrap();
            if let Some(base) = base {
                let ratio = |figure: fn(&Sample) -> f64| row.ratio(base, figure);
                let (wall, moving) = (ratio(|sample| sample.wall), ratio(|sample| sample.moving));
                write!(text, "   {wall:.2}  {moving:.2}  {:.2}", ratio(|sample| sample.cpu)).unwrap();
            }
            text.push('\n');
        }
    }
    text.push_str("On disk: the time until the page cache has it; write-back is not waited for.\n");
    text
}

/// All samples, for scripts that compare runs.
pub(crate) fn json(options: &Options, limits: &Limits, places: &[Place]) -> String {
    let limit = |(name, cost): &(String, Cost)| {
        format!(r#"    {{"name": "{name}", "wall_s": {:.4}, "cpu_s": {:.4}}}"#, cost.wall, cost.cpu)
    };
    let limits: Vec<String> = limits.iter().map(limit).collect();
    let mut rows = Vec::new();
    for place in places {
        for row in place.whole() {
            for (round, sample) in row.samples.iter().enumerate() {
                rows.push(format!(
                    r#"    {{"row": "leech from 1", "place": "{}", "client": "{}", "round": {}, "wall_s": {:.4}, "moving_s": {:.4}, "cpu_s": {:.4}, "anonymous_kib": {}, "resident_kib": {}}}"#,
                    place.name,
                    row.name,
                    round + 1,
                    sample.wall,
                    sample.moving,
                    sample.cpu,
                    sample.memory.anonymous,
                    sample.memory.resident,
                ));
            }
        }
    }
    format!(
        "{{\n  \"bytes\": {},\n  \"piece_length\": {},\n  \"limits\": [\n{}\n  ],\n  \"samples\": [\n{}\n  ]\n}}\n",
        options.size,
        crate::PIECE_LENGTH,
        limits.join(",\n"),
        rows.join(",\n"),
    )
}
