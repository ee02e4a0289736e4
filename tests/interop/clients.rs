//! How each real client is started on loopback: its command line and its settings. Shared with `tests/bench`.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A client that users have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Aria2,
    Libtorrent,
    Rqbit,
    Rtorrent,
    Transmission,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Seed,
    Leech,
}

/// What one process of a client needs to know.
pub(crate) struct Start<'a> {
    pub(crate) role: Role,
    /// A .torrent file, or a magnet link for a leecher.
    pub(crate) torrent: &'a Path,
    /// Where the content is, or goes.
    pub(crate) data: &'a Path,
    /// Its own settings and state, an empty folder.
    pub(crate) home: &'a Path,
    pub(crate) listen: SocketAddr,
    /// Port of the remote control, for Transmission.
    pub(crate) rpc: u16,
    /// Peers to dial; aria2, rtorrent and Transmission know them by a tracker only.
    pub(crate) peers: &'a [SocketAddr],
    /// Settings of libtorrent, as `name=number`; for Transmission nodes that its DHT begins with, as `host port`, and
    /// `lpd=1`. For both `pex=1`. `encryption`: aria2 and Transmission want nothing else.
    pub(crate) settings: &'a [String],
}

/// The setting of a client that wants encryption.
const ENCRYPTION: &str = "encryption";

impl Start<'_> {
    fn encrypts(&self) -> bool {
        self.settings.iter().any(|setting| setting == ENCRYPTION)
    }
}

impl Client {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Client::Aria2 => "aria2",
            Client::Libtorrent => "libtorrent",
            Client::Rqbit => "rqbit",
            Client::Rtorrent => "rtorrent",
            Client::Transmission => "transmission",
        }
    }

    /// The program that runs it, when it is installed.
    pub(crate) fn program(self) -> Option<PathBuf> {
        match self {
            Client::Aria2 => program("aria2c"),
            Client::Libtorrent => Some(peers_dir().join("venv/bin/python")).filter(|path| path.exists()),
            Client::Rqbit => {
                Some(peers_dir().join("bin/rqbit")).filter(|path| path.exists()).or_else(|| program("rqbit"))
            }
            Client::Rtorrent => program("rtorrent"),
            Client::Transmission => program("transmission-daemon"),
        }
    }

    /// The command that starts it; writes its settings into its home first.
    pub(crate) fn command(self, start: &Start<'_>) -> io::Result<Command> {
        let program =
            self.program().ok_or_else(|| io::Error::other(format!("{} is not installed", self.name())))?;
        let mut command = Command::new(program);
        match self {
            Client::Aria2 => aria2(&mut command, start),
            Client::Libtorrent => libtorrent(&mut command, start),
            Client::Rqbit => rqbit(&mut command, start),
            Client::Rtorrent => rtorrent(&mut command, start)?,
            Client::Transmission => transmission(&mut command, start)?,
        }
        at_home(&mut command, start.home);
        Ok(command)
    }
}

/// Keeps a program away from the user's own settings and state.
pub(crate) fn at_home(command: &mut Command, home: &Path) {
    command.current_dir(home).env("HOME", home).env("TERM", "dumb").env_remove("http_proxy");
    for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
        command.env(name, home);
    }
}

/// Finds a program on PATH, and in sbin, where Debian keeps servers.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// Where `scripts/setup-peers.sh` puts what does not come from apt.
fn peers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers")
}

/// The folder of the npm package bittorrent-tracker, when it is installed and there is something to run it.
pub(crate) fn bittorrent_tracker() -> Option<PathBuf> {
    let folder = peers_dir().join("npm/node_modules/bittorrent-tracker");
    Some(folder).filter(|folder| folder.join("server.js").is_file() && program("node").is_some())
}

/// What runs it.
pub(crate) fn bittorrent_tracker_script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/bt.mjs")
}

pub(crate) fn libtorrent_script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/lt.py")
}

