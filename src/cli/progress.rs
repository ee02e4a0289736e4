//! What is shown of a torrent that runs: a status line on a terminal, plain lines elsewhere, JSON for programs.

use super::json::Object;
use super::text::{count, cut, fit, percent, rate, size, span, time_left, width};
use crate::api::{Progress, Reason, State};
use crate::proto::id::InfoHash;

/// One torrent as main knows it.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) info_hash: InfoHash,
    pub(crate) state: Option<State>,
    /// What was said with the state.
    pub(crate) reason: Option<String>,
    pub(crate) progress: Progress,
    /// All that was wanted is there.
    pub(crate) complete: bool,
}

/// The columns that the shortest bar takes in a status line.
const BAR_MIN: usize = 9;

/// The columns that a word takes, more or less.
const WORD_MIN: usize = 7;

/// A bar of `columns` columns and two brackets.
pub(crate) fn bar(part: u64, whole: u64, columns: usize) -> String {
    let share = if whole == 0 { 1.0 } else { part.min(whole) as f64 / whole as f64 };
    let filled = ((share * columns as f64) as usize).min(columns);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(columns - filled))
}

/// A state as people read it.
pub(crate) fn state_word(state: State) -> &'static str {
    match state {
        State::Metadata => "metadata",
        State::Checking => "checking",
        State::Downloading => "downloading",
        State::Seeding => "seeding",
        State::Paused => "paused",
        State::Stopped => "stopped",
        State::Error | State::Full => "error",
    }
}

/// A kind of failure in `--json`.
pub(crate) fn reason_word(reason: Reason) -> &'static str {
    match reason {
        Reason::DiskFull => "disk_full",
        Reason::Io => "io",
        Reason::Tracker => "tracker",
        Reason::Hash => "hash",
        Reason::Metainfo => "metainfo",
        Reason::Network => "network",
    }
}

impl View {
    pub(crate) fn new(name: String, info_hash: InfoHash) -> View {
        View { name, info_hash, state: None, reason: None, progress: Progress::default(), complete: false }
    }

    /// Whether it comes no further, for now or for good.
    pub(crate) fn failed(&self) -> bool {
        matches!(self.state, Some(State::Error | State::Full))
    }

