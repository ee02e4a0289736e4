//! URLs that a .torrent or a link brings: they steer no request to a service of this machine, while what the user names
//! is asked.

use super::server::{Way, WebServer};
use crate::loopback::seeder::Seeder;
use crate::*;

/// A router that does as it is told by whoever comes from inside.
fn router() -> WebServer {
    WebServer::new(&[("/reboot.cgi?now=yes", b"done")], |_| {
        Way::Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde".into())
    })
}

#[test]
fn a_torrent_has_nobody_ask_the_router() {
    let folder = Folder::new("strangers");
    let data = noise(8 * PIECE, 9);
    folder.file("there/file", &data);
    let (router, moved) = (router(), router());
    let bad = router.url("/reboot.cgi?now=yes");
    let to = moved.url("/reboot.cgi?now=yes");
    let sly = WebServer::new(&[("/file", b""), ("/announce", b"")], move |_| {
        Way::Say(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"))
    });
    let made = run(
        &folder,
        &[
            "create",
            "-l",
            "64K",
            "-o",
            "file.torrent",
            "-a",
            &bad,
            "-a",
            &sly.url("/announce"),
            "-w",
            &bad,
            "-w",
            &sly.url("/file"),
            "there/file",
        ],
    );
    assert!(made.status.success(), "{made:?}");
    let seeder = Seeder::new("127.0.0.2", &data, PIECE, info_hash(&folder, "file.torrent"));
    let peer = seeder.addr.to_string();
    let leech = Running::start(&folder, &["-v", "-x", "-d", "here", "--peer", &peer, "file.torrent"]);
    let end = Instant::now() + Duration::from_secs(60);
    // Both trackers and both web seeds have been tried by now, whatever came of it.
    while !(errors(&folder).contains("with a query") && errors(&folder).contains("another path")) {
        assert!(Instant::now() < end, "{}", errors(&folder));
        std::thread::sleep(Duration::from_millis(20));
    }
    seeder.allow(ALL);
    assert_eq!(leech.end(), Some(0));
    let asked = (router.asked(), moved.asked());
    assert!(asked.0.is_empty() && asked.1.is_empty(), "{asked:?}");
    // What the user says is done.
    let leech =
        Running::start(&folder, &["-x", "-d", "free", "--peer", &peer, "--tracker", &bad, "file.torrent"]);
    assert_eq!(leech.end(), Some(0));
    let end = Instant::now() + Duration::from_secs(60);
    while router.asked().is_empty() {
        assert!(Instant::now() < end, "{}", errors(&folder));
        std::thread::sleep(Duration::from_millis(20));
    }
}
