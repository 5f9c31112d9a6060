//! Kills for want of memory, as the master's own cgroup counts them.
//!
//! The kernel says of a killed process only that it was SIGKILL. A count that has grown since the last
//! look says who else may have sent it.

use std::fs;
use std::path::{Path, PathBuf};

/// The counter of the cgroup that this process is in.
#[derive(Debug)]
pub(crate) struct OomKills {
    /// `None` without a cgroup that counts.
    counter: Option<PathBuf>,
    seen: u64,
}

impl OomKills {
    /// Begins to count.
    pub(crate) fn watch() -> Self {
        let counter = fs::read_to_string("/proc/self/cgroup")
            .ok()
            .and_then(|groups| find(&groups, Path::new("/sys/fs/cgroup")));
        let seen = counter.as_deref().and_then(count).unwrap_or(0);
        OomKills { counter, seen }
    }

    /// How many there were since the last look. It counts those of the cgroups below, too.
    pub(crate) fn look(&mut self) -> u64 {
        let now = self.counter.as_deref().and_then(count).unwrap_or(self.seen);
        now.saturating_sub(std::mem::replace(&mut self.seen, now))
    }
}

/// The file that has the count, see `cgroups(7)`: `memory.events` in version 2, `memory.oom_control` in
/// version 1.
fn find(groups: &str, root: &Path) -> Option<PathBuf> {
    let candidates = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let path = path.trim_start_matches('/');
        match controllers {
            "" => Some(root.join(path).join("memory.events")),
            _ if controllers.split(',').any(|it| it == "memory") => {
                Some(root.join("memory").join(path).join("memory.oom_control"))
            }
            _ => None,
        }
    });
    candidates.into_iter().find(|file| count(file).is_some())
}

fn count(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both versions, and a system that has both.
    #[test]
    fn the_counter_is_found_and_counts() {
        let root = tempfile::tempdir().unwrap();
        for (groups, file, events) in [
            (
                "0::/app/web\n",
                "app/web/memory.events",
                "low 0\noom 3\noom_kill 2\n",
            ),
            (
                "9:name=systemd:/\n4:cpu,memory:/app\n0::/\n",
                "memory/app/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            ),
        ] {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, events).unwrap();
            let found = find(groups, root.path());
            assert_eq!(found.as_ref(), Some(&file));
            let mut kills = OomKills {
                counter: found,
                seen: 2,
            };
            assert_eq!(kills.look(), 0);
            fs::write(&file, "oom_kill 5\n").unwrap();
            assert_eq!((kills.look(), kills.look()), (3, 0));
        }
    }

    #[test]
    fn without_a_counter_there_are_none() {
        assert_eq!(find("0::/\n", Path::new("/nowhere")), None);
        let mut kills = OomKills {
            counter: None,
            seen: 0,
        };
        assert_eq!(kills.look(), 0);
    }
}
