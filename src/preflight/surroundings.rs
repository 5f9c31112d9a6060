//! Whether this master may give its processes what they are to find around them, and who that is:
//! names of users and groups become numbers here.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use thiserror::Error;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use crate::config::placeholder::{self, Incumbent};
use crate::config::program::Program;
use crate::config::surroundings::{Account, Affinity, Limit, Stream, Surroundings};
use crate::sys::accounts::{self, KnownUser};
use crate::sys::credentials::{Credentials, Want};
use crate::sys::rights::{Right, Rights};
use crate::sys::{cpu, describe, priority};

/// Surroundings that this master cannot give its processes.
#[derive(Debug, Error)]
pub enum SurroundingsError {
    /// There is no such user.
    #[error("user {user}: no such user: check the name, or give a number")]
    UnknownUser {
        /// As it was given.
        user: String,
    },
    /// There is no such group.
    #[error("group {group}: no such group: check the name, or give a number")]
    UnknownGroup {
        /// As it was given.
        group: String,
    },
    /// A number that is nobody's has no group of its own.
    #[error("user {uid}: nobody has this number, so its group is not known: --user {uid}:GROUP")]
    NoGroup {
        /// The number.
        uid: u32,
    },
    /// Users and groups cannot be looked up.
    #[error("look up {account}: {}", describe(source))]
    Lookup {
        /// Who.
        account: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel would refuse it.
    #[error(
        "{what}: operation not permitted (EPERM): start the master as root, or give it {capability}"
    )]
    NotPermitted {
        /// What was asked for.
        what: String,
        /// What the master would need.
        capability: &'static str,
    },
    /// A limit beyond what the kernel allows.
    #[error("rlimit {limit}: {reason}")]
    Limit {
        /// What was asked for.
        limit: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// CPUs that are not there.
    #[error(
        "cpu affinity: no process here can run on CPU {cpus}: see Cpus_allowed_list in /proc/self/status"
    )]
    NoCpu {
        /// Which.
        cpus: String,
    },
    /// A text with a sum that cannot be formed.
    #[error("{what} {text:?}: {reason}")]
    Placeholder {
        /// What has it.
        what: &'static str,
        /// All of it.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A text that no process can be given.
    #[error("{what}: a zero byte in {text:?}: leave it out")]
    ZeroByte {
        /// What has it.
        what: &'static str,
        /// All of it.
        text: String,
    },
    /// A file that a process may not use.
    #[error("{what} {}: {reason}: {remedy}", path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// The same program, with numbers for names, absolute paths, and what belongs to its user in its
/// environment. Its path has been found already.
pub(super) fn check(
    mut program: Program,
    role: Role,
    slots: u32,
) -> Result<Program, SurroundingsError> {
    check_texts(&program)?;
    let rights = Rights::own();
    let surroundings = &mut program.surroundings;
    if let Some(user) = resolve(surroundings)? {
        adopt_home(&mut program.env, user);
    }
    let credentials =
        Credentials::of(surroundings).map_err(|source| SurroundingsError::Lookup {
            account: "the user".to_owned(),
            source,
        })?;
    check_credentials(surroundings, &credentials, rights)?;
    check_nice(surroundings.nice, rights)?;
    for limit in &surroundings.limits {
        check_limit(*limit, rights)?;
    }
    if let Some(affinity) = &surroundings.affinity {
        check_affinity(affinity)?;
    }
    for stream in [&mut surroundings.stdout, &mut surroundings.stderr] {
        if let Stream::File(path) = stream
            && let Ok(absolute) = std::path::absolute(&path)
        {
            *path = absolute;
        }
    }
    if credentials.change_user() || credentials.change_groups() {
        check_reach(&program, &credentials)?;
    }
    check_files(&program.surroundings, &credentials, role, slots)?;
    Ok(program)
}

/// Whether the processes of a program have fewer rights than this master, so far as users go.
pub(super) fn has_fewer_rights(program: &Program) -> bool {
    Credentials::of(&program.surroundings)
        .is_ok_and(|credentials| credentials.change_user() || credentials.change_groups())
}

fn check_texts(program: &Program) -> Result<(), SurroundingsError> {
    let surroundings = &program.surroundings;
    let args = program.args.iter().map(|arg| ("argument", arg.as_os_str()));
    let env = program.env.iter();
    let texts = args
        .chain(env.map(|(_, value)| ("env", value.as_os_str())))
        .chain(
            surroundings
                .title
                .iter()
                .map(|it| ("title", it.as_os_str())),
        )
        .chain(path_of(&surroundings.stdout).map(|it| ("stdout", it)))
        .chain(path_of(&surroundings.stderr).map(|it| ("stderr", it)));
    for (what, text) in texts {
        let shown = || text.to_string_lossy().into_owned();
        if text.as_encoded_bytes().contains(&0) {
            return Err(SurroundingsError::ZeroByte {
                what,
                text: shown(),
            });
        }
        placeholder::check(text).map_err(|overflow| SurroundingsError::Placeholder {
            what,
            text: shown(),
            reason: overflow.to_string(),
        })?;
    }
    Ok(())
}

fn path_of(stream: &Stream) -> Option<&OsStr> {
    match stream {
        Stream::File(path) => Some(path.as_os_str()),
        Stream::Inherit | Stream::Null | Stream::Lines => None,
    }
}

/// Puts numbers in the place of names, and what follows from the user where nothing was said;
/// answers the user, if one was asked for and is known.
fn resolve(surroundings: &mut Surroundings) -> Result<Option<KnownUser>, SurroundingsError> {
    let user = match &surroundings.user {
        None => None,
        Some(account) => {
            let known = accounts::user(account).map_err(|err| lookup(account, err))?;
            match (known, account) {
                (Some(known), _) => Some(known),
                (None, Account::Id(uid)) if surroundings.group.is_none() => {
                    return Err(SurroundingsError::NoGroup { uid: *uid });
                }
                (None, Account::Id(_)) => None,
                (None, Account::Name(name)) => {
                    let user = name.clone();
                    return Err(SurroundingsError::UnknownUser { user });
                }
            }
        }
    };
    if let Some(group) = &mut surroundings.group {
        *group = Account::Id(find_group(group)?);
    }
    for group in surroundings.groups.iter_mut().flatten() {
        *group = Account::Id(find_group(group)?);
    }
    let Some(Account::Id(gid)) = surroundings
        .group
        .clone()
        .or_else(|| user.as_ref().map(|user| Account::Id(user.gid)))
    else {
        return Ok(None);
    };
    if surroundings.user.is_some() {
        surroundings.group = Some(Account::Id(gid));
        if surroundings.groups.is_none() {
            let groups = match &user {
                Some(user) => accounts::groups_of(user, gid)
                    .map_err(|err| lookup(&Account::Id(user.uid), err))?,
                None => vec![gid],
            };
            surroundings.groups = Some(groups.into_iter().map(Account::Id).collect());
        }
    }
    if let Some(user) = &user {
        surroundings.user = Some(Account::Id(user.uid));
    }
    Ok(user)
}

fn find_group(account: &Account) -> Result<u32, SurroundingsError> {
    let known = accounts::group(account).map_err(|err| lookup(account, err))?;
    known.ok_or_else(|| SurroundingsError::UnknownGroup {
        group: account.to_string(),
    })
}

fn lookup(account: &Account, source: io::Error) -> SurroundingsError {
    SurroundingsError::Lookup {
        account: account.to_string(),
        source,
    }
}

/// What login(1) sets: the master's own would lead the process to files of somebody else. What was
/// given by hand comes later and wins.
fn adopt_home(env: &mut Vec<(OsString, OsString)>, user: KnownUser) {
    let own = [
        ("HOME", user.home),
        ("USER", user.name.clone()),
        ("LOGNAME", user.name),
    ];
    let own = own.map(|(name, value)| (name.into(), value));
    let given = std::mem::replace(env, own.into());
    env.extend(given);
}

fn check_credentials(
    surroundings: &Surroundings,
    credentials: &Credentials,
    rights: Rights,
) -> Result<(), SurroundingsError> {
    let user = surroundings.user.as_ref().map(ToString::to_string);
    let refused = |what: String, right: Right| {
        Err(SurroundingsError::NotPermitted {
            what,
            capability: right.name(),
        })
    };
    if credentials.change_user() {
        let what = format!("user {}", user.unwrap_or_default());
        // Without the second one it could start the process and never stop it.
        for right in [Right::SetUid, Right::Kill] {
            if !rights.have(right) {
                return refused(what, right);
            }
        }
    }
    if credentials.change_groups() && !rights.have(Right::SetGid) {
        let all = surroundings.group.iter();
        let all = all.chain(surroundings.groups.iter().flatten());
        let groups: Vec<_> = all.map(ToString::to_string).collect();
        return refused(format!("groups {}", groups.join(",")), Right::SetGid);
    }
    Ok(())
}

fn check_nice(nice: Option<i8>, rights: Rights) -> Result<(), SurroundingsError> {
    match nice {
        Some(nice) if !rights.have(Right::SysNice) && !priority::may_be(nice) => {
            Err(SurroundingsError::NotPermitted {
                what: format!("nice {nice}"),
                capability: Right::SysNice.name(),
            })
        }
        Some(_) | None => Ok(()),
    }
}

fn check_limit(limit: Limit, rights: Rights) -> Result<(), SurroundingsError> {
    let refused = |reason| {
        Err(SurroundingsError::Limit {
            limit: limit.to_string(),
            reason,
        })
    };
    if limit.resource == Resource::RLIMIT_NOFILE
        && let Some(most) = read_number("/proc/sys/fs/nr_open")
        && limit.hard > most
    {
        return refused(format!("at most {most} is possible (sysctl fs.nr_open)"));
    }
    match getrlimit(limit.resource) {
        Ok((_, most)) if limit.hard > most && !rights.have(Right::SysResource) => {
            let right = Right::SysResource.name();
            refused(format!(
                "the master's own hard limit is {most}: use at most that, raise it (ulimit -H), or give the master {right}"
            ))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn check_affinity(affinity: &Affinity) -> Result<(), SurroundingsError> {
    let Affinity::Cpus(cpus) = affinity else {
        return Ok(());
    };
    match cpu::unavailable(cpus) {
        Ok(missing) if !missing.is_empty() => {
            let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
            Err(SurroundingsError::NoCpu {
                cpus: missing.join(", "),
            })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The program is root's own as often as not, somewhere below a home directory.
fn check_reach(program: &Program, credentials: &Credentials) -> Result<(), SurroundingsError> {
    let check = |what, path: &Path, remedy| {
        let may = credentials.suffice_for(Want::Execute, path);
        may.map_err(|err| SurroundingsError::File {
            what,
            path: path.to_owned(),
            reason: describe(&err),
            remedy,
        })
    };
    check(
        "program",
        &program.path,
        "the user of the processes has to be able to execute it, and to enter every directory on the way (namei -l)",
    )?;
    program.cwd.iter().try_for_each(|cwd| {
        check(
            "directory",
            cwd,
            "the user of the processes has to be able to enter it",
        )
    })
}

/// What the processes write to can be opened, so far as it can be told beforehand: which file it is
/// may depend on the id.
fn check_files(
    surroundings: &Surroundings,
    credentials: &Credentials,
    role: Role,
    slots: u32,
) -> Result<(), SurroundingsError> {
    let streams = [
        ("stdout", &surroundings.stdout),
        ("stderr", &surroundings.stderr),
    ];
    for (what, stream) in streams {
        let Stream::File(path) = stream else { continue };
        for slot in 0..slots {
            let incumbent = Incumbent {
                worker: WorkerId(1),
                slot: Slot(slot),
                generation: Generation(1),
                role,
            };
            let path = PathBuf::from(incumbent.expand(path.as_os_str()));
            check_file(&path, credentials).map_err(|reason| SurroundingsError::File {
                what,
                path,
                reason,
                remedy: "the processes have to be able to write to it, or to create it",
            })?;
        }
    }
    Ok(())
}

fn check_file(path: &Path, credentials: &Credentials) -> Result<(), String> {
    if path.is_dir() {
        return Err("is a directory (EISDIR)".to_owned());
    }
    match credentials.suffice_for(Want::Write, path) {
        Ok(()) => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(path);
            let may = credentials.suffice_for(Want::Create, parent);
            may.map_err(|err| describe(&err))
        }
        Err(err) => Err(describe(&err)),
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
