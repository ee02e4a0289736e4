//! What a .torrent file says besides the info dictionary: where to find peers, and remarks. None of it is needed, so
//! junk is dropped.

use super::{Error, Metainfo, names, printable};
use crate::limits::{COMMENT_MAX, NODES_MAX, TRACKERS_MAX, URL_MAX, WEB_SEEDS_MAX};
use crate::proto::bencode::{Dict, Value};

/// The longest host name of the DNS, in bytes.
const HOST_MAX: usize = 253;

/// Puts what the dictionary of a .torrent file says into `torrent`.
pub(super) fn read(root: Dict<'_>, torrent: &mut Metainfo) -> Result<(), Error> {
    let [announce, list, urls, nodes] = root.fields(["announce", "announce-list", "url-list", "nodes"])?;
    let [comment, creator, encoding, date] =
        root.fields(["comment", "created by", "encoding", "creation date"])?;
    torrent.trackers = trackers(announce, list);
    torrent.web_seeds = web_seeds(urls);
    torrent.nodes =
        nodes.and_then(Value::as_list).into_iter().flatten().filter_map(node).take(NODES_MAX).collect();
    torrent.comment = comment.and_then(remark);
    torrent.created_by = creator.and_then(remark);
    torrent.encoding = encoding.and_then(remark);
    torrent.creation_date = date.and_then(Value::as_int);
    Ok(())
}

/// A URL that can go into a request line and onto a terminal as it is.
fn url(value: Value<'_>) -> Option<&str> {
    let url = value.as_str()?.trim();
    let clean = url.len() <= URL_MAX && !url.chars().any(|c| c.is_whitespace() || names::is_foul(c));
    (clean && url.contains("://")).then_some(url)
}

/// The tiers of BEP 12, each URL once. A list of URLs without tiers, as some programs write it, is a tier each. `announce`
/// is one more tier where the list does not have it: it may be the only tracker that we can speak to.
fn trackers(announce: Option<Value<'_>>, list: Option<Value<'_>>) -> Vec<Vec<String>> {
    let mut tiers: Vec<Vec<String>> = Vec::new();
    let mut count = 0;
    for tier in list.and_then(Value::as_list).into_iter().flatten() {
        let mut urls: Vec<String> = Vec::new();
        let alone = std::iter::once(tier).filter(|tier| tier.as_bytes().is_some());
        for url in tier.as_list().into_iter().flatten().chain(alone).filter_map(url) {
            let known = || tiers.iter().flatten().chain(&urls).any(|known| known == url);
            if count < TRACKERS_MAX && !known() {
                urls.push(url.to_string());
                count += 1;
            }
        }
        if !urls.is_empty() {
            tiers.push(urls);
        }
    }
    if let Some(url) = announce.and_then(url)
        && !tiers.iter().flatten().any(|known| known == url)
    {
        // A list of nothing but junk must not crowd it out.
        if count == TRACKERS_MAX {
            let last = tiers.last_mut().and_then(|tier| tier.pop().filter(|_| tier.is_empty()));
            tiers.truncate(tiers.len() - usize::from(last.is_some()));
        }
        tiers.push(vec![url.to_string()]);
    }
    tiers
}

/// `url-list` is one URL or a list of them (BEP 19).
fn web_seeds(value: Option<Value<'_>>) -> Vec<String> {
    let Some(value) = value else { return Vec::new() };
    let mut urls: Vec<String> = Vec::new();
    let alone = std::iter::once(value);
    for url in value.as_list().into_iter().flatten().chain(alone).filter_map(url) {
        if urls.len() < WEB_SEEDS_MAX && !urls.iter().any(|known| known == url) {
            urls.push(url.to_string());
        }
    }
    urls
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
