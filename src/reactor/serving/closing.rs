//! The end of a listener: nobody new is let in, who is on the way is served, then the socket closes.
//!
//! Closing it resets who has not been accepted by then. When the backlog is empty there may still
//! be clients in the middle of their hand-shake, which nothing shows: they are given a moment.

use std::time::{Duration, Instant};

use super::interest::Interested;
use super::{Admission, Serving, Turn};
use crate::sys::listening::{ListeningSocket, Stragglers};

/// How long an empty backlog is no sign that everybody was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grace {
    /// Nobody can come any more.
    Over,
    /// Somebody may. As long as they keep coming more are on the way, up to a limit.
    Running { until: Instant, latest: Instant },
}

impl Grace {
    fn begin(now: Instant) -> Self {
        Grace::Running {
            until: now + GRACE,
            latest: now + LONGEST_GRACE,
        }
    }

    /// A client has come.
    fn prolong(&mut self, now: Instant) {
        if let Grace::Running { until, latest } = self {
            *until = (now + GRACE).min(*latest);
        }
    }

    pub(super) fn is_over(self, now: Instant) -> bool {
        self.end().is_none_or(|end| end <= now)
    }

    fn end(self) -> Option<Instant> {
        match self {
            Grace::Over => None,
            Grace::Running { until, .. } => Some(until),
        }
    }
}

impl Serving {
    /// Lets no new client in; [`turn`](Self::turn) serves those who are on the way.
    pub(crate) fn close(&mut self, now: Instant) {
        let stragglers = match self.socket.as_mut().map(ListeningSocket::stop_admitting) {
            Some(Ok(stragglers)) => stragglers,
            Some(Err(err)) => {
                log::warn!("{}: clients may be reset while it closes: {err}", self.name);
                Stragglers::None
            }
            None => Stragglers::None,
        };
        self.stop_admitting_to_group(now);
        self.admission = Admission::Closing(match stragglers {
            Stragglers::HandShakes => Grace::begin(now),
            Stragglers::None => Grace::Over,
        });
        self.look_into_backlog();
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.admission, Admission::Closing(_))
    }

    /// Somebody was accepted.
    pub(super) fn note_client(&mut self, now: Instant) {
        if let Admission::Closing(grace) = &mut self.admission {
            grace.prolong(now);
        }
    }

    /// The backlog is empty: closes the socket if nobody can come any more.
    pub(super) fn note_empty(&mut self, turn: &mut Turn<'_>) {
        if let Admission::Closing(grace) = self.admission
            && grace.is_over(turn.now)
        {
            self.abandon(turn.registry);
        }
    }

    /// Looks a last time into the backlog when the grace is over.
    pub(super) fn end_grace(&mut self, now: Instant) {
        if self.grace_deadline().is_some_and(|end| end <= now) {
            self.look_into_backlog();
        }
    }

    /// When that is due; `None` while there is more to do before.
    pub(super) fn grace_deadline(&self) -> Option<Instant> {
        match (self.admission, self.interest) {
            (Admission::Closing(grace), Interested::Yes { readable: false }) => grace.end(),
            (Admission::Open | Admission::Paused | Admission::Closing(_), _) => None,
        }
    }

    fn look_into_backlog(&mut self) {
        if let Interested::Yes { readable } = &mut self.interest {
            *readable = true;
        }
    }
}

/// More than a round trip to most clients: a hand-shake that is under way is one packet short.
const GRACE: Duration = Duration::from_millis(50);

/// Less than the second after which a client that is not let in asks again.
const LONGEST_GRACE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{SocketAddr, TcpStream};

    use mio::Poll;
    use socket2::{Domain, Socket, Type};
    use worker_proto::frame::DispatchMode;
    use worker_proto::ids::ListenerId;
    use worker_proto::socket::Inbox;

    use super::*;
    use crate::config::listener::ListenerSpec;
    use crate::config::{ConnectionLimits, Overflow};
    use crate::reactor::clock;
    use crate::reactor::load::Loads;
    use crate::reactor::serving::{Rules, Tenure};
    use crate::sys;
    use crate::sys::listening::Keeping;

    /// A listener without workers: whoever is accepted is held.
    struct Closing {
        serving: Serving,
        poll: Poll,
        start: Instant,
    }

    impl Closing {
        fn of(bind: &str) -> Self {
            let spec = ListenerSpec::bind(bind.parse().unwrap());
            let socket = ListeningSocket::open(&spec, Keeping::Own).unwrap();
            let rules = Rules {
                overflow: Overflow::Wait,
                stall_timeout: None,
                hang_timeout: None,
                coalesce: Duration::ZERO,
            };
            let name = bind.to_owned();
            Closing {
                serving: Serving::new(
                    ListenerId(0),
                    name,
                    DispatchMode::HandOff,
                    rules,
                    Tenure::Declared,
                    socket,
                ),
                poll: Poll::new().unwrap(),
                start: clock::now(),
            }
        }

        fn close(&mut self) {
            self.serving.close(self.start);
            self.turn_after(Duration::ZERO);
        }

        fn turn_after(&mut self, passed: Duration) {
            let mut turn = Turn {
                now: self.start + passed,
                registry: self.poll.registry(),
                scratch: &mut Vec::new(),
                closing: &mut sys::closing::Closing::default(),
                inbox: &mut Inbox::new(),
                loads: &mut Loads::new(ConnectionLimits::default()),
                findings: &mut Vec::new(),
            };
            self.serving.turn(&mut turn);
        }

        fn deadline(&self) -> Option<Duration> {
            self.serving.deadline().map(|at| at - self.start)
        }

        fn is_open(&self) -> bool {
            self.serving.socket().is_some()
        }

        fn address(&self) -> SocketAddr {
            self.serving.address().inet().unwrap()
        }
    }

    /// A client whose kernel keeps the last packet of the hand-shake until there is something to
    /// send along, tcp(7).
    fn shake_hands_slowly(address: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_tcp_quickack(false).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.into()
    }

    #[test]
    fn a_listener_closes_when_nobody_has_come_for_a_moment() {
        let mut closing = Closing::of("127.0.0.1:0");
        closing.close();
        assert_eq!(closing.deadline(), Some(GRACE));
        closing.turn_after(GRACE - Duration::from_millis(1));
        assert!(closing.is_open() && !closing.serving.is_unfinished());
        closing.turn_after(GRACE);
        assert!(closing.serving.is_closed());
        assert_eq!(closing.deadline(), None);
    }

    #[test]
    fn a_hand_shake_that_is_finished_by_then_is_accepted() {
        let mut closing = Closing::of("127.0.0.1:0");
        let mut client = shake_hands_slowly(closing.address());
        closing.close();
        client.write_all(b"here").unwrap();
        closing.turn_after(GRACE);
        assert_eq!(closing.serving.held(), 1);
    }

    /// Nobody can be in the middle of a hand-shake.
    #[test]
    fn a_unix_listener_closes_at_once() {
        let mut closing = Closing::of(&format!("unix:@rr-closing-{}", std::process::id()));
        closing.close();
        assert!(closing.serving.is_closed());
    }

    #[test]
    fn the_grace_lasts_as_long_as_clients_come_and_not_for_ever() {
        let start = clock::now();
        let mut grace = Grace::begin(start);
        assert!(grace.is_over(start + GRACE));
        let mut now = start;
        while !grace.is_over(now + GRACE / 2) {
            now += GRACE / 2;
            grace.prolong(now);
        }
        assert_eq!(grace.end(), Some(start + LONGEST_GRACE));
    }
}
