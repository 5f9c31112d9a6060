//! Dispatch: how connections come to the workers, and what does not go with which way. Data only.

use std::time::Duration;

use thiserror::Error;
use worker_proto::address::Address;
pub use worker_proto::frame::DispatchMode;

use super::listener::{ListenerSpec, Source};
use super::strategy::StrategyName;
use super::{Config, ConnectionLimits, DEFAULT_STALL_TIMEOUT, DEFAULT_WINDOW, Overflow};

/// How connections come to the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Of every listener that says nothing else.
    pub mode: DispatchMode,
    /// Who wakes for a connection of a shared listener.
    pub waking: Waking,
    /// How long the kernel keeps TCP clients that say nothing, of every listener that says nothing
    /// else; zero: not at all.
    pub defer_accept: Duration,
}

/// Who wakes for a connection of a shared listener, among workers that are written with
/// worker-proto.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waking {
    /// One of those who wait, or a few: `EPOLLEXCLUSIVE`, see `epoll_ctl(2)`.
    #[default]
    One,
    /// All of them, and all but one for nothing.
    All,
}

impl Default for Dispatch {
    fn default() -> Self {
        Dispatch {
            mode: DispatchMode::HandOff,
            waking: Waking::One,
            defer_accept: Duration::ZERO,
        }
    }
}

/// Settings that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    /// Only TCP has groups, and a socket that was bound by somebody else cannot join one.
    #[error(
        "listener {name}: dispatch reuseport takes a TCP address that this master binds: add ,dispatch=shared or ,dispatch=hand-off to it"
    )]
    NoGroup {
        /// The listener's.
        name: String,
    },
    /// Nobody chooses where workers help themselves.
    #[error(
        "listener {name}: a strategy needs a master that chooses, and with dispatch {} the workers accept by themselves: leave ,strategy={strategy} out, or add ,dispatch=hand-off",
        crate::config::dispatch::name(*mode)
    )]
    Strategy {
        /// The listener's.
        name: String,
        /// The one it was to have.
        strategy: StrategyName,
        /// How its connections come.
        mode: DispatchMode,
    },
    /// A worker that has the socket accepts from it.
    #[error(
        "--spare needs a master that can keep connections from a worker, and with dispatch shared every worker accepts: leave it out, or use another --dispatch"
    )]
    Spare,
    /// The master is to do something with connections that it never sees.
    #[error(
        "--{setting} needs connections that the master accepts, and with dispatch {} workers accept them themselves: leave it out, or use --dispatch hand-off",
        name(*mode)
    )]
    Unseen {
        /// The flag.
        setting: &'static str,
        /// How they come.
        mode: DispatchMode,
    },
}

/// Whether what is set goes together with how connections come.
pub(crate) fn check(config: &Config) -> Result<(), Misfit> {
    for spec in &config.listeners {
        if config.mode_of(spec) == DispatchMode::ReusePort && !can_group(&spec.source) {
            return Err(Misfit::NoGroup { name: spec.name() });
        }
        check_strategy(spec, config.mode_of(spec))?;
    }
    let of_listeners = config.listeners.iter().map(|spec| config.mode_of(spec));
    let mut modes: Vec<DispatchMode> = of_listeners.collect();
    if modes.is_empty() {
        modes.push(config.dispatch.mode);
    }
    if modes.contains(&DispatchMode::Shared) && config.spare > 0 {
        return Err(Misfit::Spare);
    }
    let unseen = modes.iter().find(|mode| **mode != DispatchMode::HandOff);
    let Some(&mode) = unseen else { return Ok(()) };
    let refuse = |setting| Err(Misfit::Unseen { setting, mode });
    let ConnectionLimits { per_worker, total } = config.connection_limits;
    if per_worker.is_some() {
        return refuse("max-connections-per-worker");
    }
    if total.is_some() {
        return refuse("max-connections");
    }
    if config.overflow != Overflow::Wait {
        return refuse("overflow");
    }
    // What is handed off over some other listener can wait, and can be stalled.
    if modes.contains(&DispatchMode::HandOff) {
        return Ok(());
    }
    if config.strategy != StrategyName::default() {
        return refuse("strategy");
    }
    if !config.weights.is_empty() {
        return refuse("weights");
    }
    if config.window != DEFAULT_WINDOW {
        return refuse("window");
    }
    if config
        .stall_timeout
        .is_some_and(|it| it != DEFAULT_STALL_TIMEOUT)
    {
        return refuse("stall-timeout");
    }
    Ok(())
}

fn check_strategy(spec: &ListenerSpec, mode: DispatchMode) -> Result<(), Misfit> {
    match (mode, spec.strategy) {
        (DispatchMode::HandOff, _) | (_, None) => Ok(()),
        (DispatchMode::Shared | DispatchMode::ReusePort, Some(strategy)) => Err(Misfit::Strategy {
            name: spec.name(),
            strategy,
            mode,
        }),
    }
}

