//! Torrents by magnet link, info-hash and URL, from one real process to another.

use super::super::*;
use super::server::{Way, WebServer};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

/// A seed of a folder of three files, in a place of its own, and the info-hash.
struct Seed {
    there: Folder,
    process: Running,
    addr: String,
    hash: String,
}

impl Seed {
    fn new(name: &str, more: &[&str]) -> Seed {
        let there = Folder::new(&format!("{name}-there"));
        for (i, file) in ["a", "b", "c"].into_iter().enumerate() {
            there.file(&format!("there/set/{file}"), &noise(3 * PIECE + 1000, i as u32 + 40));
        }
        let torrent = create(&there, "set");
        let hash = info_hash(&there, &torrent).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut process = Running::start(&there, &[&["--seed", "-d", "there", &torrent], more].concat());
        let addr = process.addr();
        Seed { there, process, addr, hash }
    }

    fn link(&self) -> String {
        format!("magnet:?xt=urn:btih:{}&dn=A+set&x.pe={}", self.hash, self.addr)
    }

    #[track_caller]
    fn assert_in(&self, folder: &Folder) {
        assert_same(&self.there.0.join("there/set"), &folder.0.join("here/set"));
    }
}

#[test]
fn a_link_leads_to_the_files_and_is_remembered() {
    let seed = Seed::new("link", &[]);
    let folder = Folder::new("link-here");
    let link = seed.link();
    let mark = "echo \"$PTORRENT_NAME $PTORRENT_FILES $PTORRENT_PATH\" > mark";
    let args = ["-x", "-d", "here", "--on-complete", mark, &link];
    let (status, lines) = Running::start(&folder, &args).end_with_lines();
    assert_eq!(status, Some(0), "{}", errors(&folder));
    seed.assert_in(&folder);
    let states: Vec<&String> = lines.iter().filter(|line| line.contains(r#""event":"state""#)).collect();
    assert!(states[0].contains(r#""name":"A set","state":"metadata""#), "{}", states[0]);
    assert!(states[1].contains(r#""name":"set","state":"checking""#), "{}", states[1]);
    let path = folder.0.join("here/set");
    assert_eq!(fs::read_to_string(folder.0.join("mark")).unwrap(), format!("set 3 {}\n", path.display()));
    // Nobody is there any more, and nobody is needed.
    seed.process.signal(Signal::INT);
    let hash = &seed.hash;
    let lines = Running::start(&folder, &["-x", "-d", "here", hash]).end_with_lines().1;
    assert!(lines.iter().any(|line| line.contains(r#""event":"complete""#)), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains(r#""metadata""#)), "{lines:?}");
    let shown = run(&folder, &["show", "--no-dht", "--state-dir", "state", hash]);
    assert!(String::from_utf8(shown.stdout).unwrap().starts_with("Name:       set\n"));
    assert_eq!(errors(&folder), "");
}

#[test]
fn a_tracker_of_our_own_brings_them_together() {
    let mut tracker = Command::new(PTORRENT)
        .args(["tracker", "-p", "0", "-b", "127.0.0.1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(tracker.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.split_whitespace().find(|word| word.contains("://")).unwrap().to_string();
    let url = if url.ends_with("/announce") { url } else { format!("{url}/announce") };
    let mut seed = Seed::new("tracked", &["--tracker", &url]);
    seed.process.line_with(&[r#""state":"seeding""#]);
    // Its first announce goes out now; who asks before it is in hears of nobody for a minute.
    thread::sleep(Duration::from_secs(1));
    let folder = Folder::new("tracked-here");
    let encoded = url.replace(':', "%3A").replace('/', "%2F");
    let link = format!("magnet:?xt=urn:btih:{}&tr={encoded}", seed.hash.to_uppercase());
    assert_eq!(Running::start(&folder, &["-x", "-d", "here", &link]).end(), Some(0), "{}", errors(&folder));
    seed.assert_in(&folder);
    tracker.kill().unwrap();
    tracker.wait().unwrap();
}

#[test]
fn a_link_may_choose_files_and_the_option_wins() {
    let seed = Seed::new("chosen", &[]);
    let folder = Folder::new("chosen-here");
    let there = |name: &str| folder.0.join("here/set").join(name).exists();
    let link = seed.link() + "&so=1";
    assert_eq!(Running::start(&folder, &["-x", "-d", "here", &link]).end(), Some(0), "{}", errors(&folder));
    assert_eq!((there("a"), there("b"), there("c")), (false, true, false));
    let args = ["-x", "-d", "here", "--select", "1-2", &link];
    assert_eq!(Running::start(&folder, &args).end(), Some(0), "{}", errors(&folder));
    assert_eq!((there("a"), there("b"), there("c")), (true, true, false));
    let other = Folder::new("chosen-wrong");
    let args = ["-x", "-d", "here", "--select", "4", &seed.link()];
    assert_eq!(Running::start(&other, &args).end(), Some(1));
    assert_eq!(errors(&other), "ptorrent: set: --select '4': set has files 1 to 3\n");
}

#[test]
fn what_is_on_disk_is_seeded_by_its_link() {
    let seed = Seed::new("reseed", &[]);
    let (folder, other) = (Folder::new("reseed-here"), Folder::new("reseed-other"));
    let from = seed.there.0.join("there/set");
    fs::create_dir_all(folder.0.join("here/set")).unwrap();
    for name in ["a", "b", "c"] {
        fs::copy(from.join(name), folder.0.join("here/set").join(name)).unwrap();
    }
    let mut second = Running::start(&folder, &["-s", "-d", "here", &seed.link()]);
    let addr = second.addr();
    second.line_with(&[r#""event":"complete""#]);
    let link = format!("magnet:?xt=urn:btih:{}&x.pe={addr}", seed.hash);
    assert_eq!(Running::start(&other, &["-x", "-d", "here", &link]).end(), Some(0), "{}", errors(&other));
    seed.assert_in(&other);
    second.signal(Signal::INT);
    assert_eq!(second.end(), Some(0));
}

#[test]
fn ctrl_c_ends_a_link_that_leads_nowhere() {
    let folder = Folder::new("nowhere");
    let hash = "ab".repeat(20);
    let mut waits = Running::start(&folder, &["-x", "-d", "here", &hash]);
    waits.line_with(&[r#""state":"metadata""#]);
    waits.signal(Signal::INT);
    assert_eq!(waits.end(), Some(130));
    let said = errors(&folder);
    let start = format!("ptorrent: warning: {hash}: nobody can be asked for its metadata: ");
    assert!(said.starts_with(&start) && said.lines().count() == 1, "{said}");
}

#[test]
fn show_fetches_what_a_link_leads_to() {
    let seed = Seed::new("shown", &[]);
    let folder = Folder::new("shown-here");
    let args = ["show", "--json", "--no-dht", "--no-lsd", "-b", "127.0.0.1", "--state-dir", "state"];
    let output = run(&folder, &[&args[..], &["--peer", &seed.addr, &seed.hash]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{text} {:?}", output.stderr);
    assert!(text.starts_with(&format!(r#"{{"name":"set","info_hash":"{}""#, seed.hash)), "{text}");
    assert!(text.contains(r#""path":"set/c""#) && !folder.0.join("set").exists(), "{text}");
    let output = run(&folder, &[&args[..], &[&"cd".repeat(20)]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("nobody can be asked"), "{said}");
}

/// Answers each request for a path with what is written there, until the test ends.
fn serve(answers: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move |mut stream: TcpStream| {
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
            head.push(byte[0]);
        }
        let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or("").to_string();
        let found = answers.iter().find(|(of, _)| *of == path);
        let nothing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
        let _ = stream.write_all(found.map_or(&nothing, |(_, bytes)| bytes));
    };
    thread::spawn(move || listener.incoming().flatten().for_each(answer));
    url
}

#[test]
fn a_url_that_redirects_to_a_magnet_link_is_as_good_as_that() {
    let seed = Seed::new("url-link", &[]);
    let folder = Folder::new("url-link-here");
    let redirect = |link: &str| {
        format!("HTTP/1.1 302 Found\r\nLocation: {link}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    };
    // The peer of the link is on this machine, as its server is; what another name leads to nobody knows.
    let router = WebServer::new(&[], |_| Way::Close);
    let tracker = router.url("/reboot.cgi").replace(':', "%3A");
    let link = format!("{}&x.pe=localhost:1&tr={tracker}", seed.link());
    let url = serve(vec![
        ("/set.torrent", redirect(&link)),
        ("/bad", redirect("magnet:?xt=urn:btih:x&tr=http://x/passkey1")),
    ]);
    let from = format!("{url}/set.torrent");
    assert_eq!(Running::start(&folder, &["-x", "-d", "here", &from]).end(), Some(0), "{}", errors(&folder));
    seed.assert_in(&folder);
    let said = errors(&folder);
    assert!(said.contains("left out a peer, 'localhost': a redirect may not lead there"), "{said}");
    // Its tracker is not the user's word, though the URL was.
    assert!(said.contains("by another path than /announce, which only --tracker may"), "{said}");
    assert!(router.asked().is_empty(), "{:?}", router.asked());
    let output = run(&folder, &["show", &format!("{url}/bad")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && said.contains("redirected to a magnet link: the info-hash"),
        "{said}"
    );
    assert!(!said.contains("passkey1"), "{said}");
}

#[test]
fn a_compressed_torrent_is_refused_with_the_way_out() {
    let folder = Folder::new("url-gzip");
    let gzip = b"\x1f\x8b\x08\x00";
    let told =
        [&b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n"[..], gzip].concat();
    let untold = [&b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"[..], gzip].concat();
    let url = serve(vec![("/told", told), ("/untold", untold)]);
    fs::write(folder.0.join("t.torrent.gz"), gzip).unwrap();
    for (torrent, way_out) in [
        (
            format!("{url}/told"),
            "(\"gzip\"), which cannot be read yet; save it decompressed (curl --compressed",
        ),
        (
            format!("{url}/untold"),
            "compressed with gzip, which cannot be read yet; decompress it first (gunzip)",
        ),
        (
            "t.torrent.gz".into(),
            "compressed with gzip, which cannot be read yet; decompress it first (gunzip)",
        ),
    ] {
        let output = run(&folder, &["show", &torrent]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(way_out), "{said}");
    }
}

#[test]
fn a_torrent_is_fetched_from_its_url() {
    let seed = Seed::new("url", &[]);
    let folder = Folder::new("url-here");
    let torrent = fs::read(seed.there.0.join("set.torrent")).unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", torrent.len());
    let moved = b"HTTP/1.1 302 Found\r\nLocation: /b/set.torrent?key=1\r\nContent-Length: 0\r\n\r\n".to_vec();
    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>".to_vec();
    let round = b"HTTP/1.1 302 Found\r\nLocation: /round\r\nContent-Length: 0\r\n\r\n".to_vec();
    let url = serve(vec![
        ("/set", moved),
        ("/b/set.torrent?key=1", [head.into_bytes(), torrent].concat()),
        ("/page", page),
        ("/round", round),
    ]);
    let from = format!("{url}/set");
    let args = ["-x", "-d", "here", "--peer", &seed.addr, &from];
    assert_eq!(Running::start(&folder, &args).end(), Some(0), "{}", errors(&folder));
    seed.assert_in(&folder);
    for (path, words) in
        [("gone", "HTTP status 404"), ("page", "not a valid torrent"), ("round", "redirected too often")]
    {
        let output = run(&folder, &["show", &format!("{url}/{path}")]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(words) && said.contains(&url), "{said}");
    }
}
