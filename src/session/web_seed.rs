//! The web seeds of one torrent (BEP 19): where their files are, how each has done, and which is asked next. What is
//! under way is in [`super::web`].

use super::picker::{Pieces, Sender};
use super::whole_files::WholeFiles;
use crate::api::{WebFailure, WebPart, WebStatus};
use crate::base::bits::Bitfield;
use crate::base::rate::Rate;
use crate::base::time::Time;
use crate::limits::{
    HTTP_REDIRECTS_MAX, WEB_HAS_MAX, WEB_LOOK_UPS, WEB_MISSES_MAX, WEB_MOVED_ALL, WEB_MOVED_MAX,
    WEB_PASSES_WASTED, WEB_RETRY, WEB_RETRY_MAX, WEB_RETRY_SOON, WEB_SEEDS_MAX,
};
use crate::proto::layout::Block;
use crate::proto::metainfo::Metainfo;
use crate::proto::scope::{Scope, scope};
use crate::proto::tracker::url::{Host, Url};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A host and its port.
pub(super) type Place = (Host, u16);

/// As whom the blocks of a web seed come: in a network that leads nowhere (RFC 6666), from a port that is none.
pub(super) fn sender(seed: usize) -> Sender {
    let at = u16::try_from(seed).unwrap_or(u16::MAX);
    SocketAddr::new(Ipv6Addr::new(0x0100, 0, 0, 0, 0, 0, 0, at).into(), 0)
}

/// The web seed that this sender is.
pub(super) fn seed_of(from: Sender) -> Option<usize> {
    let IpAddr::V6(ip) = from.ip() else { return None };
    let seed = usize::from(ip.segments()[7]);
    (sender(seed) == from).then_some(seed)
}

/// What is to be done about a web seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Go on.
    Silent,
    /// The same, and the user should know.
    Warn(String),
}

/// What came of making a plan.
#[derive(Debug)]
pub(super) enum Planned {
    Parts(Vec<WebPart>),
    /// This host has to be looked up first.
    Look(Place),
    /// This file cannot be asked for.
    Missing(usize, String),
}

/// One web seed.
pub(super) struct WebSeed {
    /// As it was given.
    url: Url,
    /// Where it is as a whole, and where single files are, by its own redirects.
    base: Option<Url>,
    moved: BTreeMap<usize, Url>,
    /// Redirects since something came.
    hops: usize,
    /// Redirects turned out to lead nowhere, and it was asked anew.
    retraced: bool,
    hosts: BTreeMap<Place, Option<Arc<[IpAddr]>>>,
    /// It serves whole files only: how far they are read.
    pub(super) whole: Option<WholeFiles>,
    /// The pieces that it has, where those are not all.
    has: Option<Bitfield>,
    /// Files in a row that were not there.
    misses: u32,
    /// The thread that fetches from it.
    pub(super) slot: Option<u8>,
    pub(super) down: Rate,
    pub(super) downloaded: u64,
    failures: u32,
    /// The last failure was one of the network.
    unreached: bool,
    /// It is let alone until then.
    rest: Time,
    /// Why it is not used any more.
    dropped: Option<String>,
    /// It sent bytes that are not the torrent's.
    corrupt: bool,
    /// How it failed last, as the user was told.
    said: Option<String>,
}

impl WebSeed {
    fn new(url: Url) -> WebSeed {
        WebSeed {
            url,
            base: None,
            moved: BTreeMap::new(),
            hops: 0,
            retraced: false,
            hosts: BTreeMap::new(),
            whole: None,
            has: None,
            misses: 0,
            slot: None,
            down: Rate::new(),
            downloaded: 0,
            failures: 0,
            unreached: false,
            rest: Time::ZERO,
            dropped: None,
            corrupt: false,
            said: None,
        }
    }

