//! A slow card: ext4 on a loop device whose writes are throttled, with as few dirty pages in memory as a machine of
//! 64 MiB lets there be.

use std::error::Error;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::{Options, Source};

const RATE: u64 = 8 << 20;
const SIZE: usize = 256 << 20;
/// A tenth of the memory of such a machine, more or less.
const DIRTY: u64 = 8 << 20;
const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device";

/// Downloads to it, as often as there are rounds.
pub(crate) fn measure(options: &Options, part: &Arc<Vec<u8>>, dir: &Path) -> Result<(), Box<dyn Error>> {
    if !Path::new(THROTTLE).exists() {
        println!("left out: card: this needs {THROTTLE}");
        return Ok(());
    }
    let source = Source::start(part, SIZE, dir)?;
    let card = Card::make(dir)?;
    for round in 1..=options.common.rounds {
        let port = TcpListener::bind((crate::LISTEN, 0))?.local_addr()?.port();
        let (sample, waited) = source.run_at(options, &card.mounted.join("data"), port, crate::as_it_is)?;
        println!("round {round}, card of {} MiB/s: {sample}; slowest answer {waited:.1?}", RATE >> 20);
    }
    Ok(())
}

struct Card {
    device: String,
    numbers: String,
    mounted: PathBuf,
}

impl Card {
    fn make(dir: &Path) -> Result<Card, Box<dyn Error>> {
        let image = dir.join("card.img");
        let mounted = dir.join("card");
        fs::create_dir_all(&mounted)?;
        File::create(&image)?.set_len(2 * SIZE as u64)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let device = run(Command::new("losetup").args(["-f", "--show"]).arg(&image))?.trim().to_string();
        let name = device.trim_start_matches("/dev/");
        let numbers = fs::read_to_string(format!("/sys/block/{name}/dev"))?.trim().to_string();
        let card = Card { device, numbers, mounted };
        run(Command::new("mount").arg(&card.device).arg(&card.mounted))?;
        let pages = Path::new("/sys/class/bdi").join(&card.numbers);
        fs::write(pages.join("strict_limit"), "1")?;
        fs::write(pages.join("max_bytes"), DIRTY.to_string())?;
        fs::write(THROTTLE, format!("{} {RATE}", card.numbers))?;
        Ok(card)
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let tidy = [
            fs::write(THROTTLE, format!("{} 0", self.numbers)).map_err(Box::<dyn Error>::from),
            run(Command::new("umount").arg(&self.mounted)).map(drop),
            run(Command::new("losetup").arg("-d").arg(&self.device)).map(drop),
        ];
        for error in tidy.into_iter().filter_map(Result::err) {
            eprintln!("small: {error}");
        }
    }
}

/// Runs it to its end; its output.
fn run(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", command.get_program().display(), words.trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
