//! Users and groups by name, see `getpwnam_r(3)`. May ask a server of the network: never on the loop.

use std::ffi::{CString, OsString};
use std::io;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use crate::config::surroundings::Account;

/// A user as `passwd(5)` has it.
#[derive(Clone, Debug)]
pub(crate) struct KnownUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) name: OsString,
    pub(crate) home: OsString,
}

/// The user with this name or number, if it is known.
pub(crate) fn user(account: &Account) -> io::Result<Option<KnownUser>> {
    let found = match account {
        Account::Name(name) => User::from_name(name)?,
        Account::Id(id) => User::from_uid(Uid::from_raw(*id))?,
    };
    Ok(found.map(|user| KnownUser {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        name: user.name.into(),
        home: user.dir.into(),
    }))
}

/// The number of a group, if it is known. A number needs no name.
pub(crate) fn group(account: &Account) -> io::Result<Option<u32>> {
    match account {
        Account::Id(id) => Ok(Some(*id)),
        Account::Name(name) => Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())),
    }
}

/// The groups that the user is a member of, `gid` among them, as `initgroups(3)` sets them.
pub(crate) fn groups_of(user: &KnownUser, gid: u32) -> io::Result<Vec<u32>> {
    use std::os::unix::ffi::OsStrExt;
    let name = CString::new(user.name.as_bytes())?;
    let groups = getgrouplist(&name, Gid::from_raw(gid))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}
