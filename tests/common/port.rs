//! A port for a program that has to be told one, and that nobody else gets meanwhile.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1, kept as long as this value is there.
///
/// A socket is bound to it and never listens. Who sets `SO_REUSEADDR`, as servers do, may bind the
/// port beside it, and the kernel gives it to nobody who leaves the choice to the kernel.
pub struct Port {
    socket: Socket,
}

impl Port {
    pub fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("set SO_REUSEADDR");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("bind a port");
        Port { socket }
    }

    pub fn address(&self) -> SocketAddr {
        let address = self.socket.local_addr().expect("a bound address");
        address.as_socket().expect("an Internet address")
    }
}
