//! Operators: `rr-ctl`, and somebody who writes to the control socket by hand.

use std::io::{self, BufRead, BufReader, Lines, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

use super::DEADLINE;

/// The `rr-ctl` binary, beside `rr-master`.
pub fn rr_ctl() -> PathBuf {
    super::rr_master().with_file_name("rr-ctl")
}

/// `rr-ctl` for the master with this control socket.
pub fn command(control: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(rr_ctl());
    command.arg("--control").arg(control).args(args);
    command.stdin(Stdio::null());
    command
}

/// How `rr-ctl` ended, and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Said {
            code: output.status.code().expect("rr-ctl ends by itself"),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

/// Runs `rr-ctl` to its end.
pub fn ctl(control: &Path, args: &[&str]) -> Said {
    let output = command(control, args).output().expect("run rr-ctl");
    output.into()
}

/// The same, for what has to work; answers its standard output.
pub fn done(control: &Path, args: &[&str]) -> String {
    let said = ctl(control, args);
    assert_eq!(said.code, 0, "rr-ctl {args:?}: {said:?}");
    said.out
}

/// The status as JSON.
pub fn status(control: &Path) -> Value {
    serde_json::from_str(&done(control, &["status", "--json"])).expect("JSON")
}

/// Everything that has happened, as JSON.
pub fn events(control: &Path) -> Vec<Value> {
    let lines = done(control, &["events", "--json"]);
    let events = lines.lines().map(serde_json::from_str);
    events.collect::<Result<_, _>>().expect("JSON")
}

/// Somebody who follows the events of a cluster that is ready.
pub struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    pub fn of(control: &Path) -> Self {
        let mut child = command(control, &["events", "-f", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("run rr-ctl");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut follower = Follower { child, lines };
        // From here on nothing is missed.
        follower.next_of(&["cluster-ready"]);
        follower
    }

    /// The next event with one of these names.
    pub fn next_of(&mut self, names: &[&str]) -> Value {
        loop {
            let line = self.lines.next().expect("no end").expect("a line");
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if names.iter().any(|name| event["name"] == *name) {
                return event;
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Somebody who writes to the control socket by hand.
pub struct ByHand(BufReader<UnixStream>);

impl ByHand {
    /// Connects, and reads the first line.
    pub fn connect(control: &Path) -> Self {
        let (operator, first) = Self::at_the_door(control);
        assert_eq!(first["hello"]["protocol"], 1, "{first}");
        operator
    }

    /// Connects, and answers the first line, whatever it is.
    pub fn at_the_door(control: &Path) -> (Self, Value) {
        let stream = UnixStream::connect(control).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let mut operator = ByHand(BufReader::new(stream));
        let first = operator.hear().expect("a line");
        (operator, first)
    }

    pub fn stream(&self) -> &UnixStream {
        self.0.get_ref()
    }

    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// The next line; `None` at the end.
    pub fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("JSON")),
            Err(err) if err.kind() == io::ErrorKind::ConnectionReset => None,
            Err(err) => panic!("read from the control socket: {err}"),
        }
    }

    /// Says a line; answers the next one.
    pub fn ask(&mut self, line: &str) -> Value {
        self.say(format!("{line}\n").as_bytes()).expect("say it");
        self.hear().expect("an answer")
    }
}
