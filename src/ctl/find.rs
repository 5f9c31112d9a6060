//! Finding the master that is meant.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::args::Args;
use super::{ExitCode, Failure, Quiet};
use crate::control::client::{Client, ClientError};
use crate::control::place;

/// A moment until which to wait.
pub(super) struct Deadline(Instant);

impl Deadline {
    #[expect(
        clippy::disallowed_methods,
        reason = "rr-ctl has no loop to be told the time by"
    )]
    pub(super) fn after(time: Duration) -> Self {
        let now = Instant::now();
        Deadline(now.checked_add(time).unwrap_or(now))
    }

    #[expect(clippy::disallowed_methods, reason = "as above")]
    pub(super) fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// A connection to the master that the flags name, or to the only one there is.
pub(super) fn master(args: &Args) -> Result<Client, Quiet> {
    let timeout = args.patience().unwrap_or(CONNECT_TIMEOUT);
    if let Some(path) = &args.control {
        return Ok(connect(path, timeout)?);
    }
    if let Some(pid) = args.pid {
        let places = place::of(pid);
        let Some(path) = places.iter().find(|path| path.exists()) else {
            let reason = format!(
                "no control socket of pid {pid}: looked for {}; give --control PATH",
                listed(&places)
            );
            return Err(unreachable_master(reason).into());
        };
        return Ok(connect(path, timeout)?);
    }
    Ok(the_only(timeout)?)
}

fn the_only(timeout: Duration) -> Result<Client, Failure> {
    let mut found = Vec::new();
    let mut denied = None;
    for (_, path) in place::all() {
        match Client::connect(&path, timeout) {
            Ok(client) => found.push((path, client)),
            // Left behind by a master that was killed, or gone a moment ago.
            Err(ClientError::Connect(err))
                if matches!(
                    err.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ) => {}
            Err(err) => denied = Some(explain(&path, err)),
        }
    }
    match (found.len(), denied) {
        (1, _) => Ok(found.remove(0).1),
        (0, Some(denied)) => Err(denied),
        (0, None) => {
            let places = place::of(0);
            let looked = places.iter().filter_map(|path| path.parent());
            let looked: Vec<_> = looked.map(Path::to_owned).collect();
            Err(unreachable_master(format!(
                "no master of this user is running (looked into {}): give --control PATH",
                listed(&looked)
            )))
        }
        (_, _) => {
            let masters = found.iter().map(|(path, client)| {
                let pid = client.hello().pid;
                format!("\n  --pid {pid:<8} {}", path.display())
            });
            Err(Failure {
                code: ExitCode::Usage,
                reason: format!(
                    "several masters are running; say which:{}",
                    masters.collect::<String>()
                ),
            })
        }
    }
}

fn connect(path: &Path, timeout: Duration) -> Result<Client, Failure> {
    Client::connect(path, timeout).map_err(|err| explain(path, err))
}

/// What is wrong, and what to do.
fn explain(path: &Path, err: ClientError) -> Failure {
    let ClientError::Connect(source) = &err else {
        return err.into();
    };
    let path = path.display();
    let kind = source.kind();
    unreachable_master(if kind == io::ErrorKind::NotFound {
        format!("{path}: there is no such socket: is the master running, and with this --control?")
    } else if kind == io::ErrorKind::ConnectionRefused {
        format!("{path}: nobody answers: its master has ended")
    } else if kind == io::ErrorKind::PermissionDenied {
        format!("{path}: permission denied: be the master's user, or root")
    } else {
        format!("{path}: {source}")
    })
}

fn unreachable_master(reason: String) -> Failure {
    let code = ExitCode::Unreachable;
    Failure { code, reason }
}

fn listed(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    match &paths[..] {
        [] => "nothing: set XDG_RUNTIME_DIR or RR_CONTROL_DIR".to_owned(),
        paths => paths.join(", "),
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
