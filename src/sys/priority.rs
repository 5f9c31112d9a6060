//! Nice values, see `sched(7)`: lower is more, and not for everybody.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

/// Whether this process may have that nice value without the right to any.
pub(crate) fn may_be(nice: i8) -> bool {
    let nice = i64::from(nice);
    let own = own().is_none_or(|own| nice >= own);
    // See `RLIMIT_NICE` in getrlimit(2).
    let least = getrlimit(Resource::RLIMIT_NICE).map_or(20, |(soft, _)| {
        20 - i64::try_from(soft).unwrap_or(40).min(40)
    });
    own || nice >= least
}

/// `None` if the system does not say.
fn own() -> Option<i64> {
    Errno::clear();
    // SAFETY: takes integers and touches no memory; 0 is the caller.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // -1 is a nice value, too.
    (Errno::last_raw() == 0).then_some(nice.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_kept_from_being_nicer() {
        assert!(may_be(19));
        assert!(may_be(i8::try_from(own().unwrap()).unwrap()));
    }
}
