//! The hand-shake: what a `Hello` or an `Attach` must say to be welcome. Pure.
//!
//! The version is checked before anything else of a frame is believed.

use crate::frame::{Attach, Hello};

/// The version of the protocol in this crate. Raised when an old peer would misunderstand.
pub const PROTOCOL: u16 = 3;

/// The `Hello` of this process.
#[must_use]
pub fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        pid: std::process::id(),
        sdk: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

/// Checks a `Hello` against what the kernel says of its sender.
///
/// # Errors
/// What is wrong, in words for the log and for the worker.
pub fn check(hello: &Hello, sender_pid: Option<u32>) -> Result<(), Mismatch> {
    compare(hello.protocol, hello.pid, sender_pid)
}

/// Checks an `Attach` against what the kernel says of its sender.
///
/// # Errors
/// What is wrong, in words for the log and for the worker.
pub fn check_attach(attach: &Attach, sender_pid: Option<u32>) -> Result<(), Mismatch> {
    compare(attach.protocol, attach.pid, sender_pid)
}

fn compare(protocol: u16, claimed: u32, sender: Option<u32>) -> Result<(), Mismatch> {
    if protocol != PROTOCOL {
        return Err(Mismatch::Protocol { theirs: protocol });
    }
    match sender {
        Some(sender) if sender != claimed => Err(Mismatch::Pid { claimed, sender }),
        Some(_) | None => Ok(()),
    }
}

/// Why a `Hello` is not welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The two speak different versions.
    #[error(
        "speaks protocol {theirs}, this master speaks {PROTOCOL}: build it with the matching worker-proto"
    )]
    Protocol {
        /// The worker's version.
        theirs: u16,
    },
    /// The sender is another process than it says.
    #[error("says it is pid {claimed}, but the kernel says pid {sender}")]
    Pid {
        /// What `Hello` said.
        claimed: u32,
        /// What `SCM_CREDENTIALS` said.
        sender: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_version_and_the_true_pid_are_welcome() {
        let hello = hello();
        assert_eq!(check(&hello, Some(hello.pid)), Ok(()));
        assert_eq!(check(&hello, None), Ok(()));
        assert_eq!(
            check(&hello, Some(1)),
            Err(Mismatch::Pid {
                claimed: hello.pid,
                sender: 1
            })
        );
        let newer = Hello {
            protocol: PROTOCOL + 1,
            ..hello
        };
        assert_eq!(
            check(&newer, None),
            Err(Mismatch::Protocol {
                theirs: PROTOCOL + 1
            })
        );
    }
}
