//! A place for one test: a folder, addresses, processes that end with it, a tracker, and patience.
//!
//! Addresses: clients take one address for one peer, so every process gets its own, in 127/8 or, where Transmission is
//! to dial others, in a network of its own: it never dials 127/8.

use std::cell::Cell;
use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::clients::{self, Client, Role, Start};
use super::content::{Content, Torrent};

/// How long anything may take before the test fails. Only a test that fails waits that long.
const PATIENCE: Duration = Duration::from_secs(180);

/// The folder of one test, removed at the end, kept and named when the test fails.
pub(crate) struct Lab {
    dir: PathBuf,
    made: Cell<u32>,
}

impl Lab {
    pub(crate) fn new(name: &str) -> Lab {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Lab { dir, made: Cell::new(0) }
    }

    /// A new empty folder.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.made.set(self.made.get() + 1);
        let dir = self.dir.join(format!("{}-{name}", self.made.get()));
        fs::create_dir(&dir).unwrap();
        dir
    }

    /// Starts a client in its role. A seeder finds its content there, a leecher an empty folder.
    pub(crate) fn start(&self, client: Client, role: Role, torrent: &Torrent, peers: &[SocketAddr]) -> Peer {
        // Rqbit announces from 127.0.0.1, wherever it listens.
        let listen = if client == Client::Rqbit { address_on(Ipv4Addr::LOCALHOST.into()) } else { address() };
        self.start_at(client, role, torrent, peers, listen, &[])
    }

    pub(crate) fn start_at(
        &self,
        client: Client,
        role: Role,
        torrent: &Torrent,
        peers: &[SocketAddr],
        listen: SocketAddr,
        settings: &[String],
    ) -> Peer {
        self.start_by(|command| command, client, role, torrent, peers, listen, settings)
    }

    /// Starts a client on another host. It knows nobody.
    pub(crate) fn start_on(
        &self,
        host: &Host,
        client: Client,
        role: Role,
        torrent: &Torrent,
        listen: SocketAddr,
        settings: &[String],
    ) -> Peer {
        self.start_by(|command| host.run(&command), client, role, torrent, &[], listen, settings)
    }

    #[expect(clippy::too_many_arguments, reason = "what the others above leave out")]
    fn start_by(
        &self,
        wrap: impl FnOnce(Command) -> Command,
        client: Client,
        role: Role,
        torrent: &Torrent,
        peers: &[SocketAddr],
        listen: SocketAddr,
        settings: &[String],
    ) -> Peer {
        let data = self.folder(&format!("{}-data", client.name()));
        if role == Role::Seed {
            torrent.content.write(&data);
        }
        let home = self.folder(client.name());
        let rpc = SocketAddr::new(listen.ip(), free_port(listen.ip()));
        let start = Start {
            role,
            torrent: &torrent.path,
            data: &data,
            home: &home,
            listen,
            rpc: rpc.port(),
            peers,
            settings,
        };
        let command = wrap(client.command(&start).unwrap());
        let process = Process::start(client.name(), command, &home);
        Peer { client, process, listen, rpc, data, home }
    }

    /// Starts ptorrent; the home it gets is empty, so that it has no settings and no resume records.
    pub(crate) fn ptorrent(&self, args: &[&str], data: &Path, bind: IpAddr, torrent: &Torrent) -> Process {
        self.ptorrent_with_dht(&[&["--no-dht"], args].concat(), data, bind, torrent)
    }

    /// The same with its DHT: say where it is to begin, so that it leaves the others alone.
    pub(crate) fn ptorrent_with_dht(
        &self,
        args: &[&str],
        data: &Path,
        bind: IpAddr,
        torrent: &Torrent,
    ) -> Process {
        self.ptorrent_with(&[&["--no-pex", "--no-lsd"], args].concat(), data, bind, torrent)
    }

    /// The same with all that finds peers.
    pub(crate) fn ptorrent_with(
        &self,
        args: &[&str],
        data: &Path,
        bind: IpAddr,
        torrent: &Torrent,
    ) -> Process {
        let home = self.folder("ptorrent");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        command
            .args(["-b", &bind.to_string()])
            .args(if args.contains(&"--encryption") { &[][..] } else { &["--encryption", "disabled"] })
            .args(args)
            .arg("-d")
            .arg(data)
            .arg(&torrent.path);
        clients::at_home(&mut command, &home);
        Process::start("ptorrent", command, &home)
    }

    /// Starts opentracker for these torrents.
    pub(crate) fn opentracker(&self, listen: SocketAddr, torrents: &[&Torrent]) -> Tracker {
        let home = self.folder("opentracker");
        let mut list = String::new();
        for torrent in torrents {
            writeln!(list, "{}", torrent.info_hash).unwrap();
        }
        // Started as root it changes its root to this folder first, then reads the list.
        fs::write(home.join("whitelist"), list).unwrap();
        let port = listen.port().to_string();
        let mut command = Command::new(clients::program("opentracker").unwrap());
        command
            .args(["-i", &listen.ip().to_string(), "-p", &port, "-P", &port, "-w", "whitelist", "-d"])
            .arg(&home);
        clients::at_home(&mut command, &home);
        let mut process = Process::start("opentracker", command, &home);
        process.wait_until("it listens", |_| TcpStream::connect(listen).is_ok());
        Tracker { process, listen }
    }

    /// Starts the tracker of the npm package bittorrent-tracker.
    pub(crate) fn bittorrent_tracker(&self, listen: SocketAddr) -> Tracker {
        let home = self.folder("bittorrent-tracker");
        let mut command = Command::new("node");
        command.arg(clients::bittorrent_tracker_script()).arg(clients::bittorrent_tracker().unwrap());
        command.args([listen.ip().to_string(), listen.port().to_string()]);
        clients::at_home(&mut command, &home);
        let mut process = Process::start("bittorrent-tracker", command, &home);
        process.wait_until("it listens", |process| process.stdout().contains("listening"));
        Tracker { process, listen }
    }

    /// Starts `ptorrent tracker`.
    pub(crate) fn tracker(&self, listen: SocketAddr) -> Tracker {
        let home = self.folder("tracker");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        command.args(["tracker", "-b", &listen.ip().to_string(), "-p", &listen.port().to_string()]);
        clients::at_home(&mut command, &home);
        let mut process = Process::start("tracker", command, &home);
        process.wait_until("it listens", |process| process.stdout().contains("listening on "));
        Tracker { process, listen }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(&format!("kept: {}", self.dir.display()));
        } else if let Err(error) = fs::remove_dir_all(&self.dir) {
            tell(&format!("cannot remove {}: {error}", self.dir.display()));
        }
    }
}

