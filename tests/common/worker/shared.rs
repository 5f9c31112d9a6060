//! `shared PART...`: what one process does for all, and the values that all are given.
//!
//! | part | what it does |
//! |---|---|
//! | `lead` | offers to lead `desk`; says `leads term=N` when it does |
//! | `ill` | the same, but cannot begin |
//! | `stuck` | never takes over what `flags` says |
//!
//! All of them follow. A worker answers HTTP, see [`answer`](crate::answer), and
//!
//! | path | what it does |
//! |---|---|
//! | `/invoke/METHOD` | has the leader do it; answers what it says, or `failed: ` and why |
//! | `/publish/TEXT` | publishes it as news |
//! | `/see/news` | answers the latest news |
//! | `/see/flags` | answers the version of the value `flags` and what it says |
//!
//! The leader's methods are `who`, `hang`, which says `hangs` and never returns, and `crash`.

use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use worker_proto::ids::{Role, WorkerId};
use worker_proto::shared::{self, Follower, Leader, Reign};
use worker_proto::{Config, Event, HookResult, Payload, Server, Worker};

use crate::answer::{announce, answer_more};

pub(crate) fn live(parts: &[&str]) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let has = |part: &str| parts.contains(&part);
    let flags = worker.config("flags").expect("ask for the flags");
    let _stuck = has("stuck").then(|| flags.watch());
    let _candidacy = (has("lead") || has("ill")).then(|| {
        let desk = Desk {
            own: worker.identity().worker,
            is_ill: has("ill"),
        };
        shared::lead(&worker, "desk", desk).expect("offer to lead")
    });
    let follower = shared::follow(&worker, "desk").expect("follow");
    let news = Arc::new(Mutex::new(String::new()));
    let (values, latest) = (follower.subscribe("news"), Arc::clone(&news));
    std::thread::spawn(move || {
        for value in values.iter() {
            *latest.lock().unwrap() = text(&value);
        }
    });
    if worker.identity().role == Role::Agent {
        worker.ready().expect("ready");
        let leaving = |event: &Event| matches!(event, Event::Drain { .. } | Event::MasterGone);
        worker.events().iter().find(leaving);
        return worker.leave();
    }
    let listeners = worker.listen_declared_or("127.0.0.1:0").expect("listen");
    worker.ready().expect("ready");
    let requests = AtomicU64::new(0);
    Server::new()
        .serve(listeners, |connection| {
            let perform = |path: &str| perform(path, &follower, &news, &flags);
            answer_more(&worker, &requests, connection, perform);
        })
        .expect("serve");
    worker.leave()
}

/// Without a master: says what it gets on standard output.
pub(crate) fn live_alone() -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let own = worker.identity().worker;
    let is_ill = false;
    let _candidacy = shared::lead(&worker, "desk", Desk { own, is_ill }).expect("lead");
    let follower = shared::follow(&worker, "desk").expect("follow");
    let news = follower.subscribe("news");
    worker.ready().expect("ready");
    println!(
        "{}",
        text(&follower.invoke("who", "", PATIENCE).expect("a leader"))
    );
    println!("{}", text(&news.recv().expect("a value")));
    follower.publish("news", "rain").expect("publish");
    println!("{}", text(&news.recv().expect("a value")));
    worker.leave()
}

fn perform(
    path: &str,
    follower: &Follower,
    news: &Mutex<String>,
    flags: &Config,
) -> Option<String> {
    let (what, argument) = path.trim_start_matches('/').split_once('/')?;
    let said = |outcome: Result<String, shared::SharedFailure>| {
        outcome.unwrap_or_else(|err| format!("failed: {err}"))
    };
    Some(match what {
        "invoke" => said(follower.invoke(argument, "", PATIENCE).map(|it| text(&it))),
        "publish" => said(follower.publish("news", argument).map(|()| String::new())),
        "see" if argument == "news" => news.lock().unwrap().clone(),
        "see" => {
            let value = flags.current();
            let text = value.as_ref().map_or("", |it| it.text().expect("text"));
            format!("{} {text}", flags.version())
        }
        _ => return None,
    })
}

struct Desk {
    own: WorkerId,
    is_ill: bool,
}

impl Leader for Desk {
    fn elected(&self, reign: &Reign) -> HookResult {
        if self.is_ill {
            return Err("no ink".into());
        }
        announce(&format!("leads term={}", reign.term()));
        reign.publish("news", format!("term {}", reign.term()))?;
        Ok(())
    }

    fn invoke(&self, method: &str, _: Payload, reign: &Reign) -> Result<Payload, String> {
        match method {
            "who" => Ok(format!("{} {}", self.own.0, reign.term()).into()),
            "crash" => std::process::abort(),
            "hang" => {
                announce("hangs");
                crate::forever()
            }
            other => Err(format!("no {other}")),
        }
    }
}

fn text(payload: &Payload) -> String {
    payload.read_text().expect("text").to_owned()
}

/// More than any test waits.
const PATIENCE: Duration = Duration::from_secs(60);
