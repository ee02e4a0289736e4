//! ptorrent downloads from nginx (BEP 19): alone, and beside a peer.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::clients::{self, Client, Role};
use super::content::{Content, Torrent};
use super::lab::{Lab, Process, address, can, skip};

/// Starts nginx over a folder; `more` goes into its one location.
fn nginx(lab: &Lab, root: &Path, listen: SocketAddr, more: &str) -> Process {
    let home = lab.folder("nginx");
    let at = |name: &str| home.join(name).display().to_string();
    let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temps: String =
        temps.iter().map(|name| format!("{name}_temp_path \"{}\";\n", at(&format!("{name}-temp")))).collect();
    let config = format!(
        "daemon off;\nmaster_process off;\npid \"{}\";\nerror_log stderr;\nevents {{}}\nhttp {{\n{temps}access_log \
         \"{}\";\nsendfile on;\nserver {{\nlisten {listen};\nlocation / {{ root \"{}\"; {more} }}\n}}\n}}\n",
        at("pid"),
        at("access"),
        root.display()
    );
    fs::write(home.join("nginx.conf"), config).unwrap();
    let mut command = Command::new(clients::program("nginx").unwrap());
    command.args(["-p"]).arg(&home).args(["-e", "stderr", "-c", "nginx.conf"]);
    clients::at_home(&mut command, &home);
    let mut process = Process::start("nginx", command, &home);
    process.wait_until("it listens", |_| TcpStream::connect(listen).is_ok());
    process
}

/// A torrent of what is in a new folder, with these web seeds, as mktorrent writes them: a string, or a list.
fn torrent(lab: &Lab, content: Content, urls: &[String]) -> (Torrent, PathBuf) {
    let root = lab.folder("root");
    content.write(&root);
    let target = fs::read_dir(&root).unwrap().next().unwrap().unwrap().path();
    let path = lab.folder("torrent").join("made.torrent");
    let mut command = Command::new("mktorrent");
    command.args(["-l", "18", "-a", "http://127.0.0.1:1/announce"]);
    command.args(["-w", &urls.join(",")]).arg("-o").arg(&path).arg(target);
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (Torrent { path, content, info_hash: String::new() }, root)
}

fn has_nginx() -> bool {
    let there = clients::program("nginx").is_some();
    if !there {
        skip("nginx", false);
    }
    there && can(&[Client::Libtorrent])
}

fn from_nginx(name: &str, content: Content, url: &str, more: &str) {
    if !has_nginx() {
        return;
    }
    let lab = Lab::new(name);
    let listen = address();
    let (torrent, root) = torrent(&lab, content, &[format!("http://{listen}{url}")]);
    let _server = nginx(&lab, &root, listen, more);
    let data = lab.folder("data");
    lab.ptorrent(&["-x", "-p", "0"], &data, address().ip(), &torrent).wait_success();
    torrent.content.assert_only_in(&data);
}

#[test]
fn file_from_nginx() {
    from_nginx("web-file", Content::single(50_000_001), "/", "");
}

#[test]
fn folder_from_nginx() {
    from_nginx("web-folder", Content::folder(), "/", "");
}

#[test]
fn file_by_its_own_url_from_nginx_that_keeps_no_connection() {
    let more = "keepalive_requests 1;";
    from_nginx("web-close", Content::single(20_000_000), "/one%20file.bin", more);
}

#[test]
fn file_from_two_nginx_and_libtorrent() {
    if !has_nginx() {
        return;
    }
    let lab = Lab::new("web-both");
    let (one, other) = (address(), address());
    let urls = [one, other].map(|listen| format!("http://{listen}/"));
    let (torrent, root) = torrent(&lab, Content::single(80_000_000), &urls);
    // Slow enough that the peer has its share.
    let _servers = [one, other].map(|listen| nginx(&lab, &root, listen, "limit_rate 5m;"));
    let mut seeder = lab.start(Client::Libtorrent, Role::Seed, &torrent, &[]);
    seeder.wait_ready(Role::Seed);
    let data = lab.folder("data");
    let peer = seeder.listen.to_string();
    lab.ptorrent(&["-x", "-p", "0", "--peer", &peer], &data, address().ip(), &torrent).wait_success();
    torrent.content.assert_only_in(&data);
}
