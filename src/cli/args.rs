//! The flags, and what they mean for the configuration.

mod control;
mod dispatch;
mod gathering;
mod host;
mod jobs;
mod leftovers;
mod messages;
mod preload;
mod process;
mod readiness;
mod renewal;
mod strategy;
mod values;
mod watch;

use std::env;
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

mod configuration;

use clap::{Parser, ValueEnum};
use log::LevelFilter;
use worker_proto::address::Address;

use self::configuration::ConfigurationArgs;
use self::control::Control;
use self::dispatch::DispatchArgs;
use self::gathering::GatheringArgs;
pub(super) use self::host::HostArgs;
use self::jobs::JobArgs;
use self::leftovers::LeftoverArgs;
use self::messages::MessageArgs;
use self::preload::PreloadArgs;
use self::process::ProcessArgs;
use self::readiness::ReadinessArgs;
use self::renewal::Renewal;
use self::strategy::StrategyArgs;
use self::values::ValueArgs;
use self::watch::WatchArgs;
use super::banner::Running;
use super::{Failure, usage};
use crate::config::listener::ListenerSpec;
use crate::config::program::Program;
use crate::config::{
    Config, ConnectionLimits, DEFAULT_WINDOW, MAX_WINDOW, OnDemand, Overflow, Refusal, restart,
    systemd,
};
use crate::control::change::parse_level;
use crate::supervisor::{BackoffPlan, OnCrashLoop, Restart, RestartLimit};
use crate::sys::cpu::CpuCount;

/// Turn one program into a cluster of processes on one host.
///
/// The master owns the listening sockets, accepts every connection, and hands it to the next
/// worker in rotation. Workers that die are replaced; no connection is lost on the way.
#[derive(Debug, Parser)]
#[command(
    name = "rr-master",
    version,
    override_usage = "rr-master [OPTIONS] [PROGRAM [ARGS]...]",
    after_help = AFTER_HELP,
    max_term_width = 100,
)]
pub(super) struct Args {
    /// The program that every worker runs, and its arguments: everything after the program is the
    /// program's. Without one: a built-in HTTP server that says hello on 127.0.0.1:8000
    #[arg(trailing_var_arg = true, value_name = "PROGRAM")]
    pub(super) command: Vec<OsString>,

