//! From a TORRENT of the command line to what it says: the path of a .torrent file, a magnet link, an info-hash, or the
//! URL of a .torrent file.

use super::console::{Console, Stream, now, shown};
use super::text::cut;
use super::{Error, failed};
use crate::api::{Reason, TrackerFailure};
use crate::engine::{self, Client, Downloaded, Signals};
use crate::limits::TORRENT_FILE_MAX;
use crate::proto::id::InfoHash;
use crate::proto::magnet::{Magnet, is_magnet};
use crate::proto::metainfo::{Metainfo, printable};
use crate::proto::tracker::Scheme;
use crate::proto::tracker::unusable::{Reason as Unusable, Role, UnusableUrls};
use crate::proto::tracker::url::{self, Url};
use crossbeam_channel::RecvTimeoutError;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// How often a wait looks for a signal, and at the clock.
const LOOK: Duration = Duration::from_millis(100);

/// Where to look for what is no file of the user's.
pub(crate) struct Sources<'s> {
    /// How a URL is asked.
    pub(crate) client: Client,
    /// The state folder, which keeps what magnet links once led to.
    pub(crate) state: Option<&'s Path>,
    /// Signals that end what takes time.
    pub(crate) signals: Option<&'s Signals>,
}

impl Sources<'_> {
    /// An error when a signal has asked for the end.
    pub(crate) fn check_signal(&self) -> Result<(), Error> {
        self.signals.and_then(Signals::ending).map_or(Ok(()), |signal| Err(Error::Signal(signal)))
    }
}

/// What a TORRENT has led to.
pub(crate) struct Found {
    /// What is known: all, or for a link not much but the info-hash (see [`Metainfo::is_known`]).
    pub(crate) meta: Metainfo,
    /// The link, where it was one.
    pub(crate) magnet: Option<Magnet>,
}

/// What a TORRENT is.
enum Kind {
    Path,
    Link(Magnet),
    Url(Url),
}

/// Finds out what a TORRENT says, as far as that can be had without a swarm.
pub(crate) fn find(
    torrent: &OsStr,
    sources: &Sources<'_>,
    console: &mut Console<'_>,
) -> Result<Found, Error> {
    let path = console.resolve(Path::new(torrent));
    let (bytes, name) = match kind(torrent, path.exists())? {
        Kind::Link(magnet) => return Ok(linked(magnet, sources)),
        Kind::Url(url) => match download(&url, sources, console)? {
            Downloaded::Torrent(bytes) => (bytes, url.to_string()),
            Downloaded::Magnet { link, from } => {
                log::debug!("{url} leads to a magnet link");
                let magnet = Magnet::parse(&link).map_err(|why| {
                    Error::Failed(Reason::Metainfo, format!("{url}: redirected to a magnet link: {why}"))
                })?;
                return Ok(linked(magnet.from_redirect(from), sources));
            }
        },
        Kind::Path => {
            let name = shown(Path::new(torrent));
            (read(&path).map_err(|e| failed(format_args!("cannot read {name}"), &e))?, name)
        }
    };
    let meta =
        Metainfo::parse(&bytes).map_err(|e| Error::Failed(Reason::Metainfo, format!("{name}: {e}")))?;
    warn_of_names(&meta, &name, console);
    Ok(Found { meta, magnet: None })
}

/// Tells which names of a torrent are not as they were.
pub(crate) fn warn_of_names(meta: &Metainfo, name: &str, console: &mut Console<'_>) {
    if !meta.renamed.is_empty() {
        let count = meta.renamed.len();
        let first = &meta.renamed[0].from;
        console.warn(&format!("{name}: changed {count} unsafe or clashing names, the first '{first}'"));
    }
}

/// Tells which trackers, web seeds and peers of a torrent or a link cannot be used, and why.
pub(crate) fn warn_of_urls(found: &Found, console: &mut Console<'_>) {
    for what in unusable(&found.meta).iter() {
        console.warn(&format!("{}: {what}", found.meta.name));
    }
}

/// The URLs that were left out when the torrent or the link was read, and those that this program cannot use.
fn unusable(meta: &Metainfo) -> UnusableUrls {
    let mut all = meta.unusable.clone();
    for text in meta.trackers.iter().flatten() {
        if let Err(error) = Url::parse(text) {
            all.add(Role::Tracker, Unusable::Url(error), text.as_bytes());
        }
    }
    for text in &meta.web_seeds {
        match web_seed(text) {
            Ok(_) => {}
            Err(why) => all.add(Role::WebSeed, why, text.as_bytes()),
        }
    }
    all
}

/// The URL of a web seed, if it can be used.
pub(crate) fn web_seed(text: &str) -> Result<Url, Unusable> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == Scheme::Udp => Err(Unusable::NotHttp),
        Err(url::Error::Scheme) => Err(Unusable::NotHttp),
        other => other.map_err(Unusable::Url),
    }
}

