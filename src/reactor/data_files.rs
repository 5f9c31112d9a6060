//! Data files: a thread that looks after the files of `--watch-data`, and says what they say.
//!
//! It looks at each a few times a second instead of asking the kernel to be told: that sees a file
//! that is replaced by another, one behind links that are switched, and one on any file system. Whatever
//! a file system does to it, the loop never waits for it, but for a moment at the start.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use mio::Waker;

use super::{Reactor, clock};
use crate::config::data_file::DataFile;
use crate::printable::printable;
use crate::sys::describe;
use crate::values::Content;

/// The way to the thread. It ends when this is dropped, as soon as its file system lets it.
#[derive(Debug)]
pub(super) struct DataFiles {
    thread: Option<Thread>,
    longest: u64,
    waker: Arc<Waker>,
}

#[derive(Debug)]
struct Thread {
    orders: Sender<Vec<DataFile>>,
    news: Receiver<News>,
}

/// What the thread says.
#[derive(Debug)]
enum News {
    /// A file says something else than before.
    Content(DataFile, Content),
    /// It says nothing that could be used.
    Problem(DataFile, String),
    /// Every file was looked at since the thread was started, or was given other files.
    LookedAtAll,
}

impl DataFiles {
    /// Starts the thread, if there is something for it to do.
    pub(super) fn start(
        files: &[DataFile],
        longest: u64,
        waker: Arc<Waker>,
    ) -> io::Result<DataFiles> {
        let mut data_files = DataFiles {
            thread: None,
            longest,
            waker,
        };
        data_files.replace(files)?;
        Ok(data_files)
    }

    /// From now on these are the files.
    fn replace(&mut self, files: &[DataFile]) -> io::Result<()> {
        match &self.thread {
            None if files.is_empty() => {}
            None => self.thread = Some(Thread::start(files, self.longest, &self.waker)?),
            // Full of what it has not even seen: it is stuck in a file system.
            Some(thread) => {
                if thread.orders.try_send(files.to_vec()).is_err() {
                    log::error!("the thread that reads data files hangs: they stay as they were");
                }
            }
        }
        Ok(())
    }
}

impl Reactor {
    /// Waits a moment for the first look at the files, before there is anybody who could wait for the
    /// master: who starts finds the values that are there.
    pub(super) fn await_data_files(&mut self) {
        let until = clock::now() + FIRST_LOOK_WITHIN;
        while let Some(news) = self.data_files.thread.as_ref().map(|thread| {
            let left = until.saturating_duration_since(clock::now());
            thread.news.recv_timeout(left)
        }) {
            match news {
                Ok(News::LookedAtAll) => return,
                Ok(news) => self.take_data_file(news),
                Err(_) => {
                    log::warn!(
                        "data files: not all are read after {FIRST_LOOK_WITHIN:?}: goes on without them, they follow"
                    );
                    return;
                }
            }
        }
    }

    /// From now on the files are those of the configuration. The values of others stay.
    pub(super) fn adopt_data_files(&mut self) {
        if let Err(err) = self.data_files.replace(&self.config.data_files) {
            log::error!("start the thread that reads data files: {}", describe(&err));
        }
    }

    /// Takes what the thread has found, a file per turn.
    pub(super) fn read_data_files(&mut self) {
        let news = self.data_files.thread.as_ref();
        if let Some(news) = news.and_then(|thread| thread.news.try_recv().ok()) {
            self.take_data_file(news);
        }
    }

    fn take_data_file(&mut self, news: News) {
        // A path may contain anything.
        let shown = |file: &DataFile| printable(&file.to_string());
        match news {
            News::Content(file, content) => {
                let from = printable(&file.path.display().to_string());
                let file_shown = shown(&file);
                match self.shelve(&file.key, content, &from) {
                    Ok(outcome) => log::info!("data file {file_shown}: {outcome}"),
                    Err(refused) => {
                        log::warn!("data file {file_shown}: {refused}: the value stays as it is");
                    }
                }
            }
            News::Problem(file, problem) => {
                let file = shown(&file);
                log::warn!("data file {file}: {problem}: the value stays as it is");
            }
            News::LookedAtAll => {}
        }
    }
}

