//! Shell scripts that `test_worker` runs when it is asked to.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::unistd::Pid;
use tempfile::TempDir;

use super::await_condition;
use super::client::get;

/// A script, there as long as this value.
pub struct Script {
    directory: TempDir,
}

impl Script {
    pub fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let script = Script { directory };
        fs::write(script.path(), text).expect("write the script");
        script
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("script")
    }

    /// Runs it in the next worker; answers the shell's pid.
    pub fn run(&self, address: SocketAddr) -> Pid {
        let ran = get(address, &format!("/run/{}", self.path().display()));
        Pid::from_raw(ran.unwrap().body.parse().unwrap())
    }

    /// The pid that it has written to `$0.pid`, which is gone then.
    pub fn pid_written(&self) -> Pid {
        let path = self.path().with_extension("pid");
        let mut written = String::new();
        await_condition("a pid written", || {
            written = fs::read_to_string(&path).unwrap_or_default();
            written.ends_with('\n')
        });
        fs::remove_file(path).expect("remove the file");
        Pid::from_raw(written.trim().parse().expect("a pid"))
    }
}