    /// How many workers: a number, or `auto` for as many as there are CPUs to use
    #[arg(
        short,
        long,
        value_name = "N|auto",
        default_value = "auto",
        help_heading = "Processes"
    )]
    workers: Workers,

    /// A process that starts before the workers and gets no connections; may be repeated. Operators
    /// call it NAME, or by its program's file name
    #[arg(long, value_name = "[NAME=]'CMD ARGS'", value_parser = parse_agent, help_heading = "Processes")]
    agent: Vec<AgentCommand>,

    /// Add a variable to the environment of every process; may be repeated
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = parse_variable, help_heading = "Processes")]
    env: Vec<(OsString, OsString)>,

    /// The directory that processes run in
    #[arg(long, value_name = "DIR", help_heading = "Processes")]
    cwd: Option<PathBuf>,

    #[command(flatten)]
    process: ProcessArgs,

    /// Listen on ADDRESS: 127.0.0.1:8000, [::]:8000, unix:/run/app.sock, unix:@name, fd:3; may be
    /// repeated. 8080=3000, or 127.0.0.1:8080=3000: a program that asks for its port 3000 gets 8080.
    /// Options: backlog=N, v6only=yes|no, mode=660, owner=USER:GROUP, dispatch=MODE,
    /// defer-accept=TIME, strategy=NAME. Sockets passed by systemd are taken without being named here
    #[arg(
        short,
        long,
        value_name = "[NAME=]ADDRESS[,OPTION]...",
        help_heading = "Listening"
    )]
    listen: Vec<ListenerSpec>,

    /// Let workers listen on ADDRESS when they ask for it, beside what --listen names. Without
    /// either flag they may listen on anything
    #[arg(long, value_name = "ADDRESS", help_heading = "Listening")]
    allow_listen: Vec<Address>,

    /// How long to wait for an address that is in use
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_time, help_heading = "Listening")]
    bind_retry: Duration,

    #[command(flatten)]
    dispatch: DispatchArgs,

    #[command(flatten)]
    strategy: StrategyArgs,

    /// How many connections may wait in one worker's accept queue. A worker whose queue is full is
    /// skipped; when all are, clients wait in the listen backlog
    #[arg(long, value_name = "N", default_value_t = DEFAULT_WINDOW, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_WINDOW)), help_heading = "Load")]
    window: u32,

    /// What to do with clients while no worker has room: `wait` leaves them in the listen backlog,
    /// `close` and `reset` refuse them
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "wait",
        help_heading = "Load"
    )]
    overflow: OverflowKind,

    /// With `--overflow close` or `reset`: how long no worker has had room before clients are
    /// refused; 1s if not given
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Load")]
    overflow_after: Option<Duration>,

    /// How many connections one worker may have at a time, those on their way to it included.
    /// Counts what workers say they have: programs written with worker-proto do
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Load")]
    max_connections_per_worker: Option<NonZeroU64>,

    /// How many connections all workers together may have at a time
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Load")]
    max_connections: Option<NonZeroU64>,

    /// A worker that has received nothing for so long, while connections wait for it, gets no
    /// more until it does; others get what waits. `never` leaves it alone
    #[arg(long, value_name = "TIME|never", default_value = "500ms", value_parser = parse_optional_timeout, help_heading = "Load")]
    stall_timeout: OptionalTimeout,

    /// How long a process may take from its start to ready
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_timeout, help_heading = "Life")]
    ready_timeout: Duration,

    /// How long processes may take to finish when they are asked to leave; then SIGTERM, and a
    /// second later SIGKILL
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_timeout, help_heading = "Life")]
    stop_timeout: Duration,

    /// How long a process that serves may do nothing before it counts as hung: not answer the
    /// master, or leave the connections in its queue where they are. The log tells what it is
    /// doing; then SIGABRT, a second later SIGKILL, and a replacement. Only time in which the master
    /// itself runs counts. At least 200ms; by default nobody is judged, since a process may be
    /// stopped by a debugger, or busy with long connections
    #[arg(long, value_name = "TIME|never", default_value = "never", value_parser = parse_optional_timeout, help_heading = "Life")]
    hang_timeout: OptionalTimeout,

    /// How long a process may go on after its master was killed
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_time, help_heading = "Life")]
    orphan_grace: Duration,

    /// Do not replace a process that dies
    #[arg(long, help_heading = "Life")]
    no_refork: bool,

    /// The delay before a process that died is replaced: it grows by half with every failure in a
    /// row
    #[arg(long, value_name = "FIRST..MAX", default_value = "100ms..15s", value_parser = restart::parse_backoff, help_heading = "Life")]
    backoff: BackoffPlan,

    /// How many replacements, of all slots together, are too many
    #[arg(long, value_name = "COUNT/WINDOW", default_value = "60/60s", value_parser = restart::parse_limit, help_heading = "Life")]
    restart_limit: RestartLimit,

    /// What to do then: `hold` goes on as soon as the window allows, `park` leaves the slot empty,
    /// `exit` stops with code 5
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "hold",
        help_heading = "Life"
    )]
    on_crash_loop: CrashLoop,

    #[command(flatten)]
    preload: PreloadArgs,

    #[command(flatten)]
    gathering: GatheringArgs,

    #[command(flatten)]
    readiness: ReadinessArgs,

    #[command(flatten)]
    renewal: Renewal,

    #[command(flatten)]
    watch: WatchArgs,

    #[command(flatten)]
    messages: MessageArgs,

    #[command(flatten)]
    values: ValueArgs,

    #[command(flatten)]
    jobs: JobArgs,

    #[command(flatten)]
    control: Control,

    #[command(flatten)]
    pub(super) leftovers: LeftoverArgs,

    /// Write the master's pid to FILE, locked while it runs
    #[arg(long, value_name = "FILE", help_heading = "Running")]
    pub(super) pidfile: Option<PathBuf>,

    /// What to log: error, warn, info, debug, trace, off. RUST_LOG can say more
    #[arg(long, value_name = "LEVEL", value_parser = parse_level, help_heading = "Running")]
    pub(super) log_level: Option<LevelFilter>,

    #[command(flatten)]
    pub(super) configuration: ConfigurationArgs,

    #[command(flatten)]
    pub(super) host: HostArgs,

    /// How the built-in worker is started
    #[arg(long, hide = true)]
    pub(super) builtin: Option<Builtin>,
}

