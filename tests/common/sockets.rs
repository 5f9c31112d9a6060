//! Sockets as the kernel shows them.

use std::net::SocketAddr;
use std::process::Command;

use nix::unistd::Pid;

/// The backlog that the kernel has: the column Send-Q of a listening socket, see `ss(8)`.
pub fn backlog(address: SocketAddr) -> u32 {
    column(address, 2)
}

/// How many clients are in it: the column Recv-Q.
pub fn unaccepted(address: SocketAddr) -> u32 {
    column(address, 1)
}

fn column(address: SocketAddr, index: usize) -> u32 {
    let filter = format!("sport = :{}", address.port());
    let shown = Command::new("ss")
        .args(["-Hltn", &filter])
        .output()
        .expect("ss, of the package iproute2");
    let shown = String::from_utf8(shown.stdout).unwrap();
    let row = shown
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|row| row.get(3) == Some(&address.to_string().as_str()))
        .unwrap_or_else(|| panic!("{address} is not in {shown}"));
    row[index].parse().unwrap()
}

/// How many accepted connections of this listener the process has.
pub fn connections(process: Pid, listener: SocketAddr) -> usize {
    let filter = format!("sport = :{}", listener.port());
    let shown = Command::new("ss")
        .args(["-Htnp", "state", "connected", &filter])
        .output()
        .expect("ss, of the package iproute2");
    let shown = String::from_utf8(shown.stdout).unwrap();
    let owner = format!("pid={process},");
    shown.lines().filter(|row| row.contains(&owner)).count()
}
