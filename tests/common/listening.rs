//! A program that says where it listens, `listening on ADDRESS`, and does so until it is killed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nix::unistd::Pid;

use super::example;

/// It, running. Killed when dropped.
pub struct Listening {
    pub child: Child,
    /// As it says it: with port 0, the one that it got.
    pub address: String,
}

impl Listening {
    /// Starts an example of this package, and waits until it listens.
    pub fn start<A: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = A>) -> Self {
        let mut child = Command::new(example(name))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("start {name}: {err}"));
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).expect("read where it listens");
        let address = line.trim_end().strip_prefix("listening on ");
        let address = address.unwrap_or_else(|| panic!("{name} says {line:?}"));
        Listening {
            address: address.to_owned(),
            child,
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
