//! How long what a client asks for keeps a worker busy.

use std::time::Duration;

use fastrand::Rng;

/// How the work for a connection is distributed; its mean is always [`MEAN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Always the same.
    Constant,
    /// Mostly short, sometimes a few times the mean.
    Exponential,
    /// Nearly always short, seldom hundreds of times the mean: a Pareto distribution, cut off.
    HeavyTailed,
}

impl Work {
    pub(crate) fn draw(self, rng: &mut Rng) -> Duration {
        match self {
            Work::Constant => MEAN,
            Work::Exponential => exponential(MEAN, rng),
            Work::HeavyTailed => {
                let cut = rng.f64() * (1.0 - PARETO_RANGE.powf(-PARETO_SHAPE));
                MEAN.mul_f64(pareto_least() * (1.0 - cut).powf(-1.0 / PARETO_SHAPE))
            }
        }
    }
}

/// Draws from an exponential distribution.
pub(crate) fn exponential(mean: Duration, rng: &mut Rng) -> Duration {
    mean.mul_f64(-(1.0 - rng.f64()).ln())
}

/// The least of the Pareto distribution, in means.
fn pareto_least() -> f64 {
    let (shape, range) = (PARETO_SHAPE, PARETO_RANGE);
    (shape - 1.0) / shape * (1.0 - range.powf(-shape)) / (1.0 - range.powf(1.0 - shape))
}

/// The unit of all results: what they say holds for work of any other length.
pub(crate) const MEAN: Duration = Duration::from_millis(1);

/// How fast the tail falls, and how many times the least the most is. The square of the
/// coefficient of variation is about 10 with these.
const PARETO_SHAPE: f64 = 1.5;
const PARETO_RANGE: f64 = 1000.0;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    impl Work {
        /// The mean of the squares, in squared means, which is what queues depend on.
        pub(crate) fn second_moment(self) -> f64 {
            match self {
                Work::Constant => 1.0,
                Work::Exponential => 2.0,
                Work::HeavyTailed => {
                    let (shape, range) = (PARETO_SHAPE, PARETO_RANGE);
                    let tail = (range.powf(2.0 - shape) - 1.0) / (1.0 - range.powf(-shape));
                    pareto_least().powi(2) * shape / (2.0 - shape) * tail
                }
            }
        }
    }

    #[test]
    fn it_takes_as_long_as_it_should() {
        for work in [Work::Constant, Work::Exponential, Work::HeavyTailed] {
            let mut rng = Rng::with_seed(1);
            let draws = (0..1_000_000).map(|_| work.draw(&mut rng).div_duration_f64(MEAN));
            let (sum, squares) = draws.fold((0.0, 0.0), |(sum, squares), x| {
                (sum + x, x.mul_add(x, squares))
            });
            assert!((sum / 1e6 - 1.0).abs() < 0.01, "{work:?}: {sum}");
            let ratio = squares / 1e6 / work.second_moment();
            assert!((0.95..1.05).contains(&ratio), "{work:?}: {ratio}");
        }
    }
}
