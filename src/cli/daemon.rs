//! `--daemon`: the process that was started returns when the cluster is ready, or with the exit code
//! of one that did not come to that, and shows meanwhile what it logs.
//!
//! Who ends the waiting process ends the start: nobody would know of a cluster that came up later.

use std::io::{self, PipeWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::wait::WaitStatus;

use super::log_file::LogFile;
use super::logging::Logging;
use super::{Failure, internal};
use crate::exit_code::ExitCode;
use crate::master::Handle;
use crate::supervisor::Stop;
use crate::sys::daemon::{self, Side, Waiting};

/// Whether this process goes on, and as what.
pub(super) enum Fate {
    /// As the daemon.
    Run(Starting, Audience),
    /// It has seen the daemon off.
    Return(ExitCode),
}

/// A start that somebody waits for, as the daemon knows it.
pub(super) struct Starting {
    ready: PipeWriter,
    is_over: Arc<AtomicBool>,
}

/// Whoever waits, and shows the log at the terminal meanwhile.
#[derive(Debug)]
pub(super) struct Audience {
    output: PipeWriter,
    ready: PipeWriter,
    is_over: Arc<AtomicBool>,
}

/// Divides the process; of the two the starter comes back when the start is over.
pub(super) fn detach(log: &LogFile) -> Result<Fate, Failure> {
    match daemon::detach().map_err(|err| internal("leave the terminal", &err))? {
        Side::Starter(waiting) => Ok(Fate::Return(see_off(waiting, log))),
        Side::Daemon(starter) => {
            daemon::redirect_output(log.file())
                .map_err(|err| internal("redirect the output", &err))?;
            let daemon::Starter { output, ready } = starter;
            let is_over = Arc::new(AtomicBool::new(false));
            let starting = Starting {
                ready: ready
                    .try_clone()
                    .map_err(|err| internal("watch who started this", &err))?,
                is_over: Arc::clone(&is_over),
            };
            let audience = Audience {
                output,
                ready,
                is_over,
            };
            Ok(Fate::Run(starting, audience))
        }
    }
}

/// Shows what the daemon has to say, and answers what came of it.
fn see_off(mut waiting: Waiting, log: &LogFile) -> ExitCode {
    let mut stderr = io::stderr();
    // A terminal that takes nothing is no reason not to wait.
    let _ = io::copy(&mut waiting.output, &mut stderr);
    let mut ready = [0; 1];
    if matches!(waiting.ready.read(&mut ready), Ok(1)) {
        return ExitCode::Clean;
    }
    let (code, how) = match waiting.end() {
        Ok(WaitStatus::Exited(_, code)) => match ExitCode::from_status(code) {
            // It was told to stop, which is not what whoever started it wanted.
            Some(ExitCode::Clean) | None => (ExitCode::Internal, "stopped".to_owned()),
            Some(failed) => (failed, format!("failed with exit code {code}")),
        },
        Ok(WaitStatus::Signaled(_, signal, _)) => (ExitCode::Internal, format!("died of {signal}")),
        Ok(_) | Err(_) => (ExitCode::Internal, "was lost".to_owned()),
    };
    let path = log.path().display();
    let _ = writeln!(
        stderr,
        "rr-master: the start {how}; what the processes say is in {path}"
    );
    code
}

impl Starting {
    /// From here on the cluster is expected to become ready: whoever waits is told then, and is
    /// missed if they go before.
    pub(super) fn watch(self, master: Handle, logging: &Logging) -> io::Result<()> {
        let lines = logging.lines();
        let handle = master.clone();
        thread::Builder::new()
            .name("rr-ready".to_owned())
            .spawn(move || {
                if handle.await_ready(FOR_EVER) == Ok(true) {
                    lines.dismiss_audience();
                }
            })?;
        thread::Builder::new()
            .name("rr-starter".to_owned())
            .spawn(move || {
                let gone = daemon::wait_for_reader_to_go(&self.ready);
                if gone.is_ok() && !self.is_over.load(Ordering::Acquire) {
                    log::warn!("whoever started the master is gone: it gives up the start");
                    let _ = master.stop(Stop::Graceful);
                }
            })?;
        Ok(())
    }
}

impl Audience {
    pub(super) fn show(&mut self, line: &[u8]) {
        // Not all of it if the terminal is slow: it is all in the file.
        let _ = self.output.write(line);
    }

    /// The cluster is ready.
    pub(super) fn dismiss(mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = self.ready.write_all(&[1]);
    }
}

/// The supervisor has its own deadlines.
const FOR_EVER: Duration = Duration::MAX;
