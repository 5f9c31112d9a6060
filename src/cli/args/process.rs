//! The flags for what processes find around them.

use std::ffi::OsString;

use clap::Args;

use crate::cli::{Failure, usage};
use crate::config::surroundings::{
    Account, Affinity, Environment, Limit, Privileges, Stream, Surroundings,
};

/// User, limits, priority, CPUs, standard streams: for workers and agents alike.
#[derive(Debug, Args)]
#[command(next_help_heading = "Surroundings of every process")]
pub(super) struct ProcessArgs {
    /// The user that processes run as, with its group and groups unless others are given; HOME, USER
    /// and LOGNAME become the user's. Workers of another user than the master's may have nothing
    /// bound but what --listen and --allow-listen name
    #[arg(long, value_name = "USER[:GROUP]", value_parser = parse_user)]
    user: Option<UserAndGroup>,

    /// The group that processes run as
    #[arg(long, value_name = "GROUP")]
    group: Option<Account>,

    /// Their supplementary groups, instead of those that the user is a member of
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',')]
    groups: Option<Vec<Account>>,

    /// The file mode creation mask, octal
    #[arg(long, value_name = "MASK", value_parser = parse_umask)]
    umask: Option<u16>,

    /// The nice value, -20 (served first) to 19
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i8).range(-20..=19))]
    nice: Option<i8>,

    /// A limit, such as nofile=1024:4096 or core=unlimited: the names are those of getrlimit(2). May
    /// be repeated
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    rlimit: Vec<Limit>,

    /// The CPUs that processes run on: a list such as 0-3,5, or `auto` for one each, in turn of those
    /// that the master has
    #[arg(long, value_name = "auto|LIST")]
    cpu_affinity: Option<Affinity>,

    /// Processes never get more rights than they have, not even from set-user-ID programs
    #[arg(long)]
    no_new_privs: bool,

    /// Where standard output goes: to the master's (`inherit`), there with the name of the process
    /// before each line (`lines`), nowhere, or to the end of a file, which the process opens itself.
    /// With `lines` a process waits when it writes more than the master's own stream takes
    #[arg(
        long,
        value_name = "inherit|null|lines|file:PATH",
        default_value = "inherit"
    )]
    stdout: Stream,

    /// The same for standard error. With `lines`, the log also shows the last of them when a process
    /// dies
    #[arg(
        long,
        value_name = "inherit|null|lines|file:PATH",
        default_value = "inherit"
    )]
    stderr: Stream,

    /// What processes are called in ps(1), in the place of the program's path
    #[arg(long, value_name = "TEXT")]
    title: Option<OsString>,

    /// Processes inherit nothing of the master's environment but PATH
    #[arg(long)]
    env_clear: bool,
}

/// `--user`.
#[derive(Clone, Debug)]
struct UserAndGroup {
    user: Account,
    group: Option<Account>,
}

impl ProcessArgs {
    /// What the flags describe.
    pub(super) fn surroundings(&self) -> Result<Surroundings, Failure> {
        let of_user = self.user.as_ref().and_then(|it| it.group.clone());
        if of_user.is_some() && self.group.is_some() {
            return Err(usage("the group is given twice: leave out --group"));
        }
        Ok(Surroundings {
            user: self.user.as_ref().map(|it| it.user.clone()),
            group: self.group.clone().or(of_user),
            groups: self.groups.clone(),
            umask: self.umask,
            nice: self.nice,
            limits: self.rlimit.clone(),
            affinity: self.cpu_affinity.clone(),
            privileges: if self.no_new_privs {
                Privileges::NeverNew
            } else {
                Privileges::MayGrow
            },
            environment: if self.env_clear {
                Environment::Cleared
            } else {
                Environment::Inherited
            },
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
            title: self.title.clone(),
        })
    }
}

fn parse_user(text: &str) -> Result<UserAndGroup, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group.parse()?)),
        None => (text, None),
    };
    Ok(UserAndGroup {
        user: user.parse()?,
        group,
    })
}

fn parse_umask(text: &str) -> Result<u16, String> {
    match u16::from_str_radix(text, 8) {
        Ok(mask) if mask <= 0o777 && !text.starts_with('+') => Ok(mask),
        Ok(_) | Err(_) => Err("write an octal number up to 777, such as 027".to_owned()),
    }
}
