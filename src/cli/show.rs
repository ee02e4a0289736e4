//! `ptorrent show`: what a .torrent holds. All texts of a `Metainfo` are fit for a terminal.

use super::Error;
use super::console::Console;
use super::fetch::{Fetched, fetch};
use super::hash::counted;
use super::json::{Object, array, string};
use super::options::Show;
use super::text::{date, size};
use super::torrent::{Sources, find, warn_of_urls};
use crate::engine::Client;
use crate::proto::metainfo::{File, Metainfo, Paths};
use crate::sys::socket::Route;
use std::fmt::Write;

/// Prints it. What a link leads to is fetched from its swarm, unless an earlier run has kept it.
pub(crate) fn run(options: &Show, console: &mut Console<'_>) -> Result<u8, Error> {
    let state_dir = match &options.state_dir {
        Some(path) => Some(console.resolve(path)),
        None => console.state_dir(),
    };
    let route = Route::new(&options.bind, options.device.clone());
    let client = Client::new(route, console.roots());
    let sources = Sources { client, state: state_dir.as_deref(), signals: None };
    let mut found = find(&options.torrent, &sources, console)?;
    warn_of_urls(&found, console);
    if !found.meta.is_known() {
        match fetch(found, options, state_dir.as_deref(), console)? {
            Fetched::Here(meta) => found = *meta,
            Fetched::Signal(status) => return Ok(status),
        }
    }
    let meta = found.meta;
    let text = if options.json { as_json(&meta) } else { as_text(&meta) };
    console.print(&text)?;
    Ok(0)
}

/// The bytes of the files that there will be: padding is not among them.
fn stored(meta: &Metainfo) -> u64 {
    meta.files.iter().filter(|file| file.is_stored()).map(|file| file.len).sum()
}

fn as_text(meta: &Metainfo) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{label:<11} {value}");
    };
    let (bytes, files) = (stored(meta), meta.files.iter().filter(|file| file.is_stored()).count());
    line("Name:", &meta.name);
    line("Info hash:", &meta.info_hash.to_string());
    line("Size:", &format!("{} ({bytes} bytes) in {}", size(bytes), counted(files, "file")));
    let piece = u64::from(meta.layout.piece_length());
    line("Pieces:", &format!("{} of {} ({piece} bytes)", meta.layout.pieces(), size(piece)));
    line("Private:", if meta.private { "yes" } else { "no" });
    if let Some(seconds) = meta.creation_date {
        line("Created:", &format!("{} UTC", date(seconds)));
    }
    let texts = [("Made by:", &meta.created_by), ("Encoding:", &meta.encoding), ("Comment:", &meta.comment)];
    for (label, value) in texts {
        if let Some(value) = value {
            line(label, value);
        }
    }
    for (number, tier) in meta.trackers.iter().enumerate() {
        for url in tier {
            line("Tracker:", &format!("{url} (tier {})", number + 1));
        }
    }
    meta.web_seeds.iter().for_each(|url| line("Web seed:", url));
    meta.nodes.iter().for_each(|(host, port)| line("DHT node:", &format!("{host} port {port}")));
    line("Magnet:", &meta.magnet_uri());
    line("Files:", "");
    for (number, file) in meta.files.iter().enumerate().filter(|(_, file)| !file.pad) {
        let _ = match file.symlink() {
            Some(target) => {
                writeln!(
                    out,
                    "{:>6}  {:>9}  {} -> {target} (a link: not made)",
                    number + 1,
                    "",
                    meta.paths.display(number)
                )
            }
            None => writeln!(out, "{:>6}  {:>9}  {}", number + 1, size(file.len), meta.paths.display(number)),
        };
    }
    out
}

fn as_json(meta: &Metainfo) -> String {
    let strings = |all: &[String]| array(all.iter().map(|text| string(text)));
    let mut object = Object::new()
        .text("name", &meta.name)
        .text("info_hash", &meta.info_hash.to_string())
        .raw("size", stored(meta))
        .raw("piece_length", meta.layout.piece_length())
        .raw("pieces", meta.layout.pieces())
        .raw("private", meta.private)
        .maybe("comment", meta.comment.as_deref())
        .maybe("created_by", meta.created_by.as_deref())
        .maybe("encoding", meta.encoding.as_deref());
    if let Some(seconds) = meta.creation_date {
        object = object.raw("creation_date", seconds);
    }
    let nodes = meta.nodes.iter().map(|(host, port)| format!("[{},{port}]", string(host)));
    let files =
        meta.files.iter().enumerate().map(|(number, file)| file_as_json(number + 1, file, &meta.paths));
    let text = object
        .raw("trackers", array(meta.trackers.iter().map(|tier| strings(tier))))
        .raw("web_seeds", strings(&meta.web_seeds))
        .raw("nodes", array(nodes))
        .raw("files", array(files))
        .text("magnet", &meta.magnet_uri())
        .finish();
    text + "\n"
}

fn file_as_json(number: usize, file: &File, paths: &Paths) -> String {
    let mut object =
        Object::new().raw("number", number).text("path", &paths.display(number - 1)).raw("size", file.len);
    if file.pad {
        object = object.raw("padding", true);
    }
    if file.executable {
        object = object.raw("executable", true);
    }
    object.maybe("link", file.symlink()).maybe("md5sum", file.md5sum()).finish()
}
