//! The operator: what somebody asks of the cluster while it is up, sensible or not.

use std::time::Duration;

use rr_master::supervisor::{Plan, RolloutPlan};
use worker_proto::ids::{Role, Slot};

use crate::rng::Rng;
use crate::worker::Nature;

/// Something that the supervisor is asked to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Reload(RolloutPlan),
    Abort,
    Scale {
        workers: u32,
    },
    Drain {
        role: Role,
        slot: Slot,
    },
    Restart {
        role: Role,
        slot: Slot,
    },
    /// New rules of when it is well.
    Adopt {
        min_workers: u32,
        unhealthy_exit: Option<Duration>,
        max_age: Option<Duration>,
    },
}

impl Order {
    pub(crate) fn by_chance(rng: &mut Rng, plan: &Plan) -> Order {
        let role = match plan.agents {
            0 => rng.pick(&[Role::Worker, Role::Worker, Role::Worker, Role::Agent]),
            _ => rng.pick(&[Role::Worker, Role::Worker, Role::Agent]),
        };
        let slots = match role {
            Role::Worker => plan.slots(),
            Role::Agent => plan.agents,
        };
        // One of them does not exist.
        let slot = Slot(rng.between(0, slots));
        match rng.below(100) {
            0..35 => {
                let (surge, unavailable) = rng.pick(ALLOWANCES);
                Order::Reload(RolloutPlan {
                    surge,
                    unavailable,
                    canary: rng.millis(0, 3_000) * rng.pick(&[0, 1]),
                })
            }
            35..50 => Order::Abort,
            50..68 => Order::Scale {
                workers: rng.between(0, WORKERS_MAX),
            },
            68..73 => Order::Scale {
                workers: plan.workers,
            },
            73..80 => Order::Drain { role, slot },
            80..96 => Order::Restart { role, slot },
            _ => Order::Adopt {
                min_workers: rng.between(0, 4),
                unhealthy_exit: unhealthy_exit(rng),
                max_age: max_age(rng),
            },
        }
    }
}

/// What those of a new generation will be like.
pub(crate) fn nature(rng: &mut Rng) -> Nature {
    rng.pick(&[
        Nature::Sound,
        Nature::Sound,
        Nature::Sound,
        Nature::Ordinary,
        Nature::Ordinary,
        Nature::NeverReady,
        Nature::DiesSoon,
        Nature::RetiresSoon,
        Nature::CannotSpawn,
    ])
}

pub(crate) fn unhealthy_exit(rng: &mut Rng) -> Option<Duration> {
    rng.percent(20).then(|| rng.millis(1_000, 30_000))
}

pub(crate) fn max_age(rng: &mut Rng) -> Option<Duration> {
    rng.percent(20).then(|| rng.millis(10_000, 60_000))
}

/// How many may be too many and too few during a rollout. One of them is refused.
const ALLOWANCES: &[(u32, u32)] = &[
    (1, 0),
    (1, 0),
    (1, 0),
    (2, 0),
    (3, 0),
    (0, 1),
    (0, 1),
    (0, 2),
    (1, 1),
    (3, 2),
    (0, 0),
];

/// Nobody ever wants more of them.
pub(crate) const WORKERS_MAX: u32 = 8;
