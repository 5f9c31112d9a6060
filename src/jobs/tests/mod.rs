//! The jobs by themselves: events in, actions out, time by hand.

mod clocks;
mod losses;
mod overlaps;
mod registrations;
mod script;
mod simulation;
mod targets;
