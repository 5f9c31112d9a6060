//! A fate: what a test worker does to itself, and at which point of its life.
//!
//! Written `STATE:DEED` or `STATE:DEED:PACKET`, for instance `packet-unread:kill:7`: when there
//! is a packet and seven were received before. `none` lets it live, and `seed:NUMBER` draws one
//! fate for each incarnation.

use std::fmt;

use clap::ValueEnum;

use super::rng::Rng;

/// What happens, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fate {
    pub state: State,
    pub deed: Deed,
    /// How many packets were received before, where the state is about packets.
    pub packet: u64,
}

/// Points of a worker's life, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum State {
    /// In `main`, before anything else.
    Spawned,
    HelloSent,
    /// It has its accept queue.
    Listening,
    /// `Ready` is sent.
    Ready,
    /// A packet is in the accept queue.
    PacketUnread,
    /// The packet is received, nothing of the connection is read.
    PacketRead,
    RequestRead,
    HalfAnswered,
    /// The answer is written, the connection is open.
    Answered,
    /// `Unlisten` is sent, and not answered.
    Unlistened,
    /// `Goodbye` is sent, and not answered.
    GoodbyeSent,
    /// `Drain` is received, or the accept queue has ended.
    Draining,
    /// `Farewell` is received.
    Exiting,
}

/// What a worker does to itself and its master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Deed {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// Exits with [`EXIT_CODE`].
    Exit,
    /// Closes the control channel.
    Close,
    /// Shuts its end of the accept queue.
    ShutQueue,
    /// Has no descriptor left for a while.
    Fill,
    /// Sends what is no frame.
    Garbage,
    /// Sends a socket that lingers over unsent data, and garbage where the kernel refuses it.
    Descriptors,
    /// Receives one packet in a while from then on.
    Slow,
}

impl Deed {
    /// Whether what the worker has in hand may be lost with it.
    pub fn is_fatal(self) -> bool {
        match self {
            Deed::Kill | Deed::Exit | Deed::Close | Deed::Garbage | Deed::Descriptors => true,
            Deed::Stop | Deed::ShutQueue | Deed::Fill | Deed::Slow => false,
        }
    }
}

impl Fate {
    /// Reads a fate as it is written, for this incarnation.
    pub fn parse(text: &str, worker: u64) -> Option<Self> {
        let parts: Vec<_> = text.split(':').collect();
        let (state, deed, packet) = match parts[..] {
            ["none"] => return None,
            ["seed", seed] => return Self::drawn(seed.parse().expect("a seed"), worker),
            [state, deed] => (state, deed, "0"),
            [state, deed, packet] => (state, deed, packet),
            _ => panic!("unknown fate {text}"),
        };
        Some(Fate {
            state: State::from_str(state, false).expect("a state"),
            deed: Deed::from_str(deed, false).expect("a deed"),
            packet: packet.parse().expect("a number of packets"),
        })
    }

    /// The fate of an incarnation in a soak: `None` for those that are killed from outside.
    pub fn drawn(seed: u64, worker: u64) -> Option<Self> {
        let mut rng = Rng::seeded(seed ^ worker.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (state, deed) = match rng.below(100) {
            ..40 => return None,
            40..90 => (rng.pick(&STATES_OF_KILLS), Deed::Kill),
            _ => (State::PacketUnread, rng.pick(&OTHER_DEEDS)),
        };
        let is_about_packets = state >= State::PacketUnread;
        let packet = if is_about_packets {
            rng.below(MOST_PACKETS)
        } else {
            0
        };
        Some(Fate {
            state,
            deed,
            packet,
        })
    }

    /// As one word, never 0.
    pub fn to_word(self) -> u64 {
        let (state, deed) = (self.state as u64, self.deed as u64);
        1 | state << 8 | deed << 16 | self.packet << 24
    }

    pub fn from_word(word: u64) -> Option<Self> {
        let variant = |shift: u32| usize::try_from(word >> shift & 0xff).expect("a byte");
        (word != 0).then(|| Fate {
            state: State::value_variants()[variant(8)],
            deed: Deed::value_variants()[variant(16)],
            packet: word >> 24,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().expect("none is hidden").get_name())
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().expect("none is hidden").get_name())
    }
}

/// The file in the witnesses' directory that says that fate comes to nobody any more.
pub const CALM: &str = "calm";

/// What [`Deed::Exit`] exits with.
pub const EXIT_CODE: u8 = 23;

/// Draining and exiting come when a cluster stops; a soak has each of the others many times.
const STATES_OF_KILLS: [State; 11] = [
    State::Spawned,
    State::HelloSent,
    State::Listening,
    State::Ready,
    State::PacketUnread,
    State::PacketRead,
    State::RequestRead,
    State::HalfAnswered,
    State::Answered,
    State::Unlistened,
    State::GoodbyeSent,
];

const OTHER_DEEDS: [Deed; 8] = [
    Deed::Stop,
    Deed::Exit,
    Deed::Close,
    Deed::ShutQueue,
    Deed::Fill,
    Deed::Garbage,
    Deed::Descriptors,
    Deed::Slow,
];

/// How many packets a worker of a soak receives at most before its fate comes.
const MOST_PACKETS: u64 = 30;
