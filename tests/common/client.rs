//! A small HTTP client that says exactly what happened to each request.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use super::DEADLINE;

/// An answer to one request.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

/// Who answered: the fields of `X-Worker`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    pub slot: u32,
    pub id: u64,
    pub pid: i32,
    pub generation: u64,
}

impl Response {
    pub fn server(&self) -> Server {
        self.headers
            .get("x-worker")
            .and_then(|header| Server::parse(header))
            .unwrap_or_else(|| panic!("no X-Worker in {self:?}"))
    }
}

impl Server {
    /// Reads `slot=2 id=7 pid=4711 gen=1`, in any order.
    pub fn parse(text: &str) -> Option<Self> {
        let fields: HashMap<_, _> = text
            .split(' ')
            .filter_map(|field| field.split_once('='))
            .collect();
        Some(Server {
            slot: fields.get("slot")?.parse().ok()?,
            id: fields.get("id")?.parse().ok()?,
            pid: fields.get("pid")?.parse().ok()?,
            generation: fields.get("gen")?.parse().ok()?,
        })
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.pid)
    }
}

/// One request on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    ask(connect(address)?, path)?.answer()
}

/// One request on a connection to a Unix socket.
pub fn get_unix(socket: &Path, path: &str) -> io::Result<Response> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    ask(stream, path)?.answer()
}

/// A request that was sent and not answered yet.
pub struct Asked<S: Read>(BufReader<S>);

/// Sends one request, the last on this connection.
pub fn ask<S: Read + Write>(mut stream: S, path: &str) -> io::Result<Asked<S>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    Ok(Asked(BufReader::new(stream)))
}

impl<S: Read> Asked<S> {
    /// Of a request that was written by hand.
    pub fn of(stream: S) -> Self {
        Asked(BufReader::new(stream))
    }

    pub fn answer(mut self) -> io::Result<Response> {
        read_response(&mut self.0)
    }
}

/// Asks on as many connections, opened one after the other; answers come as they come.
pub fn ask_all(address: SocketAddr, clients: usize) -> Receiver<Server> {
    let (sender, answers) = channel();
    for _ in 0..clients {
        let asked = ask(connect(address).unwrap(), "/").unwrap();
        let sender = sender.clone();
        thread::spawn(move || sender.send(asked.answer().expect("an answer").server()));
    }
    answers
}

/// A connection with deadlines.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// A connection whose hand-shake is under way for the server until there is something to send: the
/// kernel keeps the last packet of it for that, if it may, tcp(7). It does so for 200 ms at most.
pub fn shake_hands_slowly(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_tcp_quickack(false)?;
    socket.connect(&address.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Reads one answer with a `Content-Length`.
pub fn read_response(reader: &mut impl BufRead) -> io::Result<Response> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("status line {line:?}")))?;
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None if line.trim_end().is_empty() => break,
            None => return Err(io::Error::other(format!("header line {line:?}"))),
        };
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(Response {
        status,
        headers,
        body,
    })
}
