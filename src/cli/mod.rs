//! The command line: from arguments to a running master, and from its end to an exit code.
//!
//! Nothing is bound, written or started before everything that was given is known to be right.

mod args;
mod banner;
mod daemon;
mod log_file;
mod logging;
mod place;
mod service;
mod settings;

use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process;

use self::args::{Builtin, HostArgs};
use self::banner::Banner;
use self::daemon::{Fate, Starting};
use self::log_file::LogFile;
use self::logging::{Logging, Output};
use self::place::Place;
pub use self::settings::Source;
use self::settings::{Settings, Unread};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::hello_http;
use crate::master::{Master, StartError};
use crate::printable::printable;
use crate::reactor::Host;
use crate::reactor::reload;
use crate::sys::describe;
use crate::sys::inherited;
use crate::sys::limits::NofileLimit;
use crate::sys::orphans::Orphans;
use crate::sys::pidfile::PidFile;
use crate::sys::signals::Signals;
use crate::sys::title::Title;

/// Runs `rr-master` with the arguments of this process.
pub fn main() -> process::ExitCode {
    let source = Source::of_this_process();
    let settings = match source.read() {
        Ok(settings) => settings,
        // They are printed whole, on standard output.
        Err(Unread::Asked(text)) => text.exit(),
        Err(Unread::Refused(failure)) => return failure.report().into(),
    };
    if let Some(Builtin::Hello) = settings.args.builtin {
        return hello_http::main();
    }
    let asked = &settings.args.configuration;
    let ended = if asked.check {
        warn(&settings);
        check(&source)
    } else if asked.print_config {
        warn(&settings);
        print_config(&settings)
    } else {
        return run_to_code(&settings, source).into();
    };
    ended.unwrap_or_else(Failure::report).into()
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
    let source = Source::new(arguments, []);
    described(source.read())
}

/// The configuration that the bytes of a configuration file describe by themselves, or the line
/// that refuses them.
///
/// # Errors
/// As on standard error, without the program's name.
#[doc(hidden)]
pub fn configuration_in_file(bytes: &[u8]) -> Result<Config, String> {
    let source = Source::new(["rr-master", "--config", "app.toml"], []);
    described(source.read_with(|_| Ok(bytes.to_vec())))
}

fn described(settings: Result<Settings, Unread>) -> Result<Config, String> {
    let config = settings
        .map_err(Failure::from)
        .and_then(|settings| settings.unchecked_config());
    match config {
        Ok((config, _)) => Ok(config),
        Err(failure) => Err(failure.line()),
    }
}

/// Why the master did not come to run, for the person at the terminal.
#[derive(Debug)]
struct Failure {
    code: ExitCode,
    reason: String,
    /// What it is about, so that its place can be told.
    setting: Option<&'static str>,
}

/// --check: what a reload would say.
fn check(source: &Source) -> Result<ExitCode, Failure> {
    source.config().map_err(usage)?;
    print("configuration ok\n")
}

/// --print-config.
fn print_config(settings: &Settings) -> Result<ExitCode, Failure> {
    settings.unchecked_config()?;
    print(&settings.to_toml()?)
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut stdout = io::stdout();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|err| internal("write to standard output", &err))?;
    Ok(ExitCode::Clean)
}

/// Where there is no log.
fn warn(settings: &Settings) {
    for warning in &settings.warnings {
        let _ = writeln!(io::stderr(), "rr-master: {}", printable(warning));
    }
}

/// A master that panics is an internal failure like any other; its processes see it gone.
fn run_to_code(settings: &Settings, source: Source) -> ExitCode {
    match panic::catch_unwind(AssertUnwindSafe(|| run(settings, source))) {
        Ok(ended) => ended.unwrap_or_else(Failure::report),
        Err(_) => ExitCode::Internal,
    }
}

fn run(settings: &Settings, source: Source) -> Result<ExitCode, Failure> {
    let (config, count) = settings.config()?;
    let asked = &settings.args.host;
    let log_file = config.own_process.log_file.as_deref().map(LogFile::open);
    let log_file = log_file.transpose().map_err(usage)?;
    let (output, starting) = match log_file {
        None => (Output::Stderr, None),
        Some(log_file) if asked.daemon => match daemon::detach(&log_file)? {
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
    let orphans = Orphans::take(settings.args.leftovers.adoption())
        .map_err(|err| internal("take care of orphans", &err))?;
    let nofile = NofileLimit::raise().map_err(|err| internal("raise RLIMIT_NOFILE", &err))?;
    let is_logged = matches!(output, Output::File(_) | Output::Daemon(..));
    let logging = Logging::start(config.own_process.log_level, output)
        .map_err(|err| internal("start the log", &err))?;
    for warning in &settings.warnings {
        log::warn!("{}", printable(warning));
    }
    let host = Host {
        signals: Some(signals),
        nofile: Some(nofile),
        set_log_level: Some(logging::set_level),
        service: service::from_environment(),
        title: title(asked),
        log_file: is_logged.then(|| logging.reopener()),
        source: Some(anew(source, Place::current())),
        orphans: Some(orphans),
        cgroup: None,
    };
    let ended = run_logged(settings, (config, &count), host, &logging, starting);
    match ended {
        Err(failure) if is_logged => {
            log::error!("{}", failure.line());
            // Of a daemon standard error is the log, too.
            if asked.daemon {
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
    settings: &Settings,
    (config, count): (Config, &str),
    host: Host,
    logging: &Logging,
    starting: Option<Starting>,
) -> Result<ExitCode, Failure> {
    let pidfile = config.own_process.pidfile.as_deref();
    let _pidfile = pidfile.map(PidFile::create).transpose().map_err(usage)?;
    let running = settings.args.running(&config);
    let workers = config.workers;
    let on_demand = config.on_demand.clone();
    let master = Master::bind_in(config, host)?;
    let banner = Banner {
        running: &running,
        workers,
        count,
        listeners: master.listeners(),
        control: master.control(),
        is_daemon: settings.args.host.daemon,
        on_demand: &on_demand,
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

/// What a reload reads: everything again, in the place that the master was started in, as it is then.
fn anew(source: Source, place: Place) -> reload::Source {
    reload::Source::new(move || {
        place
            .return_to()
            .map_err(|err| format!("return to the master's directory: {}", describe(&err)))?;
        source.config()
    })
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
        printable(&self.reason)
    }

    /// The same failure, about that setting.
    fn about(self, setting: Option<&'static str>) -> Self {
        Failure { setting, ..self }
    }
}

/// What is wrong, and what may have been meant.
fn problem(err: &clap::Error) -> String {
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
    format!("{}{tip}", problem.trim_start_matches("error: "))
}

fn usage(err: impl ToString) -> Failure {
    Failure {
        code: ExitCode::Usage,
        reason: err.to_string(),
        setting: None,
    }
}

fn internal(what: &str, err: &io::Error) -> Failure {
    Failure {
        code: ExitCode::Internal,
        reason: format!("{what}: {}", describe(err)),
        setting: None,
    }
}

impl From<StartError> for Failure {
    fn from(err: StartError) -> Self {
        Failure {
            code: err.exit_code(),
            reason: err.to_string(),
            setting: None,
        }
    }
}
