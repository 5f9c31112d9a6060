//! One short answer to each connection, from one epoll loop: what `scripts/preload-cost` starts under
//! a master, once as a program that knows nothing of it and once as one that speaks to it.
//!
//! `short_http unchanged|linked ADDRESS`. Both are the same but for where connections come from.

use std::collections::HashMap;
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use worker_proto::{InFlight, ListenOptions, Listener, Stream, Worker};

fn main() -> Result<ExitCode> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [how, address] = &arguments[..] else {
        bail!("short_http unchanged|linked ADDRESS");
    };
    match how.as_str() {
        "unchanged" => {
            let address: SocketAddr = address.parse().context("ADDRESS is HOST:PORT")?;
            let mut listener = TcpListener::bind(address)?;
            let mut poll = polling(&mut listener)?;
            serve(&mut poll, || {
                let (stream, _peer) = listener.accept()?;
                Ok(Some((stream, None)))
            })?;
            Ok(ExitCode::SUCCESS)
        }
        "linked" => {
            let worker = Worker::connect()?;
            let options = ListenOptions {
                nonblocking: true,
                ..ListenOptions::default()
            };
            let listener = worker.listen_with(address, options)?;
            let mut poll = polling(&mut SourceFd(&listener.as_raw_fd()))?;
            worker.ready()?;
            serve(&mut poll, || accept_linked(&listener))?;
            drop(poll);
            drop(listener);
            Ok(worker.leave())
        }
        other => bail!("{other:?} is neither unchanged nor linked"),
    }
}

/// A connection, and what counts it while it is open.
type Client = (TcpStream, Option<InFlight>);

fn accept_linked(listener: &Listener) -> io::Result<Option<Client>> {
    let Some(connection) = listener.accept()? else {
        return Ok(None);
    };
    let (stream, _peer, in_flight) = connection.into_parts();
    match stream {
        Stream::Tcp(stream) => Ok(Some((TcpStream::from_std(stream), Some(in_flight)))),
        Stream::Unix(_) => Err(io::Error::other("not a TCP connection")),
    }
}

fn polling(listener: &mut impl Source) -> io::Result<Poll> {
    let poll = Poll::new()?;
    poll.registry()
        .register(listener, LISTENER, Interest::READABLE)?;
    Ok(poll)
}

/// Serves until there will be no more connections.
fn serve(
    poll: &mut Poll,
    mut accept: impl FnMut() -> io::Result<Option<Client>>,
) -> io::Result<()> {
    let mut events = Events::with_capacity(256);
    let mut silent = HashMap::new();
    loop {
        poll_again(poll, &mut events)?;
        for event in &events {
            if event.token() != LISTENER {
                if let Some(client) = silent.remove(&event.token()) {
                    silent.extend(answer(client));
                }
                continue;
            }
            loop {
                match accept() {
                    Ok(Some(client)) => {
                        let Some((token, mut client)) = answer(client) else {
                            continue;
                        };
                        poll.registry()
                            .register(&mut client.0, token, Interest::READABLE)?;
                        silent.insert(token, client);
                    }
                    Ok(None) => return Ok(()),
                    Err(err) if err.kind() == ErrorKind::WouldBlock => break,
                    Err(err) => return Err(err),
                }
            }
        }
    }
}

fn poll_again(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, None) {
        Err(err) if err.kind() == ErrorKind::Interrupted => Ok(()),
        result => result,
    }
}

/// Answers and closes; gives the client back if it has not asked yet.
fn answer(mut client: Client) -> Option<(Token, Client)> {
    let stream = &mut client.0;
    match stream.read(&mut [0; 1024]) {
        Err(err) if err.kind() == ErrorKind::WouldBlock => {
            let token = Token(usize::try_from(stream.as_raw_fd()).ok()?);
            Some((token, client))
        }
        // A client that has gone is no news.
        Ok(0) | Err(_) => None,
        Ok(_) => {
            let _ = stream.write(ANSWER);
            None
        }
    }
}

const LISTENER: Token = Token(0);

const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
