//! Dispatch: which worker gets the next connection of a listener.
//!
//! Pure. It sees worker ids, slots, loads and peer addresses, never a descriptor.

pub use self::aside::{Reason, Reasons, Skipped};
pub use self::coalescing::Coalescing;
pub use self::rotation::Rotation;
pub use self::stall::{Sight, Stall, Verdict, Work};
pub use self::strategies::{
    IdleFirst, LeastConnections, PowerOfTwoChoices, Random, RoundRobin, SourceHash, StrategyName,
    UnknownStrategy, Weighted,
};
pub use self::strategy::{Gauge, Load, Member, Strategy};
pub use self::watch::{Pace, Watch};

mod aside;
mod coalescing;
mod rotation;
mod stall;
mod strategies;
mod strategy;
#[cfg(test)]
mod tests;
mod watch;
