//! What the user hears of a torrent's trackers: each thing once, and never a secret.

use super::{Announcer, News, Tier, Tracker};
use crate::api::TrackerFailure;
use crate::base::time::Time;

impl Announcer {
    /// What the trackers have to say that explains why nothing moves.
    pub(in crate::session) fn status(&self) -> Option<String> {
        if let Some(words) = self.tiers.iter().find_map(|tier| tier.warning.as_ref()) {
            return Some(format!("the tracker says: {words}"));
        }
        let (at, failure) = self.failure.as_ref()?;
        Some(match failure {
            TrackerFailure::Refused(_) => failure.to_string(),
            _ => format!("tracker {}: {failure}", self.trackers[*at].url),
        })
    }

    /// Each tracker in the order of BEP 12, redacted, and how it is.
    pub(in crate::session) fn table(&self, now: Time) -> Vec<(String, String)> {
        let seconds = |at: Time| at.0.saturating_sub(now.0) / 1_000_000;
        let word = |tier: &Tier, at: usize| {
            let tracker = &self.trackers[at];
            match &self.failure {
                _ if tracker.out.is_some() => "being asked".to_owned(),
                Some((of, failure)) if *of == at => failure.to_string(),
                _ if tracker.retry == Time::NEVER => "cannot be used".to_owned(),
                _ if tracker.failures > 0 => format!("failed, next try in {} s", seconds(tracker.retry)),
                _ if tier.current == Some(at) => format!("works, next announce in {} s", seconds(tier.due)),
                _ => "not asked".to_owned(),
            }
        };
        let all = self.tiers.iter().flat_map(|tier| tier.order().iter().map(move |at| (tier, *at)));
        all.map(|(tier, at)| (self.trackers[at].url.to_string(), word(tier, at))).collect()
    }

    /// Keeps the failure that says most for [`Announcer::status`]: a tracker's own words before a dead one, and
    /// anything before a URL that we cannot use.
    pub(super) fn remember(&mut self, at: usize, failure: TrackerFailure) {
        let weight = |f: &TrackerFailure| match f {
            TrackerFailure::Unsupported(_) => 0,
            TrackerFailure::Network(_) | TrackerFailure::Answer(_) | TrackerFailure::Compressed(_) => 1,
            TrackerFailure::Refused(_) => 2,
        };
        let old = self.failure.as_ref().filter(|(of, _)| *of != at).map_or(0, |(_, f)| weight(f));
        if !self.has_current() && weight(&failure) >= old {
            self.failure = Some((at, failure));
        }
    }
}

impl Tracker {
    /// The news, unless it is what the user was told last about this tracker.
    pub(super) fn unsaid(&mut self, news: Option<News>) -> Option<News> {
        let said = std::mem::replace(&mut self.said, news.clone());
        news.filter(|_| said != self.said)
    }
}
