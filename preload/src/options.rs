//! The options of a listening socket that its connections inherit: which of them the program has
//! set, for the socket that the master binds in its stead.

use std::os::fd::RawFd;

use worker_proto::frame::InheritedOption;

use crate::sys;

/// Those whose value is another than that of a socket on which nothing was set.
pub(crate) fn set_on(fd: RawFd, domain: i32) -> Vec<InheritedOption> {
    let Ok(fresh) = sys::socket(domain, libc::SOCK_STREAM) else {
        return Vec::new();
    };
    let names = NUMBERS.iter().map(|&(level, name, _)| (level, name));
    let differing = names
        .chain([(libc::SOL_SOCKET, libc::SO_LINGER)])
        .filter_map(|(level, name)| {
            let option = read(fd, level, name)?;
            (read(fresh, level, name) != Some(option)).then_some(option)
        })
        .collect();
    sys::close(fresh);
    differing
}

/// The option of that name as it is set on a socket; `None` if connections do not inherit it.
pub(crate) fn read(fd: RawFd, level: i32, name: i32) -> Option<InheritedOption> {
    if (level, name) == (libc::SOL_SOCKET, libc::SO_LINGER) {
        let seconds = sys::linger(fd).ok()?;
        return Some(InheritedOption::Linger(
            seconds.and_then(|seconds| u32::try_from(seconds).ok()),
        ));
    }
    let (.., option) = NUMBERS
        .iter()
        .find(|&&(its_level, its_name, _)| (its_level, its_name) == (level, name))?;
    let value = sys::number_option(fd, level, name).ok()?;
    Some(option(u32::try_from(value).ok()?))
}

type Make = fn(u32) -> InheritedOption;

const NUMBERS: &[(i32, i32, Make)] = &[
    (libc::IPPROTO_TCP, libc::TCP_NODELAY, |on| {
        InheritedOption::NoDelay(on != 0)
    }),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE, |on| {
        InheritedOption::KeepAlive(on != 0)
    }),
    (
        libc::IPPROTO_TCP,
        libc::TCP_KEEPIDLE,
        InheritedOption::KeepIdle,
    ),
    (
        libc::IPPROTO_TCP,
        libc::TCP_KEEPINTVL,
        InheritedOption::KeepInterval,
    ),
    (
        libc::IPPROTO_TCP,
        libc::TCP_KEEPCNT,
        InheritedOption::KeepCount,
    ),
    (
        libc::IPPROTO_TCP,
        libc::TCP_USER_TIMEOUT,
        InheritedOption::UserTimeout,
    ),
    // The kernel answers with twice what was set.
    (libc::SOL_SOCKET, libc::SO_RCVBUF, |bytes| {
        InheritedOption::ReceiveBuffer(bytes / 2)
    }),
    (libc::SOL_SOCKET, libc::SO_SNDBUF, |bytes| {
        InheritedOption::SendBuffer(bytes / 2)
    }),
    (
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
        InheritedOption::DeferAccept,
    ),
    (
        libc::IPPROTO_TCP,
        libc::TCP_FASTOPEN,
        InheritedOption::FastOpen,
    ),
    (
        libc::IPPROTO_TCP,
        libc::TCP_MAXSEG,
        InheritedOption::MaxSegment,
    ),
    (
        libc::IPPROTO_IP,
        libc::IP_TOS,
        InheritedOption::TypeOfService,
    ),
    (
        libc::IPPROTO_IPV6,
        libc::IPV6_TCLASS,
        InheritedOption::TrafficClass,
    ),
];
