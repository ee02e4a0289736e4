//! What a .torrent file says besides the info dictionary: where to find peers, and remarks. None of it is needed, so
//! junk is dropped; URLs that cannot be used are counted for the user.

use super::{Error, Metainfo, names, printable};
use crate::limits::{COMMENT_MAX, NODES_MAX, TRACKERS_MAX, WEB_SEEDS_MAX};
use crate::proto::bencode::{Dict, Value};
use crate::proto::tracker::unusable::{Reason, Role, UnusableUrls};
use crate::proto::tracker::url;

/// The longest host name of the DNS, in bytes.
const HOST_MAX: usize = 253;

/// Puts what the dictionary of a .torrent file says into `torrent`.
pub(super) fn read(root: Dict<'_>, torrent: &mut Metainfo) -> Result<(), Error> {
    let [announce, list, urls, nodes] = root.fields(["announce", "announce-list", "url-list", "nodes"])?;
    let [comment, creator, encoding, date] =
        root.fields(["comment", "created by", "encoding", "creation date"])?;
    torrent.trackers = trackers(announce, list, &mut torrent.unusable);
    torrent.web_seeds = web_seeds(urls, &mut torrent.unusable);
    http_seeds(root, &mut torrent.unusable);
    torrent.nodes =
        nodes.and_then(Value::as_list).into_iter().flatten().filter_map(node).take(NODES_MAX).collect();
    torrent.comment = comment.and_then(remark);
    torrent.created_by = creator.and_then(remark);
    torrent.encoding = encoding.and_then(remark);
    torrent.creation_date = date.and_then(Value::as_int);
    Ok(())
}

/// The URLs of one role, each once.
struct Urls<'t> {
    role: Role,
    max: usize,
    known: Vec<String>,
    unusable: &'t mut UnusableUrls,
}

impl Urls<'_> {
    /// The escaped URL, if the list does not have it yet. URLs that cannot be used are counted; other values are ignored.
    fn add(&mut self, value: Value<'_>) -> Option<String> {
        let bytes = value.as_bytes().filter(|bytes| !bytes.trim_ascii().is_empty())?;
        match url::kept(bytes) {
            Ok(url) if self.known.contains(&url) => None,
            Ok(_) if self.known.len() >= self.max => {
                self.unusable.add(self.role, Reason::TooMany(self.max), bytes);
                None
            }
            Ok(url) => {
                self.known.push(url.clone());
                Some(url)
            }
            Err(error) => {
                self.unusable.add(self.role, Reason::Url(error), bytes);
                None
            }
        }
    }
}

/// The tiers of BEP 12, each URL once. A list of URLs without tiers, as some programs write it, is a tier each. `announce`
/// is one more tier where the list does not have it: it may be the only tracker that we can speak to.
fn trackers(
    announce: Option<Value<'_>>,
    list: Option<Value<'_>>,
    unusable: &mut UnusableUrls,
) -> Vec<Vec<String>> {
    let mut urls = Urls { role: Role::Tracker, max: TRACKERS_MAX, known: Vec::new(), unusable };
    let mut tiers: Vec<Vec<String>> = Vec::new();
    // A list as long as the limit must not crowd `announce` out.
    let is_one = |value: &Value<'_>| value.as_bytes().is_some_and(|bytes| url::kept(bytes).is_ok());
    urls.max -= usize::from(announce.filter(is_one).is_some_and(|value| !lists(list, value)));
    for tier in list.and_then(Value::as_list).into_iter().flatten() {
        let alone = std::iter::once(tier).filter(|tier| tier.as_bytes().is_some());
        let tier: Vec<String> =
            tier.as_list().into_iter().flatten().chain(alone).filter_map(|value| urls.add(value)).collect();
        if !tier.is_empty() {
            tiers.push(tier);
        }
    }
    urls.max = TRACKERS_MAX;
    if let Some(url) = announce.and_then(|value| urls.add(value)) {
        tiers.push(vec![url]);
    }
    tiers
}

/// Whether a URL is in the list of tiers.
fn lists(list: Option<Value<'_>>, url: Value<'_>) -> bool {
    let mut tiers = list.and_then(Value::as_list).into_iter().flatten();
    let same = |value: Value<'_>| value.as_bytes().is_some() && value.as_bytes() == url.as_bytes();
    tiers.any(|tier| same(tier) || tier.as_list().into_iter().flatten().any(same))
}

/// `url-list` is one URL or a list of them (BEP 19).
fn web_seeds(value: Option<Value<'_>>, unusable: &mut UnusableUrls) -> Vec<String> {
    let Some(value) = value else { return Vec::new() };
    let mut urls = Urls { role: Role::WebSeed, max: WEB_SEEDS_MAX, known: Vec::new(), unusable };
    let alone = std::iter::once(value).filter(|value| value.as_bytes().is_some());
    value.as_list().into_iter().flatten().chain(alone).filter_map(|value| urls.add(value)).collect()
}

/// Counts the URLs of `httpseeds` (BEP 17), which are not used.
fn http_seeds(root: Dict<'_>, unusable: &mut UnusableUrls) {
    let Ok([Some(seeds)]) = root.fields(["httpseeds"]) else { return };
    for url in seeds.as_list().into_iter().flatten().filter_map(Value::as_bytes) {
        unusable.add(Role::HttpSeed, Reason::Bep17, url);
    }
}

/// A DHT node: a list of host and port (BEP 5).
fn node(value: Value<'_>) -> Option<(String, u16)> {
    let mut pair = value.as_list()?;
    let (host, port) = (pair.next()?.as_str()?, pair.next()?.as_int()?);
    let clean = (1..=HOST_MAX).contains(&host.len()) && host.bytes().all(|byte| byte.is_ascii_graphic());
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    clean.then(|| (host.to_string(), port))
}

/// Text for people, fit to print.
fn remark(value: Value<'_>) -> Option<String> {
    let bytes = value.as_bytes()?;
    let text = printable(&names::text(bytes.get(..COMMENT_MAX).unwrap_or(bytes)));
    (!text.is_empty()).then_some(text)
}
