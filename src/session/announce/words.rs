//! What the user hears of a torrent's trackers: each thing once, and never a secret.

use super::{Announcer, News};
use crate::api::TrackerFailure;

impl Announcer {
    /// What the trackers have to say that explains why nothing moves.
    pub(in crate::session) fn status(&self) -> Option<String> {
        if let Some(words) = &self.warning {
            return Some(format!("the tracker says: {words}"));
        }
        let (at, failure) = self.failure.as_ref()?;
        Some(match failure {
            TrackerFailure::Refused(_) => failure.to_string(),
            _ => format!("tracker {}: {failure}", self.trackers[*at].url),
        })
    }

    /// Keeps the failure that says most for [`Announcer::status`]: a tracker's own words before a dead one, and
    /// anything before a URL that we cannot use.
    pub(super) fn remember(&mut self, at: usize, failure: TrackerFailure) {
        let weight = |f: &TrackerFailure| match f {
            TrackerFailure::Unsupported(_) => 0,
            TrackerFailure::Network(_) | TrackerFailure::Answer(_) => 1,
            TrackerFailure::Refused(_) => 2,
        };
        let old = self.failure.as_ref().filter(|(of, _)| *of != at).map_or(0, |(_, f)| weight(f));
        if self.current.is_none() && weight(&failure) >= old {
            self.failure = Some((at, failure));
        }
    }

    /// The news, unless it is what was said last about this tracker.
    pub(super) fn unsaid(&mut self, at: usize, news: Option<(String, News)>) -> Option<News> {
        let (line, news) = news.unzip();
        let said = std::mem::replace(&mut self.trackers[at].said, line);
        news.filter(|_| said != self.trackers[at].said)
    }
}