/// What a TORRENT is. A file that is there is one, whatever its name looks like.
fn kind(torrent: &OsStr, exists: bool) -> Result<Kind, Error> {
    let Some(text) = torrent.to_str().filter(|_| !exists).map(str::trim) else { return Ok(Kind::Path) };
    let starts = |scheme: &str| text.get(..scheme.len()).is_some_and(|t| t.eq_ignore_ascii_case(scheme));
    if is_magnet(text) {
        let magnet = Magnet::parse(text).map_err(|why| {
            let link: String = text.chars().take(80).collect();
            Error::Failed(Reason::Metainfo, format!("{}: {why}", printable(&link)))
        })?;
        return Ok(Kind::Link(magnet));
    }
    if starts("http://") || starts("https://") {
        let shown = super::values::shown_safely(text);
        let url = Url::parse(text)
            .map(Url::trust)
            .map_err(|why| Error::Failed(Reason::Network, format!("{shown}: {why}")))?;
        return Ok(Kind::Url(url));
    }
    // A slash behind it is what a browser adds.
    Ok(text
        .trim_end_matches('/')
        .parse::<InfoHash>()
        .map_or(Kind::Path, |hash| Kind::Link(Magnet::bare(hash))))
}

/// What a link leads to: the torrent, where an earlier run has kept it.
fn linked(magnet: Magnet, sources: &Sources<'_>) -> Found {
    let kept = sources.state.and_then(|state| engine::kept_on_disk(magnet.info_hash, state));
    let meta = kept.unwrap_or_else(|| {
        let hash = magnet.info_hash.to_string();
        Metainfo::unknown(magnet.info_hash, magnet.name.as_deref().unwrap_or(&hash))
    });
    Found { meta: with_sources(meta, &magnet), magnet: Some(magnet) }
}

/// The torrent with the trackers (each a tier of its own) and web seeds of its link.
pub(crate) fn with_sources(mut meta: Metainfo, magnet: &Magnet) -> Metainfo {
    meta.trackers = magnet.trackers.iter().map(|url| vec![url.clone()]).collect();
    meta.web_seeds.clone_from(&magnet.web_seeds);
    meta.unusable.clone_from(&magnet.unusable);
    meta
}

/// What a URL leads to; after a second it is told that they are waited for.
fn download(url: &Url, sources: &Sources<'_>, console: &mut Console<'_>) -> Result<Downloaded, Error> {
    let start = now();
    let got = engine::download(sources.client.clone(), url.clone())
        .map_err(|error| Error::Failed(Reason::Io, error.to_string()))?;
    let result = loop {
        match got.recv_timeout(LOOK) {
            Ok(result) => {
                break result.map_err(|failure| match failure {
                    TrackerFailure::Compressed(coding) => format!(
                        "the .torrent comes compressed (\"{coding}\"), which cannot be read yet; save it decompressed \
                         (curl --compressed -o FILE URL) and give FILE"
                    ),
                    failure => failure.to_string(),
                });
            }
            Err(RecvTimeoutError::Disconnected) => break Err("the download ended by itself".into()),
            Err(RecvTimeoutError::Timeout) => {
                sources.check_signal()?;
                let seconds = (now() - start).as_secs();
                if seconds > 0 && !console.is_quiet() && console.is_terminal(Stream::Err) {
                    let line = format!("getting {url}, {seconds} s");
                    console.show_status(Stream::Err, vec![cut(&line, console.size().0.saturating_sub(1))])?;
                }
            }
        }
    };
    console.clear_status()?;
    result.map_err(|why| Error::Failed(Reason::Network, format!("cannot get {url}: {why}")))
}

/// The whole file; one byte past the limit is enough for the reader to refuse it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(TORRENT_FILE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Which files are wanted: those of `--select`, else those of the link (`so`, which counts from 0), else all.
pub(crate) fn chosen(
    meta: &Metainfo,
    select: Option<&[RangeInclusive<usize>]>,
    magnet: Option<&Magnet>,
) -> Result<Vec<bool>, Error> {
    let Some(so) = magnet.and_then(|magnet| magnet.select.as_ref()).filter(|_| select.is_none()) else {
        return wanted(meta, select);
    };
    let ranges: Vec<_> = so.iter().map(|range| range.start() + 1..=range.end() + 1).collect();
    match wanted(meta, Some(&ranges)) {
        Err(Error::Usage(_)) => Err(Error::Failed(
            Reason::Metainfo,
            "its magnet link asks for files that it has not (so=); see --select".into(),
        )),
        wanted => wanted,
    }
}

