//! The difference between two configurations: what changed, and what it takes to come into effect.
//!
//! Names no setting twice and forgets none: a field of `Config` that is not looked at here does not
//! compile.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::control::ControlSocket;
use super::data_file::DataFile;
use super::dispatch::{self, Dispatch, Waking};
use super::farewell::{Farewell, StopSignal};
use super::listener::{ListenerSpec, Owner, deferral};
use super::messages::MessageLimits;
use super::own_process::OwnProcess;
use super::program::Program;
use super::rollout::Recycling;
use super::strategy::{self, StrategyName};
use super::surroundings::{Account, Environment, Privileges, Stream, Surroundings};
use super::watch::Watch;
use super::{Config, ConnectionLimits, OnDemand, Overflow, Refusal};
use crate::supervisor::{BackoffPlan, OnCrashLoop, Restart, RestartLimit, RolloutPlan};

/// A setting that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name of its flag.
    pub setting: &'static str,
    /// What it was, for people.
    pub old: String,
    /// What it is, for people. Values of variables are not shown: they may be secrets.
    pub new: String,
    /// What it takes.
    pub takes: Takes,
}

/// What it takes for a change to come into effect. What takes less comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Takes {
    /// Nothing: the running master can do it.
    Now,
    /// A new generation of workers: it is about what a process is started with.
    Generation,
    /// A restart of the master.
    Restart,
}

/// Every setting that differs, in the order of the help. Both have been checked: their programs are
/// found.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let Config {
        workers,
        spare,
        program,
        agents,
        listeners,
        on_demand,
        dispatch,
        strategy,
        weights,
        window,
        overflow,
        coalesce,
        connection_limits,
        stall_timeout,
        bind_retry,
        ready_timeout,
        stop_timeout,
        stop_signal,
        farewell,
        kill_timeout,
        hang_timeout,
        orphan_grace,
        restart,
        stop_exit_codes,
        min_workers,
        unhealthy_exit,
        rollout,
        recycling,
        messages,
        data_files,
        watch,
        jobs,
        own_process,
        cgroup,
        control,
    } = old;
    let mut diff = Diff::default();
    diff.programs((program, agents), (&new.program, &new.agents));
    diff.now("workers", workers, &new.workers, u32::to_string);
    diff.restart("spare", spare, &new.spare, u32::to_string);
    let followed = strategy::followed(listeners, &new.listeners);
    diff.restart("listen", &followed, &new.listeners, listeners_text);
    diff.restart("allow-listen", on_demand, &new.on_demand, allowed_text);
    diff.restart("bind-retry", bind_retry, &new.bind_retry, time);
    diff.dispatch(*dispatch, new.dispatch);
    diff.now(
        "strategy",
        &strategies_text(*strategy, listeners),
        &strategies_text(new.strategy, &followed),
        String::clone,
    );
    diff.now("weights", weights, &new.weights, |weights| {
        list(weights.iter().map(|weight| weight.to_string()))
    });
    diff.restart("window", window, &new.window, u32::to_string);
    diff.overflow(*overflow, new.overflow);
    diff.now("coalesce", coalesce, &new.coalesce, time);
    diff.connection_limits(*connection_limits, new.connection_limits);
    diff.now("stall-timeout", stall_timeout, &new.stall_timeout, or_never);
    diff.now("ready-timeout", ready_timeout, &new.ready_timeout, time);
    diff.now("stop-timeout", stop_timeout, &new.stop_timeout, time);
    diff.now(
        "stop-signal",
        stop_signal,
        &new.stop_signal,
        StopSignal::to_string,
    );
    diff.now("stop-signal-when", farewell, &new.farewell, |when| {
        match when {
            Farewell::Idle => "idle",
            Farewell::AtOnce => "at-once",
        }
        .to_owned()
    });
    diff.now("kill-timeout", kill_timeout, &new.kill_timeout, time);
    diff.now("hang-timeout", hang_timeout, &new.hang_timeout, or_never);
    // A process is told when it is welcomed.
    diff.generation("orphan-grace", orphan_grace, &new.orphan_grace, time);
    diff.restart_rules(restart, &new.restart);
    diff.now(
        "stop-exit-codes",
        stop_exit_codes,
        &new.stop_exit_codes,
        |codes| list(codes.iter().map(i32::to_string)),
    );
    diff.now("min-workers", min_workers, &new.min_workers, u32::to_string);
    diff.now(
        "unhealthy-exit",
        unhealthy_exit,
        &new.unhealthy_exit,
        or_never,
    );
    diff.rollout(*rollout, new.rollout);
    diff.watch(watch, &new.watch);
    diff.recycling(*recycling, new.recycling);
    diff.messages(*messages, new.messages);
    diff.now("watch-data", data_files, &new.data_files, |files| {
        list(files.iter().map(DataFile::to_string))
    });
    diff.now("job", jobs, &new.jobs, |jobs| {
        list(jobs.iter().map(ToString::to_string))
    });
    diff.restart("cgroup", cgroup, &new.cgroup, bool::to_string);
    diff.own_process(own_process, &new.own_process);
    diff.restart("control", control, &new.control, control_text);
    diff.changes
}

