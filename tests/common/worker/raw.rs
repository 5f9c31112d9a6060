//! Workers that break the protocol, one rule each.
//!
//! `raw [on-usr1] RULE`: with `on-usr1` it first behaves well until SIGUSR1 comes. Only for
//! rules that are broken after `Ready`.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::{Command, ExitCode};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::MsgFlags;
use worker_proto::env;
use worker_proto::frame::{
    Attach, FromMaster, Hello, InheritedOption, Listen, ListenOptions, ToMaster,
};
use worker_proto::handshake;
use worker_proto::ids::RequestId;
use worker_proto::scm::{self, Wait};
use worker_proto::socket::{Inbox, ReceiveError, WorkerChannel};

use crate::raw_letters;

/// Breaks the rule named first, then waits for the master to end the channel.
pub(crate) fn misbehave(args: &[&str]) -> ExitCode {
    let usr1 = SigSet::from_iter([Signal::SIGUSR1]);
    usr1.thread_block().expect("block SIGUSR1");
    let channel = channel();
    let send = |bytes: &[u8], descriptors: &[BorrowedFd<'_>]| {
        scm::send(channel.as_fd(), bytes, descriptors, Wait::AsSet)
    };
    let hello = |hello: Hello| {
        channel
            .send(&ToMaster::Hello(hello), &[], Wait::AsSet)
            .expect("hello");
    };
    let (rule, is_patient) = match args {
        ["on-usr1", rule] => (*rule, true),
        [rule] => (*rule, false),
        _ => panic!("unknown rule {args:?}"),
    };
    match rule {
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
        // Of the rule `parent`: has its channel, and speaks in its name.
        "child" => {
            let pongs = std::iter::repeat_n(ToMaster::Pong { token: 1 }, 20);
            for frame in [ToMaster::Ready, ToMaster::Goodbye]
                .into_iter()
                .chain(pongs)
            {
                channel.send(&frame, &[], Wait::AsSet).expect("send");
            }
            return ExitCode::SUCCESS;
        }
        // As a preloaded library speaks; nobody may listen there.
        "attached-pong" | "attached-hello" | "attached-deaf" => {
            let ask = || channel.send(&question(), &[], Wait::AsSet);
            ask().expect("attach");
            let ready = channel.send(&ToMaster::Ready, &[], Wait::AsSet);
            ready.expect("ready");
            usr1.wait().expect("wait for SIGUSR1");
            match rule {
                "attached-hello" => hello(handshake::hello()),
                "attached-deaf" => while ask().is_ok() {},
                _ => {
                    let pong = ToMaster::Pong { token: 1 };
                    channel.send(&pong, &[], Wait::AsSet).expect("send");
                }
            }
        }
        rest => {
            hello(handshake::hello());
            channel
                .send(&ToMaster::Ready, &[], Wait::AsSet)
                .expect("ready");
            if is_patient {
                usr1.wait().expect("wait for SIGUSR1");
            }
            match rest {
                "garbage" => send(&[0xff; 100], &[]).expect("send"),
                "unknown-frame" => send(&[250, 1, 2, 3], &[]).expect("send"),
                "trailing" => send(&[3, 0, 0], &[]).expect("send"),
                "oversized" => send(&vec![0; 100_000], &[]).expect("send"),
                "attach" => channel.send(&question(), &[], Wait::AsSet).expect("send"),
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
                // Reads as the end of the channel.
                "empty" => {
                    let fd = channel.as_raw_fd();
                    nix::sys::socket::send(fd, &[], MsgFlags::MSG_NOSIGNAL).expect("send");
                }
                // Allowed, but it owes answers.
                "mute" => {}
                // Allowed, if there is an end to it.
                "pongs" => {
                    let pong = ToMaster::Pong { token: 1 };
                    while channel.send(&pong, &[], Wait::AsSet).is_ok() {}
                }
                "parent" => {
                    let own = std::env::current_exe().expect("this program");
                    let child = Command::new(own).args(["raw", "child"]).status();
                    assert!(child.expect("start the child").success());
                    crate::answer::announce("the child has spoken");
                }
                // Looked at when connections wait for it.
                "scoreboard" => {
                    let page = attach(&channel);
                    page.write_all_at(&1_000_u64.to_ne_bytes(), RECEIVED)
                        .expect("receive a thousand");
                }
                "scribble" => return scribble(&channel),
                "closes" => drop(channel.shutdown(std::net::Shutdown::Both)),
                letters => raw_letters::send(letters, &channel),
            }
        }
    }
    let mut inbox = Inbox::new();
    loop {
        match channel.receive(&mut inbox, Wait::AsSet) {
            Ok(received) => {
                // In one piece: the master writes to the same place.
                let line = format!("received: {:?}\n", received.frame);
                eprint!("{line}");
            }
            Err(ReceiveError::Closed) => return ExitCode::SUCCESS,
            Err(err) => panic!("{err}"),
        }
    }
}

/// What a preloaded library asks.
fn question() -> ToMaster {
    ToMaster::Attach(Attach {
        protocol: handshake::PROTOCOL,
        pid: std::process::id(),
        library: "none".to_owned(),
        listen: Listen {
            request: RequestId(1),
            target: "127.0.0.1:9".to_owned(),
            options: ListenOptions::default(),
        },
        options: vec![InheritedOption::MaxSegment(u32::MAX); 1000],
        file_mode: u32::MAX,
    })
}

/// Listens, and says on its page that it serves.
fn attach(channel: &WorkerChannel) -> File {
    let mut inbox = Inbox::new();
    let welcome = channel.receive(&mut inbox, Wait::AsSet).expect("welcome");
    let FromMaster::Welcome(welcome) = welcome.frame else {
        panic!("no welcome");
    };
    let page = File::from(inbox.descriptors.remove(0));
    page.write_all_at(&1_u32.to_ne_bytes(), STATE)
        .expect("attach");
    let listen = Listen {
        request: RequestId(1),
        target: welcome.listeners[0].name.clone(),
        options: ListenOptions::default(),
    };
    channel
        .send(&ToMaster::Listen(listen), &[], Wait::AsSet)
        .expect("listen");
    page
}

/// Writes anything anywhere on its page until the master has had enough.
fn scribble(channel: &WorkerChannel) -> ExitCode {
    let page = attach(channel);
    let mut inbox = Inbox::new();
    let mut random = 88_172_645_463_325_252_u64;
    loop {
        // Marsaglia's xorshift.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let place = [STATE, WAKE, RECEIVED, REQUESTS, FINISHED][(random >> 8) as usize % 5];
        let value = if random & 1 == 0 {
            random >> 40
        } else {
            random % 3
        };
        page.write_all_at(&value.to_ne_bytes(), place)
            .expect("write");
        if let Err(ReceiveError::Closed) = channel.receive(&mut inbox, Wait::Never) {
            return ExitCode::SUCCESS;
        }
        inbox.descriptors.clear();
    }
}

#[allow(
    unsafe_code,
    reason = "below the SDK, which takes the descriptor otherwise"
)]
pub(crate) fn channel() -> WorkerChannel {
    let fd = std::env::var(env::CONTROL_FD)
        .expect("a control channel")
        .parse()
        .expect("a number");
    // SAFETY: the master left this descriptor open for this process, and nothing else uses it.
    unsafe { OwnedFd::from_raw_fd(fd) }.into()
}

/// Where what a worker says is on its page, see `worker_proto::scoreboard`.
const STATE: u64 = 8;
const WAKE: u64 = 12;
const RECEIVED: u64 = 64;
const REQUESTS: u64 = 128;
const FINISHED: u64 = 192;