impl Thread {
    fn start(files: &[DataFile], longest: u64, waker: &Arc<Waker>) -> io::Result<Thread> {
        let (orders, ordered) = bounded(1);
        let (tell, news) = bounded(1);
        let watch = Watch {
            files: sights(files.to_vec()),
            longest,
            ordered,
            tell,
            waker: Arc::clone(waker),
        };
        // Not joined: a file system may keep it for ever.
        thread::Builder::new()
            .name("rr-data-files".to_owned())
            .spawn(move || watch.run())?;
        Ok(Thread { orders, news })
    }
}

/// What the thread knows.
struct Watch {
    files: Vec<Sight>,
    longest: u64,
    ordered: Receiver<Vec<DataFile>>,
    tell: Sender<News>,
    waker: Arc<Waker>,
}

/// One file, as it was seen last.
struct Sight {
    file: DataFile,
    seen: Option<Looks>,
    /// As it was when what it says was told, or what is wrong with that.
    judged: Option<Looks>,
    /// What was told to be wrong with it, and still is.
    problem: Option<String>,
    /// Since when there is something to tell, if it was not told yet.
    restless_since: Option<Instant>,
}

/// Why a file gives no content.
enum Unusable {
    /// It cannot be had: it may be there the next time.
    Io(io::Error),
    /// It is not what it should be, and stays so until it changes.
    Wrong(Looks, String),
}

/// By what a file shows that it is another one, or was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looks {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The master is gone.
struct Gone;

impl Watch {
    fn run(mut self) {
        // At the start a file is what it is: nobody is writing it because it was told to be read.
        let mut patience = Patience::None;
        loop {
            let Ok(()) = self.look(patience) else {
                return;
            };
            if patience == Patience::None && self.say(News::LookedAtAll).is_err() {
                return;
            }
            patience = match self.ordered.recv_timeout(LOOK_EVERY) {
                Ok(files) => {
                    self.files = sights(files);
                    Patience::None
                }
                Err(RecvTimeoutError::Timeout) => Patience::UntilQuiet,
                Err(RecvTimeoutError::Disconnected) => return,
            };
        }
    }

    fn look(&mut self, patience: Patience) -> Result<(), Gone> {
        let mut files = std::mem::take(&mut self.files);
        for sight in &mut files {
            if let Some(news) = sight.look(self.longest, patience, clock::now()) {
                self.say(news)?;
            }
        }
        self.files = files;
        Ok(())
    }

    /// Waits until the loop has taken what was said before, so that there is one content at a time.
    fn say(&self, news: News) -> Result<(), Gone> {
        self.tell.send(news).map_err(|_| Gone)?;
        self.waker.wake().map_err(|_| Gone)
    }
}

/// How long a file that changes is let be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    None,
    /// Until it was the same twice in a row.
    UntilQuiet,
}

impl Sight {
    fn new(file: DataFile) -> Self {
        Sight {
            file,
            seen: None,
            judged: None,
            problem: None,
            restless_since: None,
        }
    }

    fn look(&mut self, longest: u64, patience: Patience, now: Instant) -> Option<News> {
        let looks = match std::fs::metadata(&self.file.path).map(|it| Looks::of(&it)) {
            Ok(looks) => looks,
            Err(err) => return self.problem(None, describe(&err), patience, now),
        };
        let is_quiet = self.seen.replace(looks) == Some(looks);
        if self.judged == Some(looks) {
            self.restless_since = None;
            return None;
        }
        // A file that is written to all the time is taken as it is now and then.
        let since = *self.restless_since.get_or_insert(now);
        let is_tired = now.saturating_duration_since(since) >= RESTLESS_AT_MOST;
        if patience == Patience::UntilQuiet && !is_quiet && !is_tired {
            return None;
        }
        match read(&self.file.path, longest) {
            // Written to while it was read: it comes again.
            Ok((_, read)) if read != looks && !is_tired => None,
            Ok((content, looks)) => {
                self.restless_since = None;
                self.problem = None;
                self.judged = Some(looks);
                Some(News::Content(self.file.clone(), content))
            }
            Err(Unusable::Io(err)) => self.problem(None, describe(&err), patience, now),
            Err(Unusable::Wrong(looks, problem)) => {
                self.problem(Some(looks), problem, patience, now)
            }
        }
    }