/// A program that runs, killed when this is dropped. It stays in the process group of the test, so that Ctrl-C
/// ends it too.
pub(crate) struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    pub(crate) fn start(name: &str, mut command: Command, home: &Path) -> Process {
        let (out, err) = (home.join("stdout"), home.join("stderr"));
        command.stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Process { name: name.to_string(), child, out, err }
    }

    /// All that it wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap()).into_owned()
    }

    /// All that it wrote to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).unwrap()).into_owned()
    }

    /// Waits until something holds; fails when the process ends before.
    pub(crate) fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&Process) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended ({status}) before this: {what}", self.name);
            }
            assert!(start.elapsed() < PATIENCE, "{}: waited in vain for this: {what}", self.name);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for its end.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{} does not end", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn wait_success(&mut self) {
        let status = self.wait_exit();
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
    }

    /// Ends it without notice.
    pub(crate) fn kill(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            for path in [&self.out, &self.err] {
                let text = fs::read(path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let lines: Vec<&str> = text.lines().collect();
                for line in &lines[lines.len().saturating_sub(20)..] {
                    tell(&format!("{}| {line}", self.name));
                }
            }
        }
    }
}

/// A real client at work.
pub(crate) struct Peer {
    client: Client,
    pub(crate) process: Process,
    pub(crate) listen: SocketAddr,
    rpc: SocketAddr,
    data: PathBuf,
    pub(crate) home: PathBuf,
}

