//! What came of a row: the samples of each client, and how they compare.

use std::error::Error;

use crate::machine::Cost;
use crate::rows::{Row, Sample};
use crate::shared::guard;

/// All that a run has brought.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) looked: Vec<Looked>,
    /// Rows that could not be measured, on which file system, and why.
    pub(crate) left_out: Vec<(&'static str, &'static str, String)>,
    /// All rows that were asked for had their turn.
    pub(crate) complete: bool,
    /// Seconds for all of it.
    pub(crate) took: f64,
}

impl Results {
    /// What a signal ended was not left out.
    pub(crate) fn leave_out(&mut self, row: &Row, place: &'static str, error: &dyn Error) {
        if !guard::is_stopped() {
            println!("left out: {error}");
            self.left_out.push((row.name, place, error.to_string()));
        }
    }
}

/// A row on one file system.
pub(crate) struct Outcome {
    pub(crate) row: &'static Row,
    pub(crate) place: &'static str,
    pub(crate) bytes: usize,
    /// What a perfect client would take for a GiB.
    pub(crate) limit: Cost,
    /// Of so many files, where that is not one.
    pub(crate) files: Option<usize>,
    pub(crate) entries: Vec<Entry>,
    /// Seconds for all rounds, with what is before and after each.
    pub(crate) took: f64,
}

/// One client in it.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// With the number of the round.
    pub(crate) samples: Vec<(usize, Sample)>,
    /// System calls of one run that was not timed.
    pub(crate) calls: Option<u64>,
    /// Why it was left out.
    pub(crate) failed: Option<String>,
}

impl Entry {
    pub(crate) fn new(name: &'static str) -> Entry {
        Entry { name, samples: Vec::new(), calls: None, failed: None }
    }

    pub(crate) fn figures(&self, figure: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(|(_, sample)| figure(sample)).collect()
    }

    pub(crate) fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.figures(figure))
    }

    /// The median of the ratios of the base's figures to its own, of the rounds that both were in.
    pub(crate) fn ratio(&self, base: &Entry, figure: impl Fn(&Sample) -> f64) -> f64 {
        let mut ratios = Vec::new();
        for (round, own) in &self.samples {
            if let Some((_, other)) = base.samples.iter().find(|(of, _)| of == round) {
                ratios.push(figure(other) / figure(own));
            }
        }
        median(ratios)
    }
}

impl Outcome {
    pub(crate) fn gib(&self) -> f64 {
        self.bytes as f64 / (1u64 << 30) as f64
    }

    pub(crate) fn mib(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20)
    }

    /// Whom the ratios are of.
    pub(crate) fn base(&self) -> Option<&Entry> {
        self.entries.first().filter(|entry| !entry.samples.is_empty())
    }
}

/// What was found looking at ptorrent alone, on one file system.
pub(crate) struct Looked {
    pub(crate) row: &'static Row,
    pub(crate) place: &'static str,
    pub(crate) figures: Vec<Figure>,
    /// Seconds for it.
    pub(crate) took: f64,
}

pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

impl Figure {
    pub(crate) fn new(name: &'static str, value: f64, unit: &'static str) -> Figure {
        Figure { name, value, unit }
    }
}

/// The middle one, or the middle of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length.is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}