#[derive(Default)]
struct Diff {
    changes: Vec<Change>,
}

impl Diff {
    fn now<T: PartialEq>(
        &mut self,
        setting: &'static str,
        old: &T,
        new: &T,
        text: impl Fn(&T) -> String,
    ) {
        self.note(setting, Takes::Now, (old, new), text);
    }

    fn generation<T: PartialEq>(
        &mut self,
        setting: &'static str,
        old: &T,
        new: &T,
        text: impl Fn(&T) -> String,
    ) {
        self.note(setting, Takes::Generation, (old, new), text);
    }

    fn restart<T: PartialEq>(
        &mut self,
        setting: &'static str,
        old: &T,
        new: &T,
        text: impl Fn(&T) -> String,
    ) {
        self.note(setting, Takes::Restart, (old, new), text);
    }

    fn note<T: PartialEq>(
        &mut self,
        setting: &'static str,
        takes: Takes,
        (old, new): (&T, &T),
        text: impl Fn(&T) -> String,
    ) {
        if old != new {
            self.changes.push(Change {
                setting,
                old: text(old),
                new: text(new),
                takes,
            });
        }
    }

    /// What workers run, and what agents run. An environment and a directory that all have in
    /// common are told once; an agent gets them when it is started next.
    fn programs(&mut self, old: (&Program, &Vec<Program>), new: (&Program, &Vec<Program>)) {
        let ((old, old_agents), (new, new_agents)) = (old, new);
        let Program {
            path,
            args,
            env,
            cwd,
            surroundings,
            name: _,
            preload,
            ready_on,
        } = old;
        let path_text = |path: &PathBuf| path.display().to_string();
        self.generation("program", path, &new.path, path_text);
        self.generation("args", args, &new.args, |args| {
            list(args.iter().map(quoted))
        });
        self.generation("env", env, &new.env, |variables| names(variables, env));
        self.generation("cwd", cwd, &new.cwd, or_no_path);
        self.generation("preload", preload, &new.preload, or_no_path);
        self.generation("ready-on", ready_on, &new.ready_on, ToString::to_string);
        self.surroundings(surroundings, &new.surroundings);
        // As if the old agents had had what the new ones have in common with the workers.
        let followed = |agent: &Program| {
            let mut agent = agent.clone();
            if agent.env == *env {
                agent.env.clone_from(&new.env);
            }
            if agent.cwd == *cwd {
                agent.cwd.clone_from(&new.cwd);
            }
            if agent.surroundings == *surroundings {
                agent.surroundings.clone_from(&new.surroundings);
            }
            agent
        };
        let is_followed = old_agents
            .iter()
            .map(followed)
            .eq(new_agents.iter().cloned());
        if !is_followed {
            // They are not replaced, but whoever is restarted is what it is to be by then.
            let takes = match old_agents.len() == new_agents.len() {
                true => Takes::Generation,
                false => Takes::Restart,
            };
            self.note("agent", takes, (old_agents, new_agents), |agents| {
                list(agents.iter().map(command))
            });
        }
    }

