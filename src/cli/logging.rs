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

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use env_filter::Filter;
use env_logger::{Builder, Logger, Target, WriteStyle};
use log::{LevelFilter, Log, Metadata, Record};

/// The running log. Dropping it writes what is still queued, if the reader takes it.
pub(super) struct Logging {
    lines: Sender<Line>,
}

/// What the thread is sent.
enum Line {
    Text(Vec<u8>),
    /// Everything before was written: answer.
    Flush(Sender<()>),
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
    lines: Sender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Logging {
    /// Starts the thread and installs the logger. `RUST_LOG` adds to `level` or replaces it.
    pub(super) fn start(level: Option<LevelFilter>) -> io::Result<Self> {
        let (lines, inbox) = bounded(QUEUED_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        thread::Builder::new()
            .name("rr-log".to_owned())
            .spawn(move || write_lines(&inbox, &counter))?;
        let mut builder = Builder::new();
        builder
            .filter_level(LevelFilter::Trace)
            .format_target(false)
            .format_timestamp_millis()
            .write_style(style())
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
        Ok(Logging { lines })
    }

    /// Prints text as it is, in order with the log.
    pub(super) fn print(&self, text: &str) {
        let _ = self.lines.try_send(Line::Text(text.as_bytes().to_vec()));
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
    builder.filter_level(level.unwrap_or(LevelFilter::Info));
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
        if self.lines.try_send(Line::Flush(reply)).is_ok() {
            let _ = answer.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.lines.try_send(Line::Text(line.to_vec())) {
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

/// Writes until the process ends. May block for as long as standard error does.
fn write_lines(inbox: &Receiver<Line>, dropped: &AtomicU64) {
    let mut stderr = io::stderr();
    for line in inbox {
        match line {
            Line::Text(text) => {
                let _ = stderr.write_all(&text);
            }
            Line::Flush(reply) => {
                let _ = reply.send(());
            }
        }
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            lost => {
                let _ = writeln!(
                    stderr,
                    "[{lost} log lines dropped: standard error is too slow]"
                );
            }
        }
    }
}

/// env_logger cannot see through the pipe whether a terminal is behind it.
fn style() -> WriteStyle {
    use std::io::IsTerminal;
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if wanted && !dumb && io::stderr().is_terminal() {
        WriteStyle::Always
    } else {
        WriteStyle::Never
    }
}

/// A burst of several crashes of every worker; beyond it lines are dropped and counted.
const QUEUED_LINES: usize = 4096;

/// How long the end of the program waits for a slow reader of the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