impl Peer {
    /// Waits until others can connect to it; a seeder then has its content loaded.
    pub(crate) fn wait_ready(&mut self, role: Role) {
        let (client, listen, rpc) = (self.client, self.listen, self.rpc);
        self.process.wait_until("it is ready", |process| match (client, role) {
            (Client::Libtorrent, Role::Seed) => process.stdout().contains("seeding"),
            (Client::Libtorrent, Role::Leech) => process.stdout().contains("listening"),
            (Client::Transmission, Role::Seed) => {
                clients::transmission_progress(rpc).is_some_and(|now| now.seeding)
            }
            (Client::Transmission, Role::Leech) => clients::transmission_progress(rpc).is_some(),
            (Client::Aria2 | Client::Rqbit | Client::Rtorrent, _) => TcpStream::connect(listen).is_ok(),
        });
    }

    /// Waits until it has all and says so, then compares.
    pub(crate) fn wait_complete(&mut self, content: &Content) {
        let (rpc, home) = (self.rpc, self.home.clone());
        match self.client {
            Client::Aria2 | Client::Libtorrent | Client::Rqbit => self.process.wait_success(),
            Client::Rtorrent => {
                self.process.wait_until("it is complete", |_| clients::rtorrent_mark(&home).exists());
            }
            Client::Transmission => self.process.wait_until("it is complete", |_| {
                clients::transmission_progress(rpc).is_some_and(|now| now.left == 0 && now.seeding)
            }),
        }
        // Transmission 3.00 makes no file that has no bytes.
        if self.client == Client::Transmission {
            content.assert_bytes_in(&self.data);
        } else {
            content.assert_in(&self.data);
        }
    }
}

/// Another host: a network namespace, beside that of this process, with a wire in between.
pub(crate) struct Host {
    /// What keeps it there.
    holder: Process,
}

impl Host {
    /// This host gets the address `here`, the other one `there`. To be made in a network of one's own.
    pub(crate) fn new(lab: &Lab, here: &str, there: &str) -> Host {
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", "echo there; exec sleep 1000"]);
        let mut holder = Process::start("host", command, &lab.folder("host"));
        holder.wait_until("it is there", |process| process.stdout().contains("there"));
        let host = Host { holder };
        let pid = host.pid();
        // Old programs take the way to a group from the routes alone.
        let inside = format!(
            "ip link set lo up && ip address add {there}/24 dev w1 && ip link set w1 up && ip route add default dev w1"
        );
        let script = format!(
            "ip link add w0 type veth peer name w1 netns {pid} && ip address add {here}/24 dev w0 && \
             ip link set w0 up && nsenter -t {pid} -n sh -c '{inside}'"
        );
        let made = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        host
    }

    fn pid(&self) -> String {
        Pid::from_child(&self.holder.child).as_raw_nonzero().to_string()
    }

    /// The command, on this host.
    fn run(&self, command: &Command) -> Command {
        let mut wrapped = Command::new("nsenter");
        wrapped.args(["-t", &self.pid(), "-n"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            wrapped.current_dir(dir);
        }
        wrapped
    }
}

/// An opentracker, a bittorrent-tracker or a `ptorrent tracker`, HTTP and UDP on one address.
pub(crate) struct Tracker {
    process: Process,
    listen: SocketAddr,
}

impl Tracker {
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Waits until so many seeders have announced themselves: who announces earlier hears nothing of them and may
    /// not ask again for half an hour.
    pub(crate) fn wait_seeds(&mut self, torrent: &Torrent, seeds: u64) {
        let listed = self.lists(torrent, "8:completei", seeds);
        self.process.wait_until("the seeders announce themselves", |_| listed());
    }

    /// The same for leechers.
    pub(crate) fn wait_leechers(&mut self, torrent: &Torrent, leechers: u64) {
        let listed = self.lists(torrent, "10:incompletei", leechers);
        self.process.wait_until("the leechers announce themselves", |_| listed());
    }

    /// Asks it to end, and expects that it does so well.
    pub(crate) fn end(mut self) {
        self.process.terminate();
        self.process.wait_success();
    }

    /// As `wait_seeds` for one that this test started itself, which may end before.
    pub(crate) fn wait_seed(&self, torrent: &Torrent, seeder: &mut Process) {
        let listed = self.lists(torrent, "8:completei", 1);
        seeder.wait_until("the tracker lists it", |_| listed());
    }