    fn surroundings(&mut self, old: &Surroundings, new: &Surroundings) {
        let Surroundings {
            user,
            group,
            groups,
            umask,
            nice,
            limits,
            affinity,
            privileges,
            environment,
            stdout,
            stderr,
            title,
        } = old;
        self.generation("user", user, &new.user, or_unset);
        self.generation("group", group, &new.group, or_unset);
        self.generation("groups", groups, &new.groups, |groups| {
            or_unset(
                &groups
                    .as_ref()
                    .map(|it| list(it.iter().map(Account::to_string))),
            )
        });
        self.generation("umask", umask, &new.umask, |mask| {
            or_unset(&mask.map(|mask| format!("{mask:03o}")))
        });
        self.generation("nice", nice, &new.nice, or_unset);
        self.generation("rlimit", limits, &new.limits, |limits| {
            list(
                limits
                    .iter()
                    .map(|limit| format!("{:?}={}:{}", limit.resource, limit.soft, limit.hard)),
            )
        });
        self.generation("cpu-affinity", affinity, &new.affinity, or_unshown);
        self.generation("no-new-privs", privileges, &new.privileges, |it| {
            (*it == Privileges::NeverNew).to_string()
        });
        self.generation("env-clear", environment, &new.environment, |it| {
            (*it == Environment::Cleared).to_string()
        });
        self.generation("stdout", stdout, &new.stdout, stream);
        self.generation("stderr", stderr, &new.stderr, stream);
        self.generation("title", title, &new.title, or_unshown);
    }

    fn rollout(&mut self, old: RolloutPlan, new: RolloutPlan) {
        let RolloutPlan {
            surge,
            unavailable,
            canary,
        } = old;
        self.now("surge", &surge, &new.surge, u32::to_string);
        self.now(
            "unavailable",
            &unavailable,
            &new.unavailable,
            u32::to_string,
        );
        self.now("canary", &canary, &new.canary, time);
    }

    fn watch(&mut self, old: &Watch, new: &Watch) {
        let Watch {
            paths,
            delay,
            ignore,
        } = old;
        self.now("watch", paths, &new.paths, |paths| {
            list(paths.iter().map(|path| path.display().to_string()))
        });
        self.now("watch-delay", delay, &new.delay, time);
        self.now("watch-ignore", ignore, &new.ignore, |patterns| {
            list(patterns.iter().map(ToString::to_string))
        });
    }

    fn recycling(&mut self, old: Recycling, new: Recycling) {
        let Recycling {
            max_age,
            max_received,
            max_rss,
            jitter,
        } = old;
        self.now("max-age", &max_age, &new.max_age, or_never);
        self.now("max-received", &max_received, &new.max_received, or_unset);
        self.now("max-rss", &max_rss, &new.max_rss, or_unset);
        self.now("recycle-jitter", &jitter, &new.jitter, |jitter| {
            format!("{}%", jitter.percent)
        });
    }

    fn messages(&mut self, old: MessageLimits, new: MessageLimits) {
        let MessageLimits {
            max_message,
            memory,
            hold,
        } = old;
        // A process is told when it is welcomed, and its messages are for those who were told before.
        self.restart("max-message", &max_message, &new.max_message, size);
        self.restart("message-memory", &memory, &new.memory, size);
        self.restart("message-hold", &hold, &new.hold, time);
    }

    fn dispatch(&mut self, old: Dispatch, new: Dispatch) {
        let Dispatch {
            mode,
            waking,
            defer_accept,
        } = old;
        self.restart("defer-accept", &defer_accept, &new.defer_accept, |time| {
            deferral(*time)
        });
        self.restart("dispatch", &mode, &new.mode, |mode| {
            dispatch::name(*mode).to_owned()
        });
        self.restart("exclusive", &waking, &new.waking, |waking| {
            let exclusive = match waking {
                Waking::One => "yes",
                Waking::All => "no",
            };
            exclusive.to_owned()
        });
    }

    /// How long to wait is a setting of those who refuse.
    fn overflow(&mut self, old: Overflow, new: Overflow) {
        if let (
            Overflow::Refuse { how: old, after },
            Overflow::Refuse {
                how: new,
                after: new_after,
            },
        ) = (old, new)
        {
            self.now("overflow", &old, &new, |how| refusal(*how));
            self.now("overflow-after", &after, &new_after, time);
        } else {
            self.now("overflow", &old, &new, |overflow| match overflow {
                Overflow::Wait => "wait".to_owned(),
                Overflow::Refuse { how, after } => {
                    format!("{} after {}", refusal(*how), time(after))
                }
            });
        }
    }