/// Which files are wanted: those that `--select` names, or all.
fn wanted(meta: &Metainfo, select: Option<&[RangeInclusive<usize>]>) -> Result<Vec<bool>, Error> {
    let count = meta.files.len();
    let Some(ranges) = select else { return Ok(vec![true; count]) };
    let mut wanted = vec![false; count];
    for range in ranges {
        let (first, last) = (*range.start(), *range.end());
        let Some(files) = wanted.get_mut(first - 1..last) else {
            let part = if first == last { format!("{first}") } else { format!("{first}-{last}") };
            let files = if count == 1 { "1 file".into() } else { format!("files 1 to {count}") };
            return Err(Error::Usage(format!("--select '{part}': {} has {files}", meta.name)));
        };
        files.fill(true);
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::WEB_SEEDS_MAX;
    use crate::proto::metainfo::{Content, Plan, build};

    #[test]
    fn what_is_no_path_is_told_apart() {
        let of = |text: &str, exists| match kind(OsStr::new(text), exists) {
            Ok(Kind::Path) => "path".to_string(),
            Ok(Kind::Link(magnet)) => magnet.to_string(),
            Ok(Kind::Url(url)) => url.reveal(),
            Err(Error::Failed(_, why)) => why,
            Err(error) => panic!("{error:?}"),
        };
        let hash = "ab".repeat(20);
        assert_eq!(of(&format!("MAGNET:?xt=urn:btih:{hash}"), false), format!("magnet:?xt=urn:btih:{hash}"));
        assert_eq!(of(&"aB".repeat(20), false), format!("magnet:?xt=urn:btih:{hash}"));
        assert_eq!(of("HTTPS://x/y.torrent?k", false), "https://x/y.torrent?k");
        assert_eq!(of(" http://x/a b.torrent\n", false), "http://x/a%20b.torrent");
        assert_eq!(of(&format!(" {hash}/ "), false), format!("magnet:?xt=urn:btih:{hash}"));
        assert_eq!(
            of(&format!("magnet:///?xt=urn:btih:{hash}/"), false),
            format!("magnet:?xt=urn:btih:{hash}")
        );
        for path in ["x.torrent", "http:/x", "magnet", &"ab".repeat(21), &"ag".repeat(20)] {
            assert_eq!(of(path, false), "path", "{path}");
        }
        assert_eq!(of(&hash, true), "path");
        assert!(
            of("magnet:?xt=urn:btmh:1220", false).starts_with("magnet:?xt=urn:btmh:1220: the magnet link")
        );
        assert_eq!(of("http://me:secret@/x", false), "http:///...: URL without a valid host");
    }

    #[test]
    fn what_cannot_be_used_is_told_once_for_each_reason() {
        let seeds: Vec<String> = (0..WEB_SEEDS_MAX + 7).map(|n| format!("http://m{n}.example/a b")).collect();
        let (bad, trackers) = (["ftp://f/".to_string()], ["http://x/a b", "wss://y/", "wss://z/", "udp://u"]);
        let trackers: Vec<_> = trackers.iter().map(|url| vec![url.to_string()]).collect();
        let web_seeds = [&bad[..], &seeds].concat();
        let mut plan = Plan::bare("t", Content::Single(0), 16384, &[]);
        (plan.trackers, plan.web_seeds) = (&trackers, &web_seeds);
        let meta = Metainfo::parse(&build(&plan)).unwrap();
        assert_eq!(
            (meta.web_seeds.len(), meta.web_seeds[1].as_str()),
            (WEB_SEEDS_MAX, "http://m0.example/a%20b")
        );
        let said: Vec<_> = unusable(&meta).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "left out 8 web seeds, the first 'http://m999.example/...': 1000 is the limit",
                "left out 2 trackers, the first 'wss://y/...': URL is not http://, https:// or udp://",
                "left out a tracker, 'udp://u': udp:// URL without a port",
                "left out a web seed, 'ftp://f/...': URL is not http:// or https://",
            ]
        );
    }

    #[test]
    fn selection_is_by_number_and_bounded() {
        let files: Vec<_> = ["a", "b", "c"].map(|name| (vec![name.to_string()], 0)).into();
        let bytes = build(&Plan::bare("t", Content::Many(&files), 16384, &[]));
        let meta = Metainfo::parse(&bytes).unwrap();
        let of = |ranges: &[RangeInclusive<usize>]| wanted(&meta, Some(ranges));
        assert_eq!(of(&[1..=1, 3..=3]).unwrap(), [true, false, true]);
        assert_eq!(of(&[1..=3]).unwrap(), wanted(&meta, None).unwrap());
        for (ranges, text) in [(4..=4, "'4'"), (2..=9, "'2-9'")] {
            let Err(Error::Usage(why)) = of(&[ranges]) else { panic!("accepted") };
            assert!(why.contains(text) && why.ends_with("t has files 1 to 3"), "{why}");
        }
    }
}
