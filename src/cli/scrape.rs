//! `ptorrent scrape`: how many seed and how many download, from each tracker of each torrent.

use super::Error;
use super::console::{Console, Stream, now};
use super::hash::counted;
use super::json::Object;
use super::options::Scrape;
use super::text::cut;
use super::torrent::{Sources, find, warn_of_urls};
use crate::api::Reason;
use crate::engine::{self, Client, Question, Said};
use crate::limits::{SCRAPE_TIMEOUT, TRACKERS_MAX};
use crate::proto::id::InfoHash;
use crate::proto::tracker::Tally;
use crate::proto::tracker::url::Url;
use crate::sys::socket::Route;
use crossbeam_channel::RecvTimeoutError;
use std::fmt::Write;
use std::time::Duration;

/// What a tracker has for one torrent.
type Row = Result<(Tally, Option<Duration>), String>;

struct Swarm {
    name: String,
    info_hash: InfoHash,
    /// Numbers of the questions to its trackers.
    questions: Vec<usize>,
}

/// Asks and prints. The answer is 0 when at least one tracker of each torrent told.
pub(crate) fn run(options: &Scrape, console: &mut Console<'_>) -> Result<u8, Error> {
    let (mut swarms, mut questions) = (Vec::<Swarm>::new(), Vec::<Question>::new());
    let route = Route::new(&options.bind, options.device.clone());
    let (client, state) = (Client::new(route, console.roots()), console.state_dir());
    let sources = Sources { client: client.clone(), state: state.as_deref(), signals: None };
    for torrent in &options.torrents {
        let found = find(torrent, &sources, console)?;
        let meta = &found.meta;
        if swarms.iter().any(|swarm| swarm.info_hash == meta.info_hash) {
            continue;
        }
        warn_of_urls(&found, console);
        let (mut swarm, trackers) = (swarm(&meta.name, meta.info_hash), trackers(&meta.trackers));
        for url in trackers {
            let known = questions.iter().position(|question| question.url == url);
            let number = known.unwrap_or(questions.len());
            if known.is_none() {
                questions.push(Question { url, torrents: Vec::new() });
            }
            questions[number].torrents.push(meta.info_hash);
            swarm.questions.push(number);
        }
        swarms.push(swarm);
    }
    let answers = ask(&client, &questions, console)?;
    let mut status = 0;
    for swarm in &swarms {
        let rows: Vec<(&Url, Row)> = swarm
            .questions
            .iter()
            .map(|n| (&questions[*n].url, row(&answers[*n], swarm.info_hash)))
            .collect();
        console.print(&if options.json { as_json(swarm, &rows) } else { as_text(swarm, &rows) })?;
        if rows.iter().all(|(_, row)| row.is_err()) {
            status = 1;
            let why = match rows.as_slice() {
                [] => "it has no tracker".to_string(),
                [(url, Err(why))] => format!("{url}: {why}"),
                [(url, first), ..] => {
                    let why = first.as_ref().err().map_or("", String::as_str);
                    format!("none of {} told, the first, {url}: {why}", counted(rows.len(), "tracker"))
                }
            };
            console.error(&format!("{}: {why}", swarm.name));
        }
    }
    Ok(status)
}

fn swarm(name: &str, info_hash: InfoHash) -> Swarm {
    Swarm { name: name.to_string(), info_hash, questions: Vec::new() }
}

/// The trackers of a torrent that can be asked, each once.
fn trackers(tiers: &[Vec<String>]) -> Vec<Url> {
    let mut urls = Vec::new();
    for url in tiers.iter().flatten().take(TRACKERS_MAX).filter_map(|text| Url::parse(text).ok()) {
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls
}

/// What came of each question.
fn ask(
    client: &Client,
    questions: &[Question],
    console: &mut Console<'_>,
) -> Result<Vec<Option<Said>>, Error> {
    let start = now();
    // The threads end by the same span; a little later their last words are here.
    let end = start + SCRAPE_TIMEOUT + Duration::from_millis(500);
    let inbox = engine::scrape(client, questions.to_vec())
        .map_err(|error| Error::Failed(Reason::Io, error.to_string()))?;
    let mut answers: Vec<Option<Said>> = questions.iter().map(|_| None).collect();
    let mut show = start + Duration::from_secs(1);
    loop {
        let told = answers.iter().flatten().count();
        if told == answers.len() {
            break;
        }
        match inbox.recv_deadline(show.min(end)) {
            Ok((number, said)) => answers[number] = Some(said),
            Err(RecvTimeoutError::Timeout) if now() < end => {
                show = now() + Duration::from_millis(250);
                if !console.is_quiet() && console.is_terminal(Stream::Err) {
                    let all = counted(answers.len(), "tracker");
                    let line = format!("asking {all}, {told} done, {} s", (now() - start).as_secs());
                    console.show_status(Stream::Err, vec![cut(&line, console.size().0.saturating_sub(1))])?;
                }
            }
            Err(_) => break,
        }
    }
    console.clear_status()?;
    Ok(answers)
}

fn row(said: &Option<Said>, info_hash: InfoHash) -> Row {
    match said {
        // A look-up that hangs.
        None => Err("no answer in time".into()),
        Some(Err(failure)) => Err(failure.to_string()),
        Some(Ok(scraped)) => {
            let tally = scraped.tallies.iter().find(|(of, _)| *of == info_hash);
            let tally = tally.ok_or("it does not know this torrent")?;
            Ok((tally.1, scraped.min_interval))
        }
    }
}

fn as_text(swarm: &Swarm, rows: &[(&Url, Row)]) -> String {
    let number = |n: Option<u32>| n.map_or("-".into(), |n| n.to_string());
    let mut out = format!("{}\n", swarm.name);
    if !rows.is_empty() {
        out.push_str("   seeders  leechers downloads  tracker\n");
    }
    for (url, row) in rows {
        let (tally, words) = match row {
            Ok((tally, _)) => (*tally, String::new()),
            Err(why) => (Tally::default(), format!(": {why}")),
        };
        let [seeders, leechers, downloads] = [tally.seeders, tally.leechers, tally.downloads].map(number);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{seeders:>10}{leechers:>10}{downloads:>10}  {url}{words}");
    }
    out
}

fn as_json(swarm: &Swarm, rows: &[(&Url, Row)]) -> String {
    let mut out = String::new();
    for (url, row) in rows {
        let mut object = Object::event("scrape")
            .text("info_hash", &swarm.info_hash.to_string())
            .text("name", &swarm.name)
            .text("tracker", &url.to_string());
        object = match row {
            Err(why) => object.text("error", why),
            Ok((tally, min_interval)) => {
                let counts = [
                    ("seeders", tally.seeders),
                    ("leechers", tally.leechers),
                    ("downloads", tally.downloads),
                    ("min_request_interval", min_interval.map(|span| span.as_secs() as u32)),
                ];
                let known = counts.into_iter().filter_map(|(key, count)| Some((key, count?)));
                known.fold(object, |object, (key, count)| object.raw(key, count))
            }
        };
        out.push_str(&object.finish());
        out.push('\n');
    }
    out
}
