//! The tree of watched directories: `inotify(7)`, which watches directories one by one.
//!
//! A path that is named is watched through the directory it is in, by its name: so it may be replaced,
//! or be gone for a while. Directories that are ignored are not even looked into.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::config::watch::Watch;
use crate::printable::printable;
use crate::sys::describe;

pub(super) struct Tree {
    inotify: Inotify,
    watch: Watch,
    places: HashMap<WatchDescriptor, Place>,
    /// Directories that could not be watched; it is in the log already.
    is_incomplete: bool,
}

/// A directory that is watched. The kernel has one watch for it, whatever it is for.
struct Place {
    path: PathBuf,
    /// What counts in it, and which of the paths that is.
    names: BTreeMap<OsString, usize>,
    /// The paths that it is below, or the same as.
    below: BTreeSet<usize>,
}

impl Tree {
    /// Watches everything.
    pub(super) fn plant(watch: Watch) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let inotify = inotify.map_err(|err| {
            if err != Errno::EMFILE {
                return io::Error::from(err);
            }
            io::Error::other(format!(
                "this user has too many inotify instances: raise fs.inotify.max_user_instances{}",
                now("max_user_instances")
            ))
        })?;
        let mut tree = Tree {
            inotify,
            watch,
            places: HashMap::new(),
            is_incomplete: false,
        };
        tree.grow_all();
        let count = tree.places.len();
        log::info!("watch: {count} directories are watched");
        Ok(tree)
    }

    /// The files that have changed.
    pub(super) fn changes(&mut self) -> Vec<PathBuf> {
        let mut changes = Vec::new();
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    changes.extend(events.into_iter().filter_map(|event| self.note(event)));
                }
                Err(Errno::EAGAIN) => return changes,
                Err(Errno::EINTR) => {}
                Err(err) => {
                    log::error!("watch: read what has changed: {err}");
                    return changes;
                }
            }
        }
    }

    fn note(&mut self, event: InotifyEvent) -> Option<PathBuf> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            log::debug!("watch: more has changed than the kernel could tell");
            self.grow_all();
            return self.watch.paths.first().cloned();
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.places.remove(&event.wd);
            return None;
        }
        let place = self.places.get(&event.wd)?;
        let name = event.name?;
        let path = place.path.join(&name);
        let named = place.names.get(&name).copied();
        let counts = |&&root: &&usize| {
            let relative = path.strip_prefix(&self.watch.paths[root]);
            relative.is_ok_and(|relative| !self.watch.ignores(relative))
        };
        let roots: BTreeSet<usize> = place.below.iter().filter(counts).copied().collect();
        let roots = roots.into_iter().chain(named).collect::<BTreeSet<_>>();
        if roots.is_empty() {
            return None;
        }
        let appeared = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let left = AddWatchFlags::IN_MOVED_FROM;
        // A link may lead to a directory, but only one that is named is followed.
        let is_directory = event.mask.contains(AddWatchFlags::IN_ISDIR) || named.is_some();
        if is_directory && event.mask.intersects(appeared | left) {
            self.uproot(&path);
        }
        if is_directory && event.mask.intersects(appeared) {
            for root in roots {
                self.grow(root, &path);
            }
        }
        Some(path)
    }

    fn grow_all(&mut self) {
        for (root, path) in self.watch.paths.clone().into_iter().enumerate() {
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
                && let Some(place) = self.place(parent)
            {
                place.names.insert(name.to_owned(), root);
            }
            self.grow(root, &path);
        }
    }

    /// Watches a directory and those below it; nothing, if it is none.
    fn grow(&mut self, root: usize, path: &Path) {
        let mut unseen = vec![path.to_owned()];
        while let Some(path) = unseen.pop() {
            if !path.is_dir() {
                continue;
            }
            let Some(place) = self.place(&path) else {
                continue;
            };
            place.below.insert(root);
            // Read after it is watched: what comes later is told.
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let below = entry.path();
                let relative = below.strip_prefix(&self.watch.paths[root]);
                if is_directory && relative.is_ok_and(|it| !self.watch.ignores(it)) {
                    unseen.push(below);
                }
            }
        }
    }

    /// What is known of a directory that is watched from now on, if it was not before.
    fn place(&mut self, path: &Path) -> Option<&mut Place> {
        let mask = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.add_watch(path, mask) {
            Ok(watch) => Some(self.places.entry(watch).or_insert_with(|| Place {
                path: path.to_owned(),
                names: BTreeMap::new(),
                below: BTreeSet::new(),
            })),
            // Gone again.
            Err(Errno::ENOENT | Errno::ENOTDIR) => None,
            Err(err) => {
                if !self.is_incomplete {
                    let path = printable(&path.display().to_string());
                    let what = problem(err);
                    log::error!(
                        "watch: {path}: {what}: its changes go unnoticed, maybe others' too"
                    );
                }
                self.is_incomplete = true;
                None
            }
        }
    }

    /// Forgets a directory that is somewhere else, and those below it.
    fn uproot(&mut self, path: &Path) {
        let inotify = &self.inotify;
        self.places.retain(|watch, place| {
            let stays = !place.path.starts_with(path) || !place.names.is_empty();
            if !stays && let Err(err) = inotify.rm_watch(*watch) {
                log::debug!("watch: forget {}: {err}", place.path.display());
            }
            stays
        });
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn problem(err: Errno) -> String {
    if err != Errno::ENOSPC {
        return describe(&err.into());
    }
    format!(
        "the limit on inotify watches is reached: raise fs.inotify.max_user_watches{}, or ignore what need not be watched (--watch-ignore)",
        now("max_user_watches")
    )
}

/// What a limit of the kernel is now.
fn now(limit: &str) -> String {
    let path = Path::new("/proc/sys/fs/inotify").join(limit);
    match fs::read_to_string(path) {
        Ok(now) => format!(" (now {})", now.trim()),
        Err(_) => String::new(),
    }
}