    /// The pieces that it has.
    pub(super) fn pieces(&self) -> Pieces<'_> {
        self.has.as_ref().map_or(Pieces::All, Pieces::Some)
    }

    /// Bytes a second of late; 0 when that is not known.
    pub(super) fn rate(&self, now: Time) -> u64 {
        self.down.per_second(3, now)
    }

    fn looking(&self) -> bool {
        self.hosts.values().any(Option::is_none)
    }

    /// Whether its name is yet to be looked up.
    fn needs_look_up(&self) -> bool {
        matches!(self.url.host(), Host::Name(_)) && !self.hosts.contains_key(&place(&self.url))
    }

    /// Whether it may be asked once its rest is over.
    fn usable(&self) -> bool {
        self.dropped.is_none() && self.slot.is_none() && !self.looking()
    }

    /// Where a file is. None: its URL would be too long.
    fn file_url(&self, meta: &Metainfo, file: usize) -> Option<Url> {
        if let Some(url) = self.moved.get(&file) {
            return Some(url.clone());
        }
        let url = self.base.as_ref().unwrap_or(&self.url);
        if meta.single && !url.is_folder() { Some(url.clone()) } else { url.below(names(meta, file)) }
    }

    /// The ranges that these blocks are made of.
    pub(super) fn plan(&self, meta: &Metainfo, blocks: &[Block]) -> Planned {
        let mut parts: Vec<WebPart> = Vec::new();
        for block in blocks {
            let layout = &meta.layout;
            for span in layout.spans(layout.offset(*block), block.len.into()) {
                match (parts.last_mut(), meta.files.get(span.file).is_some_and(|file| file.pad)) {
                    (Some(WebPart::Zeros(len)), true) => *len += span.len,
                    (_, true) => parts.push(WebPart::Zeros(span.len)),
                    (Some(WebPart::Range { file, from, len, .. }), _)
                        if *file == span.file && *from + *len == span.offset =>
                    {
                        *len += span.len;
                    }
                    _ => {
                        let Some(url) = self.file_url(meta, span.file) else {
                            return Planned::Missing(span.file, "its URL is too long".into());
                        };
                        let addrs = match url.host() {
                            Host::Ip(ip) => Some(Arc::from([*ip])),
                            Host::Name(_) => self.hosts.get(&place(&url)).cloned().flatten(),
                        };
                        let Some(addrs) = addrs else { return Planned::Look(place(&url)) };
                        let (file, size) = (span.file, layout.file_len(span.file));
                        let (url, from, len) = (Arc::new(url), span.offset, span.len);
                        parts.push(WebPart::Range { url, addrs, file, size, from, len });
                    }
                }
            }
        }
        Planned::Parts(parts)
    }

    /// A host that it needs is being looked up.
    pub(super) fn look(&mut self, place: Place) {
        self.hosts.insert(place, None);
    }

    /// An order was filled.
    pub(super) fn on_done(&mut self) {
        (self.failures, self.hops, self.misses, self.retraced) = (0, 0, 0, false);
        self.said = None;
    }

    /// It failed; something had come since the last time, or not.
    pub(super) fn on_failure(
        &mut self,
        failure: WebFailure,
        came: bool,
        meta: &Metainfo,
        missing: impl Fn(u32) -> bool,
        now: Time,
    ) -> Verdict {
        let wasted = self.whole.as_mut().map_or(0, WholeFiles::end_pass);
        if wasted >= WEB_PASSES_WASTED {
            return self.drop(WASTED.into());
        }
        self.unreached = matches!(failure, WebFailure::Network(_));
        match failure {
            WebFailure::NoRanges if self.whole.is_none() => {
                log::debug!("web seed {}: it serves whole files only, so they are read in order", self.url);
                self.whole = Some(WholeFiles::default());
                Verdict::Silent
            }
            WebFailure::NoRanges => self.drop("it does not serve parts of files (ranges)".into()),
            WebFailure::Network(why) => {
                self.forget_ways();
                self.back_off(why, if came { WEB_RETRY_SOON } else { WEB_RETRY }, Duration::ZERO, now)
            }
            WebFailure::Busy { status, after } => {
                let why = format!("it has no time for us (HTTP status {status})");
                let first = if after.is_some() { WEB_RETRY_SOON } else { WEB_RETRY };
                self.back_off(why, first, after.unwrap_or_default(), now)
            }
            WebFailure::Moved { file, to } => self.on_moved(file, to, meta),
            WebFailure::Missing { file, why } => self.on_missing(file, &why, meta, missing, now),
            WebFailure::Useless(why) => self.drop(why),
        }
    }

    /// Nothing more of its whole files is wanted in this pass. The next one is begun after a while: what is missing may be
    /// on its way from others.
    pub(super) fn end_pass(&mut self, now: Time) -> Verdict {
        let Some(whole) = self.whole.as_mut().filter(|whole| whole.pos() > 0) else { return Verdict::Silent };
        let wasted = whole.end_pass();
        if wasted >= WEB_PASSES_WASTED {
            return self.drop(WASTED.into());
        }
        self.rest = now + WEB_RETRY * (1 << wasted);
        Verdict::Silent
    }

    /// Where redirects led may have changed: the next time it is asked anew, and its addresses looked up.
    fn forget_ways(&mut self) {
        self.base = None;
        self.moved.clear();
        self.hosts.clear();
    }

    fn back_off(&mut self, why: String, first: Duration, least: Duration, now: Time) -> Verdict {
        let wait = (first * (1 << self.failures.min(12))).max(least).min(WEB_RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.rest = now + wait;
        // What ends in the middle and goes on at once is no news.
        let told = self.said.as_ref() == Some(&why) || wait <= WEB_RETRY_SOON;
        let words = format!("web seed {}: {why}; it is asked again in {} s", self.url, wait.as_secs());
        log::debug!("{words}");
        if told {
            return Verdict::Silent;
        }
        self.said = Some(why);
        Verdict::Warn(words)
    }

    /// It is not used any more.
    pub(super) fn drop(&mut self, why: String) -> Verdict {
        let words = format!("web seed {}: {why}; it is not used any more", self.url);
        self.dropped = Some(why);
        self.has = None;
        self.forget_ways();
        Verdict::Warn(words)
    }

    fn on_moved(&mut self, file: usize, to: Url, meta: &Metainfo) -> Verdict {
        self.hops += 1;
        if self.hops > HTTP_REDIRECTS_MAX {
            return self.drop("it redirects too often".into());
        }
        log::debug!("web seed {}: file {file} is at {to}", self.url);
        if let Host::Ip(ip) = to.host()
            && scope(*ip) > self.scope()
        {
            return self.drop(INWARD.into());
        }
        let above = if meta.single { None } else { to.above(names(meta, file)) };
        match above {
            Some(base) => {
                self.moved.clear();
                self.base = Some(base);
            }
            None => {
                if self.moved.len() >= WEB_MOVED_MAX {
                    self.moved.clear();
                    // Each of these may have been on a host of its own.
                    let own = place(&self.url);
                    self.hosts.retain(|place, _| *place == own);
                }
                self.moved.insert(file, to);
            }
        }
        Verdict::Silent
    }

    /// A file is not there: pieces with bytes of it are asked of others.
    pub(super) fn on_missing(
        &mut self,
        file: usize,
        why: &str,
        meta: &Metainfo,
        missing: impl Fn(u32) -> bool,
        now: Time,
    ) -> Verdict {
        let redirected = self.base.is_some() || self.moved.contains_key(&file);
        if redirected && !std::mem::replace(&mut self.retraced, true) {
            // Where it was sent to is gone, as such places are after some minutes.
            self.forget_ways();
            return self.back_off(why.to_string(), WEB_RETRY_SOON, Duration::ZERO, now);
        }
        let pieces = meta.layout.pieces();
        let has = self.has.get_or_insert_with(|| Bitfield::full(pieces));
        for piece in meta.layout.file_pieces(file) {
            has.clear(piece);
        }
        self.misses += 1;
        let name = meta.paths.display(file);
        if !has.iter().any(missing) {
            return self.drop(format!("it does not have {name} ({why})"));
        }
        if self.misses >= WEB_MISSES_MAX {
            return self.drop(format!("it does not have {name} nor the files before it ({why})"));
        }
        let words = format!("web seed {}: it does not have {name} ({why})", self.url);
        let first = self.said.replace(why.to_string()).is_none();
        if first { Verdict::Warn(words) } else { Verdict::Silent }
    }

    /// How it is, in a word or some.
    fn word(&self, now: Time) -> String {
        match &self.dropped {
            Some(why) => format!("not used: {why}"),
            None if self.slot.is_some() && self.whole.is_some() => "is asked for whole files".into(),
            None if self.slot.is_some() => "is asked".into(),
            None if self.looking() => "its name is looked up".into(),
            None if self.rest > now => {
                let why = self.said.as_deref().unwrap_or("failed");
                format!("{why}; again in {} s", self.rest.since(now).as_secs() + 1)
            }
            None => "at rest".into(),
        }
    }
}

