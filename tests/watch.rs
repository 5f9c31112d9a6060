//! Watched files: what is saved is tried, and nothing else is.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use common::client::get;
use common::{Cluster, await_condition, run_to_end, test_worker};

/// However a file is saved, and wherever it is.
#[test]
fn what_is_saved_is_a_reason_for_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("src/deep")).unwrap();
    fs::write(path("src/deep/app"), "1").unwrap();
    fs::write(path("link1"), "1").unwrap();
    let (mut cluster, address) = watching(&[dir.path()], &QUICK);
    let mut generation = 1;
    let mut expect = |what: &str, change: &dyn Fn()| {
        change();
        generation += 1;
        cluster.await_line(what, |line| {
            line.contains("watch: ") && line.contains(what) && line.ends_with("changed: reload")
        });
        cluster.await_text(&format!("all at generation {generation}"));
    };
    expect("src/deep/app", &|| {
        fs::write(path("src/deep/app"), "2").unwrap()
    });
    expect("deep/app.new and 1 more", &|| {
        fs::write(path("src/deep/app.new"), "3").unwrap();
        fs::rename(path("src/deep/app.new"), path("src/deep/app")).unwrap();
    });
    expect("new", &|| {
        fs::create_dir_all(path("new/er")).unwrap();
    });
    expect("new/er/app", &|| {
        fs::write(path("new/er/app"), "1").unwrap()
    });
    expect("new", &|| fs::rename(path("new"), path("old")).unwrap());
    expect("old/er/app", &|| {
        fs::write(path("old/er/app"), "2").unwrap()
    });
    expect("old/er/app", &|| {
        fs::remove_file(path("old/er/app")).unwrap()
    });
    expect("link", &|| symlink(path("link1"), path("link")).unwrap());
    assert_eq!(get(address, "/").unwrap().server().generation, generation);
    assert_eq!(cluster.stop().code(), 0);
}

/// A path that is named may be a file, a link, or a directory that is built anew.
#[test]
fn what_is_named_may_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for directory in ["one", "two", "dist"] {
        fs::create_dir(path(directory)).unwrap();
        fs::write(path(directory).join("app"), "1").unwrap();
    }
    fs::write(path("app"), "1").unwrap();
    symlink(path("one"), path("current")).unwrap();
    let paths = [path("app"), path("current"), path("dist")];
    let paths = paths.each_ref().map(|path| path.as_path());
    let (mut cluster, _) = watching(&paths, &QUICK);
    let mut generation = 1;
    let mut expect = |what: &str, change: &dyn Fn()| {
        change();
        generation += 1;
        cluster.await_line(what, |line| line.contains(what) && line.contains("watch: "));
        cluster.await_text(&format!("all at generation {generation}"));
    };
    expect("/app changed", &|| {
        // Beside it, and none of it: nothing.
        fs::write(path("other"), "1").unwrap();
        fs::write(path("app"), "2").unwrap();
    });
    expect("/app changed", &|| {
        fs::write(path("other"), "2").unwrap();
        fs::rename(path("other"), path("app")).unwrap();
    });
    expect("/current/app changed", &|| {
        fs::write(path("one/app"), "2").unwrap();
    });
    expect("/current changed", &|| {
        symlink(path("two"), path("next")).unwrap();
        fs::rename(path("next"), path("current")).unwrap();
    });
    expect("/current/app changed", &|| {
        fs::write(path("one/app"), "3").unwrap();
        fs::write(path("two/app"), "2").unwrap();
    });
    // Gone: what was saved is no version yet.
    fs::remove_dir_all(path("dist")).unwrap();
    cluster.await_text("everything stays as it is");
    for (what, then) in [("/dist changed", None), ("/dist/app changed", Some("2"))] {
        match then {
            None => fs::create_dir(path("dist")).unwrap(),
            Some(text) => fs::write(path("dist/app"), text).unwrap(),
        }
        cluster.await_text(what);
        generation += 1;
        cluster.await_text(&format!("all at generation {generation}"));
    }
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn what_is_ignored_is_not_even_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for directory in [".git", "node_modules/a", "logs"] {
        fs::create_dir_all(path(directory)).unwrap();
    }
    let ignored = ["--watch-ignore", "*.log", "--watch-ignore", "logs"];
    let flags = [&QUICK[..], &ignored].concat();
    let (mut cluster, _) = watching(&[dir.path()], &flags);
    // It itself, and the one that it is in.
    assert!(cluster.log().contains("watch: 2 directories are watched"));
    for ignored in [
        ".git/index",
        "node_modules/a/b.js",
        "logs/x",
        "app.log",
        ".app.swp",
        "app~",
        "4913",
    ] {
        fs::write(path(ignored), "1").unwrap();
    }
    fs::create_dir_all(path("target/debug")).unwrap();
    fs::write(path("target/debug/app"), "1").unwrap();
    fs::write(path("app"), "1").unwrap();
    let line = cluster.await_text("watch: ");
    assert!(line.ends_with("/app changed: reload"), "{line}");
    cluster.await_text("all at generation 2");
    assert_eq!(cluster.stop().code(), 0);
}

