//! `odd WAY`: workers that do what few programs do, and break no rule with it.
//!
//! | way | what it does |
//! |---|---|
//! | `forks` | serves each connection in a process of its own, and says of none that it is finished |
//! | `peeks-far` | looks into its accept queue beyond all that is in it (`SO_PEEK_OFF`), and receives nothing |
//! | `lingers` | takes a look at a connection in its queue, and dies when closing it would take minutes |

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use nix::unistd::{ForkResult, fork};
use socket2::SockRef;
use worker_proto::scm::{self, Wait};
use worker_proto::{Connection, InFlight, Listener, Worker};

use crate::answer::announce;

/// Lives this way with the first declared listener.
pub(crate) fn live(way: &str) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let listeners = worker.listen_declared_or("127.0.0.1:0").expect("listen");
    let listener = listeners.into_iter().next().expect("a listener");
    match way {
        "forks" => {
            worker.ready().expect("ready");
            let accepted = listener
                .incoming()
                .map(|connection| connection.expect("accept"));
            let marks: Vec<_> = accepted
                .map(|connection| serve_in_a_child(&worker, connection))
                .collect();
            std::mem::forget(marks);
            worker.leave()
        }
        "peeks-far" => {
            look_beyond_all(&listener);
            worker.ready().expect("ready");
            crate::forever()
        }
        "lingers" => {
            worker.ready().expect("ready");
            linger(&listener);
            let _ = raise(Signal::SIGKILL);
            unreachable!("nobody survives SIGKILL")
        }
        way => panic!("unknown way {way}"),
    }
}

#[allow(unsafe_code, reason = "there is no safe fork")]
fn serve_in_a_child(worker: &Worker, mut connection: Connection) -> InFlight {
    // SAFETY: the child touches only what belongs to the forking thread, then ends.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { .. } => connection.into_parts().2,
        ForkResult::Child => {
            if connection.read(&mut [0; 1024]).is_ok_and(|len| len > 0) {
                let who = worker.identity();
                let who = format!(
                    "slot={} id={} pid={} gen=1",
                    who.slot, who.worker.0, who.pid
                );
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
                let _ = connection.write_all(format!("{head}X-Worker: {who}\r\n\r\n").as_bytes());
            }
            // What counts first and is closed then shows by its end that it has counted.
            let (stream, _, in_flight) = connection.into_parts();
            drop(in_flight);
            drop(stream);
            // SAFETY: _exit(2) only ends the process.
            unsafe { libc::_exit(0) }
        }
    }
}

/// The offset belongs to the socket, so the master's end of it has it, too.
#[allow(unsafe_code, reason = "nix does not know SO_PEEK_OFF")]
fn look_beyond_all(listener: &Listener) {
    let offset: libc::c_int = 1 << 20;
    // SAFETY: the value is a c_int that outlives the call, and its length is said.
    let outcome = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const offset).cast(),
            4,
        )
    };
    assert_eq!(outcome, 0, "SO_PEEK_OFF");
}

/// Closing it waits for a client that reads nothing, see socket(7).
fn linger(listener: &Listener) {
    let (mut buffer, mut copies) = ([0; 65536], Vec::new());
    scm::peek(listener.as_fd(), &mut buffer, &mut copies, Wait::AsSet).expect("a connection");
    let mut stream = TcpStream::from(copies.remove(0));
    let longer_than_a_test = Some(Duration::from_secs(600));
    let options = SockRef::from(&stream);
    options.set_linger(longer_than_a_test).expect("SO_LINGER");
    stream.set_nonblocking(true).expect("O_NONBLOCK");
    while stream.write(&buffer).is_ok() {}
    announce("its connection lingers");
}