/// The host of a URL.
fn place(url: &Url) -> Place {
    (url.host().clone(), url.port())
}

/// The names of a file below a web seed's URL, as the torrent has them: ours may be others, where those were not safe.
fn names(meta: &Metainfo, file: usize) -> impl Iterator<Item = &str> {
    let renamed = |file: Option<usize>| {
        let at = meta.renamed.binary_search_by_key(&file, |renamed| renamed.file).ok()?;
        Some(meta.renamed[at].from.as_str())
    };
    let top = renamed(None).unwrap_or(&meta.name);
    let own = if meta.single { None } else { renamed(Some(file)) };
    let rest = meta.paths.names(file).skip(if own.is_some() { usize::MAX } else { 1 });
    std::iter::once(top).chain(own.into_iter().flat_map(|own| own.split('/'))).chain(rest)
}

/// All web seeds of a torrent.
#[derive(Default)]
pub(super) struct WebSeeds {
    seeds: Vec<WebSeed>,
    /// The torrent stands in the line of those that would fetch.
    pub(super) queued: bool,
}

impl WebSeeds {
    pub(super) fn new(urls: &[Url]) -> WebSeeds {
        let mut all = WebSeeds::default();
        all.add(urls);
        all
    }

    /// Adds those that are new; tells how many.
    pub(super) fn add(&mut self, urls: &[Url]) -> usize {
        let before = self.seeds.len();
        for url in urls {
            if self.seeds.len() < WEB_SEEDS_MAX && !self.seeds.iter().any(|seed| seed.url == *url) {
                self.seeds.push(WebSeed::new(url.clone()));
            }
        }
        self.seeds.len() - before
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seeds.is_empty()
    }

