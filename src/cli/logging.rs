//! The log: env_logger, whose lines leave through a bounded channel and a thread of their own, and a
//! filter that can be exchanged while it runs.
//!
//! A terminal stopped with Ctrl-S blocks whoever writes to it. The loop never does: when the
//! channel is full, lines are dropped and counted.

use std::env;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, never, select};
use env_filter::Filter;
use env_logger::{Builder, Logger, Target, WriteStyle};
use log::{LevelFilter, Log, Metadata, Record};

use super::daemon::Audience;
use super::log_file::LogFile;
use crate::config::own_process::DEFAULT_LOG_LEVEL;
use crate::sys::daemon::redirect_output;

/// The running log. Dropping it writes what is still queued, if the reader takes it.
pub(super) struct Logging {
    lines: Lines,
    reopen: Sender<()>,
}

/// Where the log goes.
#[derive(Debug)]
pub(super) enum Output {
    /// Standard error.
    Stderr,
    /// A file; what the processes write stays where it is.
    File(LogFile),
    /// A file that is also standard output and standard error, so that it has what the processes
    /// write, too; and an audience until the cluster is ready.
    Daemon(LogFile, Option<Audience>),
}

/// The way to the thread.
#[derive(Clone)]
pub(super) struct Lines(Sender<Line>);

/// What the thread is sent.
enum Line {
    Text(Vec<u8>),
    /// Everything before was written: answer.
    Flush(Sender<()>),
    /// The start is over, and everything before was its story.
    DismissAudience,
}

/// The logger of this process. The lock is held by a writer for an exchange only.
struct Filtered {
    filter: RwLock<Filter>,
    /// Takes everything: the filter comes before it.
    printer: Logger,
}

static LOGGER: OnceLock<Filtered> = OnceLock::new();

/// What env_logger writes to.
struct Pipe {
    lines: Lines,
    dropped: Arc<AtomicU64>,
}

impl Logging {
    /// Starts the thread and installs the logger. `RUST_LOG` adds to `level` or replaces it.
    pub(super) fn start(level: Option<LevelFilter>, output: Output) -> io::Result<Self> {
        let (lines, inbox) = bounded(QUEUED_LINES);
        let lines = Lines(lines);
        let (reopen, wishes) = bounded(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        let style = output.style();
        thread::Builder::new()
            .name("rr-log".to_owned())
            .spawn(move || write_lines(&inbox, wishes, output, &counter))?;
        let mut builder = Builder::new();
        builder
            .filter_level(LevelFilter::Trace)
            .format_target(false)
            .format_timestamp_millis()
            .write_style(style)
            .target(Target::Pipe(Box::new(Pipe {
                lines: lines.clone(),
                dropped,
            })));
        let filter = first_filter(level);
        log::set_max_level(filter.filter());
        let logger = LOGGER.get_or_init(|| Filtered {
            filter: RwLock::new(filter),
            printer: builder.build(),
        });
        log::set_logger(logger).map_err(io::Error::other)?;
        Ok(Logging { lines, reopen })
    }

    /// Prints text as it is, in order with the log.
    pub(super) fn print(&self, text: &str) {
        let _ = self.lines.0.try_send(Line::Text(text.as_bytes().to_vec()));
    }

    /// Another way to the thread.
    pub(super) fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Whoever sends something there has the log file opened again. Full: it is about to be.
    pub(super) fn reopener(&self) -> Sender<()> {
        self.reopen.clone()
    }
}

/// From now on everything of this level and above is logged, whatever was said before.
pub(super) fn set_level(level: LevelFilter) {
    let Some(logger) = LOGGER.get() else { return };
    let filter = env_filter::Builder::new().filter_level(level).build();
    *logger
        .filter
        .write()
        .unwrap_or_else(PoisonError::into_inner) = filter;
    log::set_max_level(level);
}

/// What `RUST_LOG` says, to which `--log-level` adds or which it replaces.
fn first_filter(level: Option<LevelFilter>) -> Filter {
    let mut builder = env_filter::Builder::new();
    builder.filter_level(level.unwrap_or(DEFAULT_LOG_LEVEL));
    if let Ok(spec) = env::var("RUST_LOG") {
        builder = env_filter::Builder::new();
        builder.parse(&spec);
        if let Some(level) = level {
            builder.filter_level(level);
        }
    }
    builder.build()
}

impl Log for Filtered {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.filter().matches(record) {
            self.printer.log(record);
        }
    }

    fn flush(&self) {
        self.printer.flush();
    }
}

impl Filtered {
    fn filter(&self) -> RwLockReadGuard<'_, Filter> {
        self.filter.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let (reply, answer) = bounded(1);
        if self.lines.0.try_send(Line::Flush(reply)).is_ok() {
            let _ = answer.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

impl Lines {
    /// The start is over: nobody at the terminal waits for more. May have to wait itself.
    pub(super) fn dismiss_audience(&self) {
        let _ = self.0.send(Line::DismissAudience);
    }
}

impl Write for Pipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.lines.0.try_send(Line::Text(line.to_vec())) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes until the process ends. May block for as long as the output does.
fn write_lines(
    inbox: &Receiver<Line>,
    mut wishes: Receiver<()>,
    mut output: Output,
    dropped: &AtomicU64,
) {
    loop {
        select! {
            recv(inbox) -> line => match line {
                Ok(Line::Text(text)) => {
                    // Who wished for it first finds this line in the new file.
                    if wishes.try_recv().is_ok() {
                        output.reopen();
                    }
                    output.write(&text);
                }
                Ok(Line::Flush(reply)) => {
                    let _ = reply.send(());
                }
                Ok(Line::DismissAudience) => output.dismiss_audience(),
                Err(_) => return,
            },
            recv(wishes) -> wish => match wish {
                Ok(()) => output.reopen(),
                // Nobody is left to wish for it.
                Err(_) => wishes = never(),
            },
        }
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            lost => {
                let slow = output.name();
                let note = format!("[{lost} log lines dropped: {slow} is too slow]\n");
                output.write(note.as_bytes());
            }
        }
    }
}

impl Output {
    fn write(&mut self, text: &[u8]) {
        match self {
            Output::Stderr => {
                let _ = io::stderr().write_all(text);
            }
            Output::File(file) => file.append(text),
            Output::Daemon(file, audience) => {
                file.append(text);
                if let Some(audience) = audience {
                    audience.show(text);
                }
            }
        }
    }

    fn reopen(&mut self) {
        match self {
            Output::Stderr => {}
            Output::File(file) => file.reopen(),
            Output::Daemon(file, _) => {
                file.reopen();
                // For the processes that are started from now on; the others have the old file.
                let _ = redirect_output(file.file());
            }
        }
    }

    fn dismiss_audience(&mut self) {
        match self {
            Output::Stderr | Output::File(_) => {}
            Output::Daemon(_, audience) => {
                if let Some(audience) = audience.take() {
                    audience.dismiss();
                }
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Output::Stderr => "standard error",
            Output::File(_) | Output::Daemon(..) => "the log file",
        }
    }

    /// env_logger cannot see through the pipe whether a terminal is behind it.
    fn style(&self) -> WriteStyle {
        use std::io::IsTerminal;
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match self {
            Output::Stderr if wanted && !dumb && io::stderr().is_terminal() => WriteStyle::Always,
            Output::Stderr | Output::File(_) | Output::Daemon(..) => WriteStyle::Never,
        }
    }
}

/// A burst of several crashes of every worker; beyond it lines are dropped and counted.
const QUEUED_LINES: usize = 4096;

/// How long the end of the program waits for a slow reader of the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
