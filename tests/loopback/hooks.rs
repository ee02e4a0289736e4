//! `--on-complete` through the real program.

use crate::common::{Folder, noise};
use crate::{ALL, PTORRENT, Running, create, errors, info_hash, scripted};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Waits until a command has written this file, whole: it ends with a line end.
#[track_caller]
fn written(path: &Path) -> String {
    let start = Instant::now();
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => assert!(start.elapsed() < Duration::from_secs(60), "{} is not there", path.display()),
        }
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_command_gets_the_facts_and_nothing_else() {
    let folder = Folder::new("facts");
    let name = "$(touch owned) `touch owned`;touch owned' \"é";
    let data = noise(5 << 16, 3);
    folder.file(&format!("there/{name}"), &data);
    let torrent = create(&folder, name);
    let hash: String = info_hash(&folder, &torrent).iter().map(|byte| format!("{byte:02x}")).collect();
    let seeder = crate::Seeder::new("127.0.0.2", &data, crate::PIECE, info_hash(&folder, &torrent));
    seeder.allow(ALL);
    let hook = "cat; ls /proc/$$/fd > fds; pwd > where; echo words; echo more >&2; env | grep ^PTORRENT_ | sort > facts";
    let peer = seeder.addr.to_string();
    let args = ["-x", "-d", "here", "--peer", &peer, "--on-complete", hook, &torrent];
    let leech = Running::start(&folder, &args);
    let (status, out) = leech.end_with_lines();
    assert_eq!(status, Some(0), "{}", errors(&folder));
    let here = fs::canonicalize(&folder.0).unwrap();
    let (here, len) = (here.display(), data.len());
    let due = format!(
        "PTORRENT_DIR={here}/here\nPTORRENT_DOWNLOADED={len}\nPTORRENT_FILES=1\nPTORRENT_INFO_HASH={hash}\n\
         PTORRENT_NAME={name}\nPTORRENT_PATH={here}/here/{name}\nPTORRENT_SIZE={len}\nPTORRENT_UPLOADED=0\n"
    );
    let read = |file: &str| fs::read_to_string(folder.0.join(file)).unwrap();
    assert_eq!(read("facts"), due);
    // No descriptor of ours but the three streams: what else there is came from who runs the test.
    let mut plain = Command::new("/bin/sh");
    plain.args(["-c", "ls /proc/$$/fd > plain; :"]).current_dir(&folder.0).output().unwrap();
    assert_eq!(read("fds"), read("plain"));
    assert_eq!(read("where"), format!("{here}\n"));
    assert!(!folder.0.join("owned").exists());
    assert!(out.iter().all(|line| line.starts_with('{')), "{out:?}");
    assert_eq!(errors(&folder), "words\nmore\n");
    // What was complete before calls nobody.
    fs::remove_file(folder.0.join("facts")).unwrap();
    assert_eq!(Running::start(&folder, &args).end(), Some(0));
    assert!(!folder.0.join("facts").exists());
}

