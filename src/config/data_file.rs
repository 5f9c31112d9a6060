//! A data file: what `--watch-data` names, a file that is the value of a key.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use worker_proto::name;

/// A file whose content is a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// What processes ask for.
    pub key: String,
    /// Where it is.
    pub path: PathBuf,
}

impl FromStr for DataFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, path) = text
            .split_once('=')
            .filter(|(_, path)| !path.is_empty())
            .ok_or("write a key and a file, such as flags=/etc/app/flags.json")?;
        name::check(key).map_err(|problem| format!("the key: {problem}"))?;
        Ok(DataFile {
            key: key.to_owned(),
            path: PathBuf::from(path),
        })
    }
}

/// As it is read.
impl fmt::Display for DataFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_file_is_written_as_it_is_read() {
        for text in ["flags=/etc/flags.json", "a b=x=y", "k=-"] {
            assert_eq!(text.parse::<DataFile>().unwrap().to_string(), text);
        }
        for (wrong, says) in [
            ("flags", "write a key and a file"),
            ("flags=", "write a key and a file"),
            ("=file", "the key: it is empty"),
            ("a\tb=file", "control characters"),
        ] {
            let message = wrong.parse::<DataFile>().unwrap_err();
            assert!(message.contains(says), "{wrong:?}: {message}");
        }
    }
}
