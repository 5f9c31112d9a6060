//! The place: the directory that the master was started in, under the name that it was given.
//!
//! A directory such as `/srv/app/current` is often a symbolic link to a release. The kernel knows only
//! the release; the name is in `PWD`. A reload goes where the name leads by then.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the master was started.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `None` if the name is not known.
    name: Option<PathBuf>,
}

impl Place {
    /// The current directory; `PWD` is believed only if it names it.
    pub(super) fn current() -> Self {
        let name = env::var_os("PWD").map(PathBuf::from);
        let name = name.filter(|name| name.is_absolute() && is_same(name, Path::new(".")));
        Place { name }
    }

    /// Makes the directory that has the name now the current one.
    pub(super) fn return_to(&self) -> io::Result<()> {
        match &self.name {
            Some(name) => env::set_current_dir(name),
            None => Ok(()),
        }
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}
