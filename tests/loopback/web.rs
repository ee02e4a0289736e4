//! Web seeds (BEP 19): the real program and a scripted server, alone and beside a peer.

use super::server::{Asked, Way, WebServer};
use crate::loopback::seeder::Seeder;
use crate::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Makes `NAME.torrent` of a path below `there`, with these web seeds.
fn with_seeds(folder: &Folder, path: &str, urls: &[String]) -> String {
    let (name, from) = (format!("{path}.torrent"), format!("there/{path}"));
    let mut args = vec!["create", "-l", "64K", "-o", &name, &from];
    urls.iter().for_each(|url| args.extend(["-w", url]));
    let output = run(folder, &args);
    assert!(output.status.success(), "{output:?}");
    name
}

/// A folder with a file of 32 pieces and a server of it at `/file`.
fn one(name: &str, way: impl Fn(&Asked) -> Way + Send + Sync + 'static) -> (Folder, WebServer) {
    let folder = Folder::new(name);
    let data = noise(32 * PIECE - 77, 9);
    folder.file("there/file", &data);
    (folder, WebServer::new(&[("/file", &data)], way))
}

/// Downloads all of it and compares; gives what was said.
#[track_caller]
fn fetch(folder: &Folder, torrent: &str, args: &[&str]) -> String {
    let fixed = ["-x", "-d", "here", torrent];
    let (status, lines) = Running::start(folder, &[&fixed, args].concat()).end_with_lines();
    assert_eq!(status, Some(0), "{} {lines:?}", errors(folder));
    assert_same(&folder.0.join("there"), &folder.0.join("here"));
    errors(folder)
}

#[test]
fn a_file_comes_over_one_connection_in_long_ranges() {
    let (folder, server) = one("web-one", |_| Way::Serve);
    let torrent = with_seeds(&folder, "file", &[server.url("/file")]);
    assert_eq!(fetch(&folder, &torrent, &[]), "");
    let asked = server.asked();
    assert!(asked.iter().all(|one| one.connection == 0), "{asked:?}");
    assert!(asked.len() <= 12, "{} requests for 2 MiB", asked.len());
    assert!(!asked[0].head.to_lowercase().contains("gzip") && asked[0].head.contains("Host: 127.0.0.1:"));
    let bytes: usize = asked.iter().map(|one| one.range.1 + 1 - one.range.0).sum();
    assert_eq!(bytes, 32 * PIECE - 77, "nothing is asked for twice");
}

#[test]
fn a_url_with_a_slash_at_its_end_is_a_folder_and_names_are_encoded() {
    let folder = Folder::new("web-slash");
    let data = noise(3 * PIECE, 9);
    folder.file("there/sp ace #1%.bin", &data);
    let server = WebServer::new(&[("/a/sp%20ace%20%231%25.bin", &data)], |_| Way::Serve);
    let torrent = with_seeds(&folder, "sp ace #1%.bin", &[server.url("/a/")]);
    assert_eq!(fetch(&folder, &torrent, &[]), "");
}

/// Writes other URLs of the same length into a .torrent: `create` itself escapes them.
fn patch(folder: &Folder, torrent: &str, from: &str, to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let path = folder.0.join(torrent);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(&path, bytes).unwrap();
}

#[test]
fn blanks_and_letters_beyond_ascii_in_urls_are_escaped() {
    let folder = Folder::new("web-escape");
    let data = noise(3 * PIECE, 9);
    folder.file("there/file", &data);
    let server = WebServer::new(&[("/a%20b/100%/%C3%BC%FFX-Y:z.bin", &data)], |_| Way::Serve);
    let torrent = with_seeds(&folder, "file", &[server.url("/a_b/100_/_____X-Y:z.bin")]);
    patch(&folder, &torrent, "/a_b/100_/_____X", b"/a b/100%/\xc3\xbc\xff\r\nX");
    // The tracker that the user names: others are asked on loopback for /announce only.
    fetch(&folder, &torrent, &["--tracker", &server.url("/an ounce?key=a b")]);
    let asked = server.asked();
    assert!(asked.iter().any(|one| one.path.starts_with("/an%20ounce?key=a%20b&info_hash=")), "{asked:?}");
    let shown = run(&folder, &["show", &torrent]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("/a%20b/100%/%C3%BC%FFX-Y:z.bin\n"), "{text}");
    assert!(shown.stderr.is_empty());
}

