//! What is kept for the fuzzer: one directory of inputs for each target.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The targets that `cargo fuzz` has.
pub(crate) fn targets() -> BTreeSet<String> {
    let sources = entries("fuzz_targets").into_iter();
    let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    sources.map(name).collect()
}

/// The targets for which something is kept.
pub(crate) fn names() -> BTreeSet<String> {
    let directories = entries("corpus").into_iter();
    directories.map(|path| file_name(&path)).collect()
}

/// The inputs of one target with their names, in the order of the names.
pub(crate) fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = entries(&format!("corpus/{target}"));
    files.sort_unstable();
    let read = |path: &PathBuf| (file_name(path), fs::read(path).unwrap());
    files.iter().map(read).collect()
}

fn entries(directory: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(directory);
    let listing = fs::read_dir(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    listing.map(|entry| entry.unwrap().path()).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