    fn connection_limits(&mut self, old: ConnectionLimits, new: ConnectionLimits) {
        let ConnectionLimits { per_worker, total } = old;
        let each = (&per_worker, &new.per_worker);
        self.now("max-connections-per-worker", each.0, each.1, or_unset);
        self.now("max-connections", &total, &new.total, or_unset);
    }

    /// The rules of replacing are settings of those who replace.
    fn restart_rules(&mut self, old: &Restart, new: &Restart) {
        let is_never = |restart: &Restart| *restart == Restart::Never;
        self.now("no-refork", &is_never(old), &is_never(new), bool::to_string);
        if let (
            Restart::Always {
                backoff,
                limit,
                on_crash_loop,
            },
            Restart::Always {
                backoff: new_backoff,
                limit: new_limit,
                on_crash_loop: new_answer,
            },
        ) = (old, new)
        {
            self.now("backoff", backoff, new_backoff, backoff_text);
            self.now("restart-limit", limit, new_limit, limit_text);
            self.now("on-crash-loop", on_crash_loop, new_answer, answer_text);
        }
    }

    fn own_process(&mut self, old: &OwnProcess, new: &OwnProcess) {
        let OwnProcess {
            pidfile,
            log_file,
            log_level,
            // Not settings: they are what they are, and what all of this looks like.
            variables: _,
            document: _,
        } = old;
        self.restart("pidfile", pidfile, &new.pidfile, or_no_path);
        self.restart("log-file", log_file, &new.log_file, or_no_path);
        self.now("log-level", log_level, &new.log_level, or_unset);
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change {
            setting, old, new, ..
        } = self;
        write!(f, "{setting}: {old} -> {new}")
    }
}

fn time(time: &Duration) -> String {
    humantime::format_duration(*time).to_string()
}

fn size(bytes: &u64) -> String {
    bytesize::ByteSize(*bytes).to_string()
}

fn or_never(timeout: &Option<Duration>) -> String {
    timeout.as_ref().map_or_else(|| "never".to_owned(), time)
}

fn or_unshown(value: &Option<impl fmt::Debug>) -> String {
    or_unset(&value.as_ref().map(|value| format!("{value:?}")))
}

fn stream(stream: &Stream) -> String {
    match stream {
        Stream::Inherit => "inherit".to_owned(),
        Stream::Null => "null".to_owned(),
        Stream::Lines => "lines".to_owned(),
        Stream::File(path) => format!("file:{}", path.display()),
    }
}

fn or_unset(value: &Option<impl fmt::Display>) -> String {
    let unset = || "not set".to_owned();
    value.as_ref().map_or_else(unset, ToString::to_string)
}

fn control_text(control: &ControlSocket) -> String {
    match control {
        ControlSocket::None => "not set".to_owned(),
        ControlSocket::At(path) => path.display().to_string(),
        ControlSocket::Usual => "in its usual place".to_owned(),
    }
}

fn or_no_path(path: &Option<PathBuf>) -> String {
    or_unset(&path.as_deref().map(Path::display))
}

fn list(parts: impl Iterator<Item = String>) -> String {
    match parts.collect::<Vec<_>>() {
        none if none.is_empty() => "none".to_owned(),
        parts => parts.join(", "),
    }
}

fn quoted(word: &OsString) -> String {
    shell_words::quote(&word.to_string_lossy()).into_owned()
}

fn command(program: &Program) -> String {
    let path = program.path.display().to_string();
    let words = [path].into_iter().chain(program.args.iter().map(quoted));
    words.collect::<Vec<_>>().join(" ")
}

/// The names of variables, and which of them another value than before.
fn names(variables: &[(OsString, OsString)], before: &[(OsString, OsString)]) -> String {
    let before: BTreeMap<&OsStr, &OsStr> = effective(before);
    let name = |(name, value): (&OsStr, &OsStr)| {
        let text = name.to_string_lossy();
        match before.get(name) {
            Some(old) if *old != value => format!("{text} (another value)"),
            Some(_) | None => text.into_owned(),
        }
    };
    list(effective(variables).into_iter().map(name))
}

