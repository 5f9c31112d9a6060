//! Watching: a thread that says when a file of `--watch` has changed, and nothing has since for a
//! while. The loop then does what a reload by hand would do.

mod tree;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::tree::Tree;
use super::{Reactor, clock};
use crate::config::watch::Watch;
use crate::printable::printable;
use crate::sys::describe;

/// The way to the thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    thread: Option<Thread>,
    waker: Arc<Waker>,
}

#[derive(Debug)]
struct Thread {
    news: Receiver<Changed>,
    /// Its other end is at its end when this is dropped.
    _end: UnixStream,
}

/// What has changed between one silence and the next.
#[derive(Debug)]
struct Changed {
    first: PathBuf,
    /// How many besides.
    more: usize,
}

impl Watcher {
    /// Starts the thread, if there is something to watch.
    pub(super) fn start(watch: &Watch, waker: Arc<Waker>) -> io::Result<Self> {
        let mut watcher = Watcher {
            thread: None,
            waker,
        };
        watcher.replace(watch)?;
        Ok(watcher)
    }

    /// From now on this is watched.
    fn replace(&mut self, watch: &Watch) -> io::Result<()> {
        self.thread = None;
        if !watch.paths.is_empty() {
            self.thread = Some(Thread::start(watch.clone(), Arc::clone(&self.waker))?);
        }
        Ok(())
    }
}

impl Thread {
    fn start(watch: Watch, waker: Arc<Waker>) -> io::Result<Self> {
        let (end, other_end) = UnixStream::pair()?;
        let (tell, news) = bounded(1);
        // Not joined: a file system may keep it for ever.
        thread::Builder::new()
            .name("rr-watch".to_owned())
            .spawn(move || look_after(watch, &other_end, &tell, &waker))?;
        Ok(Thread { news, _end: end })
    }
}

impl Reactor {
    /// From now on the files are those of the configuration.
    pub(super) fn adopt_watch(&mut self) {
        if let Err(err) = self.watcher.replace(&self.config.watch) {
            log::error!("start the thread that watches files: {}", describe(&err));
        }
    }

    /// Reloads if something has changed.
    pub(super) fn read_watch(&mut self, now: Instant) {
        let news = self.watcher.thread.as_ref();
        let Some(changed) = news.and_then(|thread| thread.news.try_recv().ok()) else {
            return;
        };
        // A path may contain anything.
        let first = printable(&changed.first.display().to_string());
        let more = match changed.more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        log::info!("watch: {first}{more} changed: reload");
        if let Err(denied) = self.reload(now, None) {
            log::debug!("watch: no reload: {denied}");
        }
    }
}

/// The life of the thread.
fn look_after(watch: Watch, end: &UnixStream, tell: &Sender<Changed>, waker: &Waker) {
    let delay = watch.delay;
    let mut tree = match Tree::plant(watch) {
        Ok(tree) => tree,
        Err(err) => return log::error!("watch: {err}: changes go unnoticed"),
    };
    let mut unrest: Option<Unrest> = None;
    loop {
        let until = unrest.as_ref().map(|unrest| unrest.until(delay));
        match wait(&tree, end, until) {
            Ok(Waking::End) => return,
            Ok(Waking::Looked) => {}
            Err(err) => return log::error!("watch: {err}: changes go unnoticed"),
        }
        let now = clock::now();
        for path in tree.changes() {
            unrest
                .get_or_insert_with(|| Unrest::new(now))
                .note(now, path);
        }
        if let Some(quiet) = unrest.take_if(|unrest| unrest.until(delay) <= now) {
            let changed = Changed {
                more: quiet.paths.len() - 1,
                first: quiet.paths.into_iter().next().expect("it began with one"),
            };
            if tell.send(changed).is_err() || waker.wake().is_err() {
                return;
            }
        }
    }
}

/// Something changes.
struct Unrest {
    since: Instant,
    last: Instant,
    /// In the order in which they were first seen; no more than can be counted at a glance.
    paths: Vec<PathBuf>,
}

impl Unrest {
    fn new(now: Instant) -> Self {
        Unrest {
            since: now,
            last: now,
            paths: Vec::new(),
        }
    }

    fn note(&mut self, now: Instant, path: PathBuf) {
        self.last = now;
        if self.paths.len() < MOST_COUNTED && !self.paths.contains(&path) {
            self.paths.push(path);
        }
    }

    /// When it is over, if nothing more happens. A file that is written all the time does not put it
    /// off for ever.
    fn until(&self, delay: Duration) -> Instant {
        (self.last + delay).min(self.since + delay.max(LONGEST))
    }
}

enum Waking {
    /// The master is gone, or watches something else.
    End,
    /// There may be something to see.
    Looked,
}

fn wait(tree: &Tree, end: &UnixStream, until: Option<Instant>) -> io::Result<Waking> {
    let fds = [tree.as_fd(), end.as_fd()];
    let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    let timeout = until.map_or(PollTimeout::NONE, |until| {
        let left = until.saturating_duration_since(clock::now());
        PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(err) => return Err(err.into()),
    }
    Ok(if fds[1].any() == Some(true) {
        Waking::End
    } else {
        Waking::Looked
    })
}

/// How long it may go on at most before it is told.
const LONGEST: Duration = Duration::from_secs(5);

/// Comparing more of them would take longer than it is worth.
const MOST_COUNTED: usize = 1000;
