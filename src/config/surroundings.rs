//! What the processes of a program find around them beside environment and directory: user, limits,
//! priority, CPUs, standard streams. Data only; whether this master may grant it is for `preflight`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use nix::sys::resource::{RLIM_INFINITY, Resource};

/// The surroundings of every process of one program. By default they are the master's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The user, if not the master's.
    pub user: Option<Account>,
    /// The group; by default the user's own.
    pub group: Option<Account>,
    /// The supplementary groups; by default those that the user is a member of, see
    /// `initgroups(3)`.
    pub groups: Option<Vec<Account>>,
    /// The file mode creation mask, see `umask(2)`.
    pub umask: Option<u16>,
    /// The nice value, see `setpriority(2)`: not an increment.
    pub nice: Option<i8>,
    /// Limits, see `getrlimit(2)`; of two for the same resource the later one counts.
    pub limits: Vec<Limit>,
    /// The CPUs that it may run on.
    pub affinity: Option<Affinity>,
    /// Whether `exec` may give it more rights than it has.
    pub privileges: Privileges,
    /// Which variables of the master's it inherits.
    pub environment: Environment,
    /// Its standard output.
    pub stdout: Stream,
    /// Its standard error.
    pub stderr: Stream,
    /// What it is called in `ps`: the first argument, which is otherwise the path of the program. May
    /// have placeholders.
    pub title: Option<std::ffi::OsString>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// By its name; looked up before anything is started.
    Name(String),
    /// By its number, whether or not that has a name.
    Id(u32),
}

/// A limit on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub resource: Resource,
    /// What counts; the process may change it up to `hard`.
    pub soft: u64,
    /// What the process may raise `soft` to.
    pub hard: u64,
}

/// The CPUs that a process may run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// One for each slot, in turn, of those that the master may run on.
    Auto,
    /// These, for every process.
    Cpus(BTreeSet<u16>),
}

/// Whether `exec` may give a process more rights than it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privileges {
    /// Set-user-ID programs work.
    #[default]
    MayGrow,
    /// They run with the rights of whoever starts them, see `PR_SET_NO_NEW_PRIVS(2const)`.
    NeverNew,
}

/// Which of the master's variables a process inherits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Environment {
    /// All of them.
    #[default]
    Inherited,
    /// `PATH` and nothing else.
    Cleared,
}

/// Where a standard stream of a process goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stream {
    /// Where the master's goes.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
    /// Where the master's goes, line by line, each with the name of the process before it.
    Lines,
    /// To the end of a file, which the process opens with its own rights. May have placeholders.
    File(PathBuf),
}

impl Surroundings {
    /// How many streams of a process the master reads.
    pub(crate) fn streams_read(&self) -> u64 {
        let streams = [&self.stdout, &self.stderr];
        streams.iter().filter(|it| ***it == Stream::Lines).count() as u64
    }
}

impl FromStr for Account {
    type Err = String;

    /// A number is an id, as for chown(1).
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            // See setreuid(2): this one means "leave it as it is".
            Ok(u32::MAX) => Err(format!("{text} is nobody's number")),
            Ok(id) => Ok(Account::Id(id)),
            Err(_) if text.is_empty() => Err("the name is empty".to_owned()),
            Err(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err(format!("{text} is not a number below 2^32 - 1"))
            }
            Err(_) if text.contains(['\0', ':', ',']) => {
                Err(format!("{text:?} cannot be the name of anybody"))
            }
            Err(_) => Ok(Account::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Name(name) => f.write_str(name),
            Account::Id(id) => write!(f, "{id}"),
        }
    }
}

impl Limit {
    /// The name that [`FromStr`] reads.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let known = RESOURCES.iter().find(|(_, known)| *known == self.resource);
        known.map_or("unknown", |(name, _)| name)
    }
}

impl FromStr for Limit {
    type Err = String;