fn aria2(command: &mut Command, start: &Start<'_>) {
    command
        .args(["--no-conf", "--bt-enable-lpd=false", "--enable-dht=false", "--enable-dht6=false"])
        .args(["--enable-peer-exchange=false", "--disable-ipv6=true", "--allow-overwrite=true"])
        .args(["--file-allocation=falloc", "--summary-interval=0", "--show-console-readout=false"])
        .arg(format!("--interface={}", start.listen.ip()))
        .arg(format!("--listen-port={}", start.listen.port()))
        .arg(format!("--dir={}", start.data.display()));
    if start.encrypts() {
        command.args(["--bt-require-crypto=true", "--bt-force-encryption=true"]);
        command.arg("--bt-min-crypto-level=arc4");
    }
    match start.role {
        Role::Seed => command.args(["--bt-seed-unverified=true", "--seed-ratio=0.0"]),
        Role::Leech => command.arg("--seed-time=0"),
    };
    command.arg(start.torrent);
}

fn libtorrent(command: &mut Command, start: &Start<'_>) {
    command.arg(libtorrent_script());
    match start.role {
        Role::Seed => command.arg("seed"),
        Role::Leech => command.args(["leech", "--exit"]),
    };
    command.arg(start.torrent).arg(start.data).arg(format!("--listen={}", start.listen));
    command.args(start.peers.iter().map(|peer| format!("--peer={peer}")));
    let set = start.settings.iter().map(|pair| match pair.as_str() {
        "pex=1" => "--pex".to_string(),
        pair => format!("--set={pair}"),
    });
    command.args(set);
}

fn rqbit(command: &mut Command, start: &Start<'_>) {
    command
        .args(["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward"])
        .arg(format!("--listen-ip={}", start.listen.ip()))
        .arg(format!("--listen-port={}", start.listen.port()))
        // Without this it announces 4240, whatever it listens on.
        .arg(format!("--announce-port={}", start.listen.port()))
        .args(["download", "--overwrite", "--disable-http-api"])
        .arg(format!("--output-folder={}", start.data.display()));
    if start.role == Role::Leech {
        command.arg("--exit-on-finish");
    }
    if !start.peers.is_empty() {
        let peers: Vec<String> = start.peers.iter().map(SocketAddr::to_string).collect();
        command.arg(format!("--initial-peers={}", peers.join(",")));
    }
    command.arg(start.torrent);
}

/// The file that rtorrent makes when its download is complete.
pub(crate) fn rtorrent_mark(home: &Path) -> PathBuf {
    home.join("finished")
}

fn rtorrent(command: &mut Command, start: &Start<'_>) -> io::Result<()> {
    let settings = start.home.join("rtorrent.rc");
    let rc = format!(
        "system.daemon.set = true\n\
         directory.default.set = \"{data}\"\n\
         session.path.set = \"{home}\"\n\
         network.bind_address.set = {ip}\n\
         network.port_range.set = {port}-{port}\n\
         network.port_random.set = no\n\
         dht.mode.set = disable\n\
         protocol.pex.set = no\n\
         trackers.use_udp.set = no\n\
         protocol.encryption.set = none\n\
         pieces.hash.on_completion.set = no\n\
         method.set_key = event.download.finished,done,\"execute.throw=touch,{mark}\"\n\
         schedule2 = load,0,0,\"load.start_verbose={torrent}\"\n",
        data = start.data.display(),
        home = start.home.display(),
        ip = start.listen.ip(),
        port = start.listen.port(),
        mark = rtorrent_mark(start.home).display(),
        torrent = start.torrent.display(),
    );
    fs::write(&settings, rc)?;
    command.arg("-n").arg("-o").arg(format!("import={}", settings.display()));
    Ok(())
}