    /// Whether it lists so many seeders or leechers, by the key of their number.
    fn lists(&self, torrent: &Torrent, key: &'static str, count: u64) -> impl Fn() -> bool + use<> {
        let listen = self.listen;
        let mut hash = String::new();
        for pair in torrent.info_hash.as_bytes().chunks(2) {
            write!(hash, "%{}", str::from_utf8(pair).unwrap()).unwrap();
        }
        let request = format!("GET /scrape?info_hash={hash} HTTP/1.0\r\nHost: {listen}\r\n\r\n");
        move || {
            clients::http(listen, &request)
                .is_ok_and(|answer| clients::number_after(&answer, key).is_some_and(|all| all >= count))
        }
    }
}

pub(crate) fn announce_url(tracker: SocketAddr) -> String {
    format!("http://{tracker}/announce")
}

/// A new address in 127/8 with a free port.
pub(crate) fn address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let [third, fourth] = (number + 1).to_be_bytes();
    if env::var_os(NETWORK).is_some() {
        return address_on(Ipv4Addr::new(10, 77, third, fourth.max(1)).into());
    }
    // Runs side by side share no address, most of the time; the ports are free in any case.
    let second = (std::process::id() % 250 + 1) as u8;
    let ip = IpAddr::from(Ipv4Addr::new(127, second, third, fourth.max(1)));
    address_on(ip)
}

/// A free port there.
pub(crate) fn address_on(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, free_port(ip))
}

/// A free port: the kernel's choice. Nobody else uses the address, so that it stays free; where all share one,
/// the kernel does not choose the same again soon.
fn free_port(ip: IpAddr) -> u16 {
    // The address of another host is all its own: any port is free.
    TcpListener::bind((ip, 0)).map_or(7003, |listener| listener.local_addr().unwrap().port())
}

/// Whether a test can run here. A missing client is said and, where CI is set, a failure.
pub(crate) fn can(needed: &[Client]) -> bool {
    let tools = ["opentracker", "mktorrent", "transmission-create", "transmission-show"];
    let clients = needed.iter().filter(|client| client.program().is_none()).map(|client| client.name());
    let tools = tools.into_iter().filter(|tool| clients::program(tool).is_none());
    let Some(missing) = clients.chain(tools).next() else { return true };
    // Building rqbit takes minutes: CI may do without.
    let optional = missing == Client::Rqbit.name() || missing == Client::Rtorrent.name();
    skip(missing, optional);
    false
}

/// Says that a test cannot run here; where CI is set that is a failure, unless what is missing is `optional`.
pub(crate) fn skip(missing: &str, optional: bool) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    assert!(optional || env::var_os("CI").is_none(), "{missing} is not installed (scripts/setup-peers.sh)");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let test = thread::current();
    let test = test.name().unwrap_or("?");
    tell(&format!(
        "skipped: {test}: {missing} is not installed (scripts/setup-peers.sh); {count} skipped so far"
    ));
}

/// Set in a process that has a network of its own.
const NETWORK: &str = "PTORRENT_TEST_NETWORK";

/// Whether this process has a network of its own, with 10.77/16 on its loopback. If not, the test is run again in a
/// process that has one, and this one has nothing more to do.
pub(crate) fn has_network() -> bool {
    if env::var_os(NETWORK).is_some() {
        return true;
    }
    let test = thread::current();
    let test = test.name().expect("tests have names");
    let by = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", script]).arg(env::current_exe().unwrap()).stdin(Stdio::null());
        command
    };
    let tried = by("ip link set lo up").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        assert!(
            env::var_os("CI").is_none(),
            "{test}: root, unshare and ip are needed for a network namespace"
        );
        tell(&format!("skipped: {test}: root, unshare and ip are needed for a network namespace"));
        return false;
    }
    let mut again = by("ip link set lo up && ip address add 10.77.0.1/16 dev lo && exec \"$0\" \"$@\"");
    again.args(["--exact", test, "--nocapture"]).env(NETWORK, "1");
    assert!(again.status().unwrap().success(), "{test} failed in its network");
    false
}

/// Writes a line to standard error even for a test that passes: libtest holds back what the macros print.
pub(crate) fn tell(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
