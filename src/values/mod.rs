//! The values: what operators, files and handles have pushed, each under a key, and which process
//! has which version of it.
//!
//! Pure. A process is owed the newest version only: what it has not been told yet when the next one
//! comes, it is never told. So a process that does not read costs one entry and no copy.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use worker_proto::ids::WorkerId;
use worker_proto::message::{ContentType, MESSAGE_OVERHEAD_BYTES};
use worker_proto::name::{self, BadName};

pub use self::content::{Content, Misread};

pub mod content;

/// Every value, and everybody who watches one.
#[derive(Debug)]
pub struct Values {
    bounds: Bounds,
    held: BTreeMap<String, Held>,
    /// Of all values, each with what it costs beside its content.
    total_bytes: u64,
    watches: BTreeMap<WorkerId, Watcher>,
    /// Who has to be told of which key.
    due: BTreeSet<(WorkerId, String)>,
}

/// How much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The longest value in bytes.
    pub longest: u64,
    /// All of them together.
    pub together: u64,
}

/// What is held under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Counted from 1.
    pub version: u64,
    /// What it says.
    pub content: Content,
}

#[derive(Debug)]
struct Held {
    value: Value,
    /// Whether it is known that everybody has this version.
    is_settled: bool,
}

#[derive(Debug, Default)]
struct Watcher {
    keys: BTreeMap<String, Watch>,
    /// It is asked for nothing any more.
    is_leaving: bool,
}

/// How far a process is with a key; 0 for not at all.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    told: u64,
    adopted: u64,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// There is a new version.
    New {
        /// Which.
        version: u64,
    },
    /// It says what was there already, and everything stays as it is.
    Same {
        /// The version that says so.
        version: u64,
    },
}

/// How many watch a key, and how many of them have its newest version. Who leaves does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Those who watch.
    pub watchers: u32,
    /// Those of them whose program has taken it over.
    pub adopted: u32,
}

/// Why a value is not taken, or not watched. Everything stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The key is no name.
    #[error("key {key:?}: {problem}")]
    Key {
        /// As much of it as is worth showing.
        key: String,
        /// What is wrong with it.
        problem: BadName,
    },
    /// The value is too long.
    #[error(
        "value {key:?} has {len} bytes, {longest} are the most: push less, or raise --max-message"
    )]
    TooLong {
        /// Whose.
        key: String,
        /// How long it is.
        len: u64,
        /// How long it may be.
        longest: u64,
    },
    /// Nobody has agreed upon how to read that.
    #[error("value {key:?}: {given}: there are bytes, text, JSON and bincode")]
    ContentType {
        /// Whose.
        key: String,
        /// The one that there is not.
        given: ContentType,
    },
    /// Nothing more fits.
    #[error(
        "value {key:?}: all values together would have {len} bytes, {together} are the most: push less, or raise --message-memory"
    )]
    Full {
        /// Whose.
        key: String,
        /// How much there would be.
        len: u64,
        /// How much there may be.
        together: u64,
    },
    /// There are enough.
    #[error("value {key:?}: there are {MOST_VALUES} values already, and no more may be")]
    TooMany {
        /// The one too many.
        key: String,
    },
    /// A process watches enough.
    #[error("value {key:?}: a process watches {MOST_WATCHED} keys at most")]
    WatchesTooMany {
        /// The one too many.
        key: String,
    },
}

impl Values {
    /// None, within these bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Values {
            bounds,
            held: BTreeMap::new(),
            total_bytes: 0,
            watches: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Whether a value of that length could be held under the key, before it is there.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn admits(&self, key: &str, content_type: ContentType, len: u64) -> Result<(), Refused> {
        check(key)?;
        let owned = || key.to_owned();
        if !content_type.is_known() {
            let (key, given) = (owned(), content_type);
            return Err(Refused::ContentType { key, given });
        }
        if len > self.bounds.longest {
            let longest = self.bounds.longest;
            return Err(Refused::TooLong {
                key: owned(),
                len,
                longest,
            });
        }
        let before = self.held.get(key);
        if before.is_none() && self.held.len() >= MOST_VALUES {
            return Err(Refused::TooMany { key: owned() });
        }
        let before = before.map_or(0, |held| cost(key, held.value.content.len()));
        let (len, together) = (
            self.total_bytes - before + cost(key, len),
            self.bounds.together,
        );
        if len > together {
            return Err(Refused::Full {
                key: owned(),
                len,
                together,
            });
        }
        Ok(())
    }

