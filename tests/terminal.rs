//! The real program on a terminal: its keys, what is to be seen, and that the terminal is as it was after every kind of
//! end, Ctrl-Z and back included.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests start threads and read the clock; the rules guard the core"
)]

mod common;
#[path = "terminal/screen.rs"]
mod screen;
#[path = "loopback/seeder.rs"]
#[allow(dead_code, reason = "tests/loopback.rs uses all of it")]
mod seeder;

use common::{Folder, noise};
use ptorrent::sys::terminal::Terminal;
use rustix::process::Signal;
use screen::Screen;
use seeder::Seeder;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

const PTORRENT: &str = env!("CARGO_BIN_EXE_ptorrent");
/// The piece length of the torrents here: four blocks.
const PIECE: usize = 64 << 10;
/// Enough blocks for a seeder that is not to stop.
const ALL: u64 = u64::MAX;
/// Ctrl-C, Ctrl-S, Ctrl-Z, Ctrl-\.
const INTERRUPT: &str = "\x03";
const HOLD: &str = "\x13";
const STOP: &str = "\x1a";
const ABANDON: &str = "\x1c";

/// A folder with a torrent of a file of 32 pieces, and a seeder of it that may serve nothing yet.
fn scripted(name: &str) -> (Folder, Vec<u8>, Seeder) {
    let folder = Folder::new(name);
    let data = noise(32 * PIECE, 5);
    folder.file("there/file", &data);
    let mut create = Command::new(PTORRENT);
    create.current_dir(&folder.0).args(["create", "-l", "64K", "-o", "file.torrent", "there/file"]);
    assert!(create.output().unwrap().status.success());
    let shown =
        Command::new(PTORRENT).current_dir(&folder.0).args(["show", "--json", "file.torrent"]).output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    let (_, hex) = shown.split_once(r#""info_hash":""#).unwrap();
    let hash = std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap());
    let seeder = Seeder::new("127.0.0.2", &data, PIECE, hash);
    (folder, data, seeder)
}

/// The program with these arguments besides those that every test needs.
fn ptorrent(folder: &Folder, args: &[&str]) -> Command {
    let mut command = Command::new(PTORRENT);
    command.current_dir(&folder.0).args(["-b", "127.0.0.1", "-p", "0", "--state-dir", "state", "-d", "here"]);
    command.args(["--no-dht", "--no-pex", "--no-lsd", "--encryption", "disabled", "--config", ""]).args(args);
    command
}

/// A download that has some pieces and waits for more, on a terminal.
fn half_way(folder: &Folder, seeder: &Seeder, args: &[&str]) -> Screen {
    if seeder.served() == 0 {
        seeder.allow(40);
    }
    let peer = seeder.addr.to_string();
    let args = [&["--peer", &peer, "file.torrent"], args].concat();
    let screen = Screen::run(ptorrent(folder, &args), (80, 24), None);
    screen.wait_until_taken();
    // 40 blocks are 10 pieces at the most.
    screen.wait("some pieces", |picture| {
        picture.lines().iter().any(|line| line.contains("file  [") && !line.contains(" 0.0%"))
    });
    screen
}

/// A tracker that says how it likes to be asked once, and then nothing any more.
fn silent_tracker() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut kept = Vec::new();
        for (at, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let mut stream = stream;
            if at == 0 {
                let _ = stream.read(&mut [0; 4096]);
                let body = "d8:intervali900e5:peers0:e";
                let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            } else {
                kept.push(stream);
            }
        }
    });
    url
}

#[test]
fn the_key_q_quits_as_an_interrupt_does() {
    let (folder, data, seeder) = scripted("key-q");
    let mut screen = half_way(&folder, &seeder, &[]);
    screen.press("xyz\r\x1b[15~q");
    assert_eq!(screen.end(), Ok(130));
    assert!(screen.is_as_it_was());
    screen.wait_for("stopped");
    // What is pressed is not echoed, and of the picture nothing is left that is not the last one.
    assert_eq!(screen.look(|picture| (picture.lines().len(), picture.scrolled)), (1, 0));
    // After the end of the download it is another status.
    seeder.allow(ALL);
    let mut screen = half_way(&folder, &seeder, &[]);
    screen.wait_for("seeding");
    screen.press("q");
    assert_eq!(screen.end(), Ok(0));
    assert!(fs::read(folder.0.join("here/file")).unwrap() == data);
}

