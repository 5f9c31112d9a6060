//! Work that takes a CPU and nothing else: the same number of steps for every request, wherever it
//! runs and whatever else does.

use std::hint::black_box;
use std::time::Instant;

/// How much of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Burn {
    steps: u64,
}

impl Burn {
    /// As many steps as take so long on a CPU that has nothing else to do.
    pub(crate) fn of_micros(micros: u64) -> Self {
        let fastest = (0..TRIALS).map(|_| {
            let began = Instant::now();
            Burn { steps: TRIAL_STEPS }.run();
            began.elapsed()
        });
        let nanos = fastest.min().map_or(1, |it| it.as_nanos().max(1));
        let steps = u128::from(micros) * 1_000 * u128::from(TRIAL_STEPS) / nanos;
        Burn {
            steps: u64::try_from(steps).unwrap_or(u64::MAX),
        }
    }

    pub(crate) fn run(self) {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..self.steps {
            state = black_box(state ^ (state << 13)).rotate_left(7);
        }
        black_box(state);
    }
}

const TRIAL_STEPS: u64 = 100_000;
const TRIALS: u32 = 20;
