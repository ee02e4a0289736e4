//! The real program and trackers in the hands of the test, on loopback: who is asked in which order, who is told that
//! we leave, and what a scrape says.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests start threads, read the clock and say what they skip; the rules guard the core"
)]

mod common;
#[path = "trackers/scrape.rs"]
mod scrape;

use common::{Folder, noise};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const PTORRENT: &str = env!("CARGO_BIN_EXE_ptorrent");
/// Far more than anything here takes; only a failing test waits so long.
const LONG: Duration = Duration::from_secs(60);
const GOOD: &str = "d8:intervali1800e5:peers0:e";
const NO: &str = "d14:failure reason6:not mee";

/// What a tracker was asked, in order.
#[derive(Clone, Default)]
struct Asked(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Asked {
    fn push(&self, target: &str) {
        self.0.0.lock().unwrap().push(target.to_string());
        self.0.1.notify_all();
    }

    fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }

    /// Waits for a request with this in it.
    #[track_caller]
    fn wait(&self, text: &str) -> String {
        let end = Instant::now() + LONG;
        let mut all = self.0.0.lock().unwrap();
        loop {
            if let Some(target) = all.iter().find(|target| target.contains(text)) {
                return target.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nobody asked for {text}: {all:?}");
            all = self.0.1.wait_timeout(all, left).unwrap().0;
        }
    }
}

/// A tracker over HTTP: `answer` has the body for a target; None keeps the connection open and silent.
fn tracker(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/announce", listener.local_addr().unwrap().port());
    let (asked, answer) = (Asked::default(), Arc::new(answer));
    let seen = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (asked, answer) = (seen.clone(), answer.clone());
            thread::spawn(move || serve(stream, &asked, &*answer));
        }
    });
    (url, asked)
}

fn serve(mut stream: TcpStream, asked: &Asked, answer: &dyn Fn(&str) -> Option<Vec<u8>>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    let target = lines.next()?.split(' ').nth(1)?.to_string();
    lines.find(String::is_empty)?;
    asked.push(&target);
    let Some(body) = answer(&target) else {
        // Until the other side has had enough.
        let _ = stream.read_to_end(&mut Vec::new());
        asked.push("gone");
        return None;
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
    stream.write_all(&body).ok()
}

fn says(body: &'static str) -> (String, Asked) {
    tracker(move |_| Some(body.as_bytes().to_vec()))
}

/// A URL where nobody listens.
fn closed() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}/announce")
}

/// The real program, killed at the latest when the test ends.
struct Running(Child);