#[test]
fn the_key_p_pauses_and_goes_on() {
    let (folder, data, seeder) = scripted("key-p");
    let mut screen = half_way(&folder, &seeder, &["-x"]);
    screen.press("p");
    screen.wait_for("paused");
    screen.press("p");
    seeder.allow(ALL);
    assert_eq!(screen.end(), Ok(0));
    assert!(fs::read(folder.0.join("here/file")).unwrap() == data);
}

#[test]
fn the_terminal_is_as_it_was_after_every_end() {
    let (folder, _, seeder) = scripted("ends");
    for (key, status) in [(INTERRUPT, Ok(130)), (ABANDON, Err(libc::SIGQUIT))] {
        let mut screen = half_way(&folder, &seeder, &[]);
        screen.press(key);
        assert_eq!((screen.end(), screen.is_as_it_was()), (status, true));
    }
    let signals = [
        (Signal::TERM, Ok(143)),
        (Signal::HUP, Ok(129)),
        (Signal::ABORT, Err(libc::SIGABRT)),
        (Signal::INT, Ok(130)),
    ];
    for (signal, status) in signals {
        let mut screen = half_way(&folder, &seeder, &[]);
        screen.signal(signal);
        assert_eq!((screen.end(), screen.is_as_it_was()), (status, true), "{signal:?}");
    }
    // An error.
    let mut screen = half_way(&folder, &seeder, &[]);
    fs::remove_dir_all(folder.0.join("here")).unwrap();
    seeder.allow(40);
    assert_eq!((screen.end(), screen.is_as_it_was()), (Ok(1), true));
    screen.wait_for("it was removed");
    // All well. What was there is gone, and the one before may have been served all that was allowed.
    seeder.allow(40);
    let mut screen = half_way(&folder, &seeder, &["-x"]);
    seeder.allow(ALL);
    assert_eq!((screen.end(), screen.is_as_it_was()), (Ok(0), true));
}

#[test]
fn a_second_signal_ends_at_once_and_leaves_the_terminal_as_it_was() {
    let (folder, _, seeder) = scripted("second");
    let tracker = silent_tracker();
    for (first, second, status) in [("q", Signal::INT, 130), (INTERRUPT, Signal::TERM, 143)] {
        let mut screen = half_way(&folder, &seeder, &["--tracker", &tracker]);
        screen.press(first);
        screen.wait_for("stopping...");
        assert!(!screen.is_as_it_was());
        // Sooner it is the same wish; later the tracker is not waited for any more.
        thread::sleep(Duration::from_millis(700));
        screen.signal(second);
        assert_eq!((screen.end(), screen.is_as_it_was()), (Ok(status), true));
    }
}

/// Run by the test below, on a terminal.
#[test]
#[ignore = "panics"]
fn panicking_child() {
    let terminal = Terminal::install().unwrap();
    let of_thread = terminal.clone();
    thread::spawn(move || {
        loop {
            let _ = of_thread.next(true, Duration::from_secs(1));
        }
    });
    let _ = std::io::stdin().read(&mut [0; 1]);
    let _ = terminal;
    panic!("as it has to be");
}

#[test]
fn the_terminal_is_as_it_was_after_a_panic() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "--nocapture", "panicking_child"]);
    let mut screen = Screen::run(child, (80, 24), None);
    screen.wait_until_taken();
    // One of the two that read gets it.
    while !screen.look(|picture| picture.raw.contains("as it has to be")) {
        screen.press("x");
        thread::sleep(Duration::from_millis(5));
    }
    // The harness catches it, the hook runs first.
    assert_eq!((screen.end(), screen.is_as_it_was()), (Ok(101), true));
}

