//! How many CPUs this process may use: its affinity mask and its cgroup's quota.
//!
//! `--workers auto` says which of the two decided, so the count is never a mystery.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

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

fn affinity() -> u32 {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return 1;
    };
    let cpus = (0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .count();
    u32::try_from(cpus.max(1)).unwrap_or(1)
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
