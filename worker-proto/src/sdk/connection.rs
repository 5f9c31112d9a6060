//! A connection: a client's stream and the client's address. Forwards, and owns nothing else.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::in_flight::InFlight;
use super::proxy::Proxy;
use crate::address::Address;

/// A client's connection. Reads and writes like the stream inside; dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    // Dropped in this order: what counts as finished is closed.
    stream: Stream,
    peer: Address,
    proxy: Option<Box<Proxy>>,
    in_flight: InFlight,
}

/// The stream of a connection.
#[derive(Debug)]
pub enum Stream {
    /// From a TCP listener.
    Tcp(TcpStream),
    /// From a Unix listener.
    Unix(UnixStream),
}

impl Connection {
    /// A connection made of its parts, for instance in a test.
    #[must_use]
    pub fn new(stream: Stream, peer: Address) -> Self {
        Connection {
            stream,
            peer,
            proxy: None,
            in_flight: InFlight::uncounted(),
        }
    }

    /// What a listener delivers: the peer's address says what kind of stream it is.
    pub(crate) fn accepted(fd: OwnedFd, peer: Address, in_flight: InFlight) -> Self {
        let stream = match &peer {
            Address::V4 { .. } | Address::V6 { .. } => Stream::Tcp(fd.into()),
            Address::Path(_) | Address::Abstract(_) | Address::Unnamed => Stream::Unix(fd.into()),
        };
        Connection {
            stream,
            peer,
            proxy: None,
            in_flight,
        }
    }

    /// The same, when it is known whose it is: the client's, if the balancer named one.
    pub(crate) fn introduced(mut self, proxy: Proxy, client: Option<Address>) -> Self {
        self.peer = client.unwrap_or(self.peer);
        self.proxy = Some(Box::new(proxy));
        self
    }

    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> &Address {
        &self.peer
    }

    /// The balancer that the connection came through; `None` unless the listener is
    /// [`behind_proxy`](super::Listener::behind_proxy).
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_deref()
    }

    /// The stream inside.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Its parts, for a program that serves the stream in its own way, such as an async one. The
    /// connection counts as open until the [`InFlight`] is dropped: keep it as long as the stream
    /// and a little longer. With [`into_stream`](Self::into_stream) and the like it counts as
    /// finished at once.
    ///
    /// ```
    /// # let (master, worker) = worker_proto::FakeMaster::new();
    /// # let listener = worker.listen("127.0.0.1:8000")?;
    /// # let _client = master.connect("127.0.0.1:8000");
    /// # async fn greet(stream: worker_proto::Stream) {}
    /// # fn spawn(task: impl Future) {}
    /// # if let Some(connection) = listener.accept()? {
    /// let (stream, _peer, in_flight) = connection.into_parts();
    /// spawn(async move {
    ///     greet(stream).await;
    ///     drop(in_flight);
    /// });
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use = "the connection is closed and counts as finished when its parts are dropped"]
    pub fn into_parts(self) -> (Stream, Address, InFlight) {
        (self.stream, self.peer, self.in_flight)
    }

    /// The stream, without the address.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// The TCP stream, for instance to register it with a runtime of your own.
    ///
    /// # Errors
    /// The connection itself when it is a Unix one.
    pub fn into_tcp(self) -> Result<TcpStream, Self> {
        match self.stream {
            Stream::Tcp(stream) => Ok(stream),
            Stream::Unix(_) => Err(self),
        }
    }

    /// The Unix stream.
    ///
    /// # Errors
    /// The connection itself when it is a TCP one.
    pub fn into_unix(self) -> Result<UnixStream, Self> {
        match self.stream {
            Stream::Unix(stream) => Ok(stream),
            Stream::Tcp(_) => Err(self),
        }
    }

    /// Another handle on the same connection. It is closed when both are dropped, and counts as
    /// finished as soon as this one is.
    ///
    /// # Errors
    /// Those of `fcntl(2)`.
    pub fn try_clone(&self) -> io::Result<Self> {
        let stream = match &self.stream {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        };
        let mut clone = Connection::new(stream, self.peer.clone());
        clone.proxy.clone_from(&self.proxy);
        Ok(clone)
    }

    /// How long a read may wait; `None` for ever. See [`TcpStream::set_read_timeout`].
    ///
    /// # Errors
    /// Those of `setsockopt(2)`; `InvalidInput` for zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(timeout),
            Stream::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// How long a write may wait; `None` for ever. See [`TcpStream::set_write_timeout`].
    ///
    /// # Errors
    /// Those of `setsockopt(2)`; `InvalidInput` for zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_write_timeout(timeout),
            Stream::Unix(stream) => stream.set_write_timeout(timeout),
        }
    }

    /// Whether reads and writes return instead of waiting.
    ///
    /// # Errors
    /// Those of `ioctl(2)`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Stream::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }

    /// `TCP_NODELAY`: small writes leave at once. A Unix stream never delays: nothing to do there.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_nodelay(nodelay),
            Stream::Unix(_) => Ok(()),
        }
    }

    /// Ends reading, writing or both, for every handle on the connection.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
        }
    }
}