impl Running {
    fn start(folder: &Folder, args: &[&str]) -> Running {
        let err = fs::File::options().append(true).create(true).open(folder.0.join("err")).unwrap();
        let mut command = Command::new(PTORRENT);
        command.current_dir(&folder.0).args(["--json", "-b", "127.0.0.1", "-p", "0", "--state-dir", "state"]);
        command
            .args(["--no-dht", "--no-pex", "--no-lsd", "--encryption", "disabled", "--config", ""])
            .args(args);
        Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(err).spawn().unwrap())
    }

    /// Reads to the first line with this text.
    #[track_caller]
    fn line(&mut self, text: &str) -> String {
        let mut lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
        lines.find(|line| line.contains(text)).unwrap_or_else(|| panic!("it ended without {text}"))
    }

    fn terminate(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.stdout.as_mut().unwrap().read_to_end(&mut Vec::new()).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(folder: &Folder, args: &[&str]) -> Output {
    Command::new(PTORRENT).current_dir(&folder.0).args(args).output().unwrap()
}

/// Makes `NAME.torrent` of `there/NAME`, with these trackers; commas join a tier.
fn create(folder: &Folder, name: &str, trackers: &[&str]) -> String {
    folder.file(&format!("there/{name}"), &noise(100_000, name.len() as u32));
    let torrent = format!("{name}.torrent");
    let (out, path) = (torrent.clone(), format!("there/{name}"));
    let mut args = vec!["create", "-o", &out];
    trackers.iter().for_each(|url| args.extend(["-a", url]));
    args.push(&path);
    let output = run(folder, &args);
    assert!(output.status.success(), "{output:?}");
    torrent
}

fn errors(folder: &Folder) -> String {
    fs::read_to_string(folder.0.join("err")).unwrap()
}

#[test]
fn every_tier_is_announced_to_though_one_is_dead_and_hears_that_we_leave() {
    let folder = Folder::new("trackers-dead");
    let (good, asked) = says(GOOD);
    let (other, too) = says(GOOD);
    let torrent = create(&folder, "file", &[&closed(), &good, &other]);
    let seed = Running::start(&folder, &["-s", "-d", "there", &torrent]);
    let target = asked.wait("event=started");
    assert!(target.starts_with("/announce?info_hash=") && target.contains("&left=0&"), "{target}");
    too.wait("event=started");
    assert_eq!(seed.terminate(), Some(0));
    for asked in [asked, too] {
        let all = asked.all();
        assert!(
            all.len() == 2 && all[1].contains("event=stopped") && all[1].contains("numwant=0"),
            "{all:?}"
        );
    }
    assert!(!errors(&folder).contains("cannot connect"), "{}", errors(&folder));
    assert!(!errors(&folder).contains("could not be told"), "{}", errors(&folder));
}

#[test]
fn each_tier_and_each_tracker_of_the_user_is_asked() {
    let folder = Folder::new("trackers-tiers");
    let order = Asked::default();
    let named = |name: &'static str, body: &'static str| {
        let order = order.clone();
        let answer = move |_: &str| {
            order.push(name);
            Some(body.as_bytes().to_vec())
        };
        tracker(answer).0
    };
    let [a, b, c, d] = [("a", NO), ("b", NO), ("c", GOOD), ("d", GOOD)].map(|(name, body)| named(name, body));
    let torrent = create(&folder, "file", &[&format!("{a},{b}"), &c]);
    let seed = Running::start(&folder, &["-s", "-d", "there", "--tracker", &d, &torrent]);
    ["a", "b", "c", "d"].iter().for_each(|name| _ = order.wait(name));
    // Their answers have to be here.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(seed.terminate(), Some(0));
    let mut all = order.all();
    all.sort();
    assert_eq!(all, ["a", "b", "c", "c", "d", "d"]);
}

#[test]
fn a_tracker_that_hangs_keeps_nobody_waiting() {
    let folder = Folder::new("trackers-hang");
    let (silent, silenced) = tracker(|_| None);
    let (good, asked) = says(GOOD);
    let torrent = create(&folder, "file", &[&silent, &good]);
    let seed = Running::start(&folder, &["-s", "-d", "there", &torrent]);
    silenced.wait("event=started");
    asked.wait("event=started");
    assert_eq!(silenced.all().len(), 1, "its call is out still: it may take thirty seconds");
    assert_eq!(seed.terminate(), Some(0));
    asked.wait("event=stopped");
    assert!(!errors(&folder).contains("could not be told"), "{}", errors(&folder));
}

#[test]
fn all_that_know_us_are_told_and_who_is_not_reached_is_counted() {
    let folder = Folder::new("trackers-leave");
    // The first one knows us, does not like that we are complete, and never answers to our leave.
    let (fickle, first) = tracker(|target| match target {
        t if t.contains("event=started") => Some(GOOD.into()),
        t if t.contains("event=completed") => Some(NO.into()),
        _ => None,
    });
    let (good, second) = says(GOOD);
    let plain = create(&folder, "file", &[]);
    fs::rename(folder.0.join(&plain), folder.0.join("plain.torrent")).unwrap();
    let torrent = create(&folder, "file", &[&fickle, &good]);
    let mut seed = Running::start(&folder, &["-s", "-d", "there", "plain.torrent"]);
    let line = seed.line(r#""event":"listening""#);
    let peer = line.split_once(r#""addr":""#).unwrap().1.trim_end_matches(r#""}"#).to_string();
    // An address of its own: two peers of one address are one.
    let leech = Running::start(&folder, &["-d", "here", "--seed-ratio", "none", "--peer", &peer, &torrent]);
    first.wait("event=completed");
    assert!(!second.wait("event=started").contains("&left=0&"));
    second.wait("event=completed");
    assert_eq!(leech.terminate(), Some(0));
    assert!(first.wait("event=stopped").contains("numwant=0"));
    second.wait("event=stopped");
    let count = |asked: &Asked, event| asked.all().iter().filter(|target| target.contains(event)).count();
    assert_eq!((count(&first, "event=completed"), count(&second, "event=stopped")), (1, 1));
    let said = "1 tracker could not be told that we left";
    assert!(errors(&folder).contains(said), "{}", errors(&folder));
}
