//! Descriptors that are closed together: those with successive numbers in one system call,
//! `close_range(2)`, where the kernel has it (5.9).

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

/// Descriptors to be closed.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    descriptors: Vec<OwnedFd>,
}

impl Closing {
    /// This one, too.
    pub(crate) fn add(&mut self, fd: OwnedFd) {
        self.descriptors.push(fd);
    }

    /// Now.
    pub(crate) fn close(&mut self) {
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
}

/// Closes all of these descriptors, every one of which the caller owns; answers whether it did.
fn close_range(first: RawFd, last: RawFd) -> bool {
    // SAFETY: close_range takes three integers. Each descriptor of the range is owned by the caller,
    // who forgets them afterwards, so nobody else's is closed.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

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
}
