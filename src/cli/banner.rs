//! The start-up screen: what was started, where it listens, and why that many workers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::config::OnDemand;
use crate::config::program::Program;
use crate::reactor::acceptor::ListenerStatus;

/// What the person who started the master wants to know at once.
pub(super) struct Banner<'a> {
    pub(super) running: &'a Running,
    pub(super) workers: u32,
    /// Where the number of workers comes from.
    pub(super) count: &'a str,
    pub(super) listeners: &'a [ListenerStatus],
    /// Where rr-ctl reaches the master.
    pub(super) control: Option<&'a Path>,
    /// Whether Ctrl-C does not reach it.
    pub(super) is_daemon: bool,
    pub(super) on_demand: &'a OnDemand,
}

/// What the workers run.
pub(super) enum Running {
    /// The built-in worker.
    Hello,
    /// What was asked for.
    Program(Box<Program>),
}

impl Banner<'_> {
    /// The first Internet address.
    fn inet(&self) -> Option<SocketAddr> {
        self.listeners
            .iter()
            .find_map(|listener| listener.address.inet())
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Running::Hello => f.write_str("the built-in hello worker"),
            Running::Program(program) => {
                write!(f, "{}", program.path.display())?;
                for arg in &program.args {
                    write!(f, " {}", shell_words::quote(&arg.to_string_lossy()))?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        writeln!(f, "rr-master {version}, pid {}", std::process::id())?;
        writeln!(f, "  program   {}", self.running)?;
        writeln!(f, "  workers   {} ({})", self.workers, self.count)?;
        let mut label = "listening";
        for listener in self.listeners {
            let address = listener.address.to_string();
            write!(f, "  {label:9} {address}")?;
            if listener.name != address {
                write!(f, " ({})", listener.name)?;
            }
            writeln!(f)?;
            label = "";
        }
        if self.listeners.is_empty() {
            let what = match self.on_demand {
                OnDemand::Any => "what the workers ask for",
                OnDemand::Only(allowed) if allowed.is_empty() => "nothing: see --listen",
                OnDemand::Only(_) => "what the workers ask for of --allow-listen",
            };
            writeln!(f, "  {label:9} on {what}")?;
        }
        if let Some(path) = self.control {
            writeln!(f, "  control   {}", path.display())?;
        }
        if let (Running::Hello, Some(address)) = (self.running, self.inet()) {
            writeln!(f, "  try       curl -i http://{}/", reachable(address))?;
        }
        let key = if self.is_daemon { "" } else { "Ctrl-C, or " };
        writeln!(f, "  stop      {key}kill {}", std::process::id())
    }
}

/// An address that can be connected to from this machine: nobody can connect to `0.0.0.0`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}
