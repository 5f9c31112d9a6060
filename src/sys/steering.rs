//! Steering: which sockets of an `SO_REUSEPORT` group get new connections, see socket(7).
//!
//! The kernel asks a small program for each new client, which answers with the place of a socket in
//! the group: they stand in the order in which they began to listen, and when one is closed the
//! last takes its place. What was begun at a socket ends there, whatever the program says.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// From now on only the sockets at these places of the group get new connections, in equal shares;
/// the kernel chooses by its own hash if these are all, or none. The socket is any of the group.
pub(crate) fn steer(socket: BorrowedFd<'_>, places: &[u32], all: usize) -> io::Result<()> {
    let mut program = if places.is_empty() || places.len() == all {
        vec![statement(RETURN, NO_PLACE)]
    } else {
        choose_among(&places[..places.len().min(MOST_PLACES)])
    };
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the option's value is a `sock_fprog` whose program has the length that it says; the
    // kernel copies both, and they outlive the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            FILTER_BYTES,
        )
    };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// At random: a hash that the network card has not made is 0 for everybody.
fn choose_among(places: &[u32]) -> Vec<libc::sock_filter> {
    let count = u32::try_from(places.len()).unwrap_or(u32::MAX);
    let mut program = vec![
        statement(LOAD_WORD, SKF_AD_OFF + SKF_AD_RANDOM),
        statement(MODULO, count),
    ];
    for (number, &place) in (0..).zip(places) {
        let mut compare = statement(JUMP_IF_EQUAL, number);
        // Over the answer that is not meant.
        compare.jf = 1;
        program.extend([compare, statement(RETURN, place)]);
    }
    program.push(statement(RETURN, NO_PLACE));
    program
}

fn statement(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD_WORD: u16 = 0x20;
/// `BPF_ALU | BPF_MOD | BPF_K`.
const MODULO: u16 = 0x94;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_IF_EQUAL: u16 = 0x15;

/// `linux/filter.h`: where a load gets something else than the packet.
const SKF_AD_OFF: u32 = 0xffff_f000;
const SKF_AD_RANDOM: u32 = 56;

/// Beyond every group: the kernel then chooses by its hash.
const NO_PLACE: u32 = u32::MAX;

/// As many as fit into `BPF_MAXINSNS` instructions.
const MOST_PLACES: usize = 2000;

#[expect(clippy::cast_possible_truncation, reason = "16 bytes")]
const FILTER_BYTES: libc::socklen_t = size_of::<libc::sock_fprog>() as libc::socklen_t;

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::os::fd::AsFd;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn member(address: SocketAddr) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(256).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn accepted(socket: &Socket) -> usize {
        std::iter::from_fn(|| socket.accept().ok()).count()
    }

    #[test]
    fn only_sockets_at_the_places_get_clients() {
        let first = member("127.0.0.1:0".parse().unwrap());
        let address = first.local_addr().unwrap().as_socket().unwrap();
        let mut group = vec![first];
        group.extend((1..4).map(|_| member(address)));
        let connect = |places: &[u32]| -> Vec<usize> {
            steer(group[0].as_fd(), places, group.len()).unwrap();
            let clients = (0..100).map(|_| TcpStream::connect(address).unwrap());
            let clients: Vec<_> = clients.collect();
            let counts = group.iter().map(accepted).collect();
            drop(clients);
            counts
        };
        assert_eq!(connect(&[2]), [0, 0, 100, 0]);
        let two = connect(&[1, 3]);
        assert_eq!([two[0], two[2], two[1] + two[3]], [0, 0, 100]);
        assert!(two[1] > 0 && two[3] > 0, "{two:?}");
        assert!(connect(&[]).into_iter().all(|it| it > 0));
        assert!(connect(&[0, 1, 2, 3]).into_iter().all(|it| it > 0));
        // The last takes the place of one that is closed.
        drop(group.remove(1));
        steer(group[0].as_fd(), &[1], 3).unwrap();
        let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(address)).collect();
        assert_eq!(group.iter().map(accepted).collect::<Vec<_>>(), [0, 0, 20]);
        drop(clients);
    }
}
