//! What `--watch` names: files whose change is a reason for a reload, and those among them that are
//! none.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};

/// Files that are looked after, so that their change reloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Files, and directories with everything below them. Absolute: whoever runs the master may
    /// change its directory.
    pub paths: Vec<PathBuf>,
    /// How long nothing has to change before it reloads.
    pub delay: Duration,
    /// What does not count, beside what never does. Only about what is below a directory: a path
    /// that is named always counts.
    pub ignore: Vec<Ignored>,
}

impl Watch {
    /// Whether a change of that file is no reason. The path is relative to the directory that is
    /// watched.
    pub(crate) fn ignores(&self, relative: &Path) -> bool {
        let own = self.ignore.iter();
        own.chain(&*ALWAYS).any(|it| it.matches(relative))
    }
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            paths: Vec::new(),
            delay: Duration::from_millis(200),
            ignore: Vec::new(),
        }
    }
}

/// A pattern such as `*.log`: of a name anywhere below the directory, or, with a slash in it, of a path
/// relative to it. What is below an ignored directory is ignored, too.
#[derive(Clone, Debug)]
pub struct Ignored(GlobMatcher);

impl Ignored {
    fn matches(&self, relative: &Path) -> bool {
        if self.0.glob().glob().contains('/') {
            relative.ancestors().any(|path| self.0.is_match(path))
        } else {
            relative.iter().any(|name| self.0.is_match(name))
        }
    }
}

impl FromStr for Ignored {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("write a pattern such as '*.log' or 'build/*.o'".to_owned());
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.map_err(|err| err.kind().to_string())?;
        Ok(Ignored(glob.compile_matcher()))
    }
}

impl PartialEq for Ignored {
    fn eq(&self, other: &Self) -> bool {
        self.0.glob() == other.0.glob()
    }
}

impl Eq for Ignored {}

/// As it is read.
impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.glob().glob())
    }
}

/// What never counts: what tools keep for themselves, and what editors leave for a moment. 4913 is
/// the file with which Vim finds out whether it may write to a directory.
static ALWAYS: LazyLock<Vec<Ignored>> = LazyLock::new(|| {
    let patterns = [
        ".git",
        "node_modules",
        "target",
        "__pycache__",
        "*.sw[a-p]",
        "*~",
        ".#*",
        "4913",
    ];
    let patterns = patterns.map(|it| it.parse().expect("a test reads them all"));
    patterns.into()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_and_editors_leave_is_ignored_and_what_was_asked_for() {
        let watch = Watch {
            ignore: ["*.log", "build/*.o", "/tmp"]
                .map(|it| it.parse().unwrap())
                .into(),
            ..Watch::default()
        };
        for ignored in [
            ".git",
            ".git/index",
            "a/node_modules/b/c.js",
            "target/debug/app",
            "a/__pycache__/b.pyc",
            ".app.py.swp",
            "app.py~",
            "src/.#app.py",
            "4913",
            "a/b.log",
            "build/a.o",
        ] {
            assert!(watch.ignores(Path::new(ignored)), "{ignored}");
        }
        for counts in [
            "app.py",
            "a/git",
            "targets/x",
            "build/a.c",
            "a/build/a.o",
            "build/a/b.o",
            "14913",
            "",
        ] {
            assert!(!watch.ignores(Path::new(counts)), "{counts}");
        }
    }

    #[test]
    fn a_bad_pattern_says_what_is_wrong_with_it() {
        for (text, says) in [("", "write a pattern"), ("[a", "unclosed character class")] {
            let err = text.parse::<Ignored>().unwrap_err();
            assert!(err.contains(says), "{text:?}: {err}");
        }
        assert_eq!("a/*.o".parse::<Ignored>().unwrap().to_string(), "a/*.o");
    }
}