    /// From now on this is what the key says.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn push(&mut self, key: &str, content: Content) -> Result<Pushed, Refused> {
        self.admits(key, content.content_type, content.len())?;
        let before = self.held.get(key).map(|held| &held.value);
        if let Some(before) = before
            && before.content == content
        {
            let version = before.version;
            return Ok(Pushed::Same { version });
        }
        let (version, freed) = before.map_or((1, 0), |before| {
            (before.version + 1, cost(key, before.content.len()))
        });
        self.total_bytes = self.total_bytes - freed + cost(key, content.len());
        let held = Held {
            value: Value { version, content },
            is_settled: false,
        };
        self.held.insert(key.to_owned(), held);
        let watchers = self.watches.iter();
        let watchers = watchers.filter(|(_, watcher)| watcher.keys.contains_key(key));
        self.due
            .extend(watchers.map(|(&worker, _)| (worker, key.to_owned())));
        Ok(Pushed::New { version })
    }

    /// What the key says.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.held.get(key).map(|held| &held.value)
    }

    /// The process wants to know what the key says, now and from now on; answers whether there is
    /// something, which is due then.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn watch(&mut self, worker: WorkerId, key: &str) -> Result<bool, Refused> {
        check(key)?;
        let watcher = self.watches.entry(worker).or_default();
        if !watcher.keys.contains_key(key) && watcher.keys.len() >= MOST_WATCHED {
            let key = key.to_owned();
            return Err(Refused::WatchesTooMany { key });
        }
        // Who asks again is told again.
        watcher.keys.entry(key.to_owned()).or_default().told = 0;
        let is_there = self.held.contains_key(key);
        if is_there {
            self.due.insert((worker, key.to_owned()));
        }
        Ok(is_there)
    }

    /// Who has to be told of which key.
    pub fn due(&self) -> impl Iterator<Item = (WorkerId, &str)> {
        self.due.iter().map(|(worker, key)| (*worker, key.as_str()))
    }

    /// The process has been told what the key says now.
    pub fn told(&mut self, worker: WorkerId, key: &str) {
        self.due.remove(&(worker, key.to_owned()));
        let version = self.get(key).map_or(0, |value| value.version);
        let watcher = self.watches.get_mut(&worker);
        if let Some(watch) = watcher.and_then(|watcher| watcher.keys.get_mut(key)) {
            watch.told = version;
        }
    }

    /// The program of that process has taken a version over. Answers how many have the newest, if
    /// that are now all of them and were not before. What a process was not told of it cannot have.
    pub fn adopt(&mut self, worker: WorkerId, key: &str, version: u64) -> Option<Spread> {
        let watcher = self.watches.get_mut(&worker)?;
        let watch = watcher.keys.get_mut(key)?;
        if version > watch.told || version <= watch.adopted {
            return None;
        }
        watch.adopted = version;
        self.settle(key)
    }

    /// How many watch the key, and how many have its newest version.
    #[must_use]
    pub fn spread(&self, key: &str) -> Spread {
        let newest = self.get(key).map_or(0, |value| value.version);
        let mut spread = Spread::default();
        let present = self.watches.values().filter(|it| !it.is_leaving);
        for watch in present.filter_map(|watcher| watcher.keys.get(key)) {
            spread.watchers += 1;
            spread.adopted += u32::from(watch.adopted == newest);
        }
        spread
    }

    /// The process will be gone, and nobody waits for it. Answers the keys that all others have.
    pub fn leave(&mut self, worker: WorkerId) -> Vec<(String, Spread)> {
        let Some(watcher) = self.watches.get_mut(&worker) else {
            return Vec::new();
        };
        watcher.is_leaving = true;
        let keys: Vec<String> = watcher.keys.keys().cloned().collect();
        self.settle_all(keys)
    }

    /// The process is gone.
    pub fn forget(&mut self, worker: WorkerId) -> Vec<(String, Spread)> {
        let Some(watcher) = self.watches.remove(&worker) else {
            return Vec::new();
        };
        self.due.retain(|(due, _)| *due != worker);
        self.settle_all(watcher.keys.into_keys().collect())
    }

    /// Every value, with who has which version of it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.held
            .iter()
            .map(|(key, held)| (key.as_str(), &held.value))
    }

    /// Who watches the key, with the version that its program has; 0 for none.
    pub fn watchers<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (WorkerId, u64)> + 'a {
        let watchers = self.watches.iter();
        watchers.filter_map(move |(&worker, it)| Some((worker, it.keys.get(key)?.adopted)))
    }

    fn settle_all(&mut self, keys: Vec<String>) -> Vec<(String, Spread)> {
        let settled = keys.into_iter().filter_map(|key| {
            let spread = self.settle(&key)?;
            Some((key, spread))
        });
        settled.collect()
    }

    fn settle(&mut self, key: &str) -> Option<Spread> {
        let spread = self.spread(key);
        let held = self.held.get_mut(key)?;
        let is_news = !held.is_settled && spread.is_everybody() && spread.watchers > 0;
        held.is_settled |= is_news;
        is_news.then_some(spread)
    }
}

