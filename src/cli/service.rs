//! The service manager that started this process, if one did and wants to hear from it.

use std::env;
use std::process;

use crate::config::service;
use crate::reactor::service::Service;
use crate::sys::describe;
use crate::sys::notify::NotifySocket;

/// The service that the environment says this process is. One that cannot tell anybody runs as well.
pub(super) fn from_environment() -> Option<Service> {
    let expected = service::expectations(process::id(), |name| env::var_os(name))?;
    match NotifySocket::named(&expected.socket) {
        Ok(socket) => Some(Service::new(socket, expected.watchdog)),
        Err(err) => {
            let name = expected.socket.display();
            log::warn!(
                "NOTIFY_SOCKET={name}: {}: nobody is notified",
                describe(&err)
            );
            None
        }
    }
}
