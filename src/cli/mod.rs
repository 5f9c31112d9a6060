//! The command line: from arguments to a running master, and from its end to an exit code.
//!
//! Nothing is bound, written or started before everything that was given is known to be right.

mod args;
mod banner;
mod daemon;
mod log_file;
mod logging;
mod service;

use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process;

use clap::Parser;

use self::args::{Args, Builtin, HostArgs};
use self::banner::Banner;
use self::daemon::{Fate, Starting};
use self::log_file::LogFile;
use self::logging::{Logging, Output};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::hello_http;
use crate::master::{Master, StartError};
use crate::preflight;
use crate::reactor::Host;
use crate::sys::describe;
use crate::sys::inherited;
use crate::sys::limits::NofileLimit;
use crate::sys::pidfile::PidFile;
use crate::sys::signals::Signals;
use crate::sys::title::Title;

/// Runs `rr-master` with the arguments of this process.
pub fn main() -> process::ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(err) if err.use_stderr() => return in_one_line(&err).report().into(),
        // --help and --version are printed whole, on standard output.
        Err(err) => err.exit(),
    };
    match args.builtin {
        Some(Builtin::Hello) => hello_http::main(),
        None => run_to_code(&args).into(),
    }
}

/// The configuration that a command line describes, its first argument being the program's name,
/// or the line that refuses it. Binds, writes and starts nothing.
///
/// # Errors
/// As on standard error, without the program's name.
// Not an interface: the flags are private, and this is the door for `fuzz/` and `tests/decoders`.
#[doc(hidden)]
pub fn configuration<A>(arguments: impl IntoIterator<Item = A>) -> Result<Config, String>
where
    A: Into<OsString> + Clone,
{
    let args = Args::try_parse_from(arguments).map_err(|err| in_one_line(&err).line())?;
    match args.config() {
        Ok((config, _)) => Ok(config),
        Err(failure) => Err(failure.line()),
    }
}

/// Why the master did not come to run, for the person at the terminal.
struct Failure {
    code: ExitCode,
    reason: String,
}

/// A master that panics is an internal failure like any other; its processes see it gone.
fn run_to_code(args: &Args) -> ExitCode {
    match panic::catch_unwind(AssertUnwindSafe(|| run(args))) {
        Ok(ended) => ended.unwrap_or_else(Failure::report),
        Err(_) => ExitCode::Internal,
    }
}

fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (config, count) = args.config()?;
    let config = preflight::check(config).map_err(StartError::from)?;
    let log_file = args.host.log_file.as_deref().map(LogFile::open);
    let log_file = log_file.transpose().map_err(usage)?;
    let (output, starting) = match log_file {
        None => (Output::Stderr, None),
        Some(log_file) if args.host.daemon => match daemon::detach(&log_file)? {
            Fate::Run(starting, audience) => {
                let output = Output::Daemon(log_file, Some(audience));
                (output, Some(starting))
            }
            Fate::Return(code) => return Ok(code),
        },
        Some(log_file) => (Output::File(log_file), None),
    };
    inherited::keep_from_children()
        .map_err(|err| internal("look at the inherited descriptors", &err))?;
    // Before the first thread, so that every thread has them blocked.
    let signals = Signals::block().map_err(|err| internal("block signals", &err))?;
    let nofile = NofileLimit::raise().map_err(|err| internal("raise RLIMIT_NOFILE", &err))?;
    let is_logged = matches!(output, Output::File(_) | Output::Daemon(..));
    let logging =
        Logging::start(args.log_level, output).map_err(|err| internal("start the log", &err))?;
    let host = Host {
        signals: Some(signals),
        nofile: Some(nofile),
        service: service::from_environment(),
        title: title(&args.host),
        log_file: is_logged.then(|| logging.reopener()),
    };
    let ended = run_logged(args, config, &count, host, &logging, starting);
    match ended {
        Err(failure) if is_logged => {
            log::error!("{}", failure.line());
            // Of a daemon standard error is the log, too.
            if args.host.daemon {
                Ok(failure.code)
            } else {
                Err(failure)
            }
        }
        ended => ended,
    }
}

/// From the moment at which there is a log.
fn run_logged(
    args: &Args,
    config: Config,
    count: &str,
    host: Host,
    logging: &Logging,
    starting: Option<Starting>,
) -> Result<ExitCode, Failure> {
    let _pidfile = args
        .pidfile
        .as_deref()
        .map(PidFile::create)
        .transpose()
        .map_err(usage)?;
    let running = args.running(&config);
    let workers = config.workers;
    let master = Master::bind_in(config, host)?;
    let banner = Banner {
        running: &running,
        workers,
        count,
        listeners: master.listeners(),
        is_daemon: args.host.daemon,
    };
    logging.print(&banner.to_string());
    if let Some(starting) = starting {
        starting
            .watch(master.handle(), logging)
            .map_err(|err| internal("watch who started this", &err))?;
    }
    let code = master.run().map_err(|err| internal("run the loop", &err))?;
    log::info!("stopped: exit code {}", code as u8);
    Ok(code)
}

/// The place of the command line, which was read.
fn title(args: &HostArgs) -> Option<Title> {
    if args.no_title { None } else { Title::claim() }
}

impl Failure {
    /// Says so on standard error, before there is a log or after it.
    fn report(self) -> ExitCode {
        let _ = writeln!(io::stderr(), "rr-master: {}", self.line());
        self.code
    }

    /// One line. What was given is shown in it, and may contain anything.
    fn line(&self) -> String {
        let mut line = String::with_capacity(self.reason.len());
        for c in self.reason.chars() {
            if c.is_control() {
                line.extend(c.escape_default());
            } else {
                line.push(c);
            }
        }
        line
    }
}

/// What is wrong, what may have been meant, and where to read more.
fn in_one_line(err: &clap::Error) -> Failure {
    let text = err.render().to_string();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let problem = lines
        .iter()
        .take_while(|line| !line.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    let tip = lines.iter().find_map(|line| line.strip_prefix("tip: "));
    let tip = tip.map(|tip| format!("; {tip}")).unwrap_or_default();
    usage(format!(
        "{}{tip}; see rr-master --help",
        problem.trim_start_matches("error: ")
    ))
}

fn usage(err: impl ToString) -> Failure {
    Failure {
        code: ExitCode::Usage,
        reason: err.to_string(),
    }
}

fn internal(what: &str, err: &io::Error) -> Failure {
    Failure {
        code: ExitCode::Internal,
        reason: format!("{what}: {}", describe(err)),
    }
}

impl From<StartError> for Failure {
    fn from(err: StartError) -> Self {
        Failure {
            code: err.exit_code(),
            reason: err.to_string(),
        }
    }
}