    pub(super) fn get(&self, seed: usize) -> Option<&WebSeed> {
        self.seeds.get(seed)
    }

    pub(super) fn get_mut(&mut self, seed: usize) -> Option<&mut WebSeed> {
        self.seeds.get_mut(seed)
    }

    /// How many something is fetched from.
    pub(super) fn active(&self) -> usize {
        self.seeds.iter().filter(|seed| seed.slot.is_some()).count()
    }

    /// The one to be asked next: of those that failed least, the first.
    pub(super) fn next(&self, now: Time, tried: &[usize]) -> Option<usize> {
        let busy = self.seeds.iter().filter(|seed| seed.looking()).count() >= WEB_LOOK_UPS;
        // Two that are read in order would bring the same bytes.
        let reading = self.seeds.iter().any(|seed| seed.whole.is_some() && seed.slot.is_some());
        let ready = |(at, seed): &(usize, &WebSeed)| {
            let waits = busy && seed.needs_look_up() || reading && seed.whole.is_some();
            seed.usable() && seed.rest <= now && !tried.contains(at) && !waits
        };
        let ready = self.seeds.iter().enumerate().filter(ready);
        ready.min_by_key(|(_, seed)| seed.failures).map(|(at, _)| at)
    }

    /// Holds what is remembered of all of them within bounds, after this one had a redirect or lacked a file. Gives what to
    /// say if it is not used any more.
    pub(super) fn limit_memory(&mut self, seed: usize) -> Option<String> {
        let bytes = |seed: &WebSeed| seed.has.as_ref().map_or(0, |has| u64::from(has.len()).div_ceil(8));
        let moved: usize = self.seeds.iter().map(|seed| seed.moved.len()).sum();
        let has: u64 = self.seeds.iter().map(bytes).sum();
        let last = self.seeds.get_mut(seed)?;
        if moved > WEB_MOVED_ALL {
            last.moved.clear();
        }
        if has <= WEB_HAS_MAX || last.has.is_none() {
            return None;
        }
        match last.drop("it lacks files, and so do many others".into()) {
            Verdict::Warn(words) => Some(words),
            Verdict::Silent => None,
        }
    }