    /// Reads `nofile=1024:4096`, or `core=unlimited`, which is both.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, values) = text
            .split_once('=')
            .ok_or("write RESOURCE=SOFT:HARD, such as nofile=1024:4096")?;
        let known = RESOURCES.iter().find(|(known, _)| *known == name);
        let Some((_, resource)) = known else {
            let names: Vec<_> = RESOURCES.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            return Err(format!("there is no resource {name:?}: use one of {names}"));
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (parse_value(soft)?, parse_value(hard)?);
        if soft > hard {
            return Err("the soft limit is above the hard one: write SOFT:HARD".to_owned());
        }
        Ok(Limit {
            resource: *resource,
            soft,
            hard,
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value| match value {
            RLIM_INFINITY => "unlimited".to_owned(),
            value => value.to_string(),
        };
        let (soft, hard) = (value(self.soft), value(self.hard));
        write!(f, "{}={soft}:{hard}", self.name())
    }
}

fn parse_value(text: &str) -> Result<u64, String> {
    match text {
        "unlimited" => Ok(RLIM_INFINITY),
        _ => text
            .parse()
            .map_err(|_| format!("{text:?} is not a limit: write a number, or unlimited")),
    }
}

impl FromStr for Affinity {
    type Err = String;

    /// Reads `auto`, or a list such as `0-3,5`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Affinity::Auto);
        }
        let mut cpus = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.parse(), last.parse()) {
                (Ok(first), Ok(last)) if first <= last && last < CPUS => cpus.extend(first..=last),
                (Ok::<u16, _>(_), Ok::<u16, _>(_)) => {
                    return Err(format!("{part:?} is no range of CPUs below {CPUS}"));
                }
                _ => return Err("write auto, or a list such as 0-3,5".to_owned()),
            }
        }
        Ok(Affinity::Cpus(cpus))
    }
}

impl FromStr for Stream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("file:")) {
            ("inherit", _) => Ok(Stream::Inherit),
            ("null", _) => Ok(Stream::Null),
            ("lines", _) => Ok(Stream::Lines),
            (_, Some("")) => Err("the path after file: is empty".to_owned()),
            (_, Some(path)) if path.contains('\0') => {
                Err("the path has a zero byte in it".to_owned())
            }
            (_, Some(path)) => Ok(Stream::File(path.into())),
            (_, None) => Err("write inherit, null, lines, or file:PATH".to_owned()),
        }
    }
}

/// As many CPUs as a `cpu_set_t` has, see `CPU_SET(3)`.
const CPUS: u16 = 1024;

/// The resources of `getrlimit(2)`, by their names without `RLIMIT_`.
const RESOURCES: [(&str, Resource); 16] = [
    ("as", Resource::RLIMIT_AS),
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("rttime", Resource::RLIMIT_RTTIME),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_pairs_or_as_one_value_for_both() {
        for (text, shown) in [
            ("nofile=1024:4096", "nofile=1024:4096"),
            ("core=0", "core=0:0"),
            ("stack=8388608:unlimited", "stack=8388608:unlimited"),
            ("core=unlimited", "core=unlimited:unlimited"),
        ] {
            assert_eq!(text.parse::<Limit>().unwrap().to_string(), shown);
        }
        for (text, says) in [
            ("nofile", "RESOURCE=SOFT:HARD"),
            ("files=1", "nofile"),
            ("nofile=", "a number, or unlimited"),
            ("nofile=-1", "a number, or unlimited"),
            ("nofile=1:2:3", "a number, or unlimited"),
            ("nofile=2:1", "above the hard one"),
            ("nofile=unlimited:1", "above the hard one"),
        ] {
            let refused = text.parse::<Limit>().unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }

    #[test]
    fn cpus_are_a_list_of_numbers_and_ranges() {
        let cpus = |cpus: &[u16]| Affinity::Cpus(cpus.iter().copied().collect());
        assert_eq!("auto".parse(), Ok(Affinity::Auto));
        assert_eq!("0-3,5".parse(), Ok(cpus(&[0, 1, 2, 3, 5])));
        assert_eq!("1023".parse(), Ok(cpus(&[1023])));
        for text in ["", "x", "1-", "-1", "3-1", "0,,1", "1024", "0-65535"] {
            assert!(text.parse::<Affinity>().is_err(), "{text}");
        }
    }

    #[test]
    fn accounts_are_numbers_or_names() {
        assert_eq!("0".parse(), Ok(Account::Id(0)));
        assert_eq!("www-data".parse(), Ok(Account::Name("www-data".to_owned())));
        for text in ["", "4294967295", "99999999999", "a:b", "a\0b"] {
            assert!(text.parse::<Account>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn streams_are_named() {
        assert_eq!("lines".parse(), Ok(Stream::Lines));
        assert_eq!("file:a".parse(), Ok(Stream::File("a".into())));
        for text in ["", "file:", "file", "a.log", "file:a\0"] {
            assert!(text.parse::<Stream>().is_err(), "{text:?}");
        }
    }
}
