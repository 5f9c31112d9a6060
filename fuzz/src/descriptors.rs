//! The descriptors that this process has open: to see that a check leaves none behind.

use std::fs;

/// Their numbers, in the order of their digits.
pub fn open_descriptors() -> Vec<String> {
    let listing = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let mut numbers: Vec<String> = listing
        .map(|entry| {
            let entry = entry.expect("it can be read to its end");
            entry.file_name().to_string_lossy().into_owned()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}
