//! Clients that visit a server at the same time, from one thread: whoever is served comes again.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{REQUEST, is_whole};

pub(crate) struct Crowd {
    poll: Poll,
    events: Events,
    address: SocketAddr,
    clients: Vec<Option<Client>>,
}

struct Client {
    stream: TcpStream,
    state: State,
    answer: [u8; 512],
    length: usize,
}

enum State {
    Connecting,
    Asked,
}

impl Crowd {
    pub(crate) fn new(address: SocketAddr, size: usize) -> Self {
        Crowd {
            poll: Poll::new().expect("an epoll set"),
            events: Events::with_capacity(size),
            address,
            clients: (0..size).map(|_| None).collect(),
        }
    }

    /// So many visits, all whole.
    pub(crate) fn visit(&mut self, mut count: u64) {
        let mut under_way = 0;
        for number in 0..self.clients.len() {
            if count > 0 {
                self.send(number);
                (count, under_way) = (count - 1, under_way + 1);
            }
        }
        while under_way > 0 {
            let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
            self.poll.poll(&mut events, None).expect("poll");
            for event in &events {
                let Token(number) = event.token();
                let client = self.clients[number].as_mut();
                if !client.is_some_and(Client::go_on) {
                    continue;
                }
                self.clients[number] = None;
                if count > 0 {
                    self.send(number);
                    count -= 1;
                } else {
                    under_way -= 1;
                }
            }
            self.events = events;
        }
    }

    fn send(&mut self, number: usize) {
        let mut stream = TcpStream::connect(self.address).expect("connect");
        let both = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry
            .register(&mut stream, Token(number), both)
            .expect("epoll");
        self.clients[number] = Some(Client {
            stream,
            state: State::Connecting,
            answer: [0; 512],
            length: 0,
        });
    }
}

impl Client {
    /// As far as it gets now; answers whether it has been served.
    fn go_on(&mut self) -> bool {
        if let State::Connecting = self.state {
            match self.stream.write(REQUEST) {
                Ok(count) => assert_eq!(count, REQUEST.len(), "it fits in a packet"),
                Err(err) if is_early(err.kind()) => return false,
                Err(err) => panic!("ask: {err}"),
            }
            self.state = State::Asked;
        }
        loop {
            match self.stream.read(&mut self.answer[self.length..]) {
                Ok(0) => break,
                Ok(count) => self.length += count,
                Err(err) if is_early(err.kind()) => return false,
                Err(err) => panic!("an answer: {err}"),
            }
        }
        assert!(is_whole(&self.answer[..self.length]), "half an answer");
        true
    }
}

/// Not connected yet, or nothing there.
fn is_early(kind: ErrorKind) -> bool {
    [ErrorKind::WouldBlock, ErrorKind::NotConnected].contains(&kind)
}
