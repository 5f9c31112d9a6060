//! What the service manager is told, see `sd_notify(3)`: how far the cluster has come, how it stands,
//! and that the loop turns.
//!
//! Nobody is waited for. What the manager has no room for is told later, states in their order;
//! of the statuses only the last.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::clock;
use crate::sys::notify::{NotifySocket, Unsent};

/// The service that this master is.
#[derive(Debug)]
pub(crate) struct Service {
    socket: NotifySocket,
    phase: Phase,
    /// Changes of the phase that were not told yet.
    untold: VecDeque<String>,
    status: Status,
    /// Between two signs of life, and when the next is due: at once, to begin with.
    watchdog: Option<(Duration, Option<Instant>)>,
    /// When to try again, if the manager had no room.
    retry: Option<Instant>,
    is_refused: bool,
}

/// How far the service is, to its manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// It is about to serve again, or to end: whoever waits for that shall be patient until
    /// told for the next time, at this moment.
    Busy {
        extend: Option<Instant>,
    },
    /// As above, and the end is near whatever comes.
    Stopping {
        extend: Option<Instant>,
    },
}

/// The line that people see in `systemctl status`.
#[derive(Debug, Default)]
struct Status {
    text: String,
    is_told: bool,
}

/// Something to be told now.
enum Message {
    Phase(String),
    Status(String),
    Extension,
    Watchdog,
}

impl Service {
    /// A service that is starting. With a watchdog it gives a sign of life twice in that time.
    pub(crate) fn new(socket: NotifySocket, watchdog: Option<Duration>) -> Self {
        Service {
            socket,
            phase: Phase::Busy { extend: None },
            untold: VecDeque::new(),
            status: Status {
                text: String::new(),
                is_told: true,
            },
            watchdog: watchdog.map(|period| (period / 2, None)),
            retry: None,
            is_refused: false,
        }
    }

    /// The cluster is ready: for the first time, or again after [`reloading`](Self::reloading).
    pub(crate) fn ready(&mut self) {
        if !matches!(self.phase, Phase::Stopping { .. }) {
            self.phase = Phase::Serving;
            self.announce(format!("READY=1\nMAINPID={}", std::process::id()));
        }
    }