#[test]
fn a_command_that_fails_is_said_and_exit_waits_for_it() {
    for (name, hook, due) in [
        ("status", "sleep 0.3; echo x > done; exit 7", "ended with status 7: sleep 0.3"),
        ("killed", "echo x > done; kill -TERM $$", "was killed by signal 15: echo x"),
    ] {
        let (folder, _, seeder) = scripted(&format!("hook-{name}"));
        seeder.allow(ALL);
        let peer = seeder.addr.to_string();
        let args = ["-x", "-d", "here", "--peer", &peer, "--on-complete", hook, "file.torrent"];
        assert_eq!(Running::start(&folder, &args).end(), Some(0), "{}", errors(&folder));
        assert!(folder.0.join("done").exists());
        let said = errors(&folder);
        assert!(said.starts_with("ptorrent: warning: file: the command of --on-complete "), "{said}");
        assert!(said.contains(due) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn with_exit_the_files_are_the_commands_alone() {
    let (folder, data, seeder) = scripted("hook-move");
    seeder.allow(ALL);
    let peer = seeder.addr.to_string();
    let hook = "mv \"$PTORRENT_PATH\" moved";
    let args = ["-x", "-d", "here", "--peer", &peer, "--on-complete", hook, "file.torrent"];
    assert_eq!(Running::start(&folder, &args).end(), Some(0));
    assert_eq!(errors(&folder), "");
    assert!(fs::read(folder.0.join("moved")).unwrap() == data);
}

/// A command that runs until the file `go` is there, or the test has ended and taken its folder away.
const LASTING: &str = "echo $$ > pid; until [ -e go ] || ! [ -e pid ]; do sleep 0.02; done; echo x > done";

#[test]
fn a_signal_lets_the_command_end_and_a_second_one_does_not() {
    let (folder, _, seeder) = scripted("hook-signal");
    seeder.allow(ALL);
    let peer = seeder.addr.to_string();
    let args = ["-d", "here", "--peer", &peer, "--on-complete", LASTING, "file.torrent"];
    for exit in [&["-x"][..], &[]] {
        let leech = Running::start(&folder, &[&args, exit].concat());
        written(&folder.0.join("pid"));
        leech.signal(Signal::INT);
        folder.file("go", b"");
        assert_eq!(leech.end(), Some(0), "{}", errors(&folder));
        assert_eq!(written(&folder.0.join("done")), "x\n");
        for name in ["go", "pid", "done"] {
            fs::remove_file(folder.0.join(name)).unwrap();
        }
        fs::remove_dir_all(folder.0.join("here")).unwrap();
    }
    let leech = Running::start(&folder, &[&args[..], &["-x"]].concat());
    written(&folder.0.join("pid"));
    leech.signal(Signal::INT);
    // A signal sooner than half a second after the first is the same wish.
    sleep(Duration::from_millis(700));
    leech.signal(Signal::INT);
    assert_eq!(leech.end(), Some(130));
    assert!(!folder.0.join("done").exists());
    folder.file("go", b"");
    written(&folder.0.join("done"));
}

#[test]
fn the_transfer_goes_on_beside_a_command_and_none_is_left_behind() {
    let folder = Folder::new("hook-two");
    folder.file("there/a", &noise(1 << 18, 7)).file("there/b", &noise(1 << 18, 8));
    let (a, b) = (create(&folder, "a"), create(&folder, "b"));
    let mut seeder = Running::start(&folder, &["--seed", "-d", "there", &a, &b]);
    let addr = seeder.addr();
    // That of `a` ends when `b` is there, too.
    let hook = "echo $$ > $PTORRENT_NAME-pid; \
        until [ $PTORRENT_NAME = b ] || [ -e b-done ] || ! [ -e a-pid ]; do sleep 0.02; done; echo x > $PTORRENT_NAME-done";
    let args = ["-d", "here", "--seed-ratio", "none", "--peer", &addr, "--on-complete", hook, &a, &b];
    let leech = Running::start(&folder, &args);
    for name in ["b", "a"] {
        written(&folder.0.join(format!("{name}-done")));
        let pid = written(&folder.0.join(format!("{name}-pid")));
        let process = Path::new("/proc").join(pid.trim());
        let start = Instant::now();
        while process.exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "{pid} is still there");
            sleep(Duration::from_millis(10));
        }
    }
    leech.signal(Signal::TERM);
    assert_eq!(leech.end(), Some(0), "{}", errors(&folder));
    assert_eq!(errors(&folder), "");
}

#[test]
fn command_gets_the_limit_of_open_files_that_we_were_started_with() {
    let (folder, _, seeder) = scripted("hook-limit");
    seeder.allow(ALL);
    let peer = seeder.addr.to_string();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -S -n 200; exec \"$0\" \"$@\"", PTORRENT]);
    let hook = "ulimit -S -n > soft; ulimit -H -n > hard";
    let args =
        ["-b", "127.0.0.1", "-x", "-d", "here", "--peer", &peer, "--on-complete", hook, "file.torrent"];
    assert_eq!(Running::by(shell, &folder, &args).end(), Some(0), "{}", errors(&folder));
    let read = |file: &str| fs::read_to_string(folder.0.join(file)).unwrap();
    let plain = Command::new("sh").args(["-c", "ulimit -H -n"]).output().unwrap();
    assert_eq!((read("soft").as_str(), read("hard").as_bytes()), ("200\n", &plain.stdout[..]));
}
