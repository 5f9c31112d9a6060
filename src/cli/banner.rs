//! The start-up screen: what was started, where it listens, and why that many workers.

use std::fmt;

use crate::config::program::Program;
use crate::reactor::acceptor::ListenerStatus;

/// What the person who started the master wants to know at once.
pub(super) struct Banner<'a> {
    pub(super) program: &'a Program,
    pub(super) workers: u32,
    /// Where the number of workers comes from.
    pub(super) count: &'a str,
    pub(super) listeners: &'a [ListenerStatus],
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        writeln!(f, "rr-master {version}, pid {}", std::process::id())?;
        write!(f, "  program   {}", self.program.path.display())?;
        for arg in &self.program.args {
            write!(f, " {}", shell_words::quote(&arg.to_string_lossy()))?;
        }
        writeln!(f)?;
        writeln!(f, "  workers   {} ({})", self.workers, self.count)?;
        let mut label = "listening";
        for listener in self.listeners {
            let address = listener.address.to_string();
            write!(f, "  {label:9} {}", url(&address))?;
            if listener.name != address {
                write!(f, " ({})", listener.name)?;
            }
            writeln!(f)?;
            label = "";
        }
        if self.listeners.is_empty() {
            writeln!(f, "  {label:9} on what the workers ask for")?;
        }
        writeln!(f, "  stop      Ctrl-C, or kill {}", std::process::id())
    }
}

/// An address as people type it: nobody can connect to `0.0.0.0`.
fn url(address: &str) -> String {
    match address
        .strip_prefix("0.0.0.0:")
        .or_else(|| address.strip_prefix("[::]:"))
    {
        Some(port) => format!("{address}, on this machine 127.0.0.1:{port}"),
        None => address.to_owned(),
    }
}
