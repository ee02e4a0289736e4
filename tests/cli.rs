//! The program as a function: arguments and a folder in, output and status out.

mod common;

use common::{Folder, noise};
use ptorrent::cli::{Env, run};
use ptorrent::engine::Roots;
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

impl Folder {
    fn call(&self, args: &[&str]) -> Output {
        self.call_os(args.iter().map(OsString::from).collect())
    }

    fn call_os(&self, args: Vec<OsString>) -> Output {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = call(&self.0, args, &mut out, &mut err);
        Output { status, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
    }
}

struct Output {
    status: u8,
    out: String,
    err: String,
}

impl Output {
    #[track_caller]
    fn ok(&self) -> &str {
        assert_eq!((self.status, self.err.as_str()), (0, ""), "{}", self.out);
        &self.out
    }

    /// One line in the program's name, and nothing on standard output.
    #[track_caller]
    fn fails(&self, status: u8) -> &str {
        assert_eq!((self.status, self.out.as_str()), (status, ""), "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self.err.strip_prefix("ptorrent: ").expect(&self.err)
    }
}

fn call(dir: &Path, args: Vec<OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    run(&mut Env {
        args,
        dir: dir.into(),
        out,
        out_is_terminal: false,
        err,
        err_is_terminal: false,
        in_is_terminal: false,
        size: || None,
        columns: None,
        takes_signals: false,
        rust_log: None,
        roots: Roots::Usual,
        state_dir: Some(dir.join("state")),
        config: Some(dir.join("settings/config")),
        home: Some(dir.join("home")),
    })
}

#[test]
fn wrong_usage_is_one_line_that_names_option_value_and_what_is_allowed() {
    let folder = Folder::new("usage");
    for (args, due) in [
        (&[][..], &["no TORRENT"][..]),
        (&["--nonsense", "x"], &["unknown option --nonsense"]),
        (&["-z"], &["unknown option -z"]),
        (&["--dht-bootstrap", "x", "t"], &["--dht-bootstrap 'x'", "HOST:PORT"]),
        (&["dht", "--lookup", "x"], &["--lookup 'x'", "40 hexadecimal digits"]),
        (&["dht", "x"], &["dht takes options only"]),
        (&["--seed-ratio", "x", "t"], &["--seed-ratio 'x'", "1.5"]),
        (&["--seed-time", "1.5", "t"], &["--seed-time '1.5'", "minutes"]),
        (&["--max-upload-rate", "1T", "t"], &["--max-upload-rate '1T'", "500K"]),
        (&["--no-sandbox", "t"], &["unknown option --no-sandbox"]),
        (&["t", "--dir"], &["--dir needs a value"]),
        (&["-d", "a", "-d", "b", "t"], &["more than once"]),
        (&["--exit=yes", "t"], &["exit 'yes'", "true or false"]),
        (&["-x", "--exit", "t"], &["more than once"]),
        (&["--config", "a", "--config", "b", "t"], &["more than once"]),
        (&["show", "--json=yes", "t"], &["--json takes no value"]),
        (&["config", "t"], &["options only", "'t'"]),
        (&["config", "-p", "x"], &["port", "'x'"]),
        (&["config", "--save", "--config", ""], &["--config"]),
        (&["-s", "-x", "t"], &["--seed", "--exit", "contradict"]),
        (&["-q", "-v", "t"], &["--quiet", "--verbose"]),
        (&["-p", "70000", "t"], &["port", "'70000'", "65535"]),
        (&["--port", "9-8", "t"], &["--port", "'9-8'", "rising"]),
        (&["-b", "host", "t"], &["bind", "'host'", "IPv4 or IPv6"]),
        (&["-b", "1.2.3.4", "--bind", "::ffff:1.2.3.5", "t"], &["--bind", "twice"]),
        (&["--bind-device", "a/b", "t"], &["--bind-device", "'a/b'"]),
        (&["-c", "0", "t"], &["max-conn", "'0'", "20000"]),
        (&["-u", "many", "t"], &["max-upload", "'many'", "number"]),
        (&["--peer", "::1:6881", "t"], &["--peer", "'::1:6881'", "brackets"]),
        (&["--tracker", "gopher://me:word@x/key", "t"], &["--tracker", "'gopher://x/...'", "http://"]),
        (&["--select", "1,x-3", "t"], &["--select", "'x-3'", "1,3-5"]),
        (&["--prealloc", "some", "t"], &["--prealloc", "'some'", "full or sparse"]),
        (&["--disk-io", "aio", "t"], &["--disk-io", "'aio'", "auto, mmap or pwrite"]),
        (&["--encryption", "on", "t"], &["--encryption", "'on'", "disabled, enabled or required"]),
        (&["-d", "x", ""], &["empty TORRENT"]),
        (&["scrape"], &["no TORRENT"]),
        (&["create"], &["PATH is missing"]),
        (&["create", "a", "b"], &["one PATH only", "'b'"]),
        (&["create", "-l", "17K", "a"], &["-l", "'17K'", "power of two"]),
        (&["create", "-n", "a/b", "a"], &["-n", "'a/b'"]),
        (&["create", "-a", "x", "a"], &["-a", "'x'"]),
        (&["create", "-w", "ftp://x", "a"], &["-w", "http://"]),
        (&["show"], &["TORRENT is missing"]),
        (&["show", "--dir", "x", "t"], &["unknown option --dir"]),
        (&["verify", "a", "b"], &["one TORRENT only"]),
    ] {
        let output = folder.call(args);
        let line = output.fails(2);
        assert!(due.iter().all(|part| line.contains(part)), "{args:?}: {line}");
        assert!(line.contains("--help"), "{line}");
    }
}

#[test]
fn help_and_version() {
    let folder = Folder::new("help");
    for args in [
        &["-h"][..],
        &["t", "--help"],
        &["create", "--help"],
        &["show", "-h"],
        &["verify", "-h"],
        &["config", "-h"],
    ] {
        let output = folder.call(args);
        assert!(output.ok().starts_with("Usage: ptorrent "), "{args:?}");
    }
    assert_eq!(folder.call(&["-V"]).ok(), format!("ptorrent {}\n", env!("CARGO_PKG_VERSION")));
}

/// The long options in a text, and the short ones of `create`.
fn options_in(text: &str) -> Vec<String> {
    let plain =
        ["\\fB", "\\fI", "\\fR"].iter().fold(text.replace("\\-", "-"), |text, font| text.replace(font, " "));
    let words = plain.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let mut options: Vec<String> =
        words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_string).collect();
    options.sort_unstable();
    options.dedup();
    options
}

#[test]
fn help_and_man_page_name_the_same_options() {
    let folder = Folder::new("man");
    let commands = ["", "config", "create", "dht", "scrape", "show", "tracker", "verify"];
    let helps: String = commands
        .iter()
        .map(|command| match *command {
            "" => folder.call(&["-h"]).out,
            command => folder.call(&[command, "-h"]).out,
        })
        .collect();
    let manual = include_str!("../docs/ptorrent.1");
    assert_eq!(options_in(&helps), options_in(manual));
    for short in helps.lines().filter_map(|line| line.trim_start().strip_prefix('-')?.chars().next()) {
        let escaped = format!("\\-{short}");
        assert!(short == '-' || manual.contains(&escaped), "-{short} is not in the man page");
    }
}

#[test]
fn what_leads_to_nothing_is_told_with_the_reason() {
    let folder = Folder::new("foreign");
    let refused = |args: &[&str], why: &str| {
        let output = folder.call(args);
        assert!(output.fails(1).contains(why), "{args:?}: {}", output.err);
    };
    let alone = ["--no-dht", "--no-lsd"];
    for command in [&["show"][..], &["verify"], &["--config", "", "-x"]] {
        let with = |torrent: &'static str| [command, &[torrent]].concat();
        refused(&with("magnet:?xt=urn:btih:x"), "neither 40 hexadecimal digits nor 32 of base32");
        refused(&with("http://127.0.0.1:1/key.torrent"), "cannot get http://127.0.0.1:1/");
        refused(&with("none.torrent"), "cannot read none.torrent: No such file");
        refused(&with("."), "cannot read .");
    }
    let hash = "ab".repeat(20);
    refused(&[&["show"], &alone[..], &[&hash]].concat(), "nobody can be asked");
    refused(&["verify", &hash], "not known here");
}

#[test]
fn create_show_and_verify_agree() {
    let folder = Folder::new("round");
    folder.file("data/b/deep/one", &noise(100_000, 1)).file("data/a", &noise(50_000, 2));
    folder.file("data/b/empty", b"").file("data/z", &noise(1, 3));
    let args = ["create", "-l", "16K", "-a", "http://x/a,http://y/a", "-a", "udp://z:1", "-P"];
    let magnet = folder.call(&[&args[..], &["-w", "http://w/", "-c", "words", "data"]].concat());
    let shown = folder.call(&["show", "data.torrent"]);
    assert!(shown.ok().contains(magnet.ok().trim_end()), "{}", shown.out);
    for line in [
        "Name:       data\n",
        "146.5 KiB (150001 bytes) in 4 files\n",
        "10 of 16.0 KiB (16384 bytes)\n",
        "Private:    yes\n",
        "Comment:    words\n",
        "http://y/a (tier 1)\n",
        "udp://z:1 (tier 2)\n",
        "Web seed:   http://w/\n",
        "     1   48.8 KiB  data/a\n",
        "     2   97.7 KiB  data/b/deep/one\n",
        "     3        0 B  data/b/empty\n",
        "     4        1 B  data/z\n",
    ] {
        let line = line.replace("146.5", "146");
        assert!(shown.out.contains(&line), "{line}{}", shown.out);
    }
    let json = folder.call(&["show", "--json", "data.torrent"]);
    assert!(json.ok().starts_with(r#"{"name":"data","info_hash":""#) && json.out.lines().count() == 1);
    assert!(
        json.out
            .contains(r#""trackers":[["http://x/a","http://y/a"],["udp://z:1"]],"web_seeds":["http://w/"]"#)
    );
    assert!(json.out.contains(r#"{"number":2,"path":"data/b/deep/one","size":100000}"#), "{}", json.out);
    assert_eq!(folder.call(&["verify", "data.torrent"]).ok(), "data: complete, 4 files\n");
    fs::create_dir(folder.0.join("else")).unwrap();
    fs::rename(folder.0.join("data"), folder.0.join("else/data")).unwrap();
    assert_eq!(folder.call(&["verify", "data.torrent", "-d", "else"]).ok(), "data: complete, 4 files\n");
    let missing = folder.call(&["verify", "data.torrent"]);
    assert_eq!((missing.status, missing.out.lines().count()), (1, 5));
}

#[test]
fn urls_that_cannot_be_used_are_told_once_and_hundreds_can() {
    let folder = Folder::new("urls");
    folder.file("data", &noise(100_000, 1));
    let seeds: Vec<String> = (0..1003).map(|n| format!("http://mirror{n}.example/s p/")).collect();
    let mut args =
        vec!["create", "-a", "udp://a:1/x,http://b/a b", "-a", "http://bad/", "-a", "udp://c:1", "data"];
    seeds.iter().for_each(|url| args.extend(["-w", url]));
    folder.call(&args).ok();
    let path = folder.0.join("data.torrent");
    let mut bytes = fs::read(&path).unwrap();
    // In the list of trackers, not in \"announce\".
    for (from, to) in [("http://bad/", "http://b d/"), ("9:udp://c:1", "9:wss://c:1")] {
        let at = bytes.windows(from.len()).rposition(|part| part == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    fs::write(&path, bytes).unwrap();
    for args in [&["show", "data.torrent"][..], &["show", "--json", "data.torrent"]] {
        let shown = folder.call(args);
        assert_eq!(shown.status, 0);
        assert_eq!(shown.out.matches("/s%20p/").count(), 1000);
        let said = "ptorrent: warning: data: left out a tracker, 'http://b d/...': URL without a valid host\n\
            ptorrent: warning: data: left out 3 web seeds, the first 'http://mirror1000.example/...': 1000 is the limit\n\
            ptorrent: warning: data: left out a tracker, 'wss://c:1': URL is not http://, https:// or udp://\n";
        assert_eq!(shown.err, said);
    }
    let hash = "ab".repeat(20);
    let link = format!("magnet:?xt=urn:btih:{hash}&tr=http://a%20b/&x.pe=nobody&ws=x");
    let shown = folder.call(&["show", "--no-dht", "--no-lsd", &link]);
    for what in [
        "left out a tracker, 'http://a b/...'",
        "left out a peer, 'nobody': not HOST:PORT",
        "a web seed, 'x'",
    ] {
        assert_eq!(shown.err.matches(what).count(), 1, "{what}: {}", shown.err);
    }
}

#[test]
fn create_gives_the_same_torrent_each_time_and_never_overwrites() {
    let folder = Folder::new("again");
    folder.file("data/x", &noise(70_000, 5)).file("data/y", &noise(7, 6));
    let first = folder.call(&["create", "data"]);
    let second = folder.call(&["create", "data/../data", "-o", "second"]);
    assert_eq!(first.ok(), second.ok());
    let before = fs::read(folder.0.join("second")).unwrap();
    assert!(folder.call(&["create", "data", "-o", "second"]).fails(1).contains("second exists already"));
    assert_eq!(fs::read(folder.0.join("second")).unwrap(), before);
    let renamed = folder.call(&["create", "-n", "other", "data/x"]);
    assert!(renamed.ok().contains("&dn=other"));
    assert!(folder.0.join("other.torrent").exists());
    let names = fs::read_dir(&folder.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.ends_with(".part")).count(), 0);
}

#[test]
fn create_leaves_out_links_and_refuses_what_no_torrent_can_be() {
    let folder = Folder::new("refuse");
    folder.file("data/x", b"x").file("empty/none", b"");
    std::os::unix::fs::symlink("/etc/passwd", folder.0.join("data/link")).unwrap();
    let output = folder.call(&["create", "data"]);
    assert_eq!(output.status, 0);
    assert!(output.err.contains("data/link: a symbolic link"), "{}", output.err);
    assert!(!folder.call(&["show", "data.torrent"]).ok().contains("link"));
    assert!(folder.call(&["create", "empty"]).fails(1).contains("has no data"));
    assert!(folder.call(&["create", "none"]).fails(1).contains("cannot read"));
    assert!(folder.call(&["create", "/dev/null"]).fails(1).contains("neither a file nor a folder"));
    let odd = OsString::from_vec(b"odd/n\xffme".to_vec());
    fs::create_dir(folder.0.join("odd")).unwrap();
    fs::write(folder.0.join(&odd), b"x").unwrap();
    assert!(folder.call(&["create", "odd"]).fails(1).contains("not UTF-8"));
}

#[test]
fn verify_names_each_file_that_is_not_right() {
    let folder = Folder::new("verify");
    for (seed, name) in ["bad", "gone", "good", "long", "short"].into_iter().enumerate() {
        // Three pieces each, so that no two files share one.
        folder.file(&format!("data/{name}"), &noise(3 << 14, seed as u32 + 9));
    }
    folder.call(&["create", "-l", "16K", "data"]).ok();
    let path = |name: &str| folder.0.join("data").join(name);
    let mut bytes = fs::read(path("bad")).unwrap();
    bytes[20_000] ^= 1;
    fs::write(path("bad"), bytes).unwrap();
    fs::remove_file(path("gone")).unwrap();
    fs::File::options().append(true).open(path("long")).unwrap().write_all(b"more").unwrap();
    fs::File::options().write(true).open(path("short")).unwrap().set_len(20_000).unwrap();
    let output = folder.call(&["verify", "data.torrent"]);
    assert_eq!((output.status, output.err.as_str()), (1, ""));
    let lines: Vec<String> =
        output.out.lines().map(|line| line.replace(&format!("{}/data/", folder.0.display()), "")).collect();
    assert_eq!(
        lines,
        [
            "bad: bad (1 of 3 pieces)",
            "missing: gone",
            "too long: long (49156 in place of 49152 bytes)",
            "too short: short (20000 of 49152 bytes)",
            "data: 4 of 5 files not as they should be"
        ]
    );
}

#[test]
fn a_hostile_torrent_controls_no_terminal() {
    let folder = Folder::new("hostile");
    let torrent = b"d8:announce23:http://x/\x1b]0;owned\x07/abc7:comment8:\x1b[2Jc\x07\n\x0010:created by4:\xff\x9b\x1bm\
        4:infod5:filesld6:lengthi1e4:pathl9:\x1b[31mred\n3:../eed6:lengthi2e4:pathl2:..6:passwdeee4:name6:\x07evil\n\
        12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    folder.file("t.torrent", torrent);
    for args in [&["show", "t.torrent"][..], &["show", "--json", "t.torrent"], &["verify", "t.torrent"]] {
        let output = folder.call(args);
        let foul = |c: char| c.is_control() && c != '\n';
        assert!(
            !output.out.contains(foul) && !output.err.contains(foul),
            "{:?} {:?}",
            output.out,
            output.err
        );
        assert!(output.out.contains("evil"), "{} {}", output.out, output.err);
        assert!(!output.out.contains("../"), "{}", output.out);
    }
    for junk in [&b""[..], b"d", b"i1e", b"de", &[b'l'; 100_000], b"d4:infod6:pieces1:xee", &noise(5000, 4)] {
        folder.file("j.torrent", junk);
        assert!(folder.call(&["show", "j.torrent"]).fails(1).starts_with("j.torrent: "));
    }
}

#[test]
fn arguments_stand_in_any_order_and_need_not_be_utf8() {
    let folder = Folder::new("order");
    folder.file("-x", b"data").file("create", b"other");
    folder.call(&["create", "-o", "t", "--", "-x"]).ok();
    assert_eq!(folder.call(&["verify", "t", "-d", "."]).ok(), "-x: complete, 1 file\n");
    folder.call(&["create", "./create", "-n", "n"]).ok();
    fs::rename(folder.0.join("t"), folder.0.join(OsString::from_vec(b"t\xff\xfe".to_vec()))).unwrap();
    let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    folder.call_os(vec![odd(b"show"), odd(b"t\xff\xfe")]).ok();
    let output = folder.call_os(vec![odd(b"show"), odd(b"--json"), odd(b"u\xff\x1b")]);
    assert!(output.fails(1).starts_with("cannot read u"));
    assert!(!output.err.contains('\x1b'));
    folder.call_os(vec![odd(b"-p"), odd(b"\xff"), odd(b"t")]).fails(2);
}

#[test]
fn a_selection_outside_the_torrent_is_wrong_usage() {
    let folder = Folder::new("select");
    folder.file("data/a", b"a").file("data/b", b"b");
    folder.call(&["create", "data"]).ok();
    let output = folder.call(&["--select", "1,2-3", "data.torrent"]);
    assert!(output.fails(2).contains("--select '2-3': data has files 1 to 2"), "{}", output.err);
}

#[test]
fn json_says_what_could_not_be_read() {
    let folder = Folder::new("json");
    let output = folder.call(&["-x", "--json", "none.torrent"]);
    assert_eq!(output.status, 1);
    assert!(
        output.out.starts_with(r#"{"event":"error","message":"cannot read none.torrent: "#),
        "{}",
        output.out
    );
    assert!(output.out.ends_with("\"reason\":\"io\"}\n"), "{}", output.out);
    assert!(output.err.starts_with("ptorrent: cannot read none.torrent"));
}

/// A pipe that nobody reads any more.
struct Closed<'a>(&'a RefCell<u32>);

impl Write for Closed<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        *self.0.borrow_mut() += 1;
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn a_closed_standard_output_is_a_quiet_end() {
    let folder = Folder::new("pipe");
    folder.file("data", b"data");
    folder.call(&["create", "data"]).ok();
    for args in [&["--help"][..], &["show", "data.torrent"], &["verify", "data.torrent"]] {
        let (tries, mut err) = (RefCell::new(0), Vec::new());
        let args = args.iter().map(OsString::from).collect();
        assert_eq!(call(&folder.0, args, &mut Closed(&tries), &mut err), 0);
        assert_eq!((*tries.borrow(), err), (1, Vec::new()));
    }
    // Nor does a standard error that is gone stop anything.
    let (tries, mut out) = (RefCell::new(0), Vec::new());
    assert_eq!(call(&folder.0, vec!["none".into()], &mut out, &mut Closed(&tries)), 1);
}

#[test]
fn a_log_file_is_appended_to() {
    let folder = Folder::new("log");
    folder.file("log", b"before\n");
    let output = folder.call(&["show", "none", "--log-file", "log"]);
    assert!(output.fails(1).contains("cannot read none"));
    let log = fs::read_to_string(folder.0.join("log")).unwrap();
    assert!(log.starts_with("before\n") && log.contains("Z ERROR ptorrent: cannot read none"), "{log}");
    assert!(folder.call(&["show", "none", "--log-file", "no/log"]).fails(1).contains("cannot open"));
}

#[test]
fn the_configuration_file_speaks_before_the_command_line() {
    let folder = Folder::new("config");
    // A missing default file is fine, a missing named one is not, a broken one disturbs no other command.
    assert!(folder.call(&["-x", "none"]).fails(1).contains("cannot read none"));
    assert!(folder.call(&["--config", "no", "none"]).fails(1).starts_with("cannot read "));
    folder.file("settings/config", b"# mine\n\nport = 9-8\n");
    let output = folder.call(&["t"]);
    let line = output.fails(2);
    assert!(line.contains("settings/config:3: port '9-8': a port"), "{line}");
    assert!(folder.call(&["show", "none"]).fails(1).starts_with("cannot read none"));
    folder.call(&["--help"]).ok();
    // Another file, or none, in its place.
    folder.file("other", b"json = true\n");
    assert!(folder.call(&["--config", "other", "none"]).out.starts_with("{\"event\":\"error\""));
    for none in ["", "/dev/null"] {
        assert!(folder.call(&["--config", none, "none"]).fails(1).starts_with("cannot read none"));
    }
    assert_eq!(folder.call(&["--config", "other", "--json=false", "none"]).out, "");
    folder.file("long", &b"#".repeat(300 << 10));
    assert!(folder.call(&["--config", "long", "t"]).fails(2).contains("longer than 256 KiB"));
    folder.file("raw", b"dir = a\xff\nlog-file = l\xfe\n");
    folder.call(&["--config", "raw", "none"]);
    assert!(folder.0.join(OsString::from_vec(b"l\xfe".to_vec())).exists());
}

#[test]
fn config_prints_what_it_reads_and_saves_it_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("save");
    let defaults = folder.call(&["config"]);
    assert!(defaults.ok().lines().all(|line| line.is_empty() || line.starts_with('#')));
    let args =
        ["config", "-p", "7000-7010", "--peer", "a:1", "--peer=b:2", "--on-complete", " \"x\" #", "-vv"];
    let printed = folder.call(&args);
    for line in [
        "port = 7000-7010\n",
        "peer = a:1\npeer = b:2\n",
        "on-complete = \" \\\"x\\\" #\"\n",
        "verbose = 2\n",
    ] {
        assert!(printed.ok().contains(&format!("\n{line}")), "{line}: {}", printed.out);
    }
    let path = folder.0.join("settings/config");
    let saved = folder.call(&[&args[..], &["--save"]].concat());
    assert_eq!(saved.ok(), format!("saved {}\n", path.display()));
    assert_eq!(fs::read_to_string(&path).unwrap(), printed.out);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.call(&["config"]).ok(), printed.out);
    // Changed in one point, the rest stays; a link stays one.
    fs::rename(&path, folder.0.join("real")).unwrap();
    std::os::unix::fs::symlink("../real", &path).unwrap();
    folder.call(&["config", "--save", "-p", "0"]).ok();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    let now = printed.out.replace("port = 7000-7010", "port = 0");
    assert_eq!(folder.call(&["config"]).ok(), now);
    assert_eq!(fs::read_dir(folder.0.join("settings")).unwrap().count(), 1);
    // A new file where `--config` says, none where there can be none.
    folder.call(&["config", "--save", "--config", "new/one", "-x"]).ok();
    assert!(fs::read_to_string(folder.0.join("new/one")).unwrap().contains("\nexit = true\n"));
    let device = folder.call(&["config", "--save", "--config", "/dev/null"]);
    assert!(device.fails(1).contains("not a regular file"), "{}", device.err);
    assert!(folder.call(&["config", "--save", "--config", "other.torrent/x/../../real/y"]).status == 1);
}
