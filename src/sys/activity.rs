//! What a process is doing, as far as `proc(5)` shows it: for the log, when it hangs.
//!
//! The kernel makes these files up when they are read, from what it keeps of the process: reading
//! them waits for nothing that the process does or does not do. What is read has a bound.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// What the threads of a process are doing.
#[derive(Debug)]
pub(crate) struct Activity {
    /// `None` if the system does not show it.
    main: Option<Thread>,
    /// Some of the others.
    others: Vec<Thread>,
}

/// What one thread is doing.
#[derive(Debug)]
struct Thread {
    name: String,
    state: State,
    /// The kernel function that it waits in, if it waits and may be asked.
    wchan: Option<String>,
    /// The innermost functions of the kernel's stack; empty for all but root.
    stack: Vec<String>,
}

/// The letter that `proc(5)` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(char);

impl Activity {
    /// Looks at a process that is not reaped yet.
    pub(crate) fn of(pid: u32) -> Activity {
        let tasks = format!("/proc/{pid}/task");
        let main = Thread::at(&Path::new(&tasks).join(pid.to_string()));
        let others = fs::read_dir(&tasks).into_iter().flatten().flatten();
        let others = others
            .filter(|task| task.file_name().to_str() != Some(&pid.to_string()))
            .take(OTHER_THREADS)
            .filter_map(|task| Thread::at(&task.path()))
            .collect();
        Activity { main, others }
    }
}

impl Thread {
    fn at(task: &Path) -> Option<Thread> {
        let (name, state) = parse_stat(&read(&task.join("stat"))?)?;
        let wchan = read(&task.join("wchan")).filter(|wchan| !matches!(&wchan[..], "" | "0"));
        let stack = read(&task.join("stack")).unwrap_or_default();
        Some(Thread {
            name,
            state,
            wchan,
            stack: parse_stack(&stack),
        })
    }
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The name may be anything, so it ends with the last parenthesis and is shown escaped.
fn parse_stat(stat: &str) -> Option<(String, State)> {
    let (before, after) = stat.rsplit_once(") ")?;
    let (_, name) = before.split_once(" (")?;
    let state = State(after.chars().next()?);
    Some((name.escape_debug().to_string(), state))
}

/// `[<0>] do_signal_stop+0x1f5/0x260`, the innermost function first.
fn parse_stack(stack: &str) -> Vec<String> {
    let frames = stack.lines().filter_map(|line| line.split_once("] "));
    let functions = frames.map(|(_, frame)| frame.split('+').next().unwrap_or(frame).to_owned());
    functions.take(FRAMES).collect()
}

/// `state T (stopped), in do_signal_stop, stack do_signal_stop < get_signal; thread pool: ...`
impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.main {
            Some(thread) => write!(f, "{thread}")?,
            None => f.write_str("what it is doing is not to be seen in /proc")?,
        }
        for thread in &self.others {
            write!(f, "; thread {}: {thread}", thread.name)?;
        }
        Ok(())
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state {}", self.state)?;
        if let Some(wchan) = &self.wchan {
            write!(f, ", in {wchan}")?;
        }
        if !self.stack.is_empty() {
            write!(f, ", stack {}", self.stack.join(" < "))?;
        }
        Ok(())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State(letter) = *self;
        let meaning = match letter {
            'R' => "running",
            'S' => "sleeping",
            'D' => "not to be interrupted",
            'T' => "stopped",
            't' => "stopped by a debugger",
            'Z' => "dead, not reaped",
            _ => return write!(f, "{letter}"),
        };
        write!(f, "{letter} ({meaning})")
    }
}

/// How many threads are shown beside the main one.
const OTHER_THREADS: usize = 7;

/// How deep a stack is shown.
const FRAMES: usize = 8;

/// More than the kernel writes into any of these files.
const MOST_BYTES: u64 = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_pretend_to_be_a_state() {
        let (name, state) = parse_stat("17 (a) R \u{1b}b) T 1 17 17").unwrap();
        assert_eq!((&name[..], state), ("a) R \\u{1b}b", State('T')));
        assert!(parse_stat("17 (a").is_none());
    }

    #[test]
    fn it_reads_as_one_line() {
        let thread = |name: &str, wchan: Option<&str>, stack| Thread {
            name: name.to_owned(),
            state: State('T'),
            wchan: wchan.map(str::to_owned),
            stack: parse_stack(stack),
        };
        let stack = "[<0>] do_signal_stop+0x1f5/0x260\n[<0>] get_signal+0x8b6/0x8d0\n";
        let activity = Activity {
            main: Some(thread("app", Some("do_signal_stop"), stack)),
            others: vec![thread("pool", None, "")],
        };
        assert_eq!(
            activity.to_string(),
            "state T (stopped), in do_signal_stop, stack do_signal_stop < get_signal; \
             thread pool: state T (stopped)"
        );
    }

    #[test]
    fn this_process_can_be_looked_at_and_nobody_cannot() {
        let own = Activity::of(std::process::id()).to_string();
        assert!(own.starts_with("state "), "{own}");
        assert!(own.contains("; thread "), "{own}");
        let nobody = Activity::of(u32::MAX).to_string();
        assert_eq!(nobody, "what it is doing is not to be seen in /proc");
    }
}
