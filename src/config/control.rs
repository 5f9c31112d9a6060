//! Where operators reach the master.

use std::path::{Path, PathBuf};

/// The control socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ControlSocket {
    /// There is none: the default of a master that is a library.
    #[default]
    None,
    /// There, or the master does not start.
    At(PathBuf),
    /// There if that is possible; otherwise the master goes without, and the log says so.
    IfPossible(PathBuf),
}

impl ControlSocket {
    /// Where it is to be.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            ControlSocket::None => None,
            ControlSocket::At(path) | ControlSocket::IfPossible(path) => Some(path),
        }
    }
}
