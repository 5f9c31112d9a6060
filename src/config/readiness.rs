//! What shows that a worker can serve: `--ready-on`.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use super::placeholder::{self, Incumbent};

/// What shows that a process can serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReadyOn {
    /// It says so: a program of worker-proto with `ready`, and for one with a preloaded library that
    /// library when it listens for the first time.
    #[default]
    Message,
    /// It has lived for so long.
    Delay(Duration),
    /// Somebody takes connections at an address of TCP.
    Tcp(TcpAddress),
}

/// An address with placeholders, such as `127.0.0.1:{9000+slot}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpAddress(String);

impl TcpAddress {
    /// The address of one process, if it is one.
    pub(crate) fn of(&self, incumbent: &Incumbent) -> Option<SocketAddr> {
        let text = incumbent.expand(OsStr::new(&self.0));
        text.to_str()?
            .parse()
            .ok()
            .filter(|it: &SocketAddr| it.port() > 0)
    }

    /// The same for whoever has that slot; what else differs has no place in an address.
    pub(crate) fn at(&self, slot: u32) -> Option<SocketAddr> {
        self.of(&Incumbent {
            worker: WorkerId(1),
            slot: Slot(slot),
            generation: Generation(1),
            role: Role::Worker,
        })
    }
}

impl FromStr for ReadyOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "message" => Ok(ReadyOn::Message),
            Some(("delay", time)) => match humantime::parse_duration(time) {
                Ok(time) if time > LONGEST => Err("must be at most a year".to_owned()),
                Ok(time) => Ok(ReadyOn::Delay(time)),
                Err(err) => Err(format!("{err}: write a time such as delay=2s")),
            },
            Some(("tcp", address)) => {
                placeholder::check(OsStr::new(address)).map_err(|err| err.to_string())?;
                let address = TcpAddress(address.to_owned());
                match address.at(0) {
                    Some(_) => Ok(ReadyOn::Tcp(address)),
                    None => Err(
                        "write an IP address and a port, such as tcp=127.0.0.1:{9000+slot}"
                            .to_owned(),
                    ),
                }
            }
            _ => Err("write message, delay=TIME or tcp=ADDRESS".to_owned()),
        }
    }
}

/// As it is read.
impl fmt::Display for ReadyOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadyOn::Message => f.write_str("message"),
            ReadyOn::Delay(time) => write!(f, "delay={}", humantime::format_duration(*time)),
            ReadyOn::Tcp(address) => write!(f, "tcp={address}"),
        }
    }
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sums of times stay away from the clock's end.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_readiness_is_written_as_it_is_read() {
        for text in [
            "message",
            "delay=2s",
            "tcp=127.0.0.1:9000",
            "tcp=[::1]:{9000+slot}",
            "tcp=127.0.0.{1+slot}:80",
        ] {
            assert_eq!(text.parse::<ReadyOn>().unwrap().to_string(), text);
        }
        for (wrong, says) in [
            ("", "write message, delay=TIME or tcp=ADDRESS"),
            ("listen", "write message"),
            ("delay=soon", "write a time such as delay=2s"),
            ("delay=2years", "at most a year"),
            ("tcp=9000", "write an IP address and a port"),
            ("tcp=localhost:9000", "write an IP address and a port"),
            ("tcp=127.0.0.1:0", "write an IP address and a port"),
            (
                "tcp=127.0.0.1:{99999+slot}",
                "write an IP address and a port",
            ),
            ("tcp=127.0.0.1:{99999999999999999999+slot}", "too large"),
        ] {
            let message = wrong.parse::<ReadyOn>().unwrap_err();
            assert!(message.contains(says), "{wrong:?}: {message}");
        }
    }

    #[test]
    fn every_slot_has_an_address_of_its_own_while_there_are_ports() {
        let Ok(ReadyOn::Tcp(address)) = "tcp=[::1]:{65530+slot}".parse() else {
            panic!("an address");
        };
        assert_eq!(address.at(5), Some("[::1]:65535".parse().unwrap()));
        assert_eq!(address.at(6), None);
    }
}