#[test]
fn where_output_is_no_terminal_the_keyboard_is_let_alone() {
    let (folder, _, seeder) = scripted("elsewhere");
    seeder.allow(40);
    let peer = seeder.addr.to_string();
    for args in [&[][..], &["--json"], &["-q"]] {
        let out = fs::File::create(folder.0.join("out")).unwrap();
        // With --json or --quiet there is no picture, so there are no keys either.
        let out = if args.is_empty() { Some(Stdio::from(out)) } else { None };
        let args = [&["--peer", &peer, "file.torrent"], args].concat();
        let mut screen = Screen::run(ptorrent(&folder, &args), (80, 24), out);
        screen.poll("it runs", || folder.0.join("here/file").exists());
        screen.press("qqq\n");
        thread::sleep(Duration::from_millis(300));
        assert!(screen.is_as_it_was() && screen.child.try_wait().unwrap().is_none());
        screen.press(INTERRUPT);
        assert_eq!(screen.end(), Ok(130));
    }
}

/// A shell with job control that runs the program, tells when it stopped, has it go on in the background, then in the
/// foreground, each when a line is typed.
const SHELL: &str = r#"
set -m
"$0" "$@"
echo "shell: stopped $?"
read line
bg >/dev/null
echo "shell: in the background"
read line
echo "shell: back to it"
fg >/dev/null
echo "shell: ended $?"
"#;

#[test]
fn ctrl_z_and_back() {
    let (folder, data, seeder) = scripted("ctrl-z");
    seeder.allow(40);
    let peer = seeder.addr.to_string();
    let program = ptorrent(&folder, &["--peer", &peer, "file.torrent"]);
    let mut shell = Command::new("sh");
    shell.current_dir(&folder.0).args(["-c", SHELL]).arg(program.get_program()).args(program.get_args());
    let mut screen = Screen::run(shell, (80, 24), None);
    screen.wait_until_taken();
    screen.wait_for(" down ");
    screen.press(STOP);
    // 148: stopped by SIGTSTP, the one that shells wait for.
    screen.wait_for("shell: stopped 148");
    assert!(screen.is_as_it_was());
    screen.press("\n");
    screen.wait_for("shell: in the background");
    // Nothing moves yet: there is one picture at the most that was begun before the program knew. Then it is silent, while
    // it gets all the rest.
    seeder.allow(ALL);
    let file = folder.0.join("here/file");
    screen.poll("all is there", || fs::read(&file).unwrap() == data);
    thread::sleep(Duration::from_millis(1500));
    assert!(screen.is_as_it_was());
    let said =
        screen.look(|picture| picture.raw.rsplit_once("shell: in the background").unwrap().1.to_string());
    assert!(!said.contains("file  ["), "{said:?}");
    screen.press("\n");
    screen.wait_for("shell: back to it");
    screen.wait_for("seeding");
    screen.wait_until_taken();
    // What the shell said is still there, above the picture.
    let lines = screen.look(|picture| picture.lines());
    let at = |text: &str| lines.iter().rposition(|line| line.contains(text)).unwrap();
    assert!(at("shell: back to it") < at("seeding"), "{lines:?}");
    assert_eq!(at("seeding"), lines.len() - 1);
    screen.press("q");
    screen.wait_for("shell: ended 0");
    assert_eq!((screen.end(), screen.is_as_it_was()), (Ok(0), true));
}