#[test]
fn a_folder_of_small_large_empty_and_oddly_named_files_comes_whole() {
    let folder = Folder::new("web-tree");
    let names = ["a", "b/deep/er", "c", "sp ace/\u{fc} \u{2603}&?", "z"];
    let sizes = [1, 5 * PIECE + 3, 100, PIECE / 2, 3 * PIECE];
    let files: Vec<_> = names.iter().zip(sizes).map(|(n, len)| (*n, noise(len, len as u32))).collect();
    files.iter().for_each(|(name, data)| _ = folder.file(&format!("there/tree/{name}"), data));
    folder.file("there/tree/none", b"");
    let paths = ["a", "b/deep/er", "c", "sp%20ace/%C3%BC%20%E2%98%83%26%3F", "z"];
    let paths: Vec<_> = paths.iter().map(|path| format!("/root/tree/{path}")).collect();
    let served: Vec<_> = paths.iter().zip(&files).map(|(p, (_, data))| (p.as_str(), &data[..])).collect();
    let server = WebServer::new(&served, |_| Way::Serve);
    let torrent = with_seeds(&folder, "tree", &[server.url("/root")]);
    assert_eq!(fetch(&folder, &torrent, &[]), "");
    assert!(server.asked().iter().all(|one| one.connection == 0), "one connection for all files");
}

#[test]
fn chunked_answers_and_connections_that_do_not_last_do() {
    let (folder, server) = one("web-chunks", |asked| match asked.number % 3 {
        0 => Way::Chunks(1000),
        _ => Way::Serve,
    });
    let torrent = with_seeds(&folder, "file", &[server.url("/file")]);
    assert_eq!(fetch(&folder, &torrent, &[]), "");
}

