//! Notices.

/// placeholder
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {}
