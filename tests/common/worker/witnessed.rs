//! `witness DIR FATE`: serves with a witness in DIR until its fate comes, see [`Fate`].
//!
//! One thread receives, one packet at a time and only when a thread is free to answer: what is
//! not in hand is in the accept queue. In a run that is calm (`DIR/calm` is there) no fate comes
//! any more.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::process::{ExitCode, exit, id};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{self, ControlMessage, MsgFlags, recv, send, sendmsg};
use nix::unistd::Pid;
use socket2::SockRef;
use worker_proto::frame::{Connections, ListenOptions, MAX_CONNECTIONS_BYTES, ToMaster};
use worker_proto::{Connection, Listener, Worker, codec, env, handshake};

use crate::evidence::fate::{CALM, Deed, EXIT_CODE, Fate, State};
use crate::evidence::verdict::THREADS;
use crate::evidence::wire::{ANSWER_BYTES, Answer, REQUEST_BYTES};
use crate::evidence::witness::{Place, Witness};

pub(crate) fn live(directory: &str, fate: &str) -> ExitCode {
    let directory = Path::new(directory);
    let incarnation = crate::number(env::WORKER_ID) as u64;
    let life = Life {
        witness: Witness::open(directory, incarnation).expect("a page for the witness"),
        fate: Fate::parse(fate, incarnation).filter(|_| !directory.join(CALM).exists()),
        directory,
        incarnation,
        control: RawFd::try_from(crate::number(env::CONTROL_FD)).expect("a descriptor"),
        is_slow: AtomicBool::new(false),
    };
    life.reach(State::Spawned, 0, None);
    if life.is_due(State::HelloSent, 0) {
        life.say(&ToMaster::Hello(handshake::hello()));
        life.reach(State::HelloSent, 0, None);
    }
    if life.fate.is_some_and(|fate| fate.deed == Deed::Fill) {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("RLIMIT_NOFILE");
        setrlimit(Resource::RLIMIT_NOFILE, FEW_DESCRIPTORS, hard).expect("setrlimit");
    }
    let worker = Worker::connect().expect("connect");
    let options = ListenOptions {
        nonblocking: true,
        ..ListenOptions::default()
    };
    let listener = worker.listen_with(&worker.declared()[0].name, options);
    let listener = listener.expect("listen");
    life.reach(State::Listening, 0, Some(&listener));
    worker.ready().expect("ready");
    life.reach(State::Ready, 0, Some(&listener));

    let (hand_over, in_hand) = bounded(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| life.answer_all(&in_hand));
        }
        let receiving = Receiving {
            life: &life,
            worker: &worker,
            listener,
            frame: vec![0; MAX_CONNECTIONS_BYTES],
        };
        receiving.run(|place, connection| {
            hand_over
                .send((place, connection))
                .expect("a thread that answers");
        });
        drop(hand_over);
    });
    let code = worker.leave();
    life.reach(State::Exiting, 0, None);
    code
}

/// A worker with its witness and its fate.
struct Life<'a> {
    witness: Witness,
    fate: Option<Fate>,
    directory: &'a Path,
    incarnation: u64,
    control: RawFd,
    is_slow: AtomicBool,
}

/// The one thread that receives.
struct Receiving<'a> {
    life: &'a Life<'a>,
    worker: &'a Worker,
    listener: Listener,
    frame: Vec<u8>,
}

impl Receiving<'_> {
    /// Receives until there is nothing more to come.
    fn run(mut self, hand_over: impl Fn(Place, Connection)) {
        let life = self.life;
        let mut has_drained = false;
        loop {
            self.wait(!has_drained);
            if !has_drained && self.worker.draining().is_draining() {
                has_drained = true;
                life.reach(State::Draining, 0, Some(&self.listener));
            }
            if life.is_slow.load(Ordering::Relaxed) {
                pause(A_WHILE);
            }
            let packet = life.witness.received_so_far();
            if let Some(peer) = self.peek() {
                life.reach(State::PacketUnread, packet, Some(&self.listener));
                if life.is_due(State::Unlistened, packet) {
                    drop(self.listener);
                    return life.reach(State::Unlistened, packet, None);
                }
                if life.is_due(State::GoodbyeSent, packet) {
                    life.say(&ToMaster::Goodbye);
                    life.reach(State::GoodbyeSent, packet, Some(&self.listener));
                }
                life.witness.expect(peer);
            }
            match self.listener.accept() {
                Ok(Some(connection)) => {
                    let place = life.witness.received(address(&connection));
                    life.reach(State::PacketRead, packet, Some(&self.listener));
                    hand_over(place, connection);
                }
                Ok(None) => {
                    // The end of the queue may come before the order to drain.
                    return life.reach(State::Draining, 0, Some(&self.listener));
                }
                Err(err) => {
                    life.witness.was_not_there();
                    if err.raw_os_error() == Some(libc::EMFILE) {
                        // The packet stays where it is, and readable.
                        pause(MOMENT);
                    } else if err.kind() != io::ErrorKind::WouldBlock {
                        panic!("accept: {err}");
                    }
                }
            }
        }
    }

    /// Waits for a packet, the queue's end, or the order to drain.
    fn wait(&self, for_drain: bool) {
        let draining = self.worker.draining();
        let mut polled = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        if for_drain {
            polled.push(PollFd::new(draining.as_fd(), PollFlags::POLLIN));
        }
        let _ = poll(&mut polled, PollTimeout::NONE);
    }

    /// Whose connection the next packet carries, which stays in the queue. Without room for
    /// descriptors none is installed.
    fn peek(&mut self) -> Option<SocketAddrV4> {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let len = recv(self.listener.as_raw_fd(), &mut self.frame, flags).unwrap_or(0);
        let packet: Connections = codec::decode(&self.frame[..len]).ok()?;
        let [peer] = &packet.peers[..] else {
            panic!("a packet with {} connections", packet.peers.len());
        };
        Some(v4(peer.inet()))
    }
}