/// Whether there can be several sockets for it, of which the kernel chooses.
pub(crate) fn can_group(source: &Source) -> bool {
    match source {
        Source::Bind(Address::V4 { .. } | Address::V6 { .. }) => true,
        Source::Bind(Address::Path(_) | Address::Abstract(_) | Address::Unnamed)
        | Source::Inherited(_) => false,
    }
}

impl Config {
    /// How connections of this listener come to the workers.
    #[must_use]
    pub fn mode_of(&self, spec: &ListenerSpec) -> DispatchMode {
        spec.dispatch.unwrap_or(self.dispatch.mode)
    }
}

/// As `--dispatch` writes it.
#[must_use]
pub fn name(mode: DispatchMode) -> &'static str {
    match mode {
        DispatchMode::HandOff => "hand-off",
        DispatchMode::Shared => "shared",
        DispatchMode::ReusePort => "reuseport",
    }
}

/// Reads what [`name`] writes.
///
/// # Errors
/// What there is instead.
pub fn parse(text: &str) -> Result<DispatchMode, String> {
    let modes = [
        DispatchMode::HandOff,
        DispatchMode::Shared,
        DispatchMode::ReusePort,
    ];
    let found = modes.into_iter().find(|mode| name(*mode) == text);
    found.ok_or_else(|| "there are hand-off, shared and reuseport".to_owned())
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use super::*;
    use crate::config::Refusal;
    use crate::config::program::Program;
    use crate::config::strategy::Weights;

    fn with(listener: &str, mode: &str, change: impl Fn(&mut Config)) -> String {
        let mut config = Config::new(Program::new("x")).listen(listener.parse().unwrap());
        config.dispatch.mode = parse(mode).unwrap();
        change(&mut config);
        match check(&config) {
            Ok(()) => String::new(),
            Err(misfit) => misfit.to_string(),
        }
    }

    #[test]
    fn limits_go_with_hand_off_only() {
        type Changed = fn(&mut Config);
        let changes: [(Changed, &str); 5] = [
            (
                |c| c.connection_limits.total = NonZeroU64::new(1),
                "--max-connections needs",
            ),
            (
                |c| c.connection_limits.per_worker = NonZeroU64::new(1),
                "--max-connections-per-worker needs",
            ),
            (
                |c| {
                    c.overflow = Overflow::Refuse {
                        how: Refusal::Close,
                        after: Duration::ZERO,
                    };
                },
                "--overflow needs",
            ),
            (|c| c.window = 7, "--window needs"),
            (
                |c| c.stall_timeout = Some(Duration::from_secs(7)),
                "--stall-timeout needs",
            ),
        ];
        for (change, says) in changes {
            assert_eq!(with("127.0.0.1:1", "hand-off", change), "");
            assert_eq!(with("127.0.0.1:1,dispatch=hand-off", "shared", change), "");
            for mode in ["shared", "reuseport"] {
                let said = with("127.0.0.1:1", mode, change);
                assert!(said.starts_with(says) && said.contains(mode), "{said}");
            }
        }
        assert_eq!(
            with("127.0.0.1:1", "shared", |c| c.stall_timeout = None),
            ""
        );
        let spare = |config: &mut Config| config.spare = 1;
        assert!(with("127.0.0.1:1", "shared", spare).starts_with("--spare needs"));
        assert_eq!(with("127.0.0.1:1", "reuseport", spare), "");
    }

    #[test]
    fn a_strategy_goes_with_hand_off_only() {
        let random = |config: &mut Config| config.strategy = StrategyName::Random;
        let weights = |config: &mut Config| config.weights = Weights::new([NonZeroU32::MIN]);
        assert_eq!(with("127.0.0.1:1,strategy=random", "hand-off", weights), "");
        for mode in ["shared", "reuseport"] {
            let own = "127.0.0.1:1,strategy=weighted,dispatch=hand-off";
            assert_eq!(with(own, mode, random), "");
            let said = with("web=127.0.0.1:1,strategy=weighted", mode, |_| {});
            assert!(said.starts_with("listener web: a strategy needs"), "{said}");
            assert!(said.contains(mode) && said.contains(",strategy=weighted"));
            let said = with("127.0.0.1:1", mode, random);
            assert!(said.starts_with("--strategy needs"), "{said}");
            let said = with("127.0.0.1:1", mode, weights);
            assert!(said.starts_with("--weights needs"), "{said}");
        }
    }

    #[test]
    fn only_tcp_has_groups() {
        let refused = with("unix:@x", "reuseport", |_| {});
        assert!(refused.starts_with("listener unix:@x: "), "{refused}");
        assert_eq!(with("unix:@x", "shared", |_| {}), "");
        assert_eq!(with("unix:@x,dispatch=shared", "reuseport", |_| {}), "");
    }
}
