//! The name that the master gives to the sending end of an accept queue: it tells a process that
//! has come by the receiving end, over `exec` or a socket, what it is.
//!
//! `\0rr-queue/MASTER-WORKER-LISTENER-N/b/ADDRESS`, where `b` says that connections come blocking
//! and `n` that they do not. Pure; whether it is the master who says so is for the caller to check.

use worker_proto::address::{Address, AddressRef};

use crate::name::SocketName;

/// What the name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueName {
    pub(crate) master: i32,
    pub(crate) listener: u32,
    /// Connections come with `O_NONBLOCK`.
    pub(crate) nonblocking: bool,
    /// Where the listener is bound. A long path may be cut off.
    pub(crate) bound: SocketName,
    pub(crate) domain: i32,
}

impl QueueName {
    /// `None`: it is the name of something else.
    pub(crate) fn parse(name: &SocketName) -> Option<Self> {
        let Address::Abstract(name) = name.address()? else {
            return None;
        };
        let text = std::str::from_utf8(name.strip_prefix(PREFIX)?).ok()?;
        let (numbers, rest) = text.split_once('/')?;
        let (flag, address) = rest.split_once('/')?;
        let mut numbers = numbers.split('-');
        let master = numbers.next()?.parse().ok()?;
        let _worker = numbers.next()?;
        let listener = numbers.next()?.parse().ok()?;
        let nonblocking = match flag {
            "b" => false,
            "n" => true,
            _ => return None,
        };
        let address: Address = address.parse().ok()?;
        Some(QueueName {
            master,
            listener,
            nonblocking,
            domain: match &address {
                Address::V4 { .. } => libc::AF_INET,
                Address::V6 { .. } => libc::AF_INET6,
                Address::Path(_) | Address::Abstract(_) | Address::Unnamed => libc::AF_UNIX,
            },
            bound: SocketName::from(AddressRef::from(&address)),
        })
    }
}

const PREFIX: &[u8] = b"rr-queue/";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<QueueName> {
        QueueName::parse(&SocketName::from(AddressRef::Abstract(text.as_bytes())))
    }

    fn inet(text: &str) -> SocketName {
        let address: Address = text.parse().unwrap();
        SocketName::from(AddressRef::from(&address))
    }

    #[test]
    fn a_queue_is_known_by_its_name() {
        assert_eq!(
            parse("rr-queue/4711-3-2-9/n/[::1]:8000"),
            Some(QueueName {
                master: 4711,
                listener: 2,
                nonblocking: true,
                bound: inet("[::1]:8000"),
                domain: libc::AF_INET6,
            })
        );
        let unix = parse("rr-queue/1-1-0-1/b/unix:/run/app.sock").unwrap();
        assert_eq!(unix.bound, inet("unix:/run/app.sock"));
        assert!(!unix.nonblocking);
    }

    #[test]
    fn other_names_are_other_sockets() {
        for text in [
            "",
            "app",
            "rr-queue/",
            "rr-queue/1-1-0-1/n",
            "rr-queue/1-1-0-1/x/127.0.0.1:80",
            "rr-queue/1-1/n/127.0.0.1:80",
            "rr-queue/x-1-0-1/n/127.0.0.1:80",
            "rr-queue/1-1-0-1/n/nowhere",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(
            QueueName::parse(&inet("unix:/rr-queue/1-1-0-1/n/127.0.0.1:80")),
            None
        );
        assert_eq!(QueueName::parse(&inet("127.0.0.1:80")), None);
    }
}