impl Life<'_> {
    fn answer_all(&self, in_hand: &Receiver<(Place, Connection)>) {
        for (place, connection) in in_hand {
            // A client that is gone is the client's affair.
            let _ = self.answer(place, &connection);
        }
    }

    fn answer(&self, place: Place, mut connection: &Connection) -> io::Result<()> {
        let packet = place.packet();
        connection.set_nonblocking(false)?;
        let mut request = [0; REQUEST_BYTES];
        connection.read_exact(&mut request)?;
        self.reach(State::RequestRead, packet, None);
        let answer = Answer::to(&request, self.incarnation, id()).encode();
        if self.is_due(State::HalfAnswered, packet) {
            connection.write_all(&answer[..ANSWER_BYTES / 2])?;
            self.reach(State::HalfAnswered, packet, None);
            return connection.write_all(&answer[ANSWER_BYTES / 2..]);
        }
        connection.write_all(&answer)?;
        self.witness.answered(place);
        self.reach(State::Answered, packet, None);
        Ok(())
    }

    /// Whether fate comes here.
    fn is_due(&self, state: State, packet: u64) -> bool {
        self.fate
            .is_some_and(|fate| fate.state == state && fate.packet == packet)
            && !self.directory.join(CALM).exists()
    }

    /// The worker is at that point of its life: does what its fate is there.
    fn reach(&self, state: State, packet: u64, listener: Option<&Listener>) {
        let Some(fate) = self.fate.filter(|_| self.is_due(state, packet)) else {
            return;
        };
        self.witness.fulfil(fate);
        match fate.deed {
            Deed::Kill => signal_itself(Signal::SIGKILL),
            Deed::Stop => signal_itself(Signal::SIGSTOP),
            Deed::Exit => leave_at_once(),
            Deed::Close => {
                socket::shutdown(self.control, socket::Shutdown::Both).expect("shut the channel");
            }
            Deed::ShutQueue => {
                let queue = listener.expect("a listener").as_raw_fd();
                socket::shutdown(queue, socket::Shutdown::Read).expect("shut the queue");
            }
            Deed::Fill => fill(),
            Deed::Garbage => self.babble(),
            Deed::Descriptors => self.send_descriptors(),
            Deed::Slow => self.is_slow.store(true, Ordering::Relaxed),
        }
    }

    /// Sends a frame on the control channel, past the SDK.
    fn say(&self, frame: &ToMaster) {
        let mut bytes = Vec::new();
        codec::encode(frame, &mut bytes).expect("a small frame");
        send(self.control, &bytes, MsgFlags::MSG_NOSIGNAL).expect("send a frame");
    }

    fn babble(&self) {
        send(self.control, &[0xff; 100], MsgFlags::MSG_NOSIGNAL).expect("send garbage");
    }

    /// A socket that lingers over unsent data blocks whoever closes it last, see `socket(7)`.
    fn send_descriptors(&self) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let lingering = TcpStream::connect(server.local_addr().expect("an address"));
        let lingering = lingering.expect("connect");
        let socket = SockRef::from(&lingering);
        socket.set_linger(Some(LINGER)).expect("SO_LINGER");
        socket.set_nonblocking(true).expect("O_NONBLOCK");
        while (&lingering).write(&[0; 65536]).is_ok() {}
        socket.set_nonblocking(false).expect("no O_NONBLOCK");
        let descriptors = [lingering.as_raw_fd()];
        let sent = sendmsg::<()>(
            self.control,
            &[io::IoSlice::new(&[0xff])],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        // This process's copy goes without waiting; the master's, if it has one, is the last.
        if sent.is_err() {
            socket.set_linger(None).expect("SO_LINGER");
            self.babble();
        }
    }
}

/// The signal is delivered before the call returns to this thread.
fn signal_itself(signal: Signal) {
    kill(Pid::this(), signal).expect("signal this process");
}

#[allow(clippy::disallowed_methods, reason = "what it is told to do")]
fn leave_at_once() -> ! {
    exit(EXIT_CODE.into())
}

/// Opens what may be opened, for a while.
fn fill() {
    let null = std::iter::from_fn(|| File::open("/dev/null").ok());
    let full: Vec<_> = null.collect();
    thread::spawn(move || {
        pause(A_WHILE);
        drop(full);
    });
}

fn address(connection: &Connection) -> SocketAddrV4 {
    v4(connection.peer().inet())
}

fn v4(peer: Option<SocketAddr>) -> SocketAddrV4 {
    match peer {
        Some(SocketAddr::V4(peer)) => peer,
        other => panic!("a client without an IPv4 address: {other:?}"),
    }
}

#[allow(clippy::disallowed_methods, reason = "being slow is what it is told")]
fn pause(time: Duration) {
    thread::sleep(time);
}

/// So few that the SDK is always near the limit, and looks before it receives.
const FEW_DESCRIPTORS: u64 = 64;
const A_WHILE: Duration = Duration::from_millis(50);
const MOMENT: Duration = Duration::from_millis(1);
const LINGER: Duration = Duration::from_secs(10);
