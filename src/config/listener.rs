//! A listener to be had at the start, as `--listen` writes it:
//! `[NAME=]ADDRESS[,backlog=N][,v6only=yes|no][,mode=660][,owner=USER[:GROUP]]
//! [,dispatch=hand-off|shared|reuseport][,defer-accept=TIME][,strategy=NAME]`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use nix::unistd::{Group, User};
use thiserror::Error;
use worker_proto::address::{Address, AddressError};
use worker_proto::frame::DispatchMode;

use super::dispatch;
use super::strategy::StrategyName;
use crate::dispatch::UnknownStrategy;

/// A listener to be had at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// What workers ask for; the address as it was given, if nothing else was said.
    name: String,
    /// Where the socket comes from.
    pub source: Source,
    /// `listen(2)`'s backlog; `min(4096, somaxconn)` if nothing is said.
    pub backlog: Option<u32>,
    /// `IPV6_V6ONLY`; the system's default (`/proc/sys/net/ipv6/bindv6only`) if nothing is said.
    pub v6only: Option<bool>,
    /// The permissions of a Unix socket's file.
    pub mode: Option<u32>,
    /// The owner of a Unix socket's file.
    pub owner: Option<Owner>,
    /// How its connections come to the workers, if not as those of the others.
    pub dispatch: Option<DispatchMode>,
    /// How long the kernel keeps clients that say nothing, if not as those of the others: zero, not at
    /// all. Whole seconds, TCP only.
    pub defer_accept: Option<Duration>,
    /// How the master chooses among its workers, if not as for the others.
    pub strategy: Option<StrategyName>,
    /// The port that a program without an own say in it asks for, and gets this listener.
    pub stands_for: Option<u16>,
}

/// Where a listening socket comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is bound to this address.
    Bind(Address),
    /// The parent process left it open under this number.
    Inherited(RawFd),
}

/// Whom a file belongs to, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user, if it shall change.
    pub uid: Option<u32>,
    /// The group, if it shall change.
    pub gid: Option<u32>,
}

