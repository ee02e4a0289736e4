//! Making .torrent files.

use crate::proto::bencode::{DictEncoder, Encoder, encode};

/// What the files of a new torrent are.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// One file of this many bytes, named like the torrent.
    Single(u64),
    /// Files in the order of the pieces: the names below the torrent's folder, and the length in bytes.
    Many(&'a [(Vec<String>, u64)]),
}

/// A torrent to be made.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The name of the file, or of the folder.
    pub name: &'a str,
    /// The files.
    pub content: Content<'a>,
    /// The length of a piece, in bytes.
    pub piece_length: u32,
    /// The SHA-1 digests of the pieces, 20 bytes each.
    pub hashes: &'a [u8],
    /// Peers are to come only from the trackers (BEP 27).
    pub private: bool,
    /// Announce URLs in tiers (BEP 12).
    pub trackers: &'a [Vec<String>],
    /// Web seeds (BEP 19).
    pub web_seeds: &'a [String],
    /// Free text.
    pub comment: Option<&'a str>,
    /// The program that makes it.
    pub created_by: Option<&'a str>,
    /// When it is made, in seconds since 1970.
    pub creation_date: Option<i64>,
}

impl<'a> Plan<'a> {
    /// What every torrent has, and nothing else.
    pub fn bare(name: &'a str, content: Content<'a>, piece_length: u32, hashes: &'a [u8]) -> Plan<'a> {
        Plan {
            name,
            content,
            piece_length,
            hashes,
            private: false,
            trackers: &[],
            web_seeds: &[],
            comment: None,
            created_by: None,
            creation_date: None,
        }
    }
}

/// The bytes of the .torrent file. The same plan gives the same bytes, and the info dictionary depends on nothing but
/// name, content, pieces and `private`.
pub fn build(plan: &Plan<'_>) -> Vec<u8> {
    let urls: Vec<&String> = plan.trackers.iter().flatten().collect();
    encode(|e| {
        e.dict(|root| {
            if let Some(first) = urls.first() {
                root.entry("announce").str(first);
            }
            if urls.len() > 1 {
                root.entry("announce-list").list(|list| {
                    for tier in plan.trackers.iter().filter(|tier| !tier.is_empty()) {
                        strings(list.item(), tier);
                    }
                });
            }
            if let Some(comment) = plan.comment {
                root.entry("comment").str(comment);
            }
            if let Some(program) = plan.created_by {
                root.entry("created by").str(program);
            }
            if let Some(date) = plan.creation_date {
                root.entry("creation date").int(date);
            }
            root.entry("info").dict(|info| write_info(plan, info));
            if !plan.web_seeds.is_empty() {
                strings(root.entry("url-list"), plan.web_seeds);
            }
        });
    })
}

fn strings(e: Encoder<'_>, texts: &[String]) {
    e.list(|list| texts.iter().for_each(|text| list.item().str(text)));
}

fn write_info(plan: &Plan<'_>, info: &mut DictEncoder<'_>) {
    // No length of a file that exists is past i64.
    let size = |len: u64| i64::try_from(len).unwrap_or(i64::MAX);
    match plan.content {
        Content::Single(len) => info.entry("length").int(size(len)),
        Content::Many(files) => info.entry("files").list(|list| {
            for (path, len) in files {
                list.item().dict(|file| {
                    file.entry("length").int(size(*len));
                    strings(file.entry("path"), path);
                });
            }
        }),
    }
    info.entry("name").str(plan.name);
    info.entry("piece length").int(plan.piece_length.into());
    info.entry("pieces").bytes(plan.hashes);
    if plan.private {
        info.entry("private").int(1);
    }
}

/// The usual piece length for a torrent of `total` bytes: a power of two from 16 KiB to 16 MiB, of which 1,000 to
/// 2,000 make the torrent where those ends allow it.
pub fn piece_length_for(total: u64) -> u32 {
    let mut lengths = (14..24).map(|bits| 1 << bits);
    lengths.find(|len| total.div_ceil(u64::from(*len)) <= 2000).unwrap_or(1 << 24)
}