/// The last one of a name counts.
fn effective(variables: &[(OsString, OsString)]) -> BTreeMap<&OsStr, &OsStr> {
    let pairs = variables.iter();
    pairs
        .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
        .collect()
}

#[expect(clippy::ptr_arg, reason = "shown as the field that it is")]
fn listeners_text(listeners: &Vec<ListenerSpec>) -> String {
    list(listeners.iter().map(listener))
}

/// As `--listen` writes it.
fn listener(spec: &ListenerSpec) -> String {
    let ListenerSpec {
        source,
        backlog,
        v6only,
        mode,
        owner,
        dispatch,
        defer_accept,
        strategy,
        stands_for,
        ..
    } = spec;
    let (name, mut text) = (spec.name(), source.to_string());
    if name != text {
        text = format!("{name}={text}");
    }
    if let Some(port) = stands_for {
        text = format!("{text}={port}");
    }
    let options = [
        backlog.map(|backlog| format!("backlog={backlog}")),
        v6only.map(|only| format!("v6only={}", if only { "yes" } else { "no" })),
        mode.map(|mode| format!("mode={mode:o}")),
        owner.map(|Owner { uid, gid }| {
            let [uid, gid] = [uid, gid].map(|id| id.map_or_else(String::new, |id| id.to_string()));
            format!("owner={uid}:{gid}")
        }),
        dispatch.map(|mode| format!("dispatch={}", dispatch::name(mode))),
        defer_accept.map(|time| format!("defer-accept={}", deferral(time))),
        strategy.map(|strategy| format!("strategy={strategy}")),
    ];
    options
        .into_iter()
        .flatten()
        .fold(text, |text, option| format!("{text},{option}"))
}

/// Of every listener that says nothing else, then of those that do.
fn strategies_text(strategy: StrategyName, listeners: &[ListenerSpec]) -> String {
    let of_its_own = |spec: &ListenerSpec| Some(format!("{}={}", spec.name(), spec.strategy?));
    let others = listeners.iter().filter_map(of_its_own);
    list([strategy.to_string()].into_iter().chain(others))
}

fn allowed_text(on_demand: &OnDemand) -> String {
    match on_demand {
        OnDemand::Any => "any".to_owned(),
        OnDemand::Only(allowed) => list(allowed.iter().map(ToString::to_string)),
    }
}

fn refusal(how: Refusal) -> String {
    match how {
        Refusal::Close => "close".to_owned(),
        Refusal::Reset => "reset".to_owned(),
    }
}

fn backoff_text(plan: &BackoffPlan) -> String {
    let BackoffPlan {
        first,
        max,
        healthy_after,
    } = plan;
    let [first, max, healthy_after] = [first, max, healthy_after].map(time);
    format!("{first}..{max} until healthy for {healthy_after}")
}

fn limit_text(limit: &RestartLimit) -> String {
    let RestartLimit { count, window } = limit;
    format!("{count}/{}", time(window))
}

