//! The gate of a TCP listener that is about to close: once it is shut nobody new comes in, and
//! whose hand-shake is under way can finish it.
//!
//! A connection gets the settings of its listener when its hand-shake is done. What shuts the gate
//! must not hurt it, or must be taken off again: [`Gate::let_through`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{SockFilter, Socket};

/// Who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Everybody.
    Open,
    /// A filter drops the first packet of every hand-shake. It drops no other, so it may stay on
    /// connections.
    Filter,
    /// Packets that did not start with a hop count of 255 are dropped, which ordinary ones do not:
    /// the next best thing to a filter, see `IP_MINTTL` in ip(7) and RFC 5082. The kernel does not
    /// ask this of the packet that ends a hand-shake, but of everything after it. Who has shaken
    /// hands by a SYN cookie is kept out.
    HopCount(Family),
}

/// Whose hop counts are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    /// Clients of the other family may come over such a socket as well.
    V6,
}

impl Gate {
    /// Shuts the gate of this listener.
    pub(super) fn shut(socket: &Socket, address: SocketAddr) -> io::Result<Self> {
        match socket.attach_filter(&NO_SYN) {
            Ok(()) => Ok(Gate::Filter),
            // Some systems leave filters on TCP to root.
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {
                Self::admit_neighbours_only(socket, address)
            }
            Err(err) => Err(err),
        }
    }

    /// The same for a listener from which others accept.
    pub(super) fn shut_for_all(socket: &Socket) -> io::Result<Self> {
        socket.attach_filter(&NO_SYN)?;
        Ok(Gate::Filter)
    }

    fn admit_neighbours_only(socket: &Socket, address: SocketAddr) -> io::Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        };
        family.set_least_hop_count(socket.as_fd(), NEIGHBOURS_HOP_COUNT)?;
        Ok(Gate::HopCount(family))
    }

    /// Takes off a connection what it got from the shut gate. What was dropped before comes again.
    pub(super) fn let_through(self, connection: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Gate::Open | Gate::Filter => Ok(()),
            Gate::HopCount(family) => family.set_least_hop_count(connection, ANY_HOP_COUNT),
        }
    }
}

impl Family {
    fn set_least_hop_count(self, socket: BorrowedFd<'_>, least: libc::c_int) -> io::Result<()> {
        let options: &[_] = match self {
            Family::V4 => &[(libc::IPPROTO_IP, IP_MINTTL)],
            Family::V6 => &[
                (libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT),
                (libc::IPPROTO_IP, IP_MINTTL),
            ],
        };
        for &(level, option) in options {
            // SAFETY: the option's value is one int, which `least` is, and it outlives the call.
            let set = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    level,
                    option,
                    (&raw const least).cast(),
                    INT_BYTES,
                )
            };
            if set != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

/// Drops packets with SYN and without ACK, keeps all others. On TCP a filter sees the packet from
/// the TCP header on, whatever the family, see socket(7) and `linux/filter.h`.
const NO_SYN: [SockFilter; 5] = [
    // BPF_LD | BPF_B | BPF_ABS: the flags.
    SockFilter::new(0x30, 0, 0, 13),
    // BPF_ALU | BPF_AND | BPF_K: ACK and SYN of them.
    SockFilter::new(0x54, 0, 0, 0x12),
    // BPF_JMP | BPF_JEQ | BPF_K: SYN alone?
    SockFilter::new(0x15, 0, 1, 0x02),
    // BPF_RET | BPF_K: nothing of the packet.
    SockFilter::new(0x06, 0, 0, 0),
    // BPF_RET | BPF_K: all of it.
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

const NEIGHBOURS_HOP_COUNT: libc::c_int = 255;
const ANY_HOP_COUNT: libc::c_int = 0;

/// `linux/in.h`.
const IP_MINTTL: libc::c_int = 21;
/// `linux/in6.h`.
const IPV6_MINHOPCOUNT: libc::c_int = 73;

#[expect(clippy::cast_possible_truncation, reason = "4 bytes")]
const INT_BYTES: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use socket2::{Domain, SockRef, Type};

    use super::*;

    /// A client whose kernel keeps the last packet of the hand-shake until there is something to
    /// send along, tcp(7).
    fn shake_hands_slowly(address: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_tcp_quickack(false).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.into()
    }

    fn is_let_in(address: SocketAddr) -> bool {
        TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_ok()
    }

    /// What the client says in two parts, the first with the end of its hand-shake.
    fn finishes(mut client: TcpStream, listener: &TcpListener, gate: Gate) {
        client.write_all(b"one").unwrap();
        // For accepting as well, socket(7).
        let waits = Some(Duration::from_secs(20));
        SockRef::from(listener).set_read_timeout(waits).unwrap();
        let (mut connection, _) = listener.accept().unwrap();
        gate.let_through(connection.as_fd()).unwrap();
        connection.set_read_timeout(waits).unwrap();
        let mut said = [0; 3];
        connection.read_exact(&mut said).unwrap();
        assert_eq!(said, *b"one");
        client.write_all(b"two").unwrap();
        connection.read_exact(&mut said).unwrap();
        assert_eq!(said, *b"two");
    }

    fn keeps_out_only_new_clients(shut: fn(&Socket, SocketAddr) -> io::Result<Gate>) {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(bind).unwrap();
            let address = listener.local_addr().unwrap();
            let client = shake_hands_slowly(address);
            let socket = Socket::from(listener.try_clone().unwrap());
            let gate = shut(&socket, address).unwrap();
            assert!(!is_let_in(address), "{bind}");
            finishes(client, &listener, gate);
        }
    }

    #[test]
    fn it_keeps_out_new_clients_and_no_hand_shake_that_is_under_way() {
        keeps_out_only_new_clients(Gate::shut);
    }

    /// What those have who may not use filters.
    #[test]
    fn the_hop_count_does_so_too() {
        keeps_out_only_new_clients(Gate::admit_neighbours_only);
    }

    /// A socket for both families has two hop counts.
    #[test]
    fn the_hop_count_keeps_out_clients_of_either_family() {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        let any: SocketAddr = "[::]:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(8).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        let clients = ["127.0.0.1", "::1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        for client in clients {
            TcpStream::connect(client).unwrap();
        }
        Gate::admit_neighbours_only(&socket, any).unwrap();
        assert!(!clients.into_iter().any(is_let_in));
    }
}