    /// When there is something to do about them, if nothing else happens.
    pub(super) fn due(&self, tick: Time) -> Time {
        let due = |seed: &WebSeed| match seed.slot {
            Some(_) => tick,
            None if seed.usable() => seed.rest.max(tick),
            None => Time::NEVER,
        };
        self.seeds.iter().map(due).min().unwrap_or(Time::NEVER)
    }

    /// A name was looked up: those that wait for it may go on. Tells whether there was one, and what to say.
    pub(super) fn on_resolved(
        &mut self,
        place: &Place,
        result: &Result<Vec<SocketAddr>, String>,
        now: Time,
    ) -> (bool, Vec<String>) {
        let (mut any, mut words) = (false, Vec::new());
        for seed in &mut self.seeds {
            if seed.hosts.get(place) != Some(&None) {
                continue;
            }
            any = true;
            let verdict = match result {
                Ok(addrs) => seed.on_addresses(place, addrs.iter().map(SocketAddr::ip).collect()),
                Err(why) => {
                    seed.unreached = true;
                    seed.forget_ways();
                    seed.back_off(why.clone(), WEB_RETRY, Duration::ZERO, now)
                }
            };
            if let Verdict::Warn(text) = verdict {
                words.push(text);
            }
        }
        (any, words)
    }

    /// Our network is back: those that could not be reached are asked at once.
    pub(super) fn on_network_back(&mut self) {
        for seed in self.seeds.iter_mut().filter(|seed| seed.unreached) {
            (seed.rest, seed.failures, seed.unreached) = (Time::ZERO, 0, false);
        }
    }

    /// The torrent halts: look-ups are withdrawn, and the next time all but liars have another chance.
    pub(super) fn halt(&mut self) {
        for seed in &mut self.seeds {
            seed.hosts.retain(|_, addrs| addrs.is_some());
            seed.whole = seed.whole.take().map(|_| WholeFiles::default());
            if !seed.corrupt {
                (seed.dropped, seed.has) = (None, None);
                (seed.rest, seed.failures, seed.misses, seed.hops) = (Time::ZERO, 0, 0, 0);
            }
        }
    }

    /// One sent bytes that are not the torrent's.
    pub(super) fn convict(&mut self, seed: usize) -> Option<String> {
        let seed = self.seeds.get_mut(seed)?;
        if std::mem::replace(&mut seed.corrupt, true) {
            return None;
        }
        match seed.drop("it sent corrupt data".into()) {
            Verdict::Warn(words) => Some(words),
            Verdict::Silent => None,
        }
    }

    /// Why nothing comes from them; None when there is none, or none that could do it.
    pub(super) fn stuck(&self, now: Time) -> Option<String> {
        let of = |seed: &WebSeed| match seed.slot {
            Some(_) => format!("waits for web seed {}", seed.url),
            None => format!("web seed {}: {}", seed.url, seed.word(now)),
        };
        let live = self.seeds.iter().filter(|seed| seed.dropped.is_none());
        live.min_by_key(|seed| (seed.slot.is_none(), seed.rest)).map(of)
    }

