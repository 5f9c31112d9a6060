//! A process cluster for Linux servers: a master owns the listening sockets, accepts every
//! connection, and hands it to the next worker process in rotation.

pub mod cli;
pub mod config;
pub mod control;
pub mod ctl;
pub mod dispatch;
mod exit_code;
#[path = "../examples/hello_http.rs"]
#[allow(
    unreachable_pub,
    reason = "an example, compiled in as the built-in worker"
)]
mod hello_http;
pub mod jobs;
pub mod leadership;
mod master;
mod preflight;
mod printable;
mod reactor;
pub mod relay;
pub mod supervisor;
mod sys;
pub mod values;

pub use config::data_file::DataFile;
pub use config::listener::ListenerSpec;
pub use config::program::Program;
pub use config::surroundings::Surroundings;
pub use config::{Config, ConnectionLimits, OnDemand, Overflow, Refusal};
pub use control::change::{Change, Recipients, ScaleTo, SignalNumber, Target};
pub use control::denied::Denied;
pub use control::event::ClusterEvent;
pub use dispatch::StrategyName;
pub use exit_code::ExitCode;
pub use master::{EVENTS, Ended, Events, Handle, Master, StartError};
pub use preflight::{PreflightError, PreloadError, SurroundingsError};
pub use reactor::acceptor::ListenerStatus;
pub use reactor::command::Status;
pub use reactor::counters::{Counters, QueueCounters, Refused};
pub use reactor::delay::HandoffDelay;
pub use reactor::load::WorkerLoad;
pub use reactor::reload::ReloadOutcome;
pub use reactor::serving::QueueStatus;
pub use supervisor::Stop;
pub use sys::cgroup::CgroupError;
pub use sys::listening::BindError;
pub use sys::program::ProgramError;
pub use values::Content;
