//! Where clients come from.

use fastrand::Rng;
use worker_proto::address::Address;

/// Who comes how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    /// A thousand addresses for each worker, all as busy.
    Even,
    /// A thousand addresses for each worker, the second half as busy as the first, the third a third
    /// (Zipf's law): a few proxies and offices, and many who are alone.
    Zipf,
}

/// The addresses that clients come from, one after the other.
#[derive(Debug)]
pub(crate) struct Origins {
    kind: Kind,
    rng: Rng,
}

#[derive(Debug)]
enum Kind {
    Even {
        count: u32,
    },
    /// The shares of the first, the first two, the first three...
    Zipf {
        shares: Vec<f64>,
    },
}

impl Origins {
    pub(crate) fn new(sources: Sources, workers: u32, seed: u64) -> Origins {
        let count = workers * SOURCES_PER_WORKER;
        let kind = match sources {
            Sources::Even => Kind::Even { count },
            Sources::Zipf => Kind::Zipf {
                shares: zipf(count),
            },
        };
        let rng = Rng::with_seed(seed);
        Origins { kind, rng }
    }

    pub(crate) fn draw(&mut self) -> Source {
        match &self.kind {
            Kind::Even { count } => Source(self.rng.u32(..count)),
            Kind::Zipf { shares } => {
                let point = self.rng.f64();
                let index = shares.partition_point(|&share| share < point);
                Source(u32::try_from(index).expect("counted in a u32"))
            }
        }
    }
}

/// One address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source(u32);

impl Source {
    pub(crate) fn address(self) -> Address {
        // Scattered over the whole space, as addresses are: multiplied by an odd number, so that
        // no two are the same.
        let ip = self.0.wrapping_mul(0x9E37_79B1).to_be_bytes();
        Address::V4 { ip, port: 40_000 }
    }
}

fn zipf(count: u32) -> Vec<f64> {
    let total: f64 = (1..=count).map(|rank| f64::from(rank).recip()).sum();
    let ranks = 1..=count;
    ranks
        .scan(0.0, |sum, rank| {
            *sum += f64::from(rank).recip() / total;
            Some(*sum)
        })
        // Rounding must leave nobody out.
        .map(|share: f64| share.min(1.0))
        .chain([1.0])
        .collect()
}

const SOURCES_PER_WORKER: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_most_of_zipfs() {
        let mut origins = Origins::new(Sources::Zipf, 1, 1);
        let draws: Vec<Source> = (0..100_000).map(|_| origins.draw()).collect();
        let count = |source| {
            draws
                .iter()
                .filter(|&&drawn| drawn == Source(source))
                .count()
        };
        // 1/ln(1000), about, of all.
        assert!((12_500..14_500).contains(&count(0)), "{}", count(0));
        assert!((6_000..7_500).contains(&count(1)), "{}", count(1));
    }
}