    /// Whether it has come to its end, good or bad. One that waits for space has not.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state, Some(State::Error | State::Stopped))
    }

    /// Whether nothing more is to be waited for by who does not stay for ever.
    pub(crate) fn settled(&self) -> bool {
        self.complete || self.failed() || self.ended()
    }

    /// Done and whole, in bytes: of the check while that runs.
    fn share(&self) -> (u64, u64) {
        match (self.state, self.progress.checked) {
            (Some(State::Metadata), _) => self.progress.metadata.unwrap_or((0, 1)),
            (Some(State::Checking), Some(checked)) => checked,
            _ => (self.progress.have, self.progress.total),
        }
    }

    fn peers(&self) -> String {
        let Progress { peers, seeds, web, .. } = self.progress;
        let peers = match seeds {
            0 => count(peers, "peer"),
            _ => format!("{} ({})", count(peers, "peer"), count(seeds, "seed")),
        };
        if web == 0 { peers } else { format!("{peers} + {}", count(web, "web seed")) }
    }

    /// Why nothing moves, or what was said with the state.
    fn why(&self) -> Option<&str> {
        self.reason.as_deref().or(self.progress.stuck.as_deref())
    }

    /// What there is to say besides bar and percentage, the most important first.
    fn facts(&self) -> Vec<String> {
        let p = &self.progress;
        let mut facts = Vec::new();
        match self.state {
            Some(State::Metadata) => {
                facts.push("metadata".into());
                facts.extend(self.why().map(str::to_string));
                facts.push(self.peers());
            }
            Some(State::Downloading) => {
                match self.why() {
                    Some(why) => facts.push(why.to_string()),
                    None => facts.push(format!("{} down", rate(p.download_rate))),
                }
                let left = time_left(p.total.saturating_sub(p.have), p.download_rate);
                facts.extend(left.map(|left| format!("{} left", span(left))));
                facts.push(self.peers());
                facts.push(format!("{} up", rate(p.upload_rate)));
                facts.push(format!("ratio {}", ratio(p.uploaded_ever, p.total)));
            }
            Some(State::Seeding) => {
                facts.push("seeding".into());
                facts.push(format!("{} up", rate(p.upload_rate)));
                facts.push(self.peers());
                facts.push(format!("ratio {}", ratio(p.uploaded_ever, p.total)));
                facts.extend(self.why().map(str::to_string));
            }
            Some(state) => {
                facts.push(state_word(state).into());
                facts.extend(self.reason.clone());
            }
            None => facts.push("starting".into()),
        }
        facts
    }

    /// The status line for a terminal of that many columns: the name is cut first, then facts go from the end, then
    /// the bar.
    pub(crate) fn status_line(&self, columns: usize) -> String {
        let columns = columns.saturating_sub(1);
        let (part, whole) = self.share();
        let percent = percent(part, whole);
        let mut tail = format!("{percent:>6}");
        // A third for the name when that is enough for the rest.
        let name = width(&self.name).min((columns / 3).max(8));
        let room = columns.saturating_sub(name + 2);
        for (at, fact) in self.facts().iter().enumerate() {
            let longer = format!("{tail}  {fact}");
            // The least of them comes only where there is room for the bar as well.
            if width(&longer) + if at < 4 { 0 } else { BAR_MIN } > room {
                // Of a sentence a part is better than nothing, but not less than a word.
                if width(&tail) <= 8 && room >= width(&tail) + WORD_MIN {
                    tail = cut(&longer, room);
                }
                break;
            }
            tail = longer;
        }
        let free = room.saturating_sub(width(&tail));
        let bar = if free >= BAR_MIN {
            format!("{} ", bar(part, whole, (free - 3).min(30)))
        } else {
            String::new()
        };
        let name = columns.saturating_sub(width(&tail) + width(&bar) + 2).min(width(&self.name));
        cut(&format!("{}  {bar}{tail}", fit(&self.name, name)), columns)
    }

    /// The plain line of a state.
    pub(crate) fn state_line(&self) -> String {
        let state = self.state.map_or("starting", state_word);
        match &self.reason {
            Some(reason) => format!("{}: {state}: {reason}\n", self.name),
            None => format!("{}: {state}\n", self.name),
        }
    }

    /// The plain line of how far it is.
    pub(crate) fn progress_line(&self) -> String {
        let (part, whole) = self.share();
        let facts = self.facts().join(", ");
        if self.state == Some(State::Metadata) && self.progress.metadata.is_none() {
            return format!("{}: {facts}\n", self.name);
        }
        format!("{}: {} of {}, {facts}\n", self.name, percent(part, whole), size(whole))
    }

    fn object(&self, event: &str) -> Object {
        Object::event(event).text("info_hash", &self.info_hash.to_string()).text("name", &self.name)
    }

    /// The `state` event.
    pub(crate) fn state_json(&self) -> String {
        let state = self.state.map_or("checking", state_word);
        self.object("state").text("state", state).maybe("reason", self.reason.as_deref()).finish()
    }

    /// The `progress` event.
    pub(crate) fn progress_json(&self) -> String {
        let p = &self.progress;
        self.object("progress")
            .raw("total", p.total)
            .raw("have", p.have)
            .raw("downloaded", p.downloaded)
            .raw("uploaded", p.uploaded)
            .raw("download_rate", p.download_rate)
            .raw("upload_rate", p.upload_rate)
            .raw("peers", p.peers)
            .raw("seeds", p.seeds)
            .raw("web_seeds", p.web)
            .finish()
    }

    /// The `complete` event.
    pub(crate) fn complete_json(&self) -> String {
        self.object("complete").finish()
    }

    /// The `error` event.
    pub(crate) fn error_json(&self, reason: Reason, message: &str) -> String {
        self.object("error").text("message", message).text("reason", reason_word(reason)).finish()
    }
}