/// A text that is no listener.
#[derive(Debug, Error)]
pub enum ListenerError {
    /// No address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// `fd:` without a number.
    #[error("{text:?}: write fd:N with the number of an open listening socket")]
    Descriptor {
        /// As it was given.
        text: String,
    },
    /// A program's port that is none.
    #[error("{text:?}: write the port that the program asks for after '=', such as 8080=3000")]
    NoPort {
        /// As it was given.
        text: String,
    },
    /// A name that nobody could ask for.
    #[error("{text:?}: the name before '=' is empty")]
    EmptyName {
        /// As it was given.
        text: String,
    },
    /// An option that is unknown, or whose value is wrong.
    #[error("option {option:?}: {reason}")]
    Option {
        /// As it was given.
        option: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ListenerSpec {
    /// A listener bound to `address`, named by it.
    #[must_use]
    pub fn bind(address: Address) -> Self {
        Self::new(address.to_string(), Source::Bind(address))
    }

    /// A listener that the parent process left open.
    #[must_use]
    pub fn inherited(fd: RawFd) -> Self {
        Self::new(format!("fd:{fd}"), Source::Inherited(fd))
    }

    /// The same listener under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What workers ask for.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// The same listener; how long it keeps clients that say nothing, unless it says otherwise itself.
    #[must_use]
    pub fn deferring(&self, time: Duration) -> Self {
        let mut spec = self.clone();
        if dispatch::can_group(&self.source) {
            spec.defer_accept.get_or_insert(time);
        }
        spec
    }

    fn new(name: String, source: Source) -> Self {
        ListenerSpec {
            name,
            source,
            backlog: None,
            v6only: None,
            mode: None,
            owner: None,
            dispatch: None,
            defer_accept: None,
            strategy: None,
            stands_for: None,
        }
    }

    /// `8080=3000`: what a program asks for as its port 3000 is this listener. `None` if what comes
    /// first is a name.
    fn standing_for(ours: &str, port: u16) -> Option<Self> {
        let address: Address = match ours.parse::<u16>() {
            Ok(ours) => SocketAddr::new(any_interface(), ours).into(),
            Err(_) => ours.parse().ok()?,
        };
        let mut spec = Self::bind(address);
        spec.stands_for = Some(port);
        Some(spec)
    }

    fn set(&mut self, option: &str) -> Result<(), ListenerError> {
        let refused = |reason: &str| ListenerError::Option {
            option: option.to_owned(),
            reason: reason.to_owned(),
        };
        let (key, value) = option.split_once('=').unwrap_or((option, "yes"));
        let is_path = matches!(self.source, Source::Bind(Address::Path(_)));
        match key {
            "backlog" => {
                let backlog = value.parse().ok().filter(|&backlog| backlog > 0);
                self.backlog = Some(backlog.ok_or_else(|| refused("not a number above 0"))?);
            }
            "v6only" => {
                if !matches!(self.source, Source::Bind(Address::V6 { .. })) {
                    return Err(refused("only an IPv6 address has it"));
                }
                self.v6only = Some(match value {
                    "yes" | "true" | "1" => true,
                    "no" | "false" | "0" => false,
                    _ => return Err(refused("write v6only=yes or v6only=no")),
                });
            }
            "mode" | "owner" if !is_path => {
                return Err(refused("only a Unix socket with a path has it"));
            }
            "mode" => {
                let mode = u32::from_str_radix(value, 8)
                    .ok()
                    .filter(|&mode| mode <= 0o777);
                self.mode =
                    Some(mode.ok_or_else(|| refused("write it in octal, for instance 660"))?);
            }
            "owner" => self.owner = Some(parse_owner(value).map_err(|reason| refused(&reason))?),
            "dispatch" => {
                self.dispatch = Some(dispatch::parse(value).map_err(|reason| refused(&reason))?);
            }
            "defer-accept" if !dispatch::can_group(&self.source) => {
                return Err(refused("only a TCP address that this master binds has it"));
            }
            "defer-accept" => {
                self.defer_accept = Some(parse_deferral(value).map_err(|reason| refused(&reason))?);
            }
            "strategy" => {
                let strategy = value.parse();
                let unknown = |err: UnknownStrategy| refused(&err.to_string());
                self.strategy = Some(strategy.map_err(unknown)?);
            }
            _ => {
                return Err(refused(
                    "unknown: there are backlog, v6only, mode, owner, dispatch, \
                     defer-accept and strategy",
                ));
            }
        }
        Ok(())
    }
}

impl FromStr for ListenerSpec {
    type Err = ListenerError;

    fn from_str(text: &str) -> Result<Self, ListenerError> {
        let mut parts = text.split(',');
        let head = parts.next().unwrap_or_default();
        if let Some((ours, theirs)) = head.split_once('=')
            && let Ok(port) = theirs.parse::<u16>()
            && let Some(mut spec) = Self::standing_for(ours, port)
        {
            if port == 0 {
                return Err(ListenerError::NoPort {
                    text: head.to_owned(),
                });
            }
            for option in parts {
                spec.set(option)?;
            }
            return Ok(spec);
        }
        let (name, address) = match head.split_once('=') {
            Some(("", _)) => {
                return Err(ListenerError::EmptyName {
                    text: text.to_owned(),
                });
            }
            Some((name, address)) => (Some(name), address),
            None => (None, head),
        };
        let mut spec = match address.strip_prefix("fd:") {
            Some(number) => {
                let fd = number.parse().ok().filter(|&fd: &RawFd| fd >= 0);
                Self::inherited(fd.ok_or_else(|| ListenerError::Descriptor {
                    text: address.to_owned(),
                })?)
            }
            None => Self::new(address.to_owned(), Source::Bind(address.parse()?)),
        };
        if let Some(name) = name {
            spec = spec.named(name);
        }
        for option in parts {
            spec.set(option)?;
        }
        Ok(spec)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Bind(address) => address.fmt(f),
            Source::Inherited(fd) => write!(f, "fd:{fd}"),
        }
    }
}

/// Every interface, over IPv6 and IPv4 where there are both.
fn any_interface() -> IpAddr {
    if Path::new("/proc/net/if_inet6").exists() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// How long the kernel keeps a client that says nothing: whole seconds, as it counts them itself,
/// see `TCP_DEFER_ACCEPT` in `tcp(7)`.
///
/// # Errors
/// What else to write.
pub fn parse_deferral(text: &str) -> Result<Duration, String> {
    let wanted = "write no, or a time from 1s to 1h in whole seconds";
    match text {
        "no" => return Ok(Duration::ZERO),
        "yes" => return Ok(SHORTEST_DEFERRAL),
        _ => {}
    }
    let time = humantime::parse_duration(text).map_err(|err| format!("{err}: {wanted}"))?;
    let is_whole = time.subsec_nanos() == 0;
    if is_whole && (SHORTEST_DEFERRAL..=LONGEST_DEFERRAL).contains(&time) {
        Ok(time)
    } else {
        Err(wanted.to_owned())
    }
}

/// As [`parse_deferral`] reads it.
#[must_use]
pub fn deferral(time: Duration) -> String {
    match time {
        Duration::ZERO => "no".to_owned(),
        time => humantime::format_duration(time).to_string(),
    }
}

fn parse_owner(text: &str) -> Result<Owner, String> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let uid = match (user, user.parse::<u32>()) {
        ("", _) => None,
        (_, Ok(uid)) => Some(uid),
        (name, Err(_)) => match User::from_name(name) {
            Ok(Some(user)) => Some(user.uid.as_raw()),
            Ok(None) | Err(_) => return Err(format!("there is no user {name:?}")),
        },
    };
    let gid = match (group, group.parse::<u32>()) {
        ("", _) => None,
        (_, Ok(gid)) => Some(gid),
        (name, Err(_)) => match Group::from_name(name) {
            Ok(Some(group)) => Some(group.gid.as_raw()),
            Ok(None) | Err(_) => return Err(format!("there is no group {name:?}")),
        },
    };
    match (uid, gid) {
        (None, None) => Err("write USER, USER:GROUP or :GROUP".to_owned()),
        _ => Ok(Owner { uid, gid }),
    }
}

const SHORTEST_DEFERRAL: Duration = Duration::from_secs(1);
const LONGEST_DEFERRAL: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_with_their_names_and_options() {
        let spec: ListenerSpec = "admin=127.0.0.1:9000,backlog=64".parse().unwrap();
        assert_eq!(spec.name(), "admin");
        assert_eq!(spec.source.to_string(), "127.0.0.1:9000");
        assert_eq!(spec.backlog, Some(64));

        let spec: ListenerSpec = "unix:/run/app.sock,mode=660,owner=root:0".parse().unwrap();
        assert_eq!(spec.name(), "unix:/run/app.sock");
        assert_eq!(spec.mode, Some(0o660));
        assert_eq!(
            spec.owner,
            Some(Owner {
                uid: Some(0),
                gid: Some(0)
            })
        );

        let spec: ListenerSpec = "127.0.0.1:1,dispatch=shared".parse().unwrap();
        assert_eq!(spec.dispatch, Some(DispatchMode::Shared));
        for (text, seconds) in [("=2s", 2), ("", 1), ("=no", 0)] {
            let spec = format!("127.0.0.1:1,defer-accept{text}");
            let spec: ListenerSpec = spec.parse().unwrap();
            assert_eq!(spec.defer_accept, Some(Duration::from_secs(seconds)));
            let spec = spec.deferring(Duration::from_secs(7));
            assert_eq!(spec.defer_accept, Some(Duration::from_secs(seconds)));
        }
        let spec: ListenerSpec = "127.0.0.1:8080=3000,backlog=9".parse().unwrap();
        assert_eq!((spec.stands_for, spec.backlog), (Some(3000), Some(9)));
        let spec: ListenerSpec = "8080=3000".parse().unwrap();
        assert!(spec.source.to_string().ends_with(":8080"), "{spec:?}");

        let spec: ListenerSpec = "[::]:8000,v6only=no".parse().unwrap();
        assert_eq!(spec.v6only, Some(false));
        assert_eq!(
            "fd:3".parse::<ListenerSpec>().unwrap().source,
            Source::Inherited(3)
        );
    }

    #[test]
    fn a_bad_listener_says_what_is_wrong_with_it() {
        for (text, says) in [
            ("8000", "the host is missing"),
            ("web=8000", "the host is missing"),
            ("=127.0.0.1:80", "name before '=' is empty"),
            ("fd:x", "write fd:N"),
            ("8080=0", "such as 8080=3000"),
            ("127.0.0.1:80,backlog=0", "not a number above 0"),
            ("127.0.0.1:80,v6only", "only an IPv6 address"),
            ("127.0.0.1:80,mode=660", "only a Unix socket"),
            ("unix:/x,mode=999", "octal"),
            ("unix:/x,owner=no-such-user-here", "there is no user"),
            ("unix:/x,owner=", "write USER"),
            ("127.0.0.1:80,dispatch=fair", "there are hand-off"),
            ("127.0.0.1:80,defer-accept=200ms", "from 1s to 1h"),
            ("127.0.0.1:80,defer-accept=soon", "from 1s to 1h"),
            ("unix:/x,defer-accept", "only a TCP address"),
            ("127.0.0.1:80,speed=9", "unknown"),
        ] {
            let err = text.parse::<ListenerSpec>().unwrap_err().to_string();
            assert!(err.contains(says), "{text}: {err}");
        }
    }
}
