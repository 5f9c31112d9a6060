//! `examples/sessions`: who logged in at one worker is known to all, whoever keeps that.

mod common;

use std::collections::BTreeSet;
use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use common::client::{Response, connect, read_response};
use common::operator::{done, status};
use common::redis::Redis;
use common::{Cluster, Ended, Stopwatch, await_condition, example};

#[test]
fn with_redis_a_session_is_known_to_every_worker_and_the_next_ones() {
    let mut redis = Redis::nowhere();
    redis.start();
    let site = Site::start(&[], &["--redis", &redis.url()]);
    site.tells_its_story();
}

#[test]
fn with_an_agent_a_session_is_known_to_every_worker_and_the_next_ones() {
    let site = Site::start(&agent(""), &[]);
    site.tells_its_story();
}

/// A worker needs no Redis to be ready, and none to go on.
#[test]
fn while_redis_is_away_clients_are_told_so_and_nobody_dies() {
    let mut redis = Redis::nowhere();
    let site = Site::start(&[], &["--redis", &redis.url()]);
    site.says_not_now(SLOTS.len());
    redis.start();
    let ada = site.log_in("ada");
    // Every worker has a connection to it.
    assert_eq!(site.ask_everyone(&ada, "ada"), SLOTS.into());
    redis.kill();
    site.says_not_now(SLOTS.len());
    redis.start();
    // It had it in its memory alone.
    let answer = site.whoami(&ada);
    assert_eq!((answer.status, answer.body.as_str()), (401, NOBODY));
    let grace = site.log_in("grace");
    assert_eq!(site.ask_everyone(&grace, "grace"), SLOTS.into());

    // A restart that nobody noticed costs nobody a request.
    redis.kill();
    redis.start();
    let grace = site.log_in("grace");
    assert_eq!(site.ask_everyone(&grace, "grace"), SLOTS.into());

    redis.signal(Signal::SIGSTOP);
    let took = Stopwatch::start();
    site.says_not_now(1);
    assert!(took.elapsed() < Duration::from_secs(10), "1 s each");
    redis.signal(Signal::SIGCONT);
    await_condition("the same Redis again", || site.whoami(&grace).status == 200);

    let shown = site.status();
    assert!(shown["master"]["problems"].as_u64().unwrap() > 0, "{shown}");
    let ended = site.ends_as_it_began(&shown);
    let told = ended.log.contains("reports: sessions: redis: ");
    assert!(told, "{}", ended.log);
}

