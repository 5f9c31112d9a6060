//! The supervisor.
pub mod action;
pub mod event;
pub mod notice;
pub mod plan;