/// A program that is part of this one.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Builtin {
    Hello,
}

/// `--workers`.
#[derive(Clone, Copy, Debug)]
enum Workers {
    Auto,
    Count(u32),
}

/// `--agent`.
#[derive(Clone, Debug)]
struct AgentCommand {
    name: Option<String>,
    /// The program and its arguments.
    words: Vec<String>,
}

/// `--overflow`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverflowKind {
    Wait,
    Close,
    Reset,
}

/// A timeout that may be `never`.
#[derive(Clone, Copy, Debug)]
struct OptionalTimeout(Option<Duration>);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CrashLoop {
    Hold,
    Park,
    Exit,
}

const AFTER_HELP: &str = "\
Examples:
  rr-master                      say hello on http://127.0.0.1:8000/
  rr-master -w 4 ./worker-bin    four processes of a worker-proto program
  rr-master -w 4 --preload node server.js   four of any other server, unchanged
  rr-master -l [::]:8000 -l admin=127.0.0.1:9000 ./worker-bin --its-own --flags
  rr-master -w auto --agent rotate='./logrotate --daily' ./worker-bin
  rr-master -c app.toml          what app.toml says
  rr-ctl status                  how it does; what to change: rr-ctl --help

Signals:
  SIGTERM, SIGINT   serve what was accepted, then stop; a second one: at once
  SIGQUIT           stop at once
  SIGHUP            reload, see --canary; when the terminal is gone, stop
  SIGTTIN, SIGTTOU  one worker more, one worker less
  SIGUSR1           everybody opens their log files again, after they were moved

Exit codes:
  0  stopped, every process left by itself
  1  something in the master itself failed
  2  a setting or the program is wrong; nothing was started
  3  a worker failed to start
  4  an agent failed to start
  5  gave up on a crash loop: no worker is left to serve
  6  a listener could not be bound; nothing was started
  7  at stop, a process failed, or did not leave in time and had to be made to
  8  unhealthy for longer than --unhealthy-exit allows";

impl Args {
    /// The configuration that the flags describe, and how the workers were counted.
    pub(super) fn config(&self) -> Result<(Config, String), Failure> {
        self.host.check()?;
        let mut config = Config::new(self.program()?);
        let (workers, count) = self.workers.resolve();
        config.workers = workers;
        config.agents = self.agents()?;
        config.listeners = self.listeners();
        config.on_demand = match (&self.listen[..], &self.allow_listen[..]) {
            ([], []) if config.listeners.is_empty() => OnDemand::Any,
            (_, allowed) => OnDemand::Only(allowed.to_vec()),
        };
        self.dispatch.apply(&mut config);
        self.gathering.apply(&mut config);
        self.strategy.apply(&mut config);
        config.window = self.window;
        config.overflow = self.overflow()?;
        config.connection_limits = ConnectionLimits {
            per_worker: self.max_connections_per_worker,
            total: self.max_connections,
        };
        config.stall_timeout = self.stall_timeout.0;
        config.bind_retry = self.bind_retry;
        config.ready_timeout = self.ready_timeout;
        config.stop_timeout = self.stop_timeout;
        config.hang_timeout = self.hang_timeout.0;
        config.orphan_grace = self.orphan_grace;
        config.restart = self.restart();
        self.preload.apply(&mut config)?;
        self.readiness.apply(&mut config);
        self.renewal.apply(&mut config)?;
        self.watch.apply(&mut config);
        self.messages.apply(&mut config)?;
        self.values.apply(&mut config)?;
        self.jobs.apply(&mut config);
        self.control.apply(&mut config);
        config.own_process.pidfile.clone_from(&self.pidfile);
        config.own_process.log_file.clone_from(&self.host.log_file);
        config.own_process.log_level = self.log_level;
        config.cgroup = self.leftovers.cgroup;
        Ok((config, count))
    }

