//! `ptorrent tracker`: an HTTP and UDP tracker until a signal ends it.

use super::console::{Console, shown};
use super::json::{Object, array, string};
use super::{Error, failed};
use crate::api::Reason;
use crate::engine::{self, Hangup, TrackerEngine, TrackerOptions};
use crate::limits;
use crate::proto::id::InfoHash;
use crate::sys::socket::Route;
use crate::tracker::{News, Order, only};
use crossbeam_channel::select;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The options of `tracker`.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) port: u16,
    pub(crate) bind: Vec<IpAddr>,
    pub(crate) device: Option<String>,
    pub(crate) only: Option<PathBuf>,
    pub(crate) interval: Duration,
    pub(crate) json: bool,
}

/// Serves until a signal comes.
pub(crate) fn run(options: &Options, console: &mut Console<'_>) -> Result<u8, Error> {
    // There is something to read or to open anew; else SIGHUP means that the terminal is gone.
    let hangup = if options.only.is_some() || console.has_log_file() { Hangup::Reopen } else { Hangup::End };
    let signals = console.install_signals(hangup)?;
    let only = options.only.as_deref().map(|path| read(path, console)).transpose()?;
    let route = Route::new(&options.bind, options.device.clone());
    let setup = TrackerOptions { route, port: options.port, interval: options.interval, only, signals };
    let engine = TrackerEngine::start(setup).map_err(|e| unable(&e))?;
    let mut result = console.print(&listening(engine.addrs(), options.json));
    if result.is_ok() {
        result = watch(&engine, options, console);
    }
    engine.order(Order::Quit);
    engine.join().map_err(|e| unable(&e))?;
    result.map(|()| 0)
}

fn unable(error: &engine::Error) -> Error {
    let reason = if matches!(error, engine::Error::Listen(_)) { Reason::Network } else { Reason::Io };
    Error::Failed(reason, error.to_string())
}

/// Writes what is to be said until the tracker has ended.
fn watch(engine: &TrackerEngine, options: &Options, console: &mut Console<'_>) -> Result<(), Error> {
    let log = console.log_lines();
    loop {
        select! {
            recv(engine.news()) -> news => match news {
                Ok(News::Statistics(statistics)) => console.tell(&format!("{statistics}\n")),
                Ok(News::Reload) => reload(engine, options, console),
                Ok(News::Ended(statistics)) => {
                    log::info!("{statistics}");
                    return Ok(());
                }
                // Only a tracker that fails goes without a word, and says why when it is joined.
                Err(_) => return Ok(()),
            },
            recv(log) -> line => console.log(line.ok()),
        }
    }
}

/// Reads the list again. One that is wrong changes nothing.
fn reload(engine: &TrackerEngine, options: &Options, console: &mut Console<'_>) {
    console.reopen_log();
    let Some(path) = &options.only else { return };
    match read(path, console) {
        Ok(list) => {
            log::info!("--only: {} torrents", list.len());
            engine.order(Order::Only(list));
        }
        Err(Error::Failed(_, why)) => console.error(&format!("{why}; the list before it stays in force")),
        Err(_) => {}
    }
}

/// The list of `--only`.
fn read(path: &Path, console: &Console<'_>) -> Result<Vec<InfoHash>, Error> {
    /// Bytes of a line, with a comment of the usual length.
    const LINE: u64 = 256;
    let name = shown(path);
    let text = || -> io::Result<Vec<u8>> {
        let (mut text, most) = (Vec::new(), limits::TRACKER_ONLY_MAX as u64 * LINE);
        File::open(console.resolve(path))?.take(most + 1).read_to_end(&mut text)?;
        if text.len() as u64 > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
    };
    let text = text().map_err(|e| failed(format_args!("cannot read {name} (--only)"), &e))?;
    only::parse(&text)
        .map_err(|e| Error::Failed(Reason::Metainfo, format!("{name}, line {} (--only): {}", e.line, e.what)))
}

/// One line with the URLs to announce to, or one JSON object for each address.
fn listening(addrs: &[SocketAddr], json: bool) -> String {
    if json {
        let line = |addr: &SocketAddr| {
            let urls = array(urls(addr).iter().map(|url| string(url)));
            let event = Object::event("listening").text("addr", &addr.to_string()).raw("announce", urls);
            event.finish() + "\n"
        };
        return addrs.iter().map(line).collect();
    }
    let mut all: Vec<String> = Vec::new();
    for url in addrs.iter().flat_map(urls) {
        if !all.contains(&url) {
            all.push(url);
        }
    }
    let note = if addrs.iter().any(|addr| addr.ip().is_unspecified()) { " (all addresses)" } else { "" };
    format!("listening on {}{note}\n", all.join(" "))
}

/// What clients are to be given. Of all addresses of this host, its name for itself.
fn urls(addr: &SocketAddr) -> [String; 2] {
    let place = match addr.ip().is_unspecified() {
        true => format!("localhost:{}", addr.port()),
        false => addr.to_string(),
    };
    ["http", "udp"].map(|scheme| format!("{scheme}://{place}/announce"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_what_to_announce_to() {
        let of = |addrs: &[&str], json| {
            let addrs: Vec<SocketAddr> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
            listening(&addrs, json)
        };
        assert_eq!(
            of(&["127.0.0.1:6969", "[::1]:6969"], false),
            "listening on http://127.0.0.1:6969/announce udp://127.0.0.1:6969/announce \
             http://[::1]:6969/announce udp://[::1]:6969/announce\n"
        );
        assert_eq!(
            of(&["0.0.0.0:7", "[::]:7"], false),
            "listening on http://localhost:7/announce udp://localhost:7/announce (all addresses)\n"
        );
        assert_eq!(
            of(&["[::1]:7"], true),
            concat!(
                r#"{"event":"listening","addr":"[::1]:7","#,
                r#""announce":["http://[::1]:7/announce","udp://[::1]:7/announce"]}"#,
                "\n"
            )
        );
    }
}
