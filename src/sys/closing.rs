//! Descriptors that are closed together: those with successive numbers in one system call,
//! `close_range(2)`, where the kernel has it (5.9).
//!
//! Closing them should not wait. By then a worker may have let its connection linger (`SO_LINGER`,
//! `socket(7)`) and closed it, and whoever closes the last copy waits for the client: so that is
//! looked for first. A worker that does both between the look and the close is not noticed.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;

/// Descriptors to be closed.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    descriptors: Vec<OwnedFd>,
    habit: Habit,
}

/// What programs do with their connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// None lingers of the first so many, each of which is looked at.
    Unknown { seen: usize },
    /// None was seen that lingers: from now on it is enough to look at a few, which costs next to
    /// nothing.
    Plain,
    /// They linger: each is looked at.
    Lingering,
}

impl Default for Habit {
    fn default() -> Self {
        Habit::Unknown { seen: 0 }
    }
}

impl Closing {
    /// This one, too.
    pub(crate) fn add(&mut self, fd: OwnedFd) {
        self.descriptors.push(fd);
    }

    /// Now.
    pub(crate) fn close(&mut self) {
        self.stop_lingering();
        // What was opened in a row is given in a row, but not to every caller.
        self.descriptors.sort_unstable_by_key(AsRawFd::as_raw_fd);
        while let Some(last) = self.descriptors.last().map(AsRawFd::as_raw_fd) {
            let successive = self.descriptors.iter().rev().zip(0..);
            let successive = successive.take_while(|(fd, back)| fd.as_raw_fd() == last - back);
            let run = successive.count();
            let from = self.descriptors.len() - run;
            let first = self.descriptors[from].as_raw_fd();
            if run > 1 && close_range(first, last) {
                for closed in self.descriptors.drain(from..) {
                    let _ = closed.into_raw_fd();
                }
            } else {
                self.descriptors.truncate(from);
            }
        }
    }

    fn stop_lingering(&mut self) {
        let count = self.descriptors.len();
        let few = match self.habit {
            Habit::Unknown { .. } | Habit::Lingering => count,
            // Those that came first have been with their workers for longest, and with different
            // ones.
            Habit::Plain => count.min(1 + count / FOR_ONE_LOOKED_AT),
        };
        let (looked_at, others) = self.descriptors.split_at(few);
        if stop_lingering(looked_at) {
            stop_lingering(others);
            self.habit = Habit::Lingering;
        } else if let Habit::Unknown { seen } = self.habit {
            self.habit = match seen + count {
                seen if seen < ENOUGH_TO_KNOW => Habit::Unknown { seen },
                _ => Habit::Plain,
            };
        }
    }
}

/// Sees to it that closing these does not wait; answers whether it might have.
fn stop_lingering(descriptors: &[OwnedFd]) -> bool {
    let mut any = false;
    for fd in descriptors.iter().filter(|fd| lingers(fd)) {
        // What the worker has sent arrives all the same. Fails only for what is no socket.
        let _ = SockRef::from(fd).set_linger(None);
        any = true;
    }
    any
}

/// Whether closing it may wait. With a time of zero it resets the connection, at once.
fn lingers(fd: &OwnedFd) -> bool {
    let time = SockRef::from(fd).linger().ok().flatten();
    time.is_some_and(|time| time > Duration::ZERO)
}

/// Closes all of these descriptors, every one of which the caller owns; answers whether it did.
fn close_range(first: RawFd, last: RawFd) -> bool {
    // SAFETY: close_range takes three integers. Each descriptor of the range is owned by the caller,
    // who forgets them afterwards, so nobody else's is closed.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

const FOR_ONE_LOOKED_AT: usize = 8;
const ENOUGH_TO_KNOW: usize = 1000;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::unistd::dup2_raw;

    use super::*;

    /// Numbers that no other test has.
    fn opened(numbers: &[RawFd]) -> Vec<OwnedFd> {
        let file = File::open("/dev/null").unwrap();
        let open = |&number: &RawFd| {
            // SAFETY: nobody else knows this number: the kernel gives out the lowest free one.
            unsafe { dup2_raw(&file, number) }.unwrap()
        };
        numbers.iter().map(open).collect()
    }

    fn is_open(number: RawFd) -> bool {
        // SAFETY: a descriptor that is not open is an error to fcntl, and no more.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        fcntl(fd, FcntlArg::F_GETFD).is_ok()
    }

    #[test]
    fn exactly_those_are_closed_that_were_given() {
        let others = opened(&[803, 807, 811]);
        let mut closing = Closing::default();
        for fd in opened(&[805, 804, 806, 809, 801, 802, 812]) {
            closing.add(fd);
        }
        closing.close();
        let open: Vec<RawFd> = (800..815).filter(|&it| is_open(it)).collect();
        assert_eq!(open, [803, 807, 811]);
        drop(others);
        closing.close();
    }

    /// A connection that a worker has closed already, with more to send than its client reads.
    fn lingering(client: &TcpStream, listener: &TcpListener) -> OwnedFd {
        let (mut worker, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        SockRef::from(&worker).set_linger(Some(MINUTE)).unwrap();
        worker.set_nonblocking(true).unwrap();
        while worker.write(&[0; 65_536]).is_ok() {}
        worker.into()
    }

    #[test]
    fn what_a_worker_lets_linger_is_closed_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = |_| TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        for habit in [Habit::default(), Habit::Plain, Habit::Lingering] {
            let clients: Vec<TcpStream> = (0..3).map(connect).collect();
            let descriptors = clients.iter().map(|client| lingering(client, &listener));
            let mut closing = Closing {
                descriptors: descriptors.collect(),
                habit,
            };
            let (done, closed) = mpsc::channel();
            thread::spawn(move || {
                closing.close();
                let _ = done.send(closing.habit);
            });
            let habit = closed.recv_timeout(MINUTE / 3).expect("it does not wait");
            assert_eq!(habit, Habit::Lingering);
        }
    }

    #[test]
    fn a_few_are_looked_at_when_none_of_many_lingers() {
        let mut closing = Closing::default();
        while closing.habit != Habit::Plain {
            let (socket, _) = UnixStream::pair().unwrap();
            closing.add(socket.into());
            closing.close();
            assert_ne!(closing.habit, Habit::Lingering);
        }
    }

    #[test]
    fn a_connection_that_is_to_be_reset_is_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (worker, _) = listener.accept().unwrap();
        SockRef::from(&worker)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        let mut closing = Closing {
            habit: Habit::Lingering,
            ..Closing::default()
        };
        closing.add(worker.into());
        closing.close();
        client.set_read_timeout(Some(MINUTE)).unwrap();
        let end = client.read(&mut [0]).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
    }

    const MINUTE: Duration = Duration::from_secs(60);
}