    /// What the workers run, for the start-up screen.
    pub(super) fn running(&self, config: &Config) -> Running {
        if self.command.is_empty() {
            Running::Hello
        } else {
            Running::Program(Box::new(config.program.clone()))
        }
    }

    fn program(&self) -> Result<Program, Failure> {
        let program = match self.command.split_first() {
            Some((path, args)) => Program::new(path).args(args),
            None => {
                let own = env::current_exe()
                    .map_err(|err| usage(format!("find this program's own file: {err}")))?;
                Program::new(own).args(["--builtin", "hello"])
            }
        };
        self.with_surroundings(program)
    }

    fn agents(&self) -> Result<Vec<Program>, Failure> {
        let programs = self.agent.iter().filter_map(|agent| {
            let (path, args) = agent.words.split_first()?;
            let mut program = Program::new(path).args(args);
            program.name.clone_from(&agent.name);
            Some(program)
        });
        programs
            .map(|program| self.with_surroundings(program))
            .collect()
    }

    fn with_surroundings(&self, mut program: Program) -> Result<Program, Failure> {
        program.env.clone_from(&self.env);
        program.cwd.clone_from(&self.cwd);
        program.surroundings = self.process.surroundings()?;
        Ok(program)
    }

    /// What --listen names, what systemd passed, and the built-in worker's own address.
    fn listeners(&self) -> Vec<ListenerSpec> {
        let mut listeners = self.listen.clone();
        let passed = systemd::listeners(std::process::id(), |name| env::var_os(name));
        listeners.extend(passed);
        if self.command.is_empty() && listeners.is_empty() {
            let address = BUILTIN_ADDRESS.parse().expect("a valid address");
            listeners.push(ListenerSpec::bind(address));
        }
        listeners
    }

    fn overflow(&self) -> Result<Overflow, Failure> {
        let after = self.overflow_after;
        let how = match self.overflow {
            OverflowKind::Wait if after.is_some() => {
                return Err(usage(
                    "--overflow-after says when to refuse: add --overflow close or --overflow reset",
                )
                .about(Some("overflow-after")));
            }
            OverflowKind::Wait => return Ok(Overflow::Wait),
            OverflowKind::Close => Refusal::Close,
            OverflowKind::Reset => Refusal::Reset,
        };
        let after = after.unwrap_or(DEFAULT_OVERFLOW_AFTER);
        Ok(Overflow::Refuse { how, after })
    }

    fn restart(&self) -> Restart {
        if self.no_refork {
            return Restart::Never;
        }
        let on_crash_loop = match self.on_crash_loop {
            CrashLoop::Hold => OnCrashLoop::Hold,
            CrashLoop::Park => OnCrashLoop::Park,
            CrashLoop::Exit => OnCrashLoop::Exit,
        };
        Restart::Always {
            backoff: self.backoff,
            limit: self.restart_limit,
            on_crash_loop,
        }
    }
}

impl Workers {
    fn resolve(self) -> (u32, String) {
        match self {
            Workers::Count(count) => (count, "--workers".to_owned()),
            Workers::Auto => {
                let cpus = CpuCount::detect();
                (cpus.workers(), cpus.to_string())
            }
        }
    }
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Workers::Auto),
            _ => text
                .parse()
                .map(Workers::Count)
                .map_err(|_| "write a number such as 4, or auto".to_owned()),
        }
    }
}

/// Splits words as a shell does; what comes before is a name if it can be no path.
fn parse_agent(text: &str) -> Result<AgentCommand, String> {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let (name, command) = match text.split_once('=') {
        Some((name, command)) if !name.is_empty() && name.chars().all(is_in_name) => {
            (Some(name.to_owned()), command)
        }
        _ => (None, text),
    };
    let words = shell_words::split(command).map_err(|err| err.to_string())?;
    if words.is_empty() {
        return Err("the command is empty".to_owned());
    }
    Ok(AgentCommand { name, words })
}

