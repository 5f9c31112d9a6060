//! Where operators reach the master.

use std::path::PathBuf;

/// The control socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ControlSocket {
    /// There is none: the default of a master that is a library.
    #[default]
    None,
    /// There, or the master does not start.
    At(PathBuf),
    /// Where `rr-ctl` looks for it, under the pid of the master that opens it, if that is possible;
    /// otherwise the master goes without, and the log says so.
    Usual,
}
