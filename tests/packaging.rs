//! What is packaged for others to start the master with is right: flags and unit files.

mod common;

use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use rr_master::cli::configuration;

use common::{rr_master, test_worker};

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]);
    for name in ["rr-master.service", "rr-master.socket"] {
        // The programs are not where a package would put them.
        let unit = unit(name)
            .replace(MASTER, rr_master().to_str().unwrap())
            .replace(WORKER, test_worker().to_str().unwrap());
        let path = directory.path().join(name);
        fs::write(&path, unit).unwrap();
        command.arg(path);
    }
    let output = match command.output() {
        Err(err) if err.kind() == ErrorKind::NotFound => {
            eprintln!("not verified: there is no systemd-analyze here");
            return;
        }
        output => output.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // A name or a value that it does not know is only a warning. Other units are not ours.
    let about_ours: Vec<_> = said
        .lines()
        .filter(|line| line.contains("rr-master"))
        .collect();
    assert_eq!(about_ours, [""; 0], "{said}");
}

#[test]
fn the_flags_of_the_service_are_flags() {
    let unit = unit("rr-master.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let words: Vec<_> = line.expect("a command").split(' ').collect();
    assert_eq!(words[0], MASTER);
    let config = configuration(words).unwrap();
    assert_eq!(config.program.path.to_str(), Some(WORKER));
}

#[test]
fn the_flags_of_the_container_are_flags() {
    let file = fs::read_to_string("packaging/Dockerfile").unwrap();
    let instruction = |name| {
        let line = file.lines().find_map(|line| line.strip_prefix(name));
        // Every other piece is between the quotes.
        line.expect("the instruction").split('"').skip(1).step_by(2)
    };
    configuration(instruction("ENTRYPOINT ").chain(instruction("CMD "))).unwrap();
}

fn unit(name: &str) -> String {
    fs::read_to_string(format!("packaging/systemd/{name}")).unwrap()
}

const MASTER: &str = "/usr/local/bin/rr-master";
const WORKER: &str = "/usr/local/bin/worker-bin";