/// A deadline of nothing would kill every process at once.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_time(text)? {
        Duration::ZERO => Err("must be more than nothing".to_owned()),
        timeout => Ok(timeout),
    }
}

fn parse_optional_timeout(text: &str) -> Result<OptionalTimeout, String> {
    match text {
        "never" => Ok(OptionalTimeout(None)),
        _ => match parse_timeout(text) {
            Ok(timeout) => Ok(OptionalTimeout(Some(timeout))),
            Err(err) => Err(format!("{err}, or never")),
        },
    }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time > LONGEST_TIME => Err("must be at most a year".to_owned()),
        Ok(time) => Ok(time),
        Err(err) => Err(format!("{err}: write a time such as 500ms, 30s or 5m")),
    }
}

fn parse_count(text: &str) -> Result<NonZeroU64, String> {
    text.parse()
        .map_err(|_| "write a number above 0, such as 1000".to_owned())
}

fn parse_variable(text: &str) -> Result<(OsString, OsString), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name before '=' is empty".to_owned()),
        Some((name, _)) if name.starts_with("RR_") => {
            Err("names that begin with RR_ are the master's own".to_owned())
        }
        Some((name, value)) => Ok((name.into(), value.into())),
        None => Err("write KEY=VALUE".to_owned()),
    }
}

/// Long enough for a burst to pass.
const DEFAULT_OVERFLOW_AFTER: Duration = Duration::from_secs(1);

/// Where the built-in worker serves when nothing else is said.
const BUILTIN_ADDRESS: &str = "127.0.0.1:8000";

/// Keeps the sum of a time and another away from the clock's end.
const LONGEST_TIME: Duration = Duration::from_secs(366 * 24 * 3600);

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_follows_the_program_is_the_programs() {
        let args =
            Args::try_parse_from(["rr-master", "-w", "2", "/bin/sh", "--workers", "9", "-l"])
                .unwrap();
        let (config, count) = args.config().ok().unwrap();
        assert_eq!((config.workers, count.as_str()), (2, "--workers"));
        assert_eq!(config.program.args, ["--workers", "9", "-l"]);
    }

    #[test]
    fn an_agent_may_have_a_name() {
        for (text, name, words) in [
            (
                "rotate=./logrotate --daily",
                "rotate",
                &["./logrotate", "--daily"][..],
            ),
            ("./logrotate 'a b'", "logrotate", &["./logrotate", "a b"]),
            ("./a=b", "a=b", &["./a=b"]),
            ("sh -c A=1", "sh", &["sh", "-c", "A=1"]),
        ] {
            let args = Args::try_parse_from(["rr-master", "--agent", text, "x"]).unwrap();
            let agents = args.config().ok().unwrap().0.agents;
            let [path, args] = words
                .split_first()
                .map(|(path, args)| [path, &args.join("|")[..]].map(str::to_owned))
                .unwrap();
            assert_eq!(agents[0].name(), name);
            assert_eq!(agents[0].path.display().to_string(), path);
            let given: Vec<_> = agents[0]
                .args
                .iter()
                .map(|it| it.to_string_lossy())
                .collect();
            assert_eq!(given.join("|"), args);
        }
        assert!(parse_agent("rotate=").is_err());
    }

    #[test]
    fn an_unknown_flag_is_not_taken_for_the_program() {
        let err = Args::try_parse_from(["rr-master", "--wrokers", "3", "x"]).unwrap_err();
        assert_eq!(err.kind(), clap::error::ErrorKind::UnknownArgument);
    }

    #[test]
    fn listeners_decide_what_workers_may_bind() {
        for (flags, expected) in [
            (&["x"][..], OnDemand::Any),
            (&["-l", "127.0.0.1:1", "x"], OnDemand::Only(vec![])),
            (
                &["--allow-listen", "127.0.0.1:2", "x"],
                OnDemand::Only(vec!["127.0.0.1:2".parse().unwrap()]),
            ),
        ] {
            let args = Args::try_parse_from(["rr-master"].iter().chain(flags)).unwrap();
            assert_eq!(
                args.config().ok().unwrap().0.on_demand,
                expected,
                "{flags:?}"
            );
        }
    }
}
