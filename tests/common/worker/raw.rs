//! Workers that break the protocol, one rule each.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use worker_proto::env;
use worker_proto::frame::{Hello, ToMaster};
use worker_proto::handshake;
use worker_proto::scm::{self, Wait};
use worker_proto::socket::{Inbox, ReceiveError, WorkerChannel};

/// Breaks the rule named first, then waits for the master to end the channel.
pub(crate) fn misbehave(args: &[&str]) -> ExitCode {
    let channel = channel();
    let send = |bytes: &[u8], descriptors: &[BorrowedFd<'_>]| {
        scm::send(channel.as_fd(), bytes, descriptors, Wait::AsSet)
    };
    let hello = |hello: Hello| {
        channel
            .send(&ToMaster::Hello(hello), &[], Wait::AsSet)
            .expect("hello");
    };
    match args[0] {
        "garbage-first" => send(&[0xff; 100], &[]).expect("send"),
        "ready-first" => channel
            .send(&ToMaster::Ready, &[], Wait::AsSet)
            .expect("send"),
        "wrong-version" => hello(Hello {
            protocol: 999,
            ..handshake::hello()
        }),
        "wrong-pid" => hello(Hello {
            pid: 1,
            ..handshake::hello()
        }),
        rest => {
            hello(handshake::hello());
            channel
                .send(&ToMaster::Ready, &[], Wait::AsSet)
                .expect("ready");
            match rest {
                "garbage" => send(&[0xff; 100], &[]).expect("send"),
                "unknown-frame" => send(&[250, 1, 2, 3], &[]).expect("send"),
                "trailing" => send(&[3, 0, 0], &[]).expect("send"),
                "oversized" => send(&vec![0; 100_000], &[]).expect("send"),
                "second-hello" => hello(handshake::hello()),
                "descriptor" => {
                    let null = File::open("/dev/null").expect("/dev/null");
                    match send(&[3], &[null.as_fd()]) {
                        Ok(()) => {}
                        // Linux 6.16 and later refuse it at the sender: that is all there is to it.
                        Err(err) => {
                            eprintln!("descriptor refused: {err}");
                            send(&[0xff], &[]).expect("send");
                        }
                    }
                }
                // Never reads, and asks for what is answered.
                "deaf" => while channel.send(&ToMaster::Goodbye, &[], Wait::AsSet).is_ok() {},
                "closes" => drop(channel.shutdown(std::net::Shutdown::Both)),
                _ => panic!("unknown rule {rest}"),
            }
        }
    }
    let mut inbox = Inbox::new();
    loop {
        match channel.receive(&mut inbox, Wait::AsSet) {
            Ok(received) => eprintln!("received: {:?}", received.frame),
            Err(ReceiveError::Closed) => return ExitCode::SUCCESS,
            Err(err) => panic!("{err}"),
        }
    }
}

#[allow(
    unsafe_code,
    reason = "below the SDK, which takes the descriptor otherwise"
)]
fn channel() -> WorkerChannel {
    let fd = std::env::var(env::CONTROL_FD)
        .expect("a control channel")
        .parse()
        .expect("a number");
    // SAFETY: the master left this descriptor open for this process, and nothing else uses it.
    unsafe { OwnedFd::from_raw_fd(fd) }.into()
}