    /// Each with a word on how it is.
    pub(super) fn table(&self, now: Time, most: usize) -> Vec<WebStatus> {
        let row = |seed: &WebSeed| WebStatus {
            url: seed.url.to_string(),
            word: seed.word(now),
            download_rate: seed.rate(now),
            downloaded: seed.downloaded,
        };
        self.seeds.iter().take(most).map(row).collect()
    }
}

const WASTED: &str = "it serves whole files only, and what is missing costs too much";
const INWARD: &str = "it redirects further into a private network than it is itself";

impl WebSeed {
    /// From how far it can be seen; what is not known yet is taken for public.
    fn scope(&self) -> Scope {
        match self.url.host() {
            Host::Ip(ip) => scope(*ip),
            Host::Name(_) => {
                let addrs = self.hosts.get(&place(&self.url)).and_then(Option::as_ref);
                addrs.and_then(|addrs| addrs.iter().map(|ip| scope(*ip)).min()).unwrap_or(Scope::Global)
            }
        }
    }

    /// Addresses of a host. A server must not send us further inside than it is itself.
    fn on_addresses(&mut self, place: &Place, addrs: Vec<IpAddr>) -> Verdict {
        let foreign = *place != self::place(&self.url);
        if foreign && addrs.iter().any(|ip| scope(*ip) > self.scope()) {
            self.hosts.remove(place);
            return self.drop(INWARD.into());
        }
        self.hosts.insert(place.clone(), Some(addrs.into()));
        Verdict::Silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(count: usize) -> WebSeeds {
        let urls: Vec<Url> =
            (0..count).map(|n| Url::parse(&format!("http://m{n}.example/")).unwrap()).collect();
        WebSeeds::new(&urls)
    }

    #[test]
    fn hundreds_of_mirrors_are_looked_up_a_few_at_a_time() {
        let mut all = seeds(400);
        let mut looked_up = Vec::new();
        while let Some(at) = all.next(Time::ZERO, &[]) {
            let place = place(&all.seeds[at].url);
            all.get_mut(at).unwrap().look(place.clone());
            looked_up.push((at, place));
        }
        assert_eq!(looked_up.len(), WEB_LOOK_UPS);
        let (at, place) = &looked_up[2];
        let addr = SocketAddr::from(([9, 8, 7, 6], 80));
        assert!(all.on_resolved(place, &Ok(vec![addr]), Time::ZERO).0);
        // One that has an address comes before one that needs a look-up, which may be made again.
        assert_eq!(all.next(Time::ZERO, &[]), Some(*at));
        assert_eq!(all.next(Time::ZERO, &[*at]), Some(WEB_LOOK_UPS));
    }

    #[test]
    fn one_web_seed_without_ranges_is_read_at_a_time() {
        let mut all = WebSeeds::new(&[1, 2, 3].map(|n| Url::parse(&format!("http://192.0.2.{n}/")).unwrap()));
        for at in [0, 1] {
            all.get_mut(at).unwrap().whole = Some(WholeFiles::default());
        }
        all.get_mut(0).unwrap().slot = Some(0);
        assert_eq!((all.next(Time::ZERO, &[]), all.next(Time::ZERO, &[2])), (Some(2), None));
        all.get_mut(0).unwrap().slot = None;
        assert_eq!(all.next(Time::ZERO, &[0]), Some(1));
    }

    #[test]
    fn what_is_remembered_of_all_web_seeds_is_bounded() {
        const PIECES: u32 = 1 << 21;
        let mut all = seeds(100);
        let mut dropped = 0;
        for at in 0..100 {
            let seed = all.get_mut(at).unwrap();
            seed.has = Some(Bitfield::full(PIECES));
            for file in 0..WEB_MOVED_MAX {
                seed.moved.insert(file, seed.url.clone());
            }
            dropped += usize::from(all.limit_memory(at).is_some());
        }
        let kept = all.seeds.iter().filter(|seed| seed.has.is_some()).count();
        assert_eq!((kept, dropped), (16, 84));
        assert!(all.seeds.iter().map(|seed| seed.moved.len()).sum::<usize>() <= WEB_MOVED_ALL);
    }
}