impl Read for &Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => (&*stream).read(buffer),
            Stream::Unix(stream) => (&*stream).read(buffer),
        }
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => (&*stream).read_vectored(buffers),
            Stream::Unix(stream) => (&*stream).read_vectored(buffers),
        }
    }
}

impl Write for &Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => (&*stream).write_vectored(buffers),
            Stream::Unix(stream) => (&*stream).write_vectored(buffers),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> Self {
        match connection.stream {
            Stream::Tcp(stream) => stream.into(),
            Stream::Unix(stream) => stream.into(),
        }
    }
}

/// `127.0.0.1:54321`: the peer.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::frame::{ListenOptions, ToMaster};
    use crate::sdk::{FakeMaster, Listener, Worker};

    #[test]
    fn a_connection_counts_from_its_packet_to_its_end() {
        let (master, _worker, listener) = listening(8);
        let (clients, servers): (Vec<_>, Vec<_>) = (0..3).map(|_| pair()).unzip();
        assert_eq!(counts(&master), [0, 0]);
        master.hand_off(WEB, servers).unwrap();
        assert_eq!(counts(&master), [0, 0]);
        let first = listener.accept().unwrap().unwrap();
        assert_eq!(counts(&master), [3, 0], "the whole packet");
        let second = listener.accept().unwrap().unwrap();
        drop(first);
        assert_eq!(counts(&master), [3, 1]);
        let third = listener.close();
        assert_eq!(third.len(), 1);
        assert_eq!(counts(&master), [3, 1]);
        drop((second, third));
        assert_eq!(counts(&master), [3, 3]);
        assert_eq!(master.score().unwrap().open(), 0);
        drop(clients);
    }

    #[test]
    fn what_is_never_accepted_is_finished_with_its_listener() {
        let (master, _worker, listener) = listening(8);
        let (_clients, servers): (Vec<_>, Vec<_>) = (0..3).map(|_| pair()).unzip();
        master.hand_off(WEB, servers).unwrap();
        let served = listener.accept().unwrap();
        drop(listener);
        assert_eq!(counts(&master), [3, 2]);
        drop(served);
        assert_eq!(counts(&master), [3, 3]);
    }

    #[test]
    fn a_packet_that_is_dropped_counts_nothing() {
        let (master, _worker, listener) = listening(8);
        let (_lost, server) = pair();
        let peers = vec![Address::Unnamed, Address::Unnamed];
        master.hand_off_raw(WEB, peers, &[server.as_fd()]);
        let _client = master.connect(WEB);
        assert!(listener.accept().unwrap().is_some());
        assert_eq!(counts(&master), [1, 1]);
    }

    #[test]
    fn a_stream_that_is_handed_out_counts_as_finished_at_once() {
        let (master, _worker, listener) = listening(1);
        let mut clients = Vec::new();
        let mut accept = || {
            clients.push(master.connect(WEB));
            listener.accept().unwrap().unwrap()
        };
        let stream = accept().into_stream();
        assert_eq!(counts(&master), [1, 1]);
        let same = accept().into_tcp().unwrap_err();
        assert_eq!(counts(&master), [2, 1], "not handed out");
        let unix = same.into_unix().unwrap();
        assert_eq!(counts(&master), [2, 2]);
        let fd = OwnedFd::from(accept());
        assert_eq!(counts(&master), [3, 3]);
        drop((stream, unix, fd));
        assert_eq!(counts(&master), [3, 3]);
    }

    #[test]
    fn a_program_that_takes_a_connection_apart_may_keep_its_count() {
        let (master, _worker, listener) = listening(1);
        let _client = master.connect(WEB);
        let connection = listener.accept().unwrap().unwrap();
        let (stream, peer, in_flight) = connection.into_parts();
        assert_eq!(peer, Address::Unnamed);
        drop(stream);
        assert_eq!(counts(&master), [1, 0]);
        thread::spawn(move || drop(in_flight)).join().unwrap();
        assert_eq!(counts(&master), [1, 1]);
    }

    #[test]
    fn a_clone_counts_nothing() {
        let (master, _worker, listener) = listening(1);
        let _client = master.connect(WEB);
        let connection = listener.accept().unwrap().unwrap();
        let clone = connection.try_clone().unwrap();
        drop(clone);
        assert_eq!(counts(&master), [1, 0]);
        drop(connection);
        assert_eq!(counts(&master), [1, 1]);
    }

    #[test]
    fn the_master_is_told_of_relief_once_for_each_time_it_asks() {
        let (master, worker, listener) = listening(1);
        let _clients = [(); 4].map(|()| master.connect(WEB));
        let mut connections = listener.incoming().map(Result::unwrap);
        drop(connections.next());
        master.ask_for_relief();
        drop(connections.next());
        assert_eq!(master.next_frame(), ToMaster::Relieved);
        drop(connections.next());
        worker.ready().unwrap();
        assert_eq!(master.next_frame(), ToMaster::Ready, "it was not asked");
        master.ask_for_relief();
        drop(connections.next());
        assert_eq!(master.next_frame(), ToMaster::Relieved);
    }

    /// A program may hold connections longer than anything else.
    #[test]
    fn a_connection_that_outlives_its_worker_is_closed_in_silence() {
        let (master, worker, listener) = listening(1);
        let _client = master.connect(WEB);
        let connection = listener.accept().unwrap().unwrap();
        drop((listener, worker));
        master.ask_for_relief();
        drop(connection);
        assert_eq!(counts(&master), [1, 1]);
    }

    #[test]
    fn requests_are_counted_by_whoever_answers_them() {
        let (master, worker) = FakeMaster::new();
        let (ours, theirs) = (worker.request_counter(), worker.request_counter());
        ours.count();
        thread::spawn(move || theirs.clone().count())
            .join()
            .unwrap();
        assert_eq!(master.score().unwrap().requests, 2);
    }

    fn listening(max_batch: u8) -> (FakeMaster, Worker, Listener) {
        let (master, worker) = FakeMaster::new();
        let options = ListenOptions {
            max_batch,
            ..ListenOptions::default()
        };
        let listener = worker.listen_with(WEB, options).unwrap();
        assert!(matches!(master.next_frame(), ToMaster::Listen(_)));
        (master, worker, listener)
    }

    /// Received and finished.
    fn counts(master: &FakeMaster) -> [u64; 2] {
        let score = master.score().unwrap();
        [score.received, score.finished]
    }

    fn pair() -> (UnixStream, Connection) {
        let (client, server) = UnixStream::pair().unwrap();
        let connection = Connection::new(Stream::Unix(server), Address::Unnamed);
        (client, connection)
    }

    const WEB: &str = "127.0.0.1:8000";
}
