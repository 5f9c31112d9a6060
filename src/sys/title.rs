//! The title: what `ps` shows of this process. Its place is that of the command line, see
//! `/proc/pid/cmdline` in `proc_pid_cmdline(5)`, and it is never longer than that was.
//!
//! The room behind it is the environment's, which other code of this process reads: it is left alone,
//! although that makes for short titles.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};

/// The memory that held the command line.
#[derive(Debug)]
pub(crate) struct Title {
    area: &'static mut [u8],
}

impl Title {
    /// Takes the command line's place, once: there is one per process. `None` if the kernel does
    /// not say where it is.
    ///
    /// From the first [`show`](Self::show) on, `std::env::args` answers nonsense: read the arguments
    /// before.
    pub(crate) fn claim() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let (start, end) = bounds(&stat)?;
        let len = end
            .checked_sub(start)
            .filter(|len| (1..=LONGEST).contains(len))?;
        if !is_command_line(start, len).ok()? || IS_CLAIMED.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: the kernel put the arguments of this process there when it started it, on the
        // stack of the main thread, which is never unmapped; `is_command_line` has seen them. They
        // are bytes and may be written (`environ(7)`). Only the standard library and libc have
        // pointers to them, and read them when asked for the arguments, which nobody does from
        // here on; `IS_CLAIMED` makes this the only slice.
        let area =
            unsafe { slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(start), len) };
        Some(Title { area })
    }

    /// Shows the first of these that fits, or as much of the last as does.
    pub(crate) fn show(&mut self, titles: &[String]) {
        // The last byte stays 0: otherwise the kernel takes what follows for part of it.
        let room = self.area.len() - 1;
        let fitting = titles.iter().find(|title| title.len() <= room);
        let Some(title) = fitting.or(titles.last()) else {
            return;
        };
        let shown = &title.as_bytes()[..title.len().min(room)];
        self.area.fill(0);
        self.area[..shown.len()].copy_from_slice(shown);
    }
}

/// Fields 48 and 49 of `proc_pid_stat(5)`.
fn bounds(stat: &str) -> Option<(usize, usize)> {
    // The name of the program is in parentheses and may contain anything.
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name
        .split_ascii_whitespace()
        .skip(ARG_START - FIRST_AFTER_NAME);
    let mut address = || fields.next()?.parse().ok();
    Some((address()?, address()?))
}

/// Whether that is where the kernel reads the command line from. Asks the kernel, which answers
/// EIO where there is no memory.
fn is_command_line(start: usize, len: usize) -> io::Result<bool> {
    let mut there = vec![0; len];
    File::open("/proc/self/mem")?.read_exact_at(&mut there, start as u64)?;
    Ok(there == fs::read("/proc/self/cmdline")?)
}

static IS_CLAIMED: AtomicBool = AtomicBool::new(false);

const ARG_START: usize = 48;
const FIRST_AFTER_NAME: usize = 3;

/// A quarter of the stack, more than the kernel lets arguments be on most machines.
const LONGEST: usize = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_where_the_command_line_is() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let (start, end) = bounds(&stat).unwrap();
        assert!(is_command_line(start, end - start).unwrap());
        assert!(!is_command_line(start + 1, end - start).unwrap());
        assert!(is_command_line(16, 16).is_err(), "there is nothing");
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_nothing() {
        let fields: Vec<_> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b (c) {}", fields.join(" "));
        assert_eq!(bounds(&stat), Some((48, 49)));
        assert_eq!(bounds("7 (a) S 1"), None);
        assert_eq!(bounds(""), None);
    }

    fn shown(len: usize, titles: &[&str]) -> String {
        let area = Box::leak(vec![b'x'; len].into_boxed_slice());
        let mut title = Title { area };
        let titles: Vec<_> = titles.iter().map(|&title| title.to_owned()).collect();
        title.show(&titles);
        assert_eq!(title.area.last(), Some(&0));
        let shown = title.area.split(|&byte| byte == 0).next().unwrap();
        String::from_utf8(shown.to_vec()).unwrap()
    }

    #[test]
    fn the_fullest_title_that_fits_is_shown() {
        let titles = ["name: 4/4 serving", "name: 4/4", "name"];
        assert_eq!(shown(100, &titles), titles[0]);
        assert_eq!(shown(18, &titles), titles[0]);
        assert_eq!(shown(17, &titles), titles[1]);
        assert_eq!(shown(5, &titles), titles[2]);
        assert_eq!(shown(3, &titles), "na");
        assert_eq!(shown(1, &titles), "");
    }
}
