//! The frames: everything that a master and its processes say to each other. Data only.
//!
//! The order of variants and fields is the wire format. It is append-only: a new variant goes to
//! the end of its enum, and `Hello` and its `protocol` stay first for ever, so that two versions
//! that do not understand each other can at least say so.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::{Address, AddressRef};
use crate::ids::{Generation, ListenerId, RequestId, Role, Slot, WorkerId};
use crate::job::{JobRun, JobSpec};
use crate::message::{Deliver, MessageId, More, Peer, Receipt, Send};

/// What a worker or an agent sends on its control channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMaster {
    /// The first frame, sent once.
    Hello(Hello),
    /// Asks for a listener; answered by `Listening` or `NotListening` with the same request.
    Listen(Listen),
    /// Wants no more connections of this listener; answered by `Unlistened`.
    Unlisten {
        /// The listener to leave.
        listener: ListenerId,
    },
    /// Can serve; sent once, after the listeners it needs are there.
    Ready,
    /// Answers `Ping`.
    Pong {
        /// The number of the `Ping`.
        token: u64,
    },
    /// The last frame: this process is about to exit of its own accord. Answered by `Farewell`.
    Goodbye,
    /// Cannot open as many descriptors as the next packet of this accept queue has, and has left
    /// it there: the master gives what waits to others, and nothing more for a moment.
    NoRoom {
        /// The listener whose connections it cannot take.
        listener: ListenerId,
    },
    /// A connection was closed, and the master had asked on the scoreboard to be told.
    Relieved,
    /// Something in this process went wrong: it takes nothing new, finishes what it has, and wants
    /// to be replaced. Answered by `Drain`; what it has not received is for others.
    Retiring {
        /// What went wrong, for a person; at most [`MAX_REASON_BYTES`] of it are read.
        reason: String,
    },
    /// Something went wrong, and was survived: for the log and the counters of the master.
    Report {
        /// What went wrong, for a person; at most [`MAX_REASON_BYTES`] of it are read.
        problem: String,
    },
    /// A message for others, or its beginning.
    Send(Send),
    /// A further piece of the last message sent.
    SendMore(More),
    /// The program has taken messages: this much of the
    /// [`RECEIVE_WINDOW_BYTES`](crate::message::RECEIVE_WINDOW_BYTES) is free again.
    Taken {
        /// Of payload and overhead.
        bytes: u64,
    },
    /// Wants `Peers`, now and whenever something changes.
    WatchPeers,
    /// Offers to lead; answered by `Leader` when somebody does, or by `NotLeading`.
    Lead {
        /// What there is to lead.
        name: String,
    },
    /// Does not offer it any more.
    Resign {
        /// What was led.
        name: String,
    },
    /// Wants `Leader`, now and whenever it changes.
    Follow {
        /// What is followed.
        name: String,
    },
    /// Wants the value under a key, now and whenever it changes.
    Watch {
        /// The key.
        key: String,
    },
    /// The program has taken over a value.
    Adopted {
        /// The key.
        key: String,
        /// The version that is in use from now on.
        version: u64,
    },
    /// Wants a job run, by itself or by others; answered by `JobRegistered`.
    RegisterJob(JobSpec),
    /// Wants a job that it registered run no more.
    UnregisterJob {
        /// The job.
        name: String,
    },
    /// A run is finished.
    JobDone {
        /// The run.
        run: u64,
        /// What came of it, or what went wrong, for a person; at most
        /// [`MAX_RESULT_BYTES`](crate::job::MAX_RESULT_BYTES) of either are kept.
        outcome: Result<String, String>,
    },
    /// Wants everybody to open their log files again, the sender included.
    ReopenLogs,
    /// Asks for a listener in the name of a program that knows nothing of its master; sent by the
    /// library that is preloaded to it, and by any process of the program that listens. Answered by
    /// `Listening` or `NotListening` with the same request, and by nothing else: after it such a
    /// process is sent no frame that it has not asked for. No `Hello` comes before it.
    Attach(Attach),
    /// Connections of this listener are to have these options from now on; only after `Attach`.
    Inherit {
        /// The listener.
        listener: ListenerId,
        /// What was set on it.
        options: Vec<InheritedOption>,
    },
    /// Wants so large a share of the connections, where the master weighs: a worker of weight 3 gets
    /// three times what one of weight 1 gets. The master makes it 1 to 1000.
    Weight {
        /// From now on.
        weight: u32,
    },
}

