//! Starting a process: the order for it, and what comes of it.
//!
//! Whoever calls this must be a thread that lives as long as the master: `PR_SET_PDEATHSIG` fires
//! when the *thread* that forked ends, see `PR_SET_PDEATHSIG(2const)`.

use std::collections::BTreeMap;
use std::env::{var_os, vars_os};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::iter;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::Pid;
use worker_proto::env;
use worker_proto::ids::Slot;

use super::activation::{Activation, Places};
use super::cgroup::Cell;
use super::credentials::Credentials;
use super::limits::NofileLimit;
use super::pidfd::Pidfd;
use super::pin::Pinned;
use super::preparation::{Preparation, Step, StepError};
use super::{cpu, pipe};
use crate::config::surroundings::{Environment, Privileges, Stream, Surroundings};
use crate::config::{service, systemd};

/// What to start. No placeholder is left in it.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: Pinned,
    /// What the program is called, as its first argument.
    pub(crate) name: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Where it runs; where the master does, if nothing else is said.
    pub(crate) directory: Option<Pinned>,
    /// Added to the master's own environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Left out of the master's own environment.
    pub(crate) private: Vec<OsString>,
    /// Given back to the process, if the master raised its own.
    pub(crate) nofile: Option<NofileLimit>,
    /// Its accounts are numbers.
    pub(crate) surroundings: Surroundings,
    pub(crate) slot: Slot,
    /// The control group that is made for it.
    pub(crate) cell: Option<Cell>,
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pidfd: Pidfd,
    /// What it says on these streams, if the master is to read it.
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// Starts the process as the leader of its own group, with `control` as its control channel and
/// these listening sockets, each with its name.
///
/// Blocks until `exec` succeeded or failed.
pub(crate) fn spawn(
    launch: &Launch,
    control: OwnedFd,
    sockets: &[(String, OwnedFd)],
) -> io::Result<Started> {
    let door = launch.cell.as_ref().map(Cell::open).transpose()?;
    let started = spawn_in(door, launch, control, sockets);
    if let (Err(_), Some(cell)) = (&started, &launch.cell) {
        cell.close();
    }
    started
}

fn spawn_in(
    door: Option<OwnedFd>,
    launch: &Launch,
    control: OwnedFd,
    sockets: &[(String, OwnedFd)],
) -> io::Result<Started> {
    let places = Places::above(sockets.len());
    let control = places.clear(control)?;
    let preparation = launch.preparation(&control)?;
    let surroundings = &launch.surroundings;
    let (stdout, its_stdout) = open_stream(&surroundings.stdout, &preparation.credentials)?;
    let (stderr, its_stderr) = open_stream(&surroundings.stderr, &preparation.credentials)?;
    let mut command = launch.command();
    command.stdout(its_stdout).stderr(its_stderr);
    let number = control.as_raw_fd().to_string();
    command.env(env::CONTROL_FD, &number);
    let (failed, report) = io::pipe()?;
    let mut report = PipeWriter::from(places.clear(report.into())?);
    let mut activation = match sockets {
        [] => None,
        sockets => {
            let mut environment = launch.environment();
            environment.insert(env::CONTROL_FD.into(), number.into());
            let path = launch.program.to_reach();
            Some(Activation::new(
                &path,
                launch.arguments(),
                environment,
                sockets,
                &places,
            )?)
        }
    };
    let prepare = move || {
        if let Some(door) = &door {
            Cell::enter(door)?;
        }
        preparation.perform().map_err(|(step, errno)| {
            tell(&mut report, step);
            io::Error::from(errno)
        })?;
        match &mut activation {
            Some(activation) => Err(activation.perform()),
            None => Ok(()),
        }
    };
    let filled = places.fill()?;
    // SAFETY: `prepare` allocates nothing and takes no lock; it makes system calls only.
    let started = unsafe { command.pre_exec(prepare) }.spawn();
    // With it goes the writing end of the report.
    drop(command);
    drop((filled, control));
    let mut process = started.map_err(|source| match hear(failed) {
        Some(step) => io::Error::other(StepError { step, source }),
        None => source,
    })?;
    let pidfd = Pidfd::open(process.id()).inspect_err(|_| {
        // Nobody could watch it.
        let _ = process.kill();
        let _ = process.wait();
    })?;
    Ok(Started {
        pidfd,
        stdout,
        stderr,
    })
}

