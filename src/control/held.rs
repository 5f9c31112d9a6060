//! The values as they are written on the control socket. Data only.

use serde::{Deserialize, Serialize};

/// All values, by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldValues {
    /// Each of them.
    pub values: Vec<HeldValue>,
}

/// One value, and who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldValue {
    /// What processes ask for.
    pub key: String,
    /// Raised by every change, from 1.
    pub version: u64,
    /// How long it is.
    pub bytes: u64,
    /// `bytes`, `text`, `json` or `bincode`.
    #[serde(rename = "type")]
    pub content_type: String,
    /// How many processes watch it.
    pub watchers: u32,
    /// How many of them have its newest version.
    pub adopted: u32,
    /// Those who watch, who is behind first; not all of them if they are very many.
    pub holders: Vec<Holder>,
}

/// A process that watches a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its identity.
    pub worker: u64,
    /// `worker` or `agent`.
    pub role: String,
    /// Its position.
    pub slot: u32,
    /// The version that it has; 0 for none yet.
    pub version: u64,
}