/// What the master sends on a control channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromMaster {
    /// Answers `Hello`. A worker's carries one descriptor, its page of the
    /// [`scoreboard`](crate::scoreboard), unless the master could not make one; an agent's carries
    /// none.
    Welcome(Welcome),
    /// Answers `Hello` when the two cannot work together; the channel is closed after it.
    Rejected {
        /// What is wrong, for a person.
        reason: String,
    },
    /// Answers `Listen`; carries the accept queue, and before it, unless the mode is `HandOff`, the
    /// listening socket: over the queue comes then what waited in a socket that lost its worker, and
    /// its end is the end of the listener. Answers `Attach`; carries then the queue or the socket,
    /// never both, and the process's page of the [`scoreboard`](crate::scoreboard) comes as a second one, unless the master could not
    /// make it.
    Listening(Listening),
    /// Answers `Listen` when it cannot be had.
    NotListening {
        /// The question's number.
        request: RequestId,
        /// The error number of `bind(2)` or of the master's policy, such as `EADDRINUSE`.
        errno: i32,
        /// What is wrong, for a person.
        reason: String,
    },
    /// Answers `Unlisten`: nothing more will come; the worker may close its end.
    Unlistened {
        /// The listener that was left.
        listener: ListenerId,
    },
    /// All processes of the cluster are ready. A newcomer gets it on its own.
    ClusterReady,
    /// Take nothing new, finish, exit. Every accept queue ends after what is still in it.
    Drain {
        /// How long until the master sends SIGTERM.
        within: Duration,
    },
    /// Asks for a sign of life.
    Ping {
        /// To be sent back.
        token: u64,
    },
    /// Answers `Goodbye`: everything sent before it was read.
    Farewell,
    /// A message, or its beginning.
    Deliver(Deliver),
    /// A further piece of the message that came last.
    DeliverMore(More),
    /// What became of a message.
    Receipt {
        /// The sender's number for it.
        message: MessageId,
        /// What became of it.
        receipt: Receipt,
    },
    /// Who has joined the cluster, or changed, or is gone since the last of these; at first all who
    /// are there. At most [`MAX_PEERS`](crate::message::MAX_PEERS) at once.
    Peers(Vec<Peer>),
    /// Who leads from now on.
    Leader {
        /// What is led.
        name: String,
        /// Raised whenever the leader changes, counted from 1.
        term: u64,
        /// The leader, if there is one now.
        leader: Option<WorkerId>,
    },
    /// Answers `Lead` and `Follow` when that cannot be.
    NotLeading {
        /// What was asked for.
        name: String,
        /// What is wrong, for a person.
        reason: String,
    },
    /// Answers `Watch` when there is nothing under the key; its value comes as a message of the
    /// kind [`Kind::Value`](crate::message::Kind::Value) when there is one.
    NoValue {
        /// The key.
        key: String,
    },
    /// Answers `RegisterJob`.
    JobRegistered {
        /// The job.
        name: String,
        /// What is wrong with it, for a person; nothing if it is registered.
        problem: Option<String>,
    },
    /// Run this; answered by `JobDone`.
    Job(JobRun),
    /// A run took too long, and nobody waits for its result any more.
    JobCancelled {
        /// The run.
        run: u64,
    },
    /// Open your log files again.
    ReopenLogs,
}

/// Who a process is and what it speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::handshake::PROTOCOL`] of the sender.
    pub protocol: u16,
    /// The sender's pid; the master checks it against `SCM_CREDENTIALS`.
    pub pid: u32,
    /// Name and version of the library that speaks, for the log: `worker-proto 0.1.0`.
    pub sdk: String,
}

/// Who a process is in the cluster, and what there is to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`crate::handshake::PROTOCOL`] of the master.
    pub protocol: u16,
    /// This incarnation.
    pub worker: WorkerId,
    /// Its position.
    pub slot: Slot,
    /// The version of the program that it belongs to.
    pub generation: Generation,
    /// What it is for.
    pub role: Role,
    /// How many slots its role has: slots are `0..count`.
    pub count: u32,
    /// The listeners declared with `--listen`, in the order of the command line.
    pub listeners: Vec<DeclaredListener>,
    /// What the process has to keep to.
    pub limits: Limits,
}

/// A listener that the master bound before any worker asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredListener {
    /// The name given with `--listen NAME=ADDRESS`, otherwise the address as it was given.
    pub name: String,
    /// The address really bound (port 0 is already replaced).
    pub address: Address,
}

/// What a process has to keep to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How long a process may go on after it lost its master.
    pub orphan_grace: Duration,
    /// The longest payload of a message.
    pub max_message_bytes: u64,
}

/// Asks for a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// Chosen by the worker; comes back with the answer.
    pub request: RequestId,
    /// A declared listener's name, or an address such as `127.0.0.1:8000` or `unix:/run/app.sock`.
    pub target: String,
    /// What the worker needs.
    pub options: ListenOptions,
}