fn answer_text(answer: &OnCrashLoop) -> String {
    match answer {
        OnCrashLoop::Hold => "hold".to_owned(),
        OnCrashLoop::Park => "park".to_owned(),
        OnCrashLoop::Exit => "exit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use worker_proto::job::{JobSpec, Schedule};

    use super::*;
    use crate::config::dispatch::DispatchMode;
    use crate::config::strategy::Weights;
    use crate::jobs::{Planned, Standing};

    #[test]
    fn the_same_configuration_has_no_difference() {
        assert_eq!(diff(&config(), &config()), []);
    }

    /// One row for every setting: how it is shown, and what it takes.
    #[test]
    fn every_change_is_shown_with_what_it_takes() {
        type Edit = fn(&mut Config);
        let rows: &[(Edit, &str, Takes)] = &[
            (|c| c.workers = 4, "workers: 1 -> 4", NOW),
            (
                |c| c.program.path = "/b".into(),
                "program: /a -> /b",
                GENERATION,
            ),
            (
                |c| c.program.args = vec!["x y".into()],
                "args: none -> 'x y'",
                GENERATION,
            ),
            (
                |c| c.program.env = env("A=2"),
                "env: A -> A (another value)",
                GENERATION,
            ),
            (|c| c.program.env = env("B=1"), "env: A -> B", GENERATION),
            (
                |c| c.program.surroundings.user = Some(Account::Id(7)),
                "user: not set -> 7",
                GENERATION,
            ),
            (
                |c| c.program.surroundings.groups = Some(vec![Account::Id(7), Account::Id(8)]),
                "groups: not set -> 7, 8",
                GENERATION,
            ),
            (
                |c| c.program.cwd = Some("/".into()),
                "cwd: not set -> /",
                GENERATION,
            ),
            (|c| c.agents.clear(), "agent: /agent x -> none", RESTART),
            (
                |c| c.agents[0].env = env("B=1"),
                "agent: /agent x -> /agent x",
                GENERATION,
            ),
            (
                |c| c.listeners = vec!["web=127.0.0.1:1,backlog=7".parse().unwrap()],
                "listen: 127.0.0.1:1 -> web=127.0.0.1:1,backlog=7",
                RESTART,
            ),
            (
                |c| c.listeners[0] = "127.0.0.1:1=3000".parse().unwrap(),
                "listen: 127.0.0.1:1 -> 127.0.0.1:1=3000",
                RESTART,
            ),
            (
                |c| c.listeners[0] = "unix:/s,mode=660,owner=7:8".parse().unwrap(),
                "listen: 127.0.0.1:1 -> unix:/s,mode=660,owner=7:8",
                RESTART,
            ),
            (
                |c| c.on_demand = OnDemand::Any,
                "allow-listen: none -> any",
                RESTART,
            ),
            (
                |c| c.dispatch.mode = DispatchMode::Shared,
                "dispatch: hand-off -> shared",
                RESTART,
            ),
            (
                |c| c.dispatch.waking = Waking::All,
                "exclusive: yes -> no",
                RESTART,
            ),
            (
                |c| c.strategy = StrategyName::Random,
                "strategy: round-robin -> random",
                NOW,
            ),
            (
                |c| c.listeners[0].strategy = Some(StrategyName::Weighted),
                "strategy: round-robin -> round-robin, 127.0.0.1:1=weighted",
                NOW,
            ),
            (
                |c| c.weights = Weights::new([3, 1].map(|it| NonZeroU32::new(it).unwrap())),
                "weights: none -> 3, 1",
                NOW,
            ),
            (|c| c.window = 7, "window: 32 -> 7", RESTART),
            (|c| c.coalesce = secs(7), "coalesce: 200us -> 7s", NOW),
            (
                |c| c.dispatch.defer_accept = secs(7),
                "defer-accept: no -> 7s",
                RESTART,
            ),
            (
                |c| c.overflow = refuse(1),
                "overflow: wait -> close after 1s",
                NOW,
            ),
            (
                |c| c.connection_limits.per_worker = NonZeroU64::new(7),
                "max-connections-per-worker: not set -> 7",
                NOW,
            ),
            (
                |c| c.connection_limits.total = NonZeroU64::new(7),
                "max-connections: not set -> 7",
                NOW,
            ),
            (
                |c| c.stall_timeout = None,
                "stall-timeout: 500ms -> never",
                NOW,
            ),
            (
                |c| c.hang_timeout = Some(secs(7)),
                "hang-timeout: never -> 7s",
                NOW,
            ),
            (|c| c.bind_retry = secs(7), "bind-retry: 0s -> 7s", RESTART),
            (
                |c| c.ready_timeout = secs(7),
                "ready-timeout: 30s -> 7s",
                NOW,
            ),
            (|c| c.stop_timeout = secs(7), "stop-timeout: 30s -> 7s", NOW),
            (
                |c| c.stop_signal = "QUIT".parse().unwrap(),
                "stop-signal: TERM -> QUIT",
                NOW,
            ),
            (
                |c| c.farewell = Farewell::AtOnce,
                "stop-signal-when: idle -> at-once",
                NOW,
            ),
            (
                |c| c.program.preload = Some("/lib/x.so".into()),
                "preload: not set -> /lib/x.so",
                GENERATION,
            ),
            (|c| c.kill_timeout = secs(7), "kill-timeout: 1s -> 7s", NOW),
            (
                |c| c.orphan_grace = secs(7),
                "orphan-grace: 500ms -> 7s",
                GENERATION,
            ),
            (
                |c| c.restart = Restart::Never,
                "no-refork: false -> true",
                NOW,
            ),
            (
                |c| rules(c).0.max = secs(7),
                "backoff: 100ms..15s until healthy for 10s -> 100ms..7s until healthy for 10s",
                NOW,
            ),
            (
                |c| rules(c).1.count = 7,
                "restart-limit: 60/1m -> 7/1m",
                NOW,
            ),
            (
                |c| *rules(c).2 = OnCrashLoop::Exit,
                "on-crash-loop: hold -> exit",
                NOW,
            ),
            (
                |c| c.messages.max_message = 7 << 20,
                "max-message: 64.0 MiB -> 7.0 MiB",
                RESTART,
            ),
            (
                |c| c.messages.memory = 7 << 30,
                "message-memory: 256.0 MiB -> 7.0 GiB",
                RESTART,
            ),
            (
                |c| c.messages.hold = secs(7),
                "message-hold: 10s -> 7s",
                RESTART,
            ),
            (
                |c| c.jobs = vec![job("a")],
                "job: none -> a (every 7s, one, skip, drop)",
                NOW,
            ),
            (
                |c| c.own_process.pidfile = Some("/p".into()),
                "pidfile: not set -> /p",
                RESTART,
            ),
            (
                |c| c.control = ControlSocket::At("/c".into()),
                "control: not set -> /c",
                RESTART,
            ),
            (
                |c| c.own_process.log_level = Some(log::LevelFilter::Debug),
                "log-level: not set -> DEBUG",
                NOW,
            ),
        ];
        for (edit, expected, takes) in rows {
            let mut new = config();
            edit(&mut new);
            let changes = diff(&config(), &new);
            let shown: Vec<_> = changes
                .iter()
                .map(|one| (one.to_string(), one.takes))
                .collect();
            assert_eq!(shown, [((*expected).to_owned(), *takes)]);
        }
    }

    #[test]
    fn those_who_refuse_differ_in_how_and_when() {
        let (mut old, mut new) = (config(), config());
        (old.overflow, new.overflow) = (refuse(1), refuse(2));
        let changes = diff(&old, &new);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].to_string(), "overflow-after: 1s -> 2s");
    }

    /// An environment that all processes have in common is one setting.
    #[test]
    fn what_agents_share_with_the_workers_is_told_once() {
        let (old, mut new) = (config(), config());
        new.program.env = env("B=1");
        new.agents[0].env = env("B=1");
        let settings: Vec<_> = diff(&old, &new).iter().map(|one| one.setting).collect();
        assert_eq!(settings, ["env"]);
    }

    #[test]
    fn a_secret_is_not_shown() {
        let mut new = config();
        new.program.env = env("TOKEN=hunter2");
        assert!(!format!("{:?}", diff(&config(), &new)).contains("hunter2"));
        assert!(!format!("{:?}", diff(&new, &config())).contains("hunter2"));
    }

    fn config() -> Config {
        let mut program = Program::new("/a");
        program.env = env("A=1");
        let mut config = Config::new(program).listen("127.0.0.1:1".parse().unwrap());
        let mut agent = Program::new("/agent").args(["x"]);
        agent.env = env("A=1");
        config.agents.push(agent);
        config
    }

    fn job(name: &str) -> Planned {
        Planned {
            spec: JobSpec::new(name, Schedule::Interval(secs(7))),
            standing: Standing::Enabled,
        }
    }

    fn env(pair: &str) -> Vec<(OsString, OsString)> {
        let (name, value) = pair.split_once('=').unwrap();
        vec![(name.into(), value.into())]
    }

    fn refuse(after: u64) -> Overflow {
        Overflow::Refuse {
            how: Refusal::Close,
            after: secs(after),
        }
    }

    fn rules(config: &mut Config) -> (&mut BackoffPlan, &mut RestartLimit, &mut OnCrashLoop) {
        match &mut config.restart {
            Restart::Never => panic!("the default is to replace"),
            Restart::Always {
                backoff,
                limit,
                on_crash_loop,
            } => (backoff, limit, on_crash_loop),
        }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    const NOW: Takes = Takes::Now;
    const GENERATION: Takes = Takes::Generation;
    const RESTART: Takes = Takes::Restart;
}