#[test]
fn a_redirect_is_followed_and_remembered() {
    let (folder, server) = one("web-to", |_| Way::Serve);
    let (to, data) = (server.url("/file"), fs::read(folder.0.join("there/file")).unwrap());
    let first = WebServer::new(&[("/old", &data)], move |_| {
        Way::Say(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"))
    });
    let torrent = with_seeds(&folder, "file", &[first.url("/old")]);
    assert_eq!(fetch(&folder, &torrent, &[]), "");
    assert_eq!(first.asked().len(), 1);
}

#[test]
fn a_redirect_in_a_circle_ends() {
    let (folder, server) = one("web-circle", |asked| {
        Way::Say(format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", asked.path))
    });
    let good = WebServer::new(&[("/file", &fs::read(folder.0.join("there/file")).unwrap())], |_| Way::Serve);
    let torrent = with_seeds(&folder, "file", &[server.url("/file"), good.url("/file")]);
    let said = fetch(&folder, &torrent, &[]);
    assert!(said.contains("it redirects too often; it is not used any more"), "{said}");
    assert!(server.asked().len() < 10);
}

#[test]
fn a_server_that_cannot_be_used_is_said_and_left_to_others() {
    let ways = [
        ("HTTP/1.1 404 Not Found\r\n\r\n".to_string(), "does not have file (HTTP status 404)"),
        ("HTTP/1.1 206 x\r\nContent-Length: 5\r\n\r\nabcde".into(), "does not say which"),
        ("HTTP/1.1 206 x\r\nContent-Range: bytes 1-2/2097075\r\n\r\nab".into(), "another part of the file"),
        ("HTTP/1.1 206 x\r\nContent-Range: bytes 0-1/7\r\n\r\nab".into(), "has 7 bytes, not 2097075"),
        ("HTTP/1.1 302 x\r\nLocation: ftp://x/\r\n\r\n".into(), "unusable URL"),
        ("HTTP/1.1 418 x\r\n\r\n".into(), "HTTP status 418"),
        ("SSH-2.0-x\r\n\r\n".into(), "not HTTP"),
    ];
    let folder = Folder::new("web-bad");
    let data = noise(32 * PIECE - 77, 9);
    folder.file("there/file", &data);
    let mut servers: Vec<_> = ways
        .iter()
        .map(|(text, _)| {
            let text = text.clone();
            WebServer::new(&[("/file", &data)], move |_| Way::Say(text.clone()))
        })
        .collect();
    // It is slow, so that all others have their turn.
    servers.push(WebServer::new(&[("/file", &data)], |_| {
        std::thread::sleep(Duration::from_millis(500));
        Way::Serve
    }));
    let urls: Vec<_> = servers.iter().map(|server| server.url("/file")).collect();
    let said = fetch(&folder, &with_seeds(&folder, "file", &urls), &[]);
    for ((_, word), server) in ways.iter().zip(&servers) {
        let line = said.lines().find(|line| line.contains(&server.addr.to_string()));
        let line = line.unwrap_or_else(|| panic!("nothing of {word}: {said}"));
        assert!(line.contains(word) && line.contains("not used any more"), "{line}");
        assert!(server.asked().len() <= 2, "{word}: {} requests", server.asked().len());
    }
}

#[test]
fn a_file_is_read_once_from_a_server_without_ranges() {
    let (folder, server) = one("web-whole", |_| Way::Whole);
    let torrent = with_seeds(&folder, "file", &[server.url("/file")]);
    assert_eq!(fetch(&folder, &torrent, &[]), "");
    // The first request shows that there are no ranges.
    assert_eq!(server.asked().len(), 2, "{:?}", server.asked());
}

#[test]
fn files_of_a_folder_are_read_once_each_from_a_server_without_ranges() {
    let folder = Folder::new("web-whole-tree");
    let sizes = [("a", 1), ("b", 5 * PIECE + 3), ("c", 100), ("d", PIECE / 2), ("e", 9 * PIECE)];
    let files: Vec<_> = sizes.iter().map(|(name, len)| (*name, noise(*len, *len as u32))).collect();
    files.iter().for_each(|(name, data)| _ = folder.file(&format!("there/tree/{name}"), data));
    let paths: Vec<_> = files.iter().map(|(name, _)| format!("/tree/{name}")).collect();
    let served: Vec<_> = paths.iter().zip(&files).map(|(p, (_, data))| (p.as_str(), &data[..])).collect();
    let server = WebServer::new(&served, |_| Way::Whole);
    let torrent = with_seeds(&folder, "tree", &[server.url("/")]);
    // The second half is here already.
    folder.file("here/tree/e", &files[4].1);
    assert_eq!(fetch(&folder, &torrent, &[]), "");
    let asked = server.asked();
    assert!(asked.len() <= 7, "{asked:?}");
}

#[test]
fn a_server_without_ranges_that_breaks_off_is_read_again() {
    let breaks = AtomicUsize::new(0);
    let (folder, server) = one("web-whole-break", move |_| match breaks.fetch_add(1, Ordering::Relaxed) {
        1 => Way::BreakWhole(700_000),
        _ => Way::Whole,
    });
    let torrent = with_seeds(&folder, "file", &[server.url("/file")]);
    fetch(&folder, &torrent, &[]);
    assert_eq!(server.asked().len(), 3, "{:?}", server.asked());
}

#[test]
fn a_file_that_is_stored_compressed_is_taken_as_it_is() {
    let (folder, server) = one("web-gzip", |asked| match asked.number % 2 {
        0 => Way::ServeWith("Content-Encoding: x-gzip\r\n"),
        _ => Way::ServeWith("Content-Type: application/x-gzip\r\nContent-Encoding: gzip\r\n"),
    });
    let torrent = with_seeds(&folder, "file", &[server.url("/file")]);
    assert_eq!(fetch(&folder, &torrent, &[]), "");
}

#[test]
fn a_connection_that_breaks_costs_what_was_in_hand() {
    let breaks = AtomicUsize::new(0);
    let (folder, server) = one("web-break", move |asked| match breaks.fetch_add(1, Ordering::Relaxed) {
        0 => Way::Break(200_000),
        2 => Way::Break(0),
        4 if asked.number > 0 => Way::Close,
        _ => Way::Serve,
    });
    let torrent = with_seeds(&folder, "file", &[server.url("/file")]);
    fetch(&folder, &torrent, &[]);
}

#[test]
fn who_is_busy_is_asked_again_when_it_says() {
    let (folder, server) = one("web-busy", |asked| match asked.number {
        0 => Way::Say("HTTP/1.1 503 x\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n".into()),
        _ => Way::Serve,
    });
    let torrent = with_seeds(&folder, "file", &[server.url("/file")]);
    let said = fetch(&folder, &torrent, &[]);
    assert!(said.contains("(HTTP status 503); it is asked again in 2 s"), "{said}");
}

#[test]
fn a_liar_is_found_out_and_a_peer_has_the_rest() {
    let folder = Folder::new("web-lie");
    let data = noise(32 * PIECE - 77, 9);
    folder.file("there/file", &data);
    let server = WebServer::new(&[("/passkey12345/file", &data)], |_| Way::Lie);
    let torrent = with_seeds(&folder, "file", &[server.url("/passkey12345/file")]);
    let seeder = Seeder::new("127.0.0.2", &data, PIECE, info_hash(&folder, &torrent));
    let peer = seeder.addr.to_string();
    let mut leech = Running::start(&folder, &["-x", "-d", "here", "--peer", &peer, &torrent]);
    let said = leech.line_with(&[r#""event":"error""#, "it sent corrupt data; it is not used any more"]);
    assert!(said.contains(r#""reason":"hash""#), "{said}");
    // The peer serves only now, so that it is not through before.
    seeder.allow(ALL);
    assert_eq!(leech.end(), Some(0));
    assert_same(&folder.0.join("there"), &folder.0.join("here"));
    assert!(!format!("{said}{}", errors(&folder)).contains("passkey12345"), "{said}");
}

#[test]
fn a_drip_holds_up_neither_peers_nor_the_end() {
    let (folder, server) = one("web-drip", |_| Way::Drip);
    let torrent = with_seeds(&folder, "file", &[server.url("/file")]);
    let data = fs::read(folder.0.join("there/file")).unwrap();
    let seeder = Seeder::new("127.0.0.2", &data, PIECE, info_hash(&folder, &torrent));
    seeder.allow(ALL);
    let peer = seeder.addr.to_string();
    fetch(&folder, &torrent, &["--peer", &peer]);
    // Alone with the drip: a signal ends it at once.
    let mut alone = Running::start(&folder, &["-d", "alone", &torrent]);
    alone.line_with(&[r#""event":"progress""#, r#""web_seeds":1"#]);
    let start = Instant::now();
    alone.signal(Signal::INT);
    assert_eq!(alone.end(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn who_has_all_or_only_seeds_asks_no_server() {
    let (folder, server) = one("web-all", |_| Way::Serve);
    let torrent = with_seeds(&folder, "file", &[server.url("/file")]);
    assert_eq!(Running::start(&folder, &["-x", "-d", "there", &torrent]).end(), Some(0));
    fs::create_dir(folder.0.join("part")).unwrap();
    let mut half = fs::read(folder.0.join("there/file")).unwrap();
    half[16 * PIECE..].fill(0);
    fs::write(folder.0.join("part/file"), half).unwrap();
    let mut seeds = Running::start(&folder, &["--seed", "-d", "part", &torrent]);
    seeds.line_with(&[r#""state":"seeding""#]);
    seeds.signal(Signal::INT);
    seeds.end();
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[test]
#[cfg(not(feature = "https"))]
fn https_without_the_feature_is_said_with_the_host() {
    let (folder, server) = one("web-tls", |_| Way::Serve);
    let torrent = with_seeds(&folder, "file", &["https://127.0.0.9/file".into(), server.url("/file")]);
    let said = fetch(&folder, &torrent, &[]);
    assert!(said.contains("https://127.0.0.9/…: this build of ptorrent has no HTTPS"), "{said}");
}