    /// A reload begins; [`ready`](Self::ready) ends it, however it went.
    pub(crate) fn reloading(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Busy { extend: None };
            // So that the manager knows this reload from one before it asked.
            let since = clock::monotonic().as_micros();
            self.announce(format!("RELOADING=1\nMONOTONIC_USEC={since}"));
        }
    }

    /// A stop begins, or is hastened.
    pub(crate) fn stopping(&mut self) {
        if !matches!(self.phase, Phase::Stopping { .. }) {
            self.phase = Phase::Stopping { extend: None };
            self.announce("STOPPING=1".to_owned());
        }
    }

    /// How the cluster stands now.
    pub(crate) fn show(&mut self, text: String) {
        if self.status.text != text {
            self.status = Status {
                text,
                is_told: false,
            };
        }
    }

    /// Tells what is to be told.
    pub(crate) fn turn(&mut self, now: Instant) {
        if self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        self.retry = None;
        while let Some(message) = self.due(now) {
            match self.socket.send(&message.text()) {
                Ok(()) => self.is_refused = false,
                Err(Unsent::Full) => {
                    self.retry = Some(now + RETRY_AFTER);
                    return;
                }
                Err(err @ Unsent::Refused(_)) => {
                    if !self.is_refused {
                        log::warn!("tell the service manager: {err}");
                    }
                    self.is_refused = true;
                }
            }
            self.told(&message, now);
        }
    }

    /// When the next turn is needed at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let sign_of_life = self.watchdog.and_then(|(_, next)| next);
        self.retry
            .or_else(|| sign_of_life.into_iter().chain(self.extension()).min())
    }

    fn announce(&mut self, change: String) {
        // The manager has read nothing for long: the present matters more than how it came.
        self.untold.truncate(MOST_UNTOLD - 1);
        self.untold.push_back(change);
    }

    fn due(&self, now: Instant) -> Option<Message> {
        let is_due = |next: Option<Instant>| next.is_none_or(|next| next <= now);
        let status = (!self.status.is_told).then(|| format!("STATUS={}", self.status.text));
        match (self.untold.front(), status) {
            (Some(change), _) => Some(Message::Phase(change.clone())),
            (None, Some(status)) => Some(Message::Status(status)),
            (None, None) if self.is_busy() && is_due(self.extension()) => Some(Message::Extension),
            (None, None) => {
                let (_, next) = self.watchdog?;
                is_due(next).then_some(Message::Watchdog)
            }
        }
    }

    fn told(&mut self, message: &Message, now: Instant) {
        match message {
            Message::Phase(_) => {
                self.untold.pop_front();
            }
            Message::Status(_) => self.status.is_told = true,
            Message::Extension => match &mut self.phase {
                Phase::Busy { extend } | Phase::Stopping { extend } => {
                    *extend = Some(now + EXTEND_EVERY);
                }
                Phase::Serving => {}
            },
            Message::Watchdog => {
                if let Some((pause, next)) = &mut self.watchdog {
                    *next = Some(now + *pause);
                }
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.phase != Phase::Serving
    }

    /// When the manager is next asked for patience.
    fn extension(&self) -> Option<Instant> {
        match self.phase {
            Phase::Serving => None,
            Phase::Busy { extend } | Phase::Stopping { extend } => extend,
        }
    }
}

impl Message {
    fn text(&self) -> String {
        match self {
            Message::Phase(text) | Message::Status(text) => text.clone(),
            Message::Extension => format!("EXTEND_TIMEOUT_USEC={}", EXTEND_BY.as_micros()),
            Message::Watchdog => "WATCHDOG=1".to_owned(),
        }
    }
}

/// How soon a manager that had no room is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// More changes than a manager that reads at all ever has before it.
const MOST_UNTOLD: usize = 16;

/// While the cluster starts, reloads or stops, which its own deadlines bound, the manager's
/// timeout is never nearer than the difference of these. It never comes nearer because of them.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTEND_BY: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use tempfile::TempDir;

    use super::*;

    /// A service, its manager, and a clock that is advanced.
    struct Script {
        service: Service,
        manager: UnixDatagram,
        now: Instant,
        _directory: TempDir,
    }

    impl Script {
        fn with_watchdog(watchdog: Option<Duration>) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let manager = UnixDatagram::bind(&path).unwrap();
            manager.set_nonblocking(true).unwrap();
            let socket = NotifySocket::named(path.as_os_str()).unwrap();
            Script {
                service: Service::new(socket, watchdog),
                manager,
                now: clock::now(),
                _directory: directory,
            }
        }

        fn serving() -> Self {
            let mut script = Script::with_watchdog(None);
            script.service.ready();
            script.turn();
            script
        }

        /// Turns; answers what the manager gets.
        fn turn(&mut self) -> Vec<String> {
            self.service.turn(self.now);
            let mut buffer = [0; 512];
            std::iter::from_fn(|| {
                let len = self.manager.recv(&mut buffer).ok()?;
                Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
            })
            .collect()
        }

        /// Turns at the service's own deadline, if that is after so long.
        fn turn_after(&mut self, pause: Duration) -> Vec<String> {
            assert_eq!(self.service.deadline(), Some(self.now + pause));
            self.now += pause;
            self.turn()
        }
    }

    fn ready() -> String {
        format!("READY=1\nMAINPID={}", std::process::id())
    }

    const PATIENCE: &str = "EXTEND_TIMEOUT_USEC=15000000";

    #[test]
    fn the_manager_is_asked_for_patience_until_the_cluster_is_ready() {
        let mut script = Script::with_watchdog(None);
        assert_eq!(script.turn(), [PATIENCE]);
        assert_eq!(script.turn(), [""; 0]);
        assert_eq!(script.turn_after(EXTEND_EVERY), [PATIENCE]);
        script.service.ready();
        assert_eq!(script.turn(), [ready()]);
        assert_eq!(script.service.deadline(), None);
    }

    #[test]
    fn a_stop_is_told_once_and_goes_on_as_long_as_it_takes() {
        let mut script = Script::serving();
        script.service.stopping();
        script.service.stopping();
        assert_eq!(script.turn(), ["STOPPING=1", PATIENCE]);
        assert_eq!(script.turn_after(EXTEND_EVERY), [PATIENCE]);
        script.service.ready();
        script.service.reloading();
        assert_eq!(script.turn(), [""; 0]);
    }

    #[test]
    fn a_reload_says_when_it_began() {
        let mut script = Script::serving();
        let before = clock::monotonic().as_micros();
        script.service.reloading();
        let told = script.turn();
        let since = told[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let since: u128 = since.expect("the moment").parse().unwrap();
        assert!((before..=clock::monotonic().as_micros()).contains(&since));
        assert_eq!(told[1..], [PATIENCE]);
        script.service.ready();
        assert_eq!(script.turn(), [ready()]);
    }

    #[test]
    fn of_what_was_shown_between_two_turns_the_last_is_told() {
        let mut script = Script::serving();
        script.service.show("3 of 4".to_owned());
        script.service.show("4 of 4".to_owned());
        assert_eq!(script.turn(), ["STATUS=4 of 4"]);
        script.service.show("4 of 4".to_owned());
        assert_eq!(script.turn(), [""; 0]);
    }

    #[test]
    fn signs_of_life_come_twice_as_often_as_they_must() {
        let mut script = Script::with_watchdog(Some(Duration::from_secs(3)));
        script.service.ready();
        assert_eq!(script.turn(), [ready(), "WATCHDOG=1".to_owned()]);
        for _ in 0..3 {
            let told = script.turn_after(Duration::from_millis(1500));
            assert_eq!(told, ["WATCHDOG=1"]);
        }
    }

    #[test]
    fn a_manager_that_had_no_room_hears_it_later_and_in_order() {
        let mut script = Script::serving();
        let (service, now) = (&mut script.service, script.now);
        for turn in 0.. {
            service.show(format!("{turn}"));
            service.turn(now);
            if service.retry.is_some() {
                break;
            }
        }
        service.reloading();
        service.ready();
        service.show("the last".to_owned());
        service.turn(now);
        let told = script.turn();
        assert!(told.iter().all(|message| message.starts_with("STATUS=")));
        let told = script.turn_after(RETRY_AFTER);
        assert!(told[0].starts_with("RELOADING=1\n"), "{told:?}");
        assert_eq!(told[1..], [ready(), "STATUS=the last".to_owned()]);
    }

    #[test]
    fn what_a_manager_does_not_hear_for_long_is_bounded() {
        let mut script = Script::serving();
        for _ in 0..100 {
            script.service.reloading();
            script.service.ready();
        }
        assert_eq!(script.service.untold.len(), MOST_UNTOLD);
        let mut told = script.turn();
        // As many messages as fit in a socket depends on `net.unix.max_dgram_qlen`.
        script.now += RETRY_AFTER;
        told.extend(script.turn());
        assert_eq!(told.len(), MOST_UNTOLD);
        assert_eq!(told.last(), Some(&ready()));
    }

    #[test]
    fn a_manager_that_is_gone_costs_nothing() {
        let mut script = Script::serving();
        script.manager = UnixDatagram::unbound().unwrap();
        script.service.show("nobody".to_owned());
        script.service.turn(script.now);
        assert_eq!(script.service.deadline(), None);
    }
}
