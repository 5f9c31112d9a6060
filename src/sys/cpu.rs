//! How many CPUs this process may use: its affinity mask and its cgroup's quota; and which of them
//! a process gets.
//!
//! `--workers auto` says which of the two decided, so the count is never a mystery.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use worker_proto::ids::Slot;

use crate::config::surroundings::Affinity;

/// A number of CPUs, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CpuCount {
    affinity: u32,
    quota: Option<f64>,
}

impl CpuCount {
    /// Asks the kernel.
    pub(crate) fn detect() -> Self {
        CpuCount {
            affinity: affinity(),
            quota: quota(),
        }
    }

    /// The number of workers that can run at once: never 0.
    pub(crate) fn workers(&self) -> u32 {
        match self.quota {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float cast saturates, and both bounds follow"
            )]
            Some(quota) => (quota.ceil() as u32).clamp(1, self.affinity),
            None => self.affinity,
        }
    }
}

impl fmt::Display for CpuCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus = self.affinity;
        match self.quota {
            Some(quota) if self.workers() < cpus => {
                write!(f, "cgroup cpu.max allows {quota:.1} of {cpus} CPUs")
            }
            Some(_) | None if cpus == 1 => f.write_str("1 CPU in the affinity mask"),
            Some(_) | None => write!(f, "{cpus} CPUs in the affinity mask"),
        }
    }
}

/// The CPUs for the process of a slot.
pub(crate) fn set_for(affinity: &Affinity, slot: Slot) -> io::Result<CpuSet> {
    let mut set = CpuSet::new();
    match affinity {
        Affinity::Cpus(cpus) => {
            for &cpu in cpus {
                set.set(cpu.into())?;
            }
        }
        Affinity::Auto => {
            let own = own_cpus()?;
            // An affinity mask is never empty.
            let turn = slot.0 as usize % own.len().max(1);
            if let Some(&cpu) = own.iter().nth(turn) {
                set.set(cpu)?;
            }
        }
    }
    Ok(set)
}

/// Which of these CPUs a process here cannot be put on: the machine does not have them, or the
/// cgroup withholds them (`cpuset.cpus`).
pub(crate) fn unavailable(cpus: &BTreeSet<u16>) -> io::Result<Vec<u16>> {
    // The kernel's own answer, on a thread that ends right after.
    let possible = |cpu: u16| {
        let mut set = CpuSet::new();
        set.set(cpu.into()).is_ok() && sched_setaffinity(Pid::from_raw(0), &set).is_ok()
    };
    thread::scope(|scope| {
        let ask = || cpus.iter().copied().filter(|&cpu| !possible(cpu)).collect();
        let asking = thread::Builder::new().spawn_scoped(scope, ask)?;
        asking.join().map_err(|_| io::Error::other("a panic"))
    })
}

fn affinity() -> u32 {
    let cpus = own_cpus().map_or(1, |cpus| cpus.len().max(1));
    u32::try_from(cpus).unwrap_or(1)
}

fn own_cpus() -> io::Result<BTreeSet<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let is_own = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    Ok((0..CpuSet::count()).filter(is_own).collect())
}

/// The tightest `cpu.max` from this process's cgroup up to the root, in CPUs.
fn quota() -> Option<f64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let leaf: PathBuf = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    leaf.ancestors()
        .take_while(|dir| dir.starts_with("/sys/fs/cgroup"))
        .filter_map(|dir| parse_cpu_max(&fs::read_to_string(dir.join("cpu.max")).ok()?))
        .min_by(f64::total_cmp)
}

/// Reads `QUOTA PERIOD` in microseconds; `max` is no quota. See the kernel's cgroup-v2.rst.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_max_is_a_quota_over_a_period() {
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(1.5));
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max("1 0"), None);
        assert_eq!(parse_cpu_max("junk"), None);
    }

    #[test]
    fn slots_take_the_own_cpus_in_turn() {
        let own: Vec<usize> = own_cpus().unwrap().into_iter().collect();
        for slot in 0..2 * u32::try_from(own.len()).unwrap() {
            let set = set_for(&Affinity::Auto, Slot(slot)).unwrap();
            let cpu = own[slot as usize % own.len()];
            assert!((0..CpuSet::count()).all(|it| set.is_set(it).unwrap() == (it == cpu)));
        }
    }

    #[test]
    fn cpus_that_are_not_there_are_found_out_without_a_trace() {
        let before = own_cpus().unwrap();
        let first = u16::try_from(*before.first().unwrap()).unwrap();
        let found = unavailable(&BTreeSet::from([first, 1023])).unwrap();
        assert_eq!(found, [1023]);
        assert_eq!(own_cpus().unwrap(), before);
    }

    #[test]
    fn the_tighter_limit_decides_and_says_so() {
        for (affinity, quota, workers, says) in [
            (8, None, 8, "8 CPUs in the affinity mask"),
            (8, Some(1.5), 2, "cgroup cpu.max allows 1.5 of 8 CPUs"),
            (2, Some(16.0), 2, "2 CPUs in the affinity mask"),
            (8, Some(0.01), 1, "cgroup cpu.max allows 0.0 of 8 CPUs"),
            (1, None, 1, "1 CPU in the affinity mask"),
        ] {
            let count = CpuCount { affinity, quota };
            assert_eq!(
                (count.workers(), count.to_string().as_str()),
                (workers, says)
            );
        }
    }
}