impl Spread {
    /// Whether nobody is behind.
    #[must_use]
    pub fn is_everybody(self) -> bool {
        self.adopted == self.watchers
    }
}

fn check(key: &str) -> Result<(), Refused> {
    name::check(key).map_err(|problem| {
        let key = key.chars().take(LONGEST_QUOTE).collect();
        Refused::Key { key, problem }
    })
}

/// What a value counts: empty ones are not free.
fn cost(key: &str, len: u64) -> u64 {
    len + key.len() as u64 + MESSAGE_OVERHEAD_BYTES
}

/// How many values there may be.
pub const MOST_VALUES: usize = 256;

/// How many keys one process may watch, whether there is something under them or not.
pub const MOST_WATCHED: usize = 256;

/// How much of a bad key is shown.
const LONGEST_QUOTE: usize = 40;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const A: WorkerId = WorkerId(1);
    const B: WorkerId = WorkerId(2);

    fn values() -> Values {
        Values::new(Bounds {
            longest: 100,
            together: 1000,
        })
    }

    fn text(text: &str) -> Content {
        Content {
            content_type: ContentType::TEXT,
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        }
    }

    fn push(values: &mut Values, key: &str, what: &str) -> Pushed {
        values.push(key, text(what)).unwrap()
    }

    fn due(values: &Values) -> Vec<(u64, &str)> {
        values.due().map(|(worker, key)| (worker.0, key)).collect()
    }

    fn tell_all(values: &mut Values) {
        let due: Vec<_> = values
            .due()
            .map(|(worker, key)| (worker, key.to_owned()))
            .collect();
        for (worker, key) in due {
            values.told(worker, &key);
        }
    }

    #[test]
    fn every_change_is_a_version_and_the_same_again_is_none() {
        let mut values = values();
        assert_eq!(push(&mut values, "k", "a"), Pushed::New { version: 1 });
        assert_eq!(push(&mut values, "k", "a"), Pushed::Same { version: 1 });
        assert_eq!(push(&mut values, "k", "b"), Pushed::New { version: 2 });
        assert_eq!(push(&mut values, "k", "a"), Pushed::New { version: 3 });
        assert_eq!(push(&mut values, "other", "a"), Pushed::New { version: 1 });
        assert_eq!(values.get("k").unwrap().content, text("a"));
        assert_eq!(values.get("nobody's"), None);
    }

    #[test]
    fn who_watches_is_told_once_and_of_the_newest_only() {
        let mut values = values();
        assert_eq!(values.watch(A, "k"), Ok(false));
        assert_eq!(due(&values), []);
        push(&mut values, "k", "a");
        push(&mut values, "k", "b");
        assert_eq!(values.watch(B, "k"), Ok(true));
        assert_eq!(due(&values), [(1, "k"), (2, "k")]);
        tell_all(&mut values);
        assert_eq!(due(&values), []);
        push(&mut values, "other", "a");
        assert_eq!(due(&values), []);
        push(&mut values, "k", "c");
        values.forget(A);
        assert_eq!(due(&values), [(2, "k")]);
    }

    #[test]
    fn that_everybody_has_it_is_told_once() {
        let mut values = values();
        for worker in [A, B] {
            values.watch(worker, "k").unwrap();
        }
        push(&mut values, "k", "a");
        tell_all(&mut values);
        assert_eq!(values.adopt(A, "k", 1), None);
        assert!(!values.spread("k").is_everybody());
        let all = Spread {
            watchers: 2,
            adopted: 2,
        };
        assert_eq!(values.adopt(B, "k", 1), Some(all));
        assert_eq!(values.adopt(B, "k", 1), None);
        // A newcomer has it, too, a moment later.
        let c = WorkerId(3);
        values.watch(c, "k").unwrap();
        tell_all(&mut values);
        assert!(!values.spread("k").is_everybody());
        assert_eq!(values.adopt(c, "k", 1), None);
        assert!(values.spread("k").is_everybody());
    }

    #[test]
    fn nobody_waits_for_who_leaves() {
        for gone in [Values::leave, Values::forget] {
            let mut values = values();
            for worker in [A, B] {
                values.watch(worker, "k").unwrap();
            }
            push(&mut values, "k", "a");
            tell_all(&mut values);
            values.adopt(A, "k", 1);
            let left = Spread {
                watchers: 1,
                adopted: 1,
            };
            assert_eq!(gone(&mut values, B), [("k".to_owned(), left)]);
            assert_eq!(values.spread("k"), left);
            assert_eq!(values.forget(B), []);
        }
    }

    #[test]
    fn nobody_has_what_it_was_not_told() {
        let mut values = values();
        assert_eq!(values.adopt(A, "k", 1), None);
        values.watch(A, "k").unwrap();
        push(&mut values, "k", "a");
        assert_eq!(values.adopt(A, "k", 1), None);
        tell_all(&mut values);
        assert_eq!(values.adopt(A, "k", 2), None);
        assert_eq!(values.adopt(A, "k", u64::MAX), None);
        assert_eq!(values.watchers("k").collect::<Vec<_>>(), [(A, 0)]);
        assert!(values.adopt(A, "k", 1).is_some());
        // Whatever it says later, it had that version.
        assert_eq!(values.adopt(A, "k", 0), None);
        assert_eq!(values.watchers("k").collect::<Vec<_>>(), [(A, 1)]);
    }

    #[test]
    fn there_is_an_end_to_everything() {
        let mut values = values();
        let refusal = |values: &mut Values, key: &str, len| {
            let refused = values.push(key, text(&"x".repeat(len))).unwrap_err();
            refused.to_string()
        };
        assert_eq!(
            refusal(&mut values, "k", 101),
            "value \"k\" has 101 bytes, 100 are the most: push less, or raise --max-message"
        );
        for key in ["a", "b"] {
            values.push(key, text(&"x".repeat(100))).unwrap();
        }
        let message = refusal(&mut values, "c", 100);
        assert!(
            message.contains("1071 bytes, 1000 are the most"),
            "{message}"
        );
        values.push("c", text("x")).unwrap();
        // What takes the place of another one needs no room beside it.
        values.push("a", text(&"y".repeat(100))).unwrap();
        assert_eq!(values.get("a").unwrap().version, 2);
        let message = refusal(&mut values, "a\n", 1);
        assert_eq!(message, "key \"a\\n\": it has control characters");
        let odd = Content {
            content_type: ContentType(9),
            bytes: Bytes::new(),
        };
        assert!(matches!(
            values.push("a", odd),
            Err(Refused::ContentType { .. })
        ));

        let mut many = Values::new(Bounds {
            longest: 100,
            together: u64::MAX,
        });
        for number in 0..MOST_VALUES {
            push(&mut many, &number.to_string(), "");
        }
        assert!(matches!(
            many.push("one more", text("")),
            Err(Refused::TooMany { .. })
        ));
        assert_eq!(push(&mut many, "7", "x"), Pushed::New { version: 2 });
        for number in 0..MOST_WATCHED {
            many.watch(A, &number.to_string()).unwrap();
        }
        assert!(matches!(
            many.watch(A, "one more"),
            Err(Refused::WatchesTooMany { .. })
        ));
        assert_eq!(many.watch(A, "7"), Ok(true));
    }
}
