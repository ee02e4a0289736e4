//! Network namespaces for tests: traffic goes nowhere else, and the tests have no neighbours.

use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Set in a process that has a network of its own.
const NETWORK: &str = "PTORRENT_TEST_NETWORK";

/// True if this process has a network of its own, with nothing but a loopback device. If not, the test is run again in a
/// process that has one, and this process has nothing more to do. Where `probe`, a shell script, fails in a new network,
/// the test is skipped, or fails with `CI` set.
pub(crate) fn has_network(probe: &str) -> bool {
    if std::env::var_os(NETWORK).is_some() {
        return true;
    }
    let test = std::thread::current();
    let test = test.name().expect("tests have names");
    let by = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rn", "sh", "-c", script]).arg(std::env::current_exe().unwrap()).stdin(Stdio::null());
        command
    };
    if !by(probe).output().is_ok_and(|tried| tried.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "{test}: a network namespace is needed");
        eprintln!("skipped: {test}: no network namespace is available");
        return false;
    }
    // One at a time, because some measure time.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    let mut again = by("ip link set lo up && exec \"$0\" \"$@\"");
    again.args(["--exact", test, "--nocapture"]).env(NETWORK, "1");
    assert!(again.status().unwrap().success(), "{test} failed in its network");
    false
}