/// What a worker needs of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenOptions {
    /// Connections arrive with `O_NONBLOCK` set: the flag belongs to the open file description
    /// and travels with a passed descriptor, so the master must accept with the right one.
    pub nonblocking: bool,
    /// How many connections one packet may carry, 1 to [`MAX_BATCH`]. What was received counts as
    /// started and cannot be taken back, so ask only for what can be started at once; 1 for a
    /// queue that is polled like a listening socket.
    pub max_batch: u8,
    /// `listen(2)`'s backlog, for a listener that is bound by this request.
    pub backlog: Option<u32>,
    /// `IPV6_V6ONLY`, for a listener that is bound by this request.
    pub v6only: Option<bool>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            nonblocking: false,
            max_batch: 1,
            backlog: None,
            v6only: None,
        }
    }
}

/// Asks for a listener in the name of a program that knows nothing of its master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// [`crate::handshake::PROTOCOL`] of the sender.
    pub protocol: u16,
    /// The sender's pid; the master checks it against `SCM_CREDENTIALS`.
    pub pid: u32,
    /// Name and version of the library, for the log: `rr-preload 0.1.0`.
    pub library: String,
    /// The question. Its target is an address; its number is the asking thread's id, so that several
    /// processes that share the channel know whose the answer is.
    pub listen: Listen,
    /// What the program has set on its socket, for the connections of a listener that is bound by
    /// this request.
    pub options: Vec<InheritedOption>,
    /// The permissions of a Unix socket's file that is made by this request: `0777 & !umask`.
    pub file_mode: u32,
}

/// An option of a listening socket that its connections inherit, see `socket(7)` and `tcp(7)`, or
/// that says how it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InheritedOption {
    /// `TCP_NODELAY`.
    NoDelay(bool),
    /// `SO_KEEPALIVE`.
    KeepAlive(bool),
    /// `TCP_KEEPIDLE`, in seconds.
    KeepIdle(u32),
    /// `TCP_KEEPINTVL`, in seconds.
    KeepInterval(u32),
    /// `TCP_KEEPCNT`.
    KeepCount(u32),
    /// `TCP_USER_TIMEOUT`, in milliseconds.
    UserTimeout(u32),
    /// `SO_RCVBUF` as it was set: the kernel doubles it.
    ReceiveBuffer(u32),
    /// `SO_SNDBUF` as it was set: the kernel doubles it.
    SendBuffer(u32),
    /// `SO_LINGER`: whether, and for how many seconds.
    Linger(Option<u32>),
    /// `TCP_DEFER_ACCEPT`, in seconds; 0 is off.
    DeferAccept(u32),
    /// `TCP_FASTOPEN`: how many may wait; 0 is off.
    FastOpen(u32),
    /// `TCP_MAXSEG`.
    MaxSegment(u32),
    /// `IP_TOS`.
    TypeOfService(u32),
    /// `IPV6_TCLASS`.
    TrafficClass(u32),
}

/// A listener as the worker has it from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// The question's number.
    pub request: RequestId,
    /// The listener's identity, for `Unlisten`.
    pub listener: ListenerId,
    /// The listener's name.
    pub name: String,
    /// The address really bound.
    pub address: Address,
    /// How connections come; says what the descriptor is.
    pub mode: DispatchMode,
}

/// How connections reach the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DispatchMode {
    /// The master accepts; the descriptor is the receiving end of an accept queue.
    HandOff,
    /// Whichever worker is first accepts; the descriptor is the listening socket itself, which all
    /// workers share.
    Shared,
    /// The kernel chooses the worker by a hash of the addresses; the descriptor is this slot's own
    /// listening socket of an `SO_REUSEPORT` group, see `socket(7)`.
    ReusePort,
}

/// One packet of an accept queue. Carries exactly `peers.len()` descriptors, in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Counts the packets of this queue from 0.
    pub sequence: u64,
    /// The address of each connection's client.
    pub peers: Vec<Address>,
    /// Zeros that make every packet of a queue count the same in the kernel, where a narrow window
    /// needs it. Means nothing.
    pub padding: Vec<u8>,
}

/// A [`Connections`] frame with a single connection, as it is read in place by
/// [`decode_one_connection`](crate::codec::decode_one_connection).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneConnection<'a> {
    /// The packet's number.
    pub sequence: u64,
    /// The address of the client.
    pub peer: AddressRef<'a>,
}

/// How much of a worker's own words about what went wrong is of use to anybody.
pub const MAX_REASON_BYTES: usize = 4 * 1024;

/// The most connections that one packet may carry.
pub const MAX_BATCH: u8 = 64;

/// Room for the largest `Connections` frame in bytes: [`MAX_BATCH`] peers, each with the longest
/// address there is.
pub const MAX_CONNECTIONS_BYTES: usize = 16 * 1024;
