//! What the seeds have seen, so that a simulation in which little happens does not pass for one.

use std::collections::BTreeMap;

use rr_master::ExitCode;

/// How often what happened.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    feats: BTreeMap<Feat, usize>,
    endings: BTreeMap<u8, usize>,
}

/// Something worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feat {
    Event,
    Restart,
    Hang,
    Recovery,
    Reload,
    ReloadDone,
    /// Because one of the new generation failed.
    RolledBack,
    Aborted,
    /// By the end of the cluster.
    Interrupted,
    /// A first one of its generation that had to prove itself, and did.
    Canary,
    /// A slot that was emptied before its next worker came.
    Rebuild,
    /// A successor that took over, and not for a rollout.
    Recycled,
    /// A spare worker that took somebody's place.
    Promotion,
    Retirement,
    ScaleUp,
    ScaleDown,
    ScaleToTheSame,
    SlotDrained,
    SlotRestarted,
    Adopted,
    Refusal,
    /// A slot that an exit code closed.
    Done,
    Hopeless,
    /// A start that was given up.
    Unanswered,
    Unhealthy,
    AgentRestart,
}

impl Tally {
    pub(crate) fn saw(&mut self, feat: Feat) {
        self.saw_often(feat, 1);
    }

    pub(crate) fn saw_often(&mut self, feat: Feat, times: usize) {
        *self.feats.entry(feat).or_default() += times;
    }

    pub(crate) fn ended_with(&mut self, code: ExitCode) {
        *self.endings.entry(code as u8).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Tally) {
        for (feat, times) in other.feats {
            self.saw_often(feat, times);
        }
        for (code, times) in other.endings {
            *self.endings.entry(code).or_default() += times;
        }
    }

    /// A simulation in which little happens proves little.
    pub(crate) fn is_worth_it(&self) {
        let codes = [
            ExitCode::Clean,
            ExitCode::WorkerStart,
            ExitCode::AgentStart,
            ExitCode::CrashLoop,
            ExitCode::Unclean,
            ExitCode::Unhealthy,
        ];
        for code in codes {
            let times = self.endings.get(&(code as u8)).copied().unwrap_or(0);
            assert!(times >= 20, "{code:?} came up {times} times");
        }
        for (feat, least) in LEAST {
            let times = self.feats.get(feat).copied().unwrap_or(0);
            assert!(times >= *least, "{feat:?} came up {times} times");
        }
    }
}

/// In [`SEEDS`](crate::SEEDS).
const LEAST: &[(Feat, usize)] = &[
    (Feat::Restart, 10_000),
    (Feat::Hang, 300),
    (Feat::Recovery, 300),
    (Feat::Reload, 500),
    (Feat::ReloadDone, 200),
    (Feat::RolledBack, 200),
    (Feat::Aborted, 30),
    (Feat::Interrupted, 8),
    (Feat::Canary, 200),
    (Feat::Rebuild, 200),
    (Feat::Recycled, 1_000),
    (Feat::Promotion, 700),
    (Feat::Retirement, 1_000),
    (Feat::ScaleUp, 150),
    (Feat::ScaleDown, 150),
    (Feat::ScaleToTheSame, 100),
    (Feat::SlotDrained, 100),
    (Feat::SlotRestarted, 200),
    (Feat::Adopted, 50),
    (Feat::Refusal, 600),
    (Feat::Done, 50),
    (Feat::Hopeless, 100),
    (Feat::Unanswered, 50),
    (Feat::Unhealthy, 20),
    (Feat::AgentRestart, 500),
];
