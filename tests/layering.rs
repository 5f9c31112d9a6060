//! The architecture, checked: every module uses only modules below it, and nothing pure touches
//! the outside world. Reads the `use` lines and `crate::` paths of the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module, from the bottom to the top, and which of the others it may use.
const LAYERS: &[(&str, &[&str])] = &[
    ("exit_code", &[]),
    ("printable", &[]),
    ("dispatch", &[]),
    ("jobs", &[]),
    ("leadership", &[]),
    ("values", &[]),
    ("supervisor", &["exit_code"]),
    ("relay", &["supervisor"]),
    ("config", &["dispatch", "jobs", "supervisor"]),
    ("sys", &["config", "supervisor"]),
    ("preflight", &["config", "jobs", "sys"]),
    (
        "control",
        &[
            "dispatch",
            "jobs",
            "printable",
            "supervisor",
            "sys",
            "values",
        ],
    ),
    (
        "reactor",
        &[
            "config",
            "control",
            "dispatch",
            "exit_code",
            "jobs",
            "leadership",
            "preflight",
            "printable",
            "relay",
            "supervisor",
            "sys",
            "values",
        ],
    ),
    (
        "master",
        &[
            "config",
            "control",
            "dispatch",
            "exit_code",
            "preflight",
            "reactor",
            "supervisor",
            "sys",
            "values",
        ],
    ),
    (
        "ctl",
        &["control", "dispatch", "printable", "supervisor", "values"],
    ),
    ("hello_http", &[]),
    (
        "cli",
        &[
            "config",
            "control",
            "exit_code",
            "hello_http",
            "jobs",
            "master",
            "preflight",
            "printable",
            "reactor",
            "supervisor",
            "sys",
        ],
    ),
];

/// The pure files of modules that are not pure as a whole.
const PURE: &[&str] = &[
    "control/change.rs",
    "control/chronicle.rs",
    "control/denied.rs",
    "control/event.rs",
    "control/held.rs",
    "control/job.rs",
    "control/message.rs",
    "control/outcome.rs",
    "control/protocol.rs",
    "control/push.rs",
    "control/status.rs",
];

/// What the pure core must not name: input and output, clocks, descriptors, processes.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::env",
    "mio::",
    "libc::",
    "socket2::",
    "OwnedFd",
    "BorrowedFd",
    "RawFd",
    "Instant::now",
    "SystemTime",
];

#[test]
fn every_module_uses_only_what_is_below_it() {
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        let (_, allowed) =
            layer(&module).unwrap_or_else(|| panic!("{module} has no place in LAYERS"));
        for used in crate_paths(&text) {
            if used != module && !allowed.contains(&used.as_str()) && layer(&used).is_some() {
                wrong.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows that point up:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_layers_have_no_cycle() {
    for (index, (module, uses)) in LAYERS.iter().enumerate() {
        for used in *uses {
            let below = LAYERS[..index].iter().any(|(name, _)| name == used);
            assert!(below, "{module} may use {used}, which is not below it");
        }
    }
}

#[test]
fn the_pure_core_names_nothing_of_the_outside_world() {
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        let pure = [
            "supervisor",
            "dispatch",
            "relay",
            "jobs",
            "leadership",
            "values",
        ];
        let is_pure =
            pure.contains(&module.as_str()) || PURE.iter().any(|pure| path.ends_with(pure));
        if !is_pure {
            continue;
        }
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|name| line.contains(**name))
                    .map(|name| format!("{} names {name}", path.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stays_inside_its_fence() {
    let fence = [
        "src/sys/",
        "worker-proto/src/origin.rs",
        "worker-proto/src/page.rs",
        "worker-proto/src/scm.rs",
        "worker-proto/src/sdk/inherit.rs",
        "preload/src/hooks.rs",
        "preload/src/symbols.rs",
        "preload/src/sys.rs",
    ];
    for root in ["src", "worker-proto/src", "preload/src"] {
        for path in rust_files(Path::new(root)) {
            let text = fs::read_to_string(&path).unwrap();
            let is_inside = fence
                .iter()
                .any(|inside| path.to_str().unwrap().starts_with(inside));
            let has = without_tests(&text)
                .lines()
                .any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
            assert!(is_inside || !has, "{} has unsafe code", path.display());
        }
    }
}

#[test]
fn only_the_codec_names_bincode() {
    for path in rust_files(Path::new("src"))
        .into_iter()
        .chain(rust_files(Path::new("worker-proto/src")))
    {
        let text = fs::read_to_string(&path).unwrap();
        let names = text.contains("bincode::");
        assert!(
            !names || path.ends_with("codec.rs"),
            "{} names bincode",
            path.display()
        );
    }
}

fn layer(module: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    LAYERS.iter().find(|(name, _)| *name == module)
}

/// Every source file of the master with the module that it belongs to, without its tests.
fn sources() -> Vec<(String, PathBuf, String)> {
    let top = ["lib.rs", "main.rs"];
    rust_files(Path::new("src"))
        .into_iter()
        .filter(|path| !top.iter().any(|name| path == &Path::new("src").join(name)))
        .filter(|path| !path.starts_with("src/bin"))
        .filter(|path| !path.ends_with("tests.rs") && !path.iter().any(|part| part == "tests"))
        .map(|path| {
            let first = path.iter().nth(1).unwrap().to_str().unwrap();
            let module = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = without_tests(&text).to_owned();
            (module, path, code)
        })
        .collect()
}

/// The text before its inline tests, which are the last thing in a file.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\n#[expect(")
        .next()
        .and_then(|text| text.split("#[cfg(test)]\nmod tests {").next())
        .expect("split has a first part")
}

/// The first segment after every `crate::` that is not a comment.
fn crate_paths(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            rest.chars()
                .take_while(|&c| c.is_alphanumeric() || c == '_')
                .collect()
        })
        .collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
