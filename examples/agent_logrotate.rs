//! An agent that rotates logs: FILE becomes FILE.1, FILE.1 becomes FILE.2 and so on, and every
//! process is told to open its log files again.
//!
//! ```text
//! cargo build --example agent_logrotate
//! rr-master --agent 'target/debug/examples/agent_logrotate --size 100MiB --daily --keep 7 /var/log/app.log' ./worker-bin
//! ```
//!
//! No line is lost as long as every writer opens the file with `O_APPEND`, writes a line in one
//! `write`, and opens the file again at `Event::ReopenLogs`: until it does, it goes on in the old one. So an
//! old file is not removed while somebody has it open for writing, whatever `--keep` says.

use std::error::Error;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Parser;
use crossbeam_channel::RecvTimeoutError;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use worker_proto::{Event, Worker};

/// Rotate log files; an agent of rr-master.
#[derive(Parser)]
#[command(group = clap::ArgGroup::new("when").required(true).multiple(true))]
struct Args {
    /// Rotate a file that has reached this size
    #[arg(long, group = "when", value_name = "BYTES", value_parser = parse_size)]
    size: Option<ByteSize>,

    /// Rotate at midnight, local time
    #[arg(long, group = "when")]
    daily: bool,

    /// How many old files are kept
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..))]
    keep: u64,

    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_pause)]
    every: Duration,

    /// The logs
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    rotate(&Args::parse()).unwrap_or_else(|err| {
        eprintln!("agent_logrotate: {err}");
        ExitCode::FAILURE
    })
}

fn rotate(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let worker = Worker::connect()?;
    if worker.is_alone() {
        return Err("nobody would be told: start it with rr-master --agent".into());
    }
    let mut logs: Vec<Log> = args.files.iter().map(|path| Log::at(path)).collect();
    worker.ready()?;
    // The agent before this one may have died after it moved a file and before it told anybody.
    worker.reopen_logs()?;
    let events = worker.events();
    loop {
        match events.recv_timeout(args.every) {
            Ok(event) if !matches!(event, Event::Drain { .. } | Event::MasterGone) => {}
            Err(RecvTimeoutError::Timeout) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return Ok(worker.leave()),
        }
        let today = Zoned::now().date();
        let mut any = false;
        for log in &mut logs {
            let rotated = log.rotate_if_due(args, today);
            any |= matches!(rotated, Ok(true));
            log.note(&worker, rotated);
        }
        if any {
            worker.reopen_logs()?;
        }
        for log in &mut logs {
            let pruned = log.prune(args.keep);
            log.note(&worker, pruned);
        }
    }
}

/// One log with its old files.
struct Log {
    path: PathBuf,
    /// The day of its first line, or not long before.
    since: Date,
    /// What the operator was told last.
    trouble: Option<String>,
}

impl Log {
    fn at(path: &Path) -> Self {
        Log {
            path: path.to_owned(),
            since: born(path).unwrap_or_else(|| Zoned::now().date()),
            trouble: None,
        }
    }

    /// Moves everything before the first number that nobody has one up, the oldest first: nothing is ever
    /// overwritten, and if this is interrupted, what is left is another such number, filled the next time.
    fn rotate_if_due(&mut self, args: &Args, today: Date) -> io::Result<bool> {
        let length = match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Err(io::Error::other("this is no file")),
            Err(err) if err.kind() == ErrorKind::NotFound => 0,
            Err(err) => return Err(err),
        };
        let is_full = args.size.is_some_and(|size| length >= size.as_u64());
        let is_old = args.daily && today > self.since;
        if length == 0 || !(is_full || is_old) {
            return Ok(false);
        }
        for number in (1..=self.kept()).rev() {
            fs::rename(self.old(number), self.old(number + 1))?;
        }
        fs::rename(&self.path, self.old(1))?;
        self.since = today;
        Ok(true)
    }

    /// Removes the old files beyond those to keep, unless somebody still writes to them. Rotates nothing.
    fn prune(&self, keep: u64) -> io::Result<bool> {
        for number in keep + 1..=self.kept() {
            let old = self.old(number);
            if !is_written_to(&old)? {
                fs::remove_file(old)?;
            }
        }
        Ok(false)
    }

    fn old(&self, number: u64) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// How many old files there are, up to the first number that nobody has. What is behind that is
    /// none of ours, such as `app.log.20260101`, or was left by one that was interrupted.
    fn kept(&self) -> u64 {
        let is_there = |number: &u64| fs::symlink_metadata(self.old(*number)).is_ok();
        (1..).take_while(is_there).count() as u64
    }

    /// What goes wrong is told once, not every second, until the log was rotated.
    fn note(&mut self, worker: &Worker, rotated: io::Result<bool>) {
        match rotated.map_err(|err| err.to_string()) {
            Ok(true) => self.trouble = None,
            Ok(false) => {}
            Err(trouble) if self.trouble.as_ref() == Some(&trouble) => {}
            Err(trouble) => {
                worker.report(&format!("rotate {}: {trouble}", self.path.display()));
                self.trouble = Some(trouble);
            }
        }
    }
}

/// The day on which the file was made, if the file system knows.
fn born(path: &Path) -> Option<Date> {
    let made = fs::metadata(path).and_then(|it| it.created()).ok()?;
    let made = Timestamp::try_from(made).ok()?;
    Some(made.to_zoned(TimeZone::system()).date())
}

/// Whether a process has it open for writing, of those that this one may look at: its own user's.
fn is_written_to(path: &Path) -> io::Result<bool> {
    let file = fs::metadata(path)?;
    // Processes come and go meanwhile.
    let processes = fs::read_dir("/proc")?.flatten();
    Ok(processes
        .filter_map(|process| fs::read_dir(process.path().join("fd")).ok())
        .flat_map(Iterator::flatten)
        .any(|open| {
            let open = open.path();
            let is_it = fs::metadata(&open)
                .is_ok_and(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()));
            is_it && is_for_writing(&open)
        }))
}

/// As `/proc/PID/fdinfo/FD` has it, see `proc_pid_fdinfo(5)`; taken for true if that is gone.
fn is_for_writing(open: &Path) -> bool {
    let info = || {
        let number = open.file_name()?;
        let info = open.parent()?.with_file_name("fdinfo").join(number);
        let info = fs::read_to_string(info).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        u32::from_str_radix(flags.trim(), 8).ok()
    };
    info().is_none_or(|flags| flags & O_ACCMODE != 0)
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    match text.parse() {
        Ok(ByteSize(0)) => Err("at least 1".to_owned()),
        Ok(size) => Ok(size),
        Err(err) => Err(format!("{err}: write a size such as 512KiB or 100MiB")),
    }
}

fn parse_pause(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(pause) if pause.as_millis() == 0 => Err("at least 1ms".to_owned()),
        Ok(pause) => Ok(pause),
        Err(err) => Err(format!("{err}: write a time such as 1s or 1m")),
    }
}

/// The bits that say what a file is open for, 0 for reading alone: `asm-generic/fcntl.h`.
const O_ACCMODE: u32 = 3;
