//! The strategies: one file each, and the names by which they are known.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

pub use self::idle_first::IdleFirst;
pub use self::least_connections::LeastConnections;
pub use self::power_of_two_choices::PowerOfTwoChoices;
pub use self::random::Random;
pub use self::round_robin::RoundRobin;
pub use self::source_hash::SourceHash;
pub use self::weighted::Weighted;
use super::strategy::Strategy;

mod idle_first;
mod latest;
mod least_connections;
mod memory;
mod power_of_two_choices;
mod random;
mod round_robin;
mod source_hash;
mod weighted;

/// Which strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StrategyName {
    /// Everybody in turn: [`RoundRobin`].
    #[default]
    RoundRobin,
    /// Whoever has the fewest connections: [`LeastConnections`].
    LeastConnections,
    /// The better of two taken at random: [`PowerOfTwoChoices`].
    PowerOfTwoChoices,
    /// Everybody in turn, some more often: [`Weighted`].
    Weighted,
    /// A client's connections go to the same slot: [`SourceHash`].
    SourceHash,
    /// Whoever has waited longest for something to do: [`IdleFirst`].
    IdleFirst,
    /// Anybody: [`Random`].
    Random,
}

impl StrategyName {
    /// All there are.
    pub const ALL: [StrategyName; 7] = [
        StrategyName::RoundRobin,
        StrategyName::LeastConnections,
        StrategyName::PowerOfTwoChoices,
        StrategyName::Weighted,
        StrategyName::SourceHash,
        StrategyName::IdleFirst,
        StrategyName::Random,
    ];

    /// The strategy, with nothing remembered; `seed` is for those that choose at random.
    #[must_use]
    pub fn build(self, seed: u64) -> Box<dyn Strategy> {
        match self {
            StrategyName::RoundRobin => Box::new(RoundRobin::default()),
            StrategyName::LeastConnections => Box::new(LeastConnections::default()),
            StrategyName::PowerOfTwoChoices => Box::new(PowerOfTwoChoices::new(seed)),
            StrategyName::Weighted => Box::new(Weighted::default()),
            StrategyName::SourceHash => Box::new(SourceHash),
            StrategyName::IdleFirst => Box::new(IdleFirst::default()),
            StrategyName::Random => Box::new(Random::new(seed)),
        }
    }

    /// As `--strategy` takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            StrategyName::RoundRobin => "round-robin",
            StrategyName::LeastConnections => "least-connections",
            StrategyName::PowerOfTwoChoices => "power-of-two-choices",
            StrategyName::Weighted => "weighted",
            StrategyName::SourceHash => "source-hash",
            StrategyName::IdleFirst => "idle-first",
            StrategyName::Random => "random",
        }
    }
}

impl fmt::Display for StrategyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StrategyName {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, UnknownStrategy> {
        let found = Self::ALL.into_iter().find(|name| name.as_str() == text);
        found.ok_or_else(|| UnknownStrategy(text.to_owned()))
    }
}

/// A text that names no strategy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct UnknownStrategy(String);

impl fmt::Display for UnknownStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.0.chars().take(LONGEST_QUOTE).collect();
        write!(f, "no strategy {text:?}: ")?;
        let names = StrategyName::ALL.map(StrategyName::as_str);
        let alike = names.map(|name| (strsim::jaro_winkler(&text, name), name));
        let nearest = alike
            .into_iter()
            .max_by(|one, other| one.0.total_cmp(&other.0));
        if let Some((likeness, name)) = nearest
            && likeness > LEAST_LIKENESS
        {
            write!(f, "did you mean {name:?}? ")?;
        }
        write!(f, "There are {}", names.join(", "))
    }
}

/// More than the longest name, less than what fills a screen.
const LONGEST_QUOTE: usize = 40;

/// Takes two letters exchanged or one forgotten for a slip, and another word for another word.
const LEAST_LIKENESS: f64 = 0.85;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_it_is_written() {
        for name in StrategyName::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
            let built = format!("{:?}", name.build(1)).to_lowercase();
            assert!(
                built.starts_with(&name.as_str().replace('-', "")),
                "{built}"
            );
        }
        assert_eq!(StrategyName::default(), StrategyName::RoundRobin);
    }

    #[test]
    fn a_name_that_is_none_is_answered_with_all_and_the_nearest() {
        const ALL: &str = "There are round-robin, least-connections, power-of-two-choices, weighted, source-hash, idle-first, random";
        let says = |text: &str| text.parse::<StrategyName>().unwrap_err().to_string();
        let meant = "no strategy \"roundrobin\": did you mean \"round-robin\"? ";
        assert_eq!(says("roundrobin"), format!("{meant}{ALL}"));
        assert_eq!(says("colour"), format!("no strategy \"colour\": {ALL}"));
        assert!(says("least-conn").contains("\"least-connections\"?"));
        assert!(says(&"x".repeat(1000)).len() < 250);
    }
}
