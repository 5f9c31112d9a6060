//! The census: how many processes live in each process group, as `proc(5)` shows it.
//!
//! No system call tells whether a dead leader's group has other members: a signal to a group of
//! zombies succeeds. Reading `/proc` takes a while, so this is not for the loop.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The groups of this moment.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// The leaders not counted.
    followers: HashMap<u32, usize>,
}

/// What one line of `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    group: u32,
    is_alive: bool,
}

impl Census {
    /// Counts everybody once.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or shows another pid namespace than this process's.
    pub(crate) fn take() -> io::Result<Census> {
        if fs::read_link("/proc/self")? != Path::new(&std::process::id().to_string()) {
            return Err(io::Error::other("/proc is of another pid namespace"));
        }
        let mut census = Census::default();
        let mut stat = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|it| it.parse().ok()) else {
                continue;
            };
            if read(pid, &mut stat)?
                && let Some(Entry { group, is_alive }) = parse(&stat)
                && is_alive
                && group != pid
            {
                *census.followers.entry(group).or_default() += 1;
            }
        }
        Ok(census)
    }

    /// How many live in this group beside its leader.
    pub(crate) fn followers(&self, leader: u32) -> usize {
        self.followers.get(&leader).copied().unwrap_or(0)
    }
}

/// Reads what is said of a process; answers whether there is one that may be looked at. Whom
/// `hidepid` hides this process could not signal either.
fn read(pid: u32, stat: &mut Vec<u8>) -> io::Result<bool> {
    stat.clear();
    let read = File::open(format!("/proc/{pid}/stat"))
        .and_then(|file| file.take(MOST_BYTES).read_to_end(stat));
    let Err(err) = read else {
        return Ok(true);
    };
    match err.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH | libc::EACCES | libc::EPERM) => Ok(false),
        _ => Err(err),
    }
}

/// The name may be anything, so it ends with the last parenthesis.
fn parse(stat: &[u8]) -> Option<Entry> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let after = str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    let threads: u32 = fields.nth(14)?.parse().ok()?;
    // The main thread of a process may have ended before the others.
    let is_alive = !matches!(state, "Z" | "X") || threads > 1;
    Some(Entry { group, is_alive })
}

/// More than the kernel writes.
const MOST_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields after the name up to the number of threads.
    fn stat(name: &str, state: char, group: u32, threads: u32) -> Option<Entry> {
        let unimportant = "17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0";
        let line = format!("42 ({name}) {state} 1 {group} {unimportant} {threads} 0 99\n");
        parse(line.as_bytes())
    }

    #[test]
    fn a_name_cannot_pretend_to_be_a_group() {
        for name in [
            "sh",
            "",
            "a) Z 1 7 7",
            ") Z 1 7",
            "a\n43 (b) S 1 9",
            "((",
            "a b",
        ] {
            let (group, is_alive) = (41, true);
            let expected = Some(Entry { group, is_alive });
            assert_eq!(stat(name, 'S', 41, 1), expected, "{name:?}");
        }
    }

    #[test]
    fn a_process_is_dead_when_its_last_thread_is() {
        let is_alive = |state, threads| stat("sh", state, 41, threads).unwrap().is_alive;
        assert!(is_alive('T', 1));
        assert!(is_alive('D', 1));
        assert!(!is_alive('Z', 1));
        assert!(is_alive('Z', 2));
    }

    #[test]
    fn what_is_no_line_of_stat_is_nobody() {
        for text in ["", "42", "42 (sh)", "42 (sh) S 1", "42 (sh) S 1 x 2"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