/// What is kept for them is gone with it, and nothing else.
#[test]
fn while_the_agent_is_away_requests_wait_for_it_and_nobody_dies() {
    let site = Site::start(&agent(""), &[]);
    let ada = site.log_in("ada");
    done(&site.control, &["drain", "agent:sessions", "--wait"]);
    site.says_not_now(1);
    done(&site.control, &["restart", "agent:sessions", "--wait"]);
    assert_eq!(site.whoami(&ada).status, 401);
    let ada = site.log_in("ada");
    done(&site.control, &["kill", "agent:sessions"]);
    await_condition("another agent", || site.whoami(&ada).status == 401);
    let ada = site.log_in("ada");
    assert_eq!(site.ask_everyone(&ada, "ada"), SLOTS.into());
    let ended = site.cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

#[test]
fn a_session_that_nobody_uses_ends() {
    let mut redis = Redis::nowhere();
    redis.start();
    for (flags, args) in [
        (vec![], vec!["--redis".to_owned(), redis.url()]),
        (agent(""), vec![]),
    ] {
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.extend(["--ttl", "1s"]);
        let site = Site::start(&flags, &args);
        let (ada, grace) = (site.log_in("ada"), site.log_in("grace"));
        let took = Stopwatch::start();
        // She keeps hers alive, unless this machine is very busy.
        await_condition("more than a second", || {
            site.whoami(&ada);
            took.elapsed() > Duration::from_millis(1500)
        });
        assert_eq!(site.whoami(&grace).status, 401);
        assert_eq!(site.cluster.stop().code(), 0);
    }
}

/// Its memory is bounded, whatever clients do.
#[test]
fn the_agent_forgets_the_session_that_would_end_first_when_there_are_too_many() {
    let site = Site::start(&agent("--max-sessions 3"), &[]);
    let all: Vec<_> = ["ada", "grace", "barbara"]
        .iter()
        .map(|name| site.log_in(name))
        .collect();
    assert_eq!(site.whoami(&all[0]).status, 200, "now grace's ends first");
    let frances = site.log_in("frances");
    let known: Vec<_> = all.iter().map(|it| site.whoami(it).status).collect();
    assert_eq!(known, [200, 401, 200]);
    assert_eq!(site.whoami(&frances).status, 200);
    assert_eq!(site.cluster.stop().code(), 0);
}

#[test]
fn what_is_no_login_and_no_session_is_refused() {
    let site = Site::start(&agent(""), &[]);
    let long = "x".repeat(65);
    for form in [
        "",
        "name=",
        "name=a%20b",
        "name=<b>",
        &format!("name={long}"),
    ] {
        assert_eq!(site.ask("POST /login", "", form).status, 400, "{form}");
    }
    let guess = "0".repeat(32);
    for session in ["", "x", &guess, &long, "../../etc/passwd", "1 2 3"] {
        assert_eq!(site.whoami(session).status, 401, "{session}");
    }
    assert_eq!(site.ask("GET /login", "", "").status, 404);
    assert_eq!(site.ask("nonsense", "", "").status, 400);
    let shown = site.status();
    site.ends_as_it_began(&shown);

    let program = example("sessions").display().to_string();
    let ended = std::process::Command::new(program)
        .args(["--redis", "nonsense://x"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("--redis or REDIS_URL"), "{said}");
}

/// A cluster of the example.
struct Site {
    cluster: Cluster,
    address: SocketAddr,
    control: std::path::PathBuf,
}

impl Site {
    fn start(flags: &[String], args: &[&str]) -> Self {
        let program = example("sessions").display().to_string();
        let workers = SLOTS.len().to_string();
        let common = ["-w", &workers, "-l", "127.0.0.1:0", "--canary", "1ms"];
        let flags = flags.iter().map(String::as_str);
        let all = common.into_iter().chain(flags).chain([program.as_str()]);
        let mut cluster = Cluster::start(all.chain(args.iter().copied()));
        let (address, control) = (cluster.address(), cluster.control());
        cluster.await_ready();
        Site {
            cluster,
            address,
            control,
        }
    }

    /// Log in through one, be known in all, survive a reload, log out.
    fn tells_its_story(self) {
        let welcome = self.ask("POST /login", "", "name=ada");
        assert_eq!(
            (welcome.status, welcome.body.as_str()),
            (200, "welcome, ada\n")
        );
        let cookie = &welcome.headers["set-cookie"];
        for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=1800"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let ada = session_in(&welcome);
        let again = self.log_in("ada");
        assert_ne!(ada, again);
        assert_eq!(self.ask_everyone(&ada, "ada"), SLOTS.into());
        done(&self.control, &["reload", "--wait"]);
        assert_eq!(self.ask_everyone(&ada, "ada"), SLOTS.into());
        assert_eq!(self.whoami(&ada).server().generation, 2);

        assert_eq!(self.ask("POST /logout", &ada, "").status, 200);
        for _ in SLOTS {
            assert_eq!(self.whoami(&ada).status, 401);
        }
        assert_eq!(self.whoami(&again).status, 200, "it is another session");
        let shown = self.status();
        assert_eq!(shown["master"]["problems"], 0, "{shown}");
        self.ends_as_it_began(&shown);
    }

    /// Nothing strange is shown, and the end is a good one.
    fn ends_as_it_began(self, shown: &Value) -> Ended {
        for worker in shown["workers"].as_array().unwrap() {
            assert_eq!(worker["restarts"], 0, "{shown}");
            assert!(
                ["serving", "ready"].contains(&worker["state"].as_str().unwrap()),
                "{shown}"
            );
        }
        for listener in shown["listeners"].as_array().unwrap() {
            for count in ["refused", "held"] {
                assert_eq!(listener[count], 0, "{shown}");
            }
        }
        let ended = self.cluster.stop();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        ended
    }

    /// For so many rounds; one takes 2 s if the store does not answer.
    fn says_not_now(&self, rounds: usize) {
        let guess = "0123456789abcdef".repeat(2);
        for _ in 0..rounds {
            for answer in [self.ask("POST /login", "", "name=ada"), self.whoami(&guess)] {
                assert_eq!(answer.status, 503, "{answer:?}");
                assert_eq!(answer.body, "not now: try again soon\n");
                assert_eq!(answer.headers["retry-after"], "1");
            }
        }
    }

    /// Asks until every slot has answered; answers which have.
    fn ask_everyone(&self, session: &str, name: &str) -> BTreeSet<u32> {
        let mut slots = BTreeSet::new();
        await_condition("every slot to answer", || {
            let answer = self.whoami(session);
            assert_eq!((answer.status, answer.body.trim_end()), (200, name));
            slots.insert(answer.server().slot);
            slots.len() == SLOTS.len()
        });
        slots
    }

    fn log_in(&self, name: &str) -> String {
        let welcome = self.ask("POST /login", "", &format!("name={name}"));
        assert_eq!(welcome.status, 200, "{welcome:?}\n{}", self.cluster.log());
        session_in(&welcome)
    }

    fn whoami(&self, session: &str) -> Response {
        self.ask("GET /whoami", session, "")
    }

    fn ask(&self, what: &str, session: &str, form: &str) -> Response {
        let mut stream = connect(self.address).unwrap();
        let length = form.len();
        let head = format!(
            "{what} HTTP/1.1\r\nHost: test\r\nCookie: theme=dark; session={session}\r\nContent-Length: {length}"
        );
        let request = format!("{head}\r\n\r\n{form}");
        stream.write_all(request.as_bytes()).unwrap();
        read_response(&mut BufReader::new(stream)).unwrap()
    }

    fn status(&self) -> Value {
        status(&self.control)
    }
}

/// The flags for an agent with these flags of its own.
fn agent(flags: &str) -> Vec<String> {
    let program = example("agent_sessions").display().to_string();
    let agent = format!("sessions={program} {flags}");
    vec!["--agent".to_owned(), agent]
}

fn session_in(welcome: &Response) -> String {
    let cookie = &welcome.headers["set-cookie"];
    let value = cookie.split(['=', ';']).nth(1).expect("a cookie");
    assert_eq!(value.len(), 32, "{cookie}");
    value.to_owned()
}

const SLOTS: [u32; 4] = [0, 1, 2, 3];

const NOBODY: &str = "nobody: log in first\n";
