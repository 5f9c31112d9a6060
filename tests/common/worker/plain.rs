//! A worker that speaks the protocol by itself: it has no scoreboard, and knows nothing of limits.
//!
//! `plain TARGET`: keeps every connection open until its request has come, and answers it with the
//! number of pings in its control channel. It reads them there and then, and answers none.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use worker_proto::frame::{FromMaster, Listen, ListenOptions, ToMaster};
use worker_proto::handshake;
use worker_proto::ids::RequestId;
use worker_proto::scm::Wait;
use worker_proto::socket::{Inbox, QueueReceiver, ReceiveError, WorkerChannel};

use crate::raw;

/// Serves until the queue ends.
pub(crate) fn serve(target: &str) -> ExitCode {
    let control = raw::channel();
    let mut inbox = Inbox::new();
    say(&control, ToMaster::Hello(handshake::hello()));
    let welcome = control.receive(&mut inbox, Wait::AsSet).expect("welcome");
    assert!(matches!(welcome.frame, FromMaster::Welcome(_)));
    say(
        &control,
        ToMaster::Listen(Listen {
            request: RequestId(1),
            target: target.to_owned(),
            options: ListenOptions::default(),
        }),
    );
    let listening = control.receive(&mut inbox, Wait::AsSet).expect("an answer");
    assert!(matches!(listening.frame, FromMaster::Listening(_)));
    let queue = QueueReceiver::from(inbox.descriptors.remove(0));
    say(&control, ToMaster::Ready);
    let mut clients: Vec<TcpStream> = Vec::new();
    loop {
        let readable = await_readable(&queue, &clients);
        for index in readable.iter().rev().filter(|&&index| index > 0) {
            answer(clients.swap_remove(index - 1), &control, &mut inbox);
        }
        if readable.first() == Some(&0) {
            inbox.descriptors.clear();
            match queue.receive(&mut inbox, Wait::Never) {
                Ok(_) => clients.extend(inbox.descriptors.drain(..).map(TcpStream::from)),
                // The master was faster, and gave it to another.
                Err(ReceiveError::Empty) => {}
                Err(_) => return ExitCode::SUCCESS,
            }
        }
    }
}

fn say(control: &WorkerChannel, frame: ToMaster) {
    control.send(&frame, &[], Wait::AsSet).expect("send");
}

/// Which can be read: 0 for the queue, then the clients.
fn await_readable(queue: &QueueReceiver, clients: &[TcpStream]) -> Vec<usize> {
    let watched = std::iter::once(queue.as_fd()).chain(clients.iter().map(AsFd::as_fd));
    let mut watched: Vec<_> = watched
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    poll(&mut watched, PollTimeout::NONE).expect("poll");
    let readable = watched.iter().enumerate();
    readable
        .filter(|(_, fd)| fd.any() == Some(true))
        .map(|(index, _)| index)
        .collect()
}

fn answer(mut client: TcpStream, control: &WorkerChannel, inbox: &mut Inbox) {
    let mut request = [0; 1024];
    if client.read(&mut request).is_ok_and(|len| len > 0) {
        let frames = std::iter::from_fn(|| Some(control.receive(inbox, Wait::Never).ok()?.frame));
        let pings = frames.filter(|frame| matches!(frame, FromMaster::Ping { .. }));
        let body = pings.count().to_string();
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n");
        let pid = std::process::id();
        let who = format!("X-Worker: slot=0 id=0 pid={pid} gen=0\r\n\r\n");
        let _ = client.write_all(format!("{head}{who}{body}").as_bytes());
    }
}