    /// Told once, when it lasts: a file that is replaced may be missing for a moment.
    fn problem(
        &mut self,
        looks: Option<Looks>,
        problem: String,
        patience: Patience,
        now: Instant,
    ) -> Option<News> {
        self.seen = looks;
        let since = *self.restless_since.get_or_insert(now);
        let lasts = now.saturating_duration_since(since) >= PROBLEM_LASTS;
        let is_known = self.problem.as_ref() == Some(&problem);
        if !is_known && patience == Patience::UntilQuiet && !lasts {
            return None;
        }
        // What comes after it has its own time to come to rest.
        self.restless_since = None;
        self.judged = looks;
        if is_known {
            return None;
        }
        self.problem = Some(problem.clone());
        Some(News::Problem(self.file.clone(), problem))
    }
}

impl Looks {
    fn of(metadata: &Metadata) -> Self {
        Looks {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn sights(files: Vec<DataFile>) -> Vec<Sight> {
    files.into_iter().map(Sight::new).collect()
}

/// What the file says, and how it looked when all of it was read.
fn read(path: &Path, longest: u64) -> Result<(Content, Looks), Unusable> {
    // Before it is opened: that does something to a FIFO, or to a device.
    check(&std::fs::metadata(path)?, longest)?;
    // And it does not wait, should it be a FIFO by now, fifo(7).
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    check(&file.metadata()?, longest)?;
    let mut bytes = Vec::new();
    (&mut file)
        .take(longest.saturating_add(1))
        .read_to_end(&mut bytes)?;
    let looks = Looks::of(&file.metadata()?);
    if bytes.len() as u64 > longest {
        return Err(Unusable::Wrong(looks, too_long(longest)));
    }
    match Content::of_file(path, Bytes::from(bytes)) {
        Ok(content) => Ok((content, looks)),
        Err(misread) => Err(Unusable::Wrong(looks, misread.to_string())),
    }
}

/// What can be known without reading it.
fn check(metadata: &Metadata, longest: u64) -> Result<(), Unusable> {
    let wrong = |problem| Err(Unusable::Wrong(Looks::of(metadata), problem));
    if !metadata.is_file() {
        return wrong("it is no regular file".to_owned());
    }
    if metadata.len() > longest {
        return wrong(too_long(longest));
    }
    Ok(())
}

fn too_long(longest: u64) -> String {
    format!("it has more than {longest} bytes: make it shorter, or raise --max-message")
}

impl From<io::Error> for Unusable {
    fn from(err: io::Error) -> Self {
        Unusable::Io(err)
    }
}

/// How often each file is looked at; it has come to rest when it was the same twice.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A file that never rests is read so often.
const RESTLESS_AT_MOST: Duration = Duration::from_secs(10);

/// How long something is wrong before it is told.
const PROBLEM_LASTS: Duration = Duration::from_secs(1);

/// How long the start waits for file systems.
const FIRST_LOOK_WITHIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    struct Desk {
        _dir: tempfile::TempDir,
        path: PathBuf,
        sight: Sight,
        now: Instant,
    }

    impl Desk {
        fn with(name: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            let file = DataFile {
                key: "k".to_owned(),
                path: path.clone(),
            };
            Desk {
                _dir: dir,
                path,
                sight: Sight::new(file),
                now: clock::now(),
            }
        }

        fn write(&self, text: &str) {
            fs::write(&self.path, text).unwrap();
        }

        fn look(&mut self) -> Option<String> {
            self.look_with(Patience::UntilQuiet)
        }

        fn look_with(&mut self, patience: Patience) -> Option<String> {
            self.now += LOOK_EVERY;
            match self.sight.look(10, patience, self.now)? {
                News::Content(_, content) => {
                    Some(String::from_utf8(content.bytes.to_vec()).unwrap())
                }
                News::Problem(_, problem) => Some(format!("problem: {problem}")),
                News::LookedAtAll => None,
            }
        }

        /// Until there is news, at most so many times.
        fn news(&mut self, looks: usize) -> Option<String> {
            (0..looks).find_map(|_| self.look())
        }
    }

    fn said(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_file_is_told_at_the_start_and_when_it_has_come_to_rest_after_a_change() {
        let mut desk = Desk::with("flags");
        desk.write("on");
        assert_eq!(desk.look_with(Patience::None), said("on"));
        assert_eq!(desk.look(), None);
        desk.write("half");
        assert_eq!(desk.look(), None);
        desk.write("half and");
        assert_eq!(desk.look(), None);
        assert_eq!(desk.look(), said("half and"));
        assert_eq!(desk.news(10), None);
    }

    #[test]
    fn a_file_that_is_replaced_by_another_is_told() {
        let mut desk = Desk::with("flags");
        desk.write("on");
        assert_eq!(desk.look_with(Patience::None), said("on"));
        let other = desk.path.with_extension("new");
        fs::write(&other, "of").unwrap();
        fs::rename(&other, &desk.path).unwrap();
        assert_eq!(desk.news(3), said("of"));
        // Behind a link that is switched, as in a Kubernetes volume.
        fs::write(&other, "to").unwrap();
        fs::remove_file(&desk.path).unwrap();
        std::os::unix::fs::symlink(&other, &desk.path).unwrap();
        assert_eq!(desk.news(3), said("to"));
    }

    #[test]
    fn what_is_wrong_is_told_once_when_it_lasts() {
        let mut desk = Desk::with("flags.json");
        assert!(desk.look_with(Patience::None).unwrap().contains("ENOENT"));
        assert_eq!(desk.news(20), None);
        desk.write("{}");
        assert_eq!(desk.news(3), said("{}"));
        fs::remove_file(&desk.path).unwrap();
        assert_eq!(desk.news(4), None);
        assert!(desk.news(3).unwrap().contains("ENOENT"));
        desk.write("{");
        assert!(desk.news(10).unwrap().contains("no JSON"));
        desk.write("[0,1,2,3,4,5]");
        let problem = desk.news(10).unwrap();
        assert!(problem.contains("more than 10 bytes"), "{problem}");
        assert_eq!(desk.news(20), None);
        desk.write("[]");
        assert_eq!(desk.news(3), said("[]"));
    }

    #[test]
    fn a_file_that_never_rests_is_read_now_and_then() {
        let mut desk = Desk::with("log");
        desk.write("0");
        assert_eq!(desk.look_with(Patience::None), said("0"));
        let mut told = 0;
        for number in 0..100 {
            desk.write(&"x".repeat(number % 10));
            told += usize::from(desk.look().is_some());
        }
        assert_eq!(told, 1);
    }

    #[test]
    fn what_is_no_regular_file_is_not_waited_for() {
        let mut desk = Desk::with("fifo");
        nix::unistd::mkfifo(&desk.path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let problem = desk.look_with(Patience::None).unwrap();
        assert!(problem.contains("no regular file"), "{problem}");
    }

    #[test]
    fn a_file_that_was_missing_for_long_comes_to_rest_as_any_other() {
        let mut desk = Desk::with("flags");
        assert!(desk.look_with(Patience::None).unwrap().contains("ENOENT"));
        assert_eq!(desk.news(100), None);
        desk.write("half");
        assert_eq!(desk.look(), None);
        desk.write("half and");
        assert_eq!(desk.look(), None);
        assert_eq!(desk.look(), said("half and"));
    }

    /// Reading one of 64 MiB five times a second costs a processor.
    #[test]
    fn what_is_wrong_with_a_file_is_not_read_again_until_it_changes() {
        let mut desk = Desk::with("flags.json");
        desk.write("{");
        assert!(desk.look_with(Patience::None).unwrap().contains("no JSON"));
        let looks = Looks::of(&fs::metadata(&desk.path).unwrap());
        assert_eq!(desk.sight.judged, Some(looks));
        assert_eq!(desk.news(20), None);
    }
}