/// One reload for what is saved together, and one more for what was saved while it was under way.
#[test]
fn what_changes_together_is_one_reason() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--watch-delay", "200ms", "--canary", "2500ms"];
    let (mut cluster, _) = watching(&[dir.path()], &flags);
    for number in 0..20 {
        fs::write(dir.path().join(number.to_string()), "1").unwrap();
    }
    let line = cluster.await_text("changed: reload");
    assert!(line.ends_with("/0 and 19 more changed: reload"), "{line}");
    // While that one is watched for its canary.
    cluster.await_text("gen=2");
    for name in ["a", "b"] {
        fs::write(dir.path().join(name), "1").unwrap();
        cluster.await_text("changed: reload");
    }
    cluster.await_text("all at generation 2");
    cluster.await_text("all at generation 3");
    let moment = Instant::now() + Duration::from_millis(500);
    while let Some(line) = cluster.next_line(moment) {
        assert!(!line.contains("reload"), "{line}");
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// What fails is gone again, and the next attempt is tried.
#[test]
fn a_change_that_is_no_good_is_rolled_back_and_the_next_one_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let app = dir.path().join("app");
    let script = |code: &str| {
        let worker = test_worker();
        let text = format!("#!/bin/sh\n{code}exec {} serve\n", worker.display());
        let new = dir.path().join(".#app");
        fs::write(&new, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&new, mode).unwrap();
        fs::rename(new, &app).unwrap();
    };
    script("");
    let watched = app.display().to_string();
    let mut cluster = Cluster::start([
        "-w",
        "2",
        "-l",
        "127.0.0.1:0",
        "--canary",
        "50ms",
        "--watch",
        &watched,
        &watched,
    ]);
    let address = cluster.address();
    cluster.await_ready();
    cluster.find_text("directories are watched");
    script("exit 7\n");
    cluster.await_text("generation 2 given up");
    assert_eq!(get(address, "/").unwrap().server().generation, 1);
    script("");
    cluster.await_text("all at generation 3");
    assert_eq!(get(address, "/").unwrap().server().generation, 3);
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn a_path_that_is_not_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nowhere").display().to_string();
    let ended = run_to_end(&["-w", "1", "--watch", &path]);
    assert_eq!(ended.code(), 2, "{}", ended.log);
    let says =
        format!("watch {path}: no such file or directory (ENOENT): create it, or check --watch");
    assert!(ended.log.contains(&says), "{}", ended.log);
    let ended = run_to_end(&["-w", "1", "--watch-ignore", "[a"]);
    assert_eq!(ended.code(), 2, "{}", ended.log);
    assert!(
        ended.log.contains("unclosed character class"),
        "{}",
        ended.log
    );
}

/// What is watched is part of the configuration, which a reload reads anew.
#[test]
fn a_reload_watches_what_the_file_says_by_then() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("a"), "1").unwrap();
    fs::write(path("b"), "1").unwrap();
    let configure = |name: &str| {
        let text = format!("watch = [{:?}, {:?}]\n", path("rr.toml"), path(name));
        fs::write(path("rr.toml"), text).unwrap();
    };
    configure("a");
    let configuration = path("rr.toml").display().to_string();
    let worker = test_worker().display().to_string();
    let mut cluster = Cluster::start([
        "-c",
        &configuration,
        "-w",
        "1",
        "-l",
        "127.0.0.1:0",
        "--canary",
        "50ms",
        &worker,
        "serve",
    ]);
    cluster.await_ready();
    cluster.find_text("directories are watched");
    configure("b");
    cluster.await_text("directories are watched");
    cluster.await_text("all at generation 2");
    fs::write(path("a"), "2").unwrap();
    fs::write(path("b"), "2").unwrap();
    let line = cluster.await_text("changed: reload");
    assert!(line.ends_with("/b changed: reload"), "{line}");
    cluster.await_text("all at generation 3");
    assert_eq!(cluster.stop().code(), 0);
}

/// The limit of a user namespace of its own, so that nobody else's is touched.
#[test]
fn a_limit_that_is_reached_is_said_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..10 {
        fs::create_dir(dir.path().join(number.to_string())).unwrap();
    }
    let script = "echo 3 > /proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script]);
    command.arg(common::rr_master());
    command
        .args(["-w", "1", "-l", "127.0.0.1:0", "--watch"])
        .arg(dir.path());
    command.arg(test_worker()).arg("serve");
    let mut cluster = Cluster::from_command(command);
    cluster.await_ready();
    let line = cluster.find_text("the limit on inotify watches is reached");
    assert!(
        line.contains("raise fs.inotify.max_user_watches (now "),
        "{line}"
    );
    assert!(line.contains("--watch-ignore"), "{line}");
    assert_eq!(cluster.stop().code(), 0);
}

/// Two ready workers of the test program, and these paths watched already.
fn watching(paths: &[&Path], flags: &[&str]) -> (Cluster, std::net::SocketAddr) {
    let mut all = flags.to_vec();
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    for path in &paths {
        all.extend(["--watch", path]);
    }
    let (mut cluster, address) = Cluster::test_workers(2, &all);
    cluster.find_text("directories are watched");
    await_condition("an answer", || get(address, "/").is_ok());
    (cluster, address)
}

const QUICK: [&str; 4] = ["--canary", "50ms", "--watch-delay", "300ms"];
