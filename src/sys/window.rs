//! The window of an accept queue: how many packets it holds before the kernel says `EAGAIN`.
//!
//! The kernel keeps it, whatever the worker does and without an acknowledgement: a packet counts
//! with its true size in the kernel until it is received, and sending fails once the sum reaches
//! the send buffer (`SO_SNDBUF`, `socket(7)`). The true size depends on the kernel and grows in
//! steps, so it is measured on a pair of its own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, getsockopt, setsockopt, socketpair, sockopt,
};
use worker_proto::scm::{self, Wait};

/// A number of packets, as the kernel can keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// What `getsockopt(2)` says of `SO_SNDBUF`.
    send_buffer: usize,
    /// Every packet has to be padded to this, so that all count the same; 0 if they do anyway.
    packet_bytes: usize,
    /// What every packet counts.
    true_size: usize,
}

impl Window {
    /// A window of `packets`, none of which is larger than `largest` bytes. Those that are padded
    /// may be [`SLACK`] bytes longer than asked for.
    ///
    /// The kernel may hold fewer if its limit on send buffers (`net.core.wmem_max`) is lower.
    pub(crate) fn measure(packets: usize, largest: usize) -> io::Result<Self> {
        let (sender, receiver) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let ordinary = getsockopt(&sender, sockopt::SndBuf)?;
        setsockopt(&sender, sockopt::SndBuf, &0)?;
        let smallest = getsockopt(&sender, sockopt::SndBuf)?;
        setsockopt(&sender, sockopt::SndBuf, &(ordinary / 2))?;
        let mut packet_bytes = largest.max(1);
        loop {
            let size = true_size(sender.as_fd(), receiver.as_fd(), packet_bytes)?;
            if true_size(sender.as_fd(), receiver.as_fd(), packet_bytes + SLACK)? != size {
                packet_bytes += SLACK;
                continue;
            }
            // One more is let in as long as the sum is below the send buffer.
            let send_buffer = packets.max(1) * size;
            if send_buffer >= smallest || packet_bytes >= LARGEST_PACKET {
                let least = true_size(sender.as_fd(), receiver.as_fd(), 1)?;
                return Ok(Window {
                    send_buffer: send_buffer.max(smallest),
                    packet_bytes: if least == size { 0 } else { packet_bytes },
                    true_size: size,
                });
            }
            // The kernel's smallest buffer holds more packets of this size: make them larger.
            packet_bytes += PADDING_STEP;
        }
    }

    /// Makes the kernel keep this window for what `sender` sends.
    pub(crate) fn apply(self, sender: &impl AsFd) -> io::Result<()> {
        // The kernel doubles what it is given, see socket(7).
        Ok(setsockopt(
            sender,
            sockopt::SndBuf,
            &(self.send_buffer / 2),
        )?)
    }

    /// Makes the kernel take a queue with so many packets in it for full.
    pub(crate) fn narrow(self, sender: &impl AsFd, packets: u64) -> io::Result<()> {
        let packets = usize::try_from(packets).map_err(io::Error::other)?;
        let size = packets.saturating_mul(self.true_size).min(self.send_buffer);
        Ok(setsockopt(sender, sockopt::SndBuf, &(size / 2))?)
    }

    /// The size that every packet has to have, at least; 0 if any will do.
    pub(crate) fn packet_bytes(self) -> usize {
        self.packet_bytes
    }

    /// How many packets it holds.
    pub(crate) fn packets(self) -> u64 {
        (self.send_buffer / self.true_size.max(1)) as u64
    }

    /// How many packets wait that `sender` has sent and nobody has received.
    pub(crate) fn unreceived(self, sender: &impl AsFd) -> io::Result<u64> {
        let packets = unreceived(sender.as_fd())?.div_ceil(self.true_size.max(1));
        u64::try_from(packets).map_err(io::Error::other)
    }
}

/// What one packet of `len` bytes counts against the send buffer.
fn true_size(sender: BorrowedFd<'_>, receiver: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    let mut packet = vec![0; len];
    scm::send(sender, &packet, &[], Wait::Never)?;
    let size = unreceived(sender)?;
    scm::receive(receiver, &mut packet, &mut Vec::new(), Wait::Never)?;
    Ok(size)
}

/// How much of the send buffer is taken by packets that were not received: `SIOCOUTQ`, `unix(7)`.
fn unreceived(sender: BorrowedFd<'_>) -> io::Result<usize> {
    let mut size: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the number of TIOCOUTQ) writes one int, and `size` outlives the call.
    let asked = unsafe { libc::ioctl(sender.as_raw_fd(), libc::TIOCOUTQ, &raw mut size) };
    match asked {
        0 => usize::try_from(size).map_err(io::Error::other),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How much longer a padded packet may be than [`Window::packet_bytes`] says.
pub(crate) const SLACK: usize = 2;

/// Finer than the steps in which the kernel's sizes grow.
const PADDING_STEP: usize = 128;

/// Beyond it even one packet fills the smallest send buffer of every kernel known.
const LARGEST_PACKET: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use worker_proto::socket::{Nothing, QueueSender, pair};

    use super::*;

    fn fits(window: Window, len: usize) -> usize {
        let (sender, _receiver): (QueueSender, _) = pair::<_, Nothing>().unwrap();
        window.apply(&sender).unwrap();
        let slack = if window.packet_bytes() > 0 { SLACK } else { 0 };
        let packet = vec![0; window.packet_bytes().max(len) + slack];
        (0..)
            .find(|_| scm::send(sender.as_fd(), &packet, &[], Wait::Never).is_err())
            .unwrap()
    }

    #[test]
    fn it_shows_how_many_packets_nobody_has_received() {
        for (packets, largest) in [(1, 20), (5, 130), (32, 260), (256, 20)] {
            let window = Window::measure(packets, largest).unwrap();
            let (sender, receiver): (QueueSender, _) = pair::<_, Nothing>().unwrap();
            window.apply(&sender).unwrap();
            let mut packet = vec![0; largest.max(window.packet_bytes())];
            for sent in 1..=packets as u64 {
                scm::send(sender.as_fd(), &packet, &[sender.as_fd()], Wait::Never).unwrap();
                assert_eq!(window.unreceived(&sender).unwrap(), sent, "{window:?}");
            }
            for left in (0..packets as u64).rev() {
                scm::receive(receiver.as_fd(), &mut packet, &mut Vec::new(), Wait::Never).unwrap();
                assert_eq!(window.unreceived(&sender).unwrap(), left, "{window:?}");
            }
        }
    }

    #[test]
    fn the_kernel_keeps_exactly_the_window() {
        for packets in (1..=40).chain([64, 100, 128, 256, 400]) {
            for largest in [20, 130, 260, 1000] {
                if packets * largest > 200_000 {
                    continue;
                }
                let window = Window::measure(packets, largest).unwrap();
                for len in [1, largest] {
                    let fits = fits(window, len);
                    assert_eq!(fits, packets, "{len} of {largest} bytes: {window:?}");
                }
            }
        }
    }
}