fn transmission(command: &mut Command, start: &Start<'_>) -> io::Result<()> {
    let (flags, nodes): (Vec<_>, Vec<_>) = start
        .settings
        .iter()
        .map(String::as_str)
        .filter(|setting| *setting != ENCRYPTION)
        .partition(|setting| setting.contains('='));
    // It takes a path in JSON as it is: the tests use none with a quote or a backslash.
    let settings = format!(
        r#"{{"bind-address-ipv4": "{ip}", "bind-address-ipv6": "::1", "peer-port": {port},
            "rpc-bind-address": "{ip}", "rpc-port": {rpc}, "rpc-whitelist-enabled": false,
            "rpc-host-whitelist-enabled": false, "rpc-authentication-required": false,
            "dht-enabled": {dht}, "lpd-enabled": {lpd}, "pex-enabled": {pex}, "utp-enabled": false,
            "port-forwarding-enabled": false, "encryption": {encryption}, "rename-partial-files": false,
            "incomplete-dir-enabled": false, "download-dir": "{data}"}}"#,
        ip = start.listen.ip(),
        port = start.listen.port(),
        rpc = start.rpc,
        data = start.data.display(),
        dht = !nodes.is_empty(),
        lpd = flags.contains(&"lpd=1"),
        pex = flags.contains(&"pex=1"),
        encryption = if start.encrypts() { 2 } else { 0 },
    );
    fs::write(start.home.join("settings.json"), settings)?;
    fs::write(start.home.join("dht.bootstrap"), nodes.join("\n"))?;
    // What lies in this folder it loads at its start; content of the right size it takes for complete.
    let torrents = start.home.join("torrents");
    fs::create_dir_all(&torrents)?;
    match start.torrent.to_str().and_then(|link| link.strip_prefix("magnet:?xt=urn:btih:")) {
        Some(hex) => fs::write(torrents.join(transmission_name(&hex[..40])), transmission_link(hex))?,
        // By the name of its own it would not look at the content before it is told to.
        None => _ = fs::copy(start.torrent, torrents.join("only.torrent"))?,
    }
    command.args(["--foreground", "--log-error", "--config-dir"]).arg(start.home);
    Ok(())
}

/// The name that Transmission gives to the file of a torrent: by another one it does not find it when metadata has come,
/// or when a peer asks for it.
pub(crate) fn transmission_name(info_hash: &str) -> String {
    format!("{info_hash}.torrent")
}

/// How Transmission keeps a magnet link over a restart.
fn transmission_link(hex: &str) -> Vec<u8> {
    let digits = hex.get(..40).unwrap_or(hex).as_bytes();
    let hash = digits
        .chunks(2)
        .map(|pair| str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    let hash: Vec<u8> = hash.map(|byte| byte.expect("a hex digit")).collect();
    [b"d11:magnet-infod9:info_hash20:", &hash[..], b"ee"].concat()
}

/// What Transmission says of its only torrent. None: it does not answer yet.
pub(crate) struct Progress {
    /// It shares the torrent and wants nothing more.
    pub(crate) seeding: bool,
    /// Bytes that it still wants.
    pub(crate) left: u64,
}

/// Asks Transmission's remote control; None while it does not answer or has not loaded the torrent yet.
pub(crate) fn transmission_progress(rpc: SocketAddr) -> Option<Progress> {
    let body = r#"{"method":"torrent-get","arguments":{"fields":["status","leftUntilDone","sizeWhenDone"]}}"#;
    // It answers 409 with the id of the session, which the next request must bear.
    let refusal = http_post(rpc, "", body).ok()?;
    let session = refusal.split_once("X-Transmission-Session-Id: ")?.1.split_once("\r\n")?.0;
    let answer = http_post(rpc, &format!("X-Transmission-Session-Id: {session}\r\n"), body).ok()?;
    if number_after(&answer, "\"sizeWhenDone\":")? == 0 {
        return None;
    }
    const SEEDING: u64 = 6;
    Some(Progress {
        seeding: number_after(&answer, "\"status\":")? == SEEDING,
        left: number_after(&answer, "\"leftUntilDone\":")?,
    })
}

fn http_post(to: SocketAddr, header: &str, body: &str) -> io::Result<String> {
    let head = format!(
        "POST /transmission/rpc HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{header}Content-Length: {}\r\n\r\n",
        body.len()
    );
    http(to, &(head + body))
}

/// Sends a whole request, returns all of the answer.
pub(crate) fn http(to: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The number behind a key, in JSON or in bencode.
pub(crate) fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.split_once(key)?.1.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