#[test]
fn after_a_stop_that_nobody_can_catch_the_picture_is_drawn_again() {
    let (folder, _, seeder) = scripted("stop");
    let mut screen = half_way(&folder, &seeder, &[]);
    screen.signal(Signal::STOP);
    screen.poll("it stops", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", screen.child.id())).unwrap();
        stat.rsplit_once(')').unwrap().1.starts_with(" T")
    });
    screen.scribble("somebody was here\r\n");
    screen.wait_for("somebody was here");
    let frames = screen.look(|picture| picture.raw.matches("file  [").count());
    screen.signal(Signal::CONT);
    screen.wait("another picture", |picture| picture.raw.matches("file  [").count() > frames);
    let lines = screen.look(|picture| picture.lines());
    assert!(lines.iter().any(|line| line == "somebody was here"), "{lines:?}");
    assert!(lines.last().unwrap().starts_with("file  ["), "{lines:?}");
    // The kernel does not stop whom no shell could wake: the terminal is ours all the time after that, too.
    screen.press(STOP);
    screen.press("q");
    assert_eq!((screen.end(), screen.is_as_it_was()), (Ok(130), true));
}

#[test]
fn a_table_comes_above_the_picture() {
    let (folder, _, seeder) = scripted("table");
    let mut screen = half_way(&folder, &seeder, &[]);
    screen.signal(Signal::USR1);
    screen.wait_for("flags: ");
    screen.wait("the picture below", |picture| {
        let lines = picture.lines();
        let last = lines.last().is_some_and(|line| line.starts_with("file  ["));
        last && lines.iter().any(|line| line.contains(&seeder.addr.to_string()))
    });
    assert_eq!(screen.look(|picture| picture.lines().iter().filter(|l| l.starts_with("file  [")).count()), 1);
    screen.press("q");
    assert_eq!(screen.end(), Ok(130));
}

#[test]
fn many_torrents_on_a_small_terminal_scroll_nothing() {
    let folder = Folder::new("small");
    let mut torrents = Vec::new();
    for at in 10..22 {
        // Wide characters, one that turns the direction of writing, and control characters.
        let name = format!("日本語のファイル-{at}\u{202e}\u{7}\u{1b}[2J");
        let info =
            format!("6:lengthi1e4:name{}:{name}12:piece lengthi16384e6:pieces20:{at}{at:018}", name.len());
        let torrent = format!("{at}.torrent");
        folder.file(&torrent, format!("d4:infod{info}ee").as_bytes());
        torrents.push(torrent);
    }
    let args: Vec<&str> = torrents.iter().map(String::as_str).collect();
    let mut screen = Screen::run(ptorrent(&folder, &args), (20, 5), None);
    screen.wait("a full picture", |picture| {
        picture.lines().len() == 4 && picture.lines()[3].contains("9 more")
    });
    screen.wait("all are done", |picture| {
        picture.lines().last().is_some_and(|line| line == "9 more: 9 download~")
    });
    // Warnings about the names came before.
    let scrolled = screen.look(|picture| picture.scrolled);
    // Larger, smaller, and as small as can be: each time a picture that fits, and the rest is gone.
    for (columns, rows, last) in [
        (60, 9, "5 more: 5 downloading"),
        (40, 3, "11 more: 11 downloading"),
        (25, 1, "12 torrents: 12 downloa~"),
    ] {
        screen.resize(columns, rows);
        screen.wait(last, |picture| {
            let lines = picture.lines();
            lines.len() == rows.saturating_sub(1).max(1)
                && lines.last().is_some_and(|line| line.starts_with(last))
        });
    }
    let drawn = screen.look(|picture| picture.raw.len());
    screen.signal(Signal::WINCH);
    screen.wait("it is drawn again", |picture| picture.raw.len() > drawn);
    assert_eq!(screen.look(|picture| picture.scrolled), scrolled);
    screen.press("q");
    assert_eq!((screen.end(), screen.is_as_it_was()), (Ok(130), true));
}

#[test]
fn a_terminal_that_is_held_does_not_stop_the_transfer() {
    let (folder, data, seeder) = scripted("held");
    let mut screen = half_way(&folder, &seeder, &["-v"]);
    screen.press(HOLD);
    seeder.allow(ALL);
    let file = folder.0.join("here/file");
    screen.poll("all is there", || fs::read(&file).unwrap() == data);
    // Keys are read all the same, and nothing that cannot be shown puts off the end.
    screen.press("q");
    assert!(matches!(screen.end(), Ok(0 | 130)));
    assert!(screen.is_as_it_was());
}