/// The master's end of a stream, if it has one, and the process's.
fn open_stream(stream: &Stream, credentials: &Credentials) -> io::Result<(Option<OwnedFd>, Stdio)> {
    match stream {
        // The process opens the file itself, when it is the user that it is going to be.
        Stream::Inherit | Stream::File(_) => Ok((None, Stdio::inherit())),
        Stream::Null => Ok((None, Stdio::null())),
        Stream::Lines => {
            let (reader, writer) = pipe::create(credentials)?;
            Ok((Some(reader), writer.into()))
        }
    }
}

/// Async-signal-safe.
fn tell(report: &mut PipeWriter, step: Step) {
    // Fails only if the master is gone.
    let _ = report.write(&[step.code()]);
}

/// At which step the new process failed, if it was one of ours. It has ended, so it waits for
/// nothing; nor for a stranger that was forked meanwhile and has a copy of the other end.
fn hear(report: PipeReader) -> Option<Step> {
    let report = File::from(OwnedFd::from(report));
    fcntl(&report, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).ok()?;
    let mut code = [0];
    (&report).read_exact(&mut code).ok()?;
    Step::from_code(code[0])
}

impl Launch {
    /// The same launch with more environment.
    pub(crate) fn with_env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// The same launch with a library that is loaded before all others, those that are to be
    /// preloaded anyway included, see `ld.so(8)`.
    pub(crate) fn preload(self, library: Option<&Path>) -> Self {
        let Some(library) = library else {
            return self;
        };
        let given = self.env.iter().rfind(|(name, _)| name == LD_PRELOAD);
        let others = match (given, self.surroundings.environment) {
            (Some((_, value)), _) => Some(value.clone()),
            (None, Environment::Inherited) => var_os(LD_PRELOAD),
            (None, Environment::Cleared) => None,
        };
        let mut value = library.as_os_str().to_owned();
        if let Some(others) = others.filter(|others| !others.is_empty()) {
            value.push(":");
            value.push(others);
        }
        self.with_env(LD_PRELOAD, value)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program.to_reach());
        let mut arguments = self.arguments();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command
            .args(arguments)
            .stdin(Stdio::null())
            .process_group(0);
        if let Some(directory) = &self.directory {
            command.current_dir(directory.to_reach());
        }
        command.env_clear();
        command.envs(self.environment());
        command
    }

    /// What the program is called, and its arguments.
    fn arguments(&self) -> impl Iterator<Item = &OsStr> {
        let title = self.surroundings.title.as_deref();
        let name = title.unwrap_or(self.name.as_os_str());
        iter::once(name).chain(self.args.iter().map(OsString::as_os_str))
    }

    fn environment(&self) -> BTreeMap<OsString, OsString> {
        let mut variables: BTreeMap<_, _> = match self.surroundings.environment {
            Environment::Inherited => vars_os().collect(),
            Environment::Cleared => {
                let path = var_os("PATH").map(|path| (OsString::from("PATH"), path));
                path.into_iter().collect()
            }
        };
        let protocols = [&systemd::VARIABLES, &service::VARIABLES];
        for name in env::ALL.iter().chain(protocols.into_iter().flatten()) {
            variables.remove(OsStr::new(name));
        }
        for name in &self.private {
            variables.remove(OsStr::new(name));
        }
        variables.extend(self.env.iter().cloned());
        variables.insert(
            env::MASTER_PID.into(),
            std::process::id().to_string().into(),
        );
        variables
    }

    fn preparation(&self, control: &OwnedFd) -> io::Result<Preparation> {
        let surroundings = &self.surroundings;
        let affinity = surroundings.affinity.as_ref();
        let limits = surroundings.limits.iter();
        Ok(Preparation {
            nofile: self.nofile,
            limits: limits
                .map(|limit| (limit.resource, limit.soft, limit.hard))
                .collect(),
            nice: surroundings.nice,
            affinity: affinity
                .map(|affinity| cpu::set_for(affinity, self.slot))
                .transpose()?,
            credentials: Credentials::of(surroundings)?,
            umask: surroundings.umask,
            stdout: path_of(&surroundings.stdout)?,
            stderr: path_of(&surroundings.stderr)?,
            no_new_privs: surroundings.privileges == Privileges::NeverNew,
            control: control.as_raw_fd(),
            master: Pid::this(),
        })
    }
}

const LD_PRELOAD: &str = "LD_PRELOAD";

fn path_of(stream: &Stream) -> io::Result<Option<CString>> {
    match stream {
        Stream::File(path) => Ok(Some(CString::new(path.as_os_str().as_bytes())?)),
        Stream::Inherit | Stream::Null | Stream::Lines => Ok(None),
    }
}
