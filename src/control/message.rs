//! A message from an operator to processes: whom it is for, as people write it, and what it says.
//! Data only; the relay carries it like any other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use worker_proto::ids::{Role, WorkerId};
use worker_proto::message::{
    ContentType, MAX_ACTION_BYTES, MAX_NAME_BYTES, RESERVED_ACTIONS, Recipient,
};

use super::change::Target;

/// A message from an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whom it is for.
    pub to: Addressee,
    /// What it is about; see [`check`](Self::check).
    pub action: String,
    /// What it says.
    pub payload: String,
    /// How that is to be read.
    pub content: Content,
}

/// How the payload of such a message is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// UTF-8.
    #[default]
    Text,
    /// JSON, and checked.
    Json,
}

/// Whom a message is for: `3`, `worker:3`, `agent:0`, `agent:NAME`, `agent`, `workers`, `any`, `all`,
/// `id:12` or `pid:4711`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressee(pub Recipient);

impl Message {
    /// Whether it can be sent.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        if let Recipient::Agent(Some(name)) = &self.to.0
            && name.len() > MAX_NAME_BYTES
        {
            return Err(format!(
                "an agent's name has at most {MAX_NAME_BYTES} bytes"
            ));
        }
        let action = &self.action;
        if action.is_empty() || action.len() > MAX_ACTION_BYTES {
            return Err(format!("an action has 1 to {MAX_ACTION_BYTES} bytes"));
        }
        if action.starts_with(RESERVED_ACTIONS) {
            return Err(format!(
                "actions that begin with {RESERVED_ACTIONS:?} are not for programs: choose another name"
            ));
        }
        match self.content {
            Content::Text => Ok(()),
            Content::Json => serde_json::from_str::<de::IgnoredAny>(&self.payload)
                .map(drop)
                .map_err(|err| format!("the payload is no JSON: {err}")),
        }
    }
}

impl Content {
    /// As it travels.
    #[must_use]
    pub fn tag(self) -> ContentType {
        match self {
            Content::Text => ContentType::TEXT,
            Content::Json => ContentType::JSON,
        }
    }
}

impl Addressee {
    /// Whether more than one process may be meant, so that no answer is the answer.
    #[must_use]
    pub fn is_several(&self) -> bool {
        matches!(
            self.0,
            Recipient::Everyone | Recipient::Others | Recipient::Workers
        )
    }
}

impl FromStr for Addressee {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is nobody: write all, workers, any, a slot such as 3, agent, agent:0, agent:NAME, id:12 or pid:4711"
            )
        };
        let recipient = match (text, text.split_once(':')) {
            ("all", _) => Recipient::Everyone,
            ("workers", _) => Recipient::Workers,
            ("any", _) => Recipient::AnyWorker,
            ("agent", _) => Recipient::Agent(None),
            (_, Some(("id", id))) => {
                let id = id.parse().map_err(|_| wrong())?;
                Recipient::Worker(WorkerId(id))
            }
            (_, Some(("pid", pid))) => Recipient::Pid(pid.parse().map_err(|_| wrong())?),
            _ => match text.parse().map_err(|_| wrong())? {
                Target::Slot { role, slot } => Recipient::Slot { role, slot },
                Target::Agent { name } => Recipient::Agent(Some(name)),
            },
        };
        Ok(Addressee(recipient))
    }
}

/// As it is read.
impl fmt::Display for Addressee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Recipient::Worker(WorkerId(id)) => write!(f, "id:{id}"),
            Recipient::Slot { role, slot } => write!(f, "{role}:{slot}"),
            Recipient::Pid(pid) => write!(f, "pid:{pid}"),
            Recipient::Agent(Some(name)) => write!(f, "{}:{name}", Role::Agent),
            Recipient::Agent(None) => f.write_str("agent"),
            Recipient::Workers => f.write_str("workers"),
            Recipient::AnyWorker => f.write_str("any"),
            Recipient::Everyone | Recipient::Others => f.write_str("all"),
            // Nobody can write it.
            Recipient::Master => f.write_str("master"),
        }
    }
}

impl Serialize for Addressee {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Addressee {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_addressee_is_written_as_it_is_read() {
        for text in [
            "all",
            "workers",
            "any",
            "agent",
            "agent:rotate",
            "agent:1",
            "worker:3",
            "id:12",
            "pid:4711",
        ] {
            let addressee = text.parse::<Addressee>().unwrap();
            assert_eq!(addressee.to_string(), text);
            let several = ["all", "workers"];
            assert_eq!(addressee.is_several(), several.contains(&text), "{text}");
        }
        assert_eq!("3".parse::<Addressee>(), "worker:3".parse());
        for wrong in ["", "id:", "id:x", "pid:-1", "master", "everyone", "agent:"] {
            assert!(wrong.parse::<Addressee>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_no_program_could_get_is_refused() {
        let message = |action: &str, content, payload: &str| Message {
            to: Addressee(Recipient::Everyone),
            action: action.to_owned(),
            payload: payload.to_owned(),
            content,
        };
        assert_eq!(message("reload", Content::Text, "").check(), Ok(()));
        assert_eq!(message("x", Content::Json, "{\"a\":1}").check(), Ok(()));
        for wrong in [
            message("", Content::Text, ""),
            message("rr.x", Content::Text, ""),
            message(&"x".repeat(1 << 20), Content::Text, ""),
            message("x", Content::Json, "{"),
            message("x", Content::Json, ""),
        ] {
            assert!(wrong.check().is_err(), "{:.20}", wrong.action);
        }
    }
}
