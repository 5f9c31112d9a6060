//! The command line: from arguments to a running master, and from its end to an exit code.
//!
//! Nothing is bound, written or started before everything that was given is known to be right.

mod args;
mod banner;
mod logging;

use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process;

use clap::Parser;

use self::args::{Args, Builtin};
use self::banner::Banner;
use self::logging::Logging;
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
    inherited::keep_from_children()
        .map_err(|err| internal("look at the inherited descriptors", &err))?;
    // Before the first thread, so that every thread has them blocked.
    let signals = Signals::block().map_err(|err| internal("block signals", &err))?;
    let nofile = NofileLimit::raise().map_err(|err| internal("raise RLIMIT_NOFILE", &err))?;
    let logging = Logging::start(args.log_level).map_err(|err| internal("start the log", &err))?;
    let _pidfile = args
        .pidfile
        .as_deref()
        .map(PidFile::create)
        .transpose()
        .map_err(usage)?;

    let running = args.running(&config);
    let workers = config.workers;
    let host = Host {
        signals: Some(signals),
        nofile: Some(nofile),
        set_log_level: Some(logging::set_level),
    };
    let master = Master::bind_in(config, host)?;
    let banner = Banner {
        running: &running,
        workers,
        count: &count,
        listeners: master.listeners(),
        control: master.control(),
    };
    logging.print(&banner.to_string());
    let code = master.run().map_err(|err| internal("run the loop", &err))?;
    log::info!("stopped: exit code {}", code as u8);
    Ok(code)
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