/// What was uploaded, in times of the torrent's size.
pub(crate) fn ratio(uploaded: u64, total: u64) -> String {
    if total == 0 { "0.00".into() } else { format!("{:.2}", uploaded as f64 / total as f64) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn view(name: &str, state: State) -> View {
        let mut view = View::new(name.into(), InfoHash([0xab; 20]));
        view.state = Some(state);
        view.progress = Progress {
            total: 1000 << 20,
            have: 421 << 20,
            download_rate: 3 << 20,
            upload_rate: 120 << 10,
            peers: 12,
            seeds: 3,
            ..Progress::default()
        };
        view
    }

    #[test]
    fn a_status_line_fits_every_width() {
        for name in ["a", "日本語のとても長い名前のファイルですよ", &"long".repeat(99)] {
            for state in [State::Checking, State::Downloading, State::Seeding, State::Error, State::Stopped] {
                let mut view = view(name, state);
                for why in [None, Some("no peers: the tracker says nothing".repeat(3))] {
                    view.progress.stuck = why;
                    for columns in 0..200 {
                        let line = view.status_line(columns);
                        assert!(width(&line) <= columns.saturating_sub(1), "{columns}: {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_status_line_says_what_matters() {
        let mut view = view("debian.iso", State::Downloading);
        assert_eq!(
            view.status_line(100),
            "debian.iso  [#######----------]  42.1%  3.0 MiB/s down  3:13 left  12 peers (3 seeds)  120 KiB/s up"
        );
        assert!(view.status_line(120).ends_with("120 KiB/s up  ratio 0.00"), "{}", view.status_line(120));
        assert_eq!(view.status_line(40), "debian.iso   42.1%  3.0 MiB/s down");
        view.progress.web = 1;
        assert!(view.status_line(120).contains("  12 peers (3 seeds) + 1 web seed  "));
        view.progress.web = 0;
        view.progress.stuck = Some("no peers".into());
        view.progress.download_rate = 0;
        assert!(view.status_line(80).contains(" 42.1%  no peers  12 peers"));
        view.state = Some(State::Checking);
        view.progress.checked = Some((1, 2));
        view.progress.stuck = None;
        assert!(view.status_line(80).ends_with("]  50.0%  checking"), "{}", view.status_line(80));
        view.state = Some(State::Seeding);
        view.progress.uploaded_ever = 500 << 20;
        assert!(view.status_line(100).contains("ratio 0.50"));
    }

    #[test]
    fn states_and_reasons_are_those_that_programs_rely_on() {
        let mut view = view("x", State::Checking);
        for (state, word) in [
            (State::Metadata, "metadata"),
            (State::Checking, "checking"),
            (State::Downloading, "downloading"),
            (State::Seeding, "seeding"),
            (State::Paused, "paused"),
            (State::Stopped, "stopped"),
            (State::Error, "error"),
            (State::Full, "error"),
        ] {
            view.state = Some(state);
            assert!(view.state_json().ends_with(&format!(r#""name":"x","state":"{word}"}}"#)), "{word}");
        }
        for (reason, word) in [
            (Reason::DiskFull, "disk_full"),
            (Reason::Io, "io"),
            (Reason::Tracker, "tracker"),
            (Reason::Hash, "hash"),
            (Reason::Metainfo, "metainfo"),
            (Reason::Network, "network"),
        ] {
            let json = view.error_json(reason, "m");
            assert!(json.ends_with(&format!(r#""message":"m","reason":"{word}"}}"#)), "{json}");
        }
    }

    #[test]
    fn metadata_has_its_own_percentage() {
        let mut view = view("x", State::Metadata);
        (view.progress.total, view.progress.have, view.progress.seeds) = (0, 0, 0);
        assert_eq!(view.progress_line(), "x: metadata, 12 peers\n");
        view.progress.stuck = Some("no peer has the metadata".into());
        assert!(
            view.status_line(80).ends_with("   0.0%  metadata  no peer has the metadata  12 peers"),
            "{}",
            view.status_line(80)
        );
        (view.progress.stuck, view.progress.metadata) = (None, Some((1 << 14, 1 << 15)));
        assert_eq!(view.progress_line(), "x: 50.0% of 32.0 KiB, metadata, 12 peers\n");
        assert!(view.status_line(80).ends_with("]  50.0%  metadata  12 peers"), "{}", view.status_line(80));
    }

    #[test]
    fn plain_lines_and_json() {
        let mut view = view("x", State::Downloading);
        assert_eq!(
            view.progress_line(),
            "x: 42.1% of 1.0 GiB, 3.0 MiB/s down, 3:13 left, 12 peers (3 seeds), 120 KiB/s up, ratio 0.00\n"
        );
        assert_eq!(view.state_line(), "x: downloading\n");
        view.reason = Some("why".into());
        assert_eq!(view.state_line(), "x: downloading: why\n");
        let hash = "ab".repeat(20);
        let about = format!(r#""info_hash":"{hash}","name":"x""#);
        assert_eq!(
            view.state_json(),
            format!(r#"{{"event":"state",{about},"state":"downloading","reason":"why"}}"#)
        );
        assert_eq!(
            view.error_json(Reason::DiskFull, "no space"),
            format!(r#"{{"event":"error",{about},"message":"no space","reason":"disk_full"}}"#)
        );
        assert_eq!(view.complete_json(), format!(r#"{{"event":"complete",{about}}}"#));
        assert!(view.progress_json().ends_with(
            r#""downloaded":0,"uploaded":0,"download_rate":3145728,"upload_rate":122880,"peers":12,"seeds":3,"web_seeds":0}"#
        ));
        assert_eq!(
            (bar(1, 2, 4), bar(0, 0, 2), bar(9, 3, 2)),
            ("[##--]".into(), "[##]".into(), "[##]".into())
        );
    }
}
