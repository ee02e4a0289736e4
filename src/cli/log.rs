//! The log: from any thread through a bounded channel to main, the one writer of the terminal. A line that finds the
//! channel full is dropped and counted, so a stalled pipe stops nobody.

use super::options::Common;
use super::text::date;
use crate::limits;
use crate::proto::metainfo::printable;
use crossbeam_channel::{Receiver, Sender, bounded, never};
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// A line of the log.
pub(crate) struct Line {
    pub(crate) level: Level,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    /// The module that says it.
    pub(crate) target: &'static str,
    /// Fit for a terminal.
    pub(crate) text: String,
}

impl Line {
    /// A line said now.
    #[expect(clippy::disallowed_methods, reason = "the log tells the time of day")]
    pub(crate) fn new(level: Level, target: &'static str, text: &str) -> Line {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut text = printable(text).to_string();
        if text.len() > limits::LOG_LINE_MAX {
            let end = (0..=limits::LOG_LINE_MAX).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            text.push_str("...");
        }
        Line { level, at: u64::try_from(since.as_millis()).unwrap_or(u64::MAX), target, text }
    }

    /// As it stands in a log file.
    pub(crate) fn in_file(&self) -> String {
        format!("{} {:5} {}: {}\n", self.moment(), self.level, self.target, self.text)
    }

    /// As it stands on a terminal: what concerns the user in the program's name, the rest with its time and place.
    pub(crate) fn on_terminal(&self) -> String {
        match self.level {
            Level::Error => format!("ptorrent: {}\n", self.text),
            Level::Warn => format!("ptorrent: warning: {}\n", self.text),
            _ => self.in_file(),
        }
    }

    /// In UTC.
    fn moment(&self) -> String {
        let date = date(i64::try_from(self.at / 1000).unwrap_or(i64::MAX));
        format!("{}.{:03}Z", date.replacen(' ', "T", 1), self.at % 1000)
    }
}

/// The end of the log that main holds.
pub(crate) struct Source {
    /// What was said.
    pub(crate) lines: Receiver<Line>,
    dropped: Arc<AtomicU64>,
}

impl Source {
    /// A source of nothing.
    pub(crate) fn none() -> Source {
        Source { lines: never(), dropped: Arc::default() }
    }

    /// How many lines were dropped since the last call.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

struct Sink {
    filter: env_logger::Logger,
    lines: Sender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        let target = record.module_path_static().unwrap_or("?");
        let line = Line::new(record.level(), target, &record.args().to_string());
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// The least level that is said, by the options.
pub(crate) fn level(common: &Common) -> LevelFilter {
    match (common.quiet, common.verbose) {
        (true, _) => LevelFilter::Error,
        (_, 0) => LevelFilter::Warn,
        (_, 1) => LevelFilter::Info,
        (_, 2) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    }
}

/// Makes the log of this process. There is one: when `run` is called again, as tests do, the later calls have none.
pub(crate) fn install(common: &Common, rust_log: Option<&str>) -> Source {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level(common));
    builder.filter_module("polling", level(common).min(LevelFilter::Warn));
    if let Some(filters) = rust_log {
        builder.parse_filters(filters);
    }
    let filter = builder.build();
    let (max, (sender, lines), dropped) = (filter.filter(), bounded(limits::LOG_LINES), Arc::default());
    let sink = Sink { filter, lines: sender, dropped: Arc::clone(&dropped) };
    if log::set_boxed_logger(Box::new(sink)).is_err() {
        return Source::none();
    }
    log::set_max_level(max);
    Source { lines, dropped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_short_and_controls_no_terminal() {
        let mut line = Line::new(Level::Error, "ptorrent::x", "bad \x1b[31m\nname");
        line.at = 951_782_399_007;
        assert!(!line.text.contains(['\x1b', '\n']) && line.text.starts_with("bad "));
        assert!(line.on_terminal().starts_with("ptorrent: bad "));
        assert!(line.in_file().starts_with("2000-02-28T23:59:59.007Z ERROR ptorrent::x: bad "));
        line.level = Level::Warn;
        assert!(line.on_terminal().starts_with("ptorrent: warning: bad "));
        let long = Line::new(Level::Info, "x", &"é".repeat(limits::LOG_LINE_MAX));
        assert!(long.text.len() <= limits::LOG_LINE_MAX + 3 && long.text.ends_with("é..."));
    }

    #[test]
    fn a_full_channel_drops_and_counts() {
        let (sender, lines) = bounded(1);
        let source = Source { lines, dropped: Arc::default() };
        let filter = env_logger::Builder::new().filter_level(LevelFilter::Info).build();
        let sink = Sink { filter, lines: sender, dropped: Arc::clone(&source.dropped) };
        for level in [Level::Debug, Level::Info, Level::Warn, Level::Error] {
            sink.log(
                &Record::builder().level(level).args(format_args!("x")).module_path_static(Some("m")).build(),
            );
        }
        assert_eq!((source.lines.len(), source.dropped(), source.dropped()), (1, 2, 0));
    }
}
