//! Messages between real processes: who gets which, in what order, and what senders are told.

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use worker_proto::ids::{Role, Slot, WorkerId};
use worker_proto::message::{ContentType, PeerState, Receipt, Recipient};

use common::load::Load;
use common::operator::{done, events};
use common::processes::{await_quiet, pid_in, status};
use common::puppet::order::{Answer, Content, End, Order, Way, hash};
use common::puppet::{Company, Puppet, letter, noise, ready_workers};
use common::{Cluster, Stopwatch, example};

/// Of agents 0 and 1 and workers 2 to 5, as everybody is numbered here. (E11, E12, E13)
#[test]
fn every_way_of_sending_reaches_those_whom_it_names() {
    let mut company = Company::start(2, 4, &[]);
    let name = agents_name(&mut company);
    let [agent, worker] = [0, 3].map(|which| company.all().nth(which).unwrap().who.clone());
    let slot = |role, slot| Way::To(Recipient::Slot { role, slot });
    let ways = [
        (Way::To(Recipient::Worker(worker.worker)), vec![3]),
        (Way::To(Recipient::Worker(agent.worker)), vec![0]),
        (Way::To(Recipient::Pid(worker.pid)), vec![3]),
        (Way::To(Recipient::Pid(agent.pid)), vec![0]),
        (slot(Role::Worker, Slot(2)), vec![4]),
        (slot(Role::Agent, Slot(1)), vec![1]),
        (Way::ToAgent(None), vec![0]),
        // Both are of the same program, and so of the same name: who came last.
        (Way::ToAgent(Some(name)), vec![1]),
        (Way::ToWorkers, vec![2, 3, 4, 5]),
        (Way::Broadcast, vec![0, 1, 2, 3, 4, 5]),
    ];
    // What an agent sends goes the same ways, and to the sender itself as to anybody.
    for from in [0, 1, 2] {
        for (way, receivers) in &ways {
            reaches(&mut company, from, way.clone(), receivers);
        }
        let others: Vec<_> = (0..6).filter(|which| *which != from).collect();
        reaches(&mut company, from, Way::BroadcastToOthers, &others);
    }
}

/// Sends a message that way; the receivers have it once and everybody else has not, as what the
/// sender says next shows.
fn reaches(company: &mut Company, from: usize, way: Way, receivers: &[usize]) {
    let sender = company.all().nth(from).unwrap();
    let stamp = sender.sender();
    sender.does(&Order::Send(way.clone(), letter("word", "héllo")));
    sender.sends(Way::Broadcast, "end");
    for (which, puppet) in company.all().enumerate() {
        let mut heard = puppet.hears();
        if receivers.contains(&which) {
            assert_eq!(heard.from, stamp, "{way:?} to {which}");
            assert_eq!(heard.text.as_deref(), Some("héllo"));
            assert_eq!(heard.content_type, ContentType::TEXT);
            assert_eq!(heard.action, "word");
            heard = puppet.hears();
        }
        assert_eq!(heard.action, "end", "{way:?} from {from} to {which}");
    }
}

fn agents_name(company: &mut Company) -> String {
    let peers = company.agents[1].sees("its peers", |_| true);
    let first = peers.iter().find(|peer| peer.role == Role::Agent);
    first.unwrap().name.clone().expect("an agent's name")
}

/// (G13)
#[test]
fn what_is_for_any_worker_reaches_one_of_them() {
    let mut company = Company::start(1, 4, &[]);
    let agent = &mut company.agents[0];
    for _ in 0..200 {
        agent.sends(Way::Random, "any");
    }
    agent.sends(Way::ToWorkers, "end");
    let workers = company.workers.iter_mut();
    let counts: Vec<_> = workers.map(|it| it.hears_until("end").len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 200);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

/// (N39)
#[test]
fn the_master_shows_operators_what_it_is_sent() {
    let mut company = Company::start(1, 1, &[]);
    let control = company.cluster.control();
    let worker = &mut company.workers[0];
    worker.does(&Order::Send(Way::ToMaster, letter("state", "very\nwell")));
    let long = letter("state", &"€".repeat(20_000));
    let receipt = worker.receipt(Recipient::Master, long);
    assert_eq!(receipt, delivered(1));
    let receipt = company.agents[0].receipt(Recipient::Master, noise("state", 1, 100));
    assert_eq!(receipt, delivered(1));

    let events = events(&control);
    let is_message = |name: &str| name.ends_with("message");
    let shown: Vec<_> = events
        .iter()
        .filter(|event| is_message(event["name"].as_str().unwrap()))
        .collect();
    assert_eq!(shown.len(), 3, "{events:?}");
    assert_eq!(shown[0]["name"], "message");
    assert_eq!(shown[0]["worker"], company.workers[0].who.worker.0);
    assert_eq!(shown[0]["action"], "state");
    assert_eq!(shown[0]["fields"]["text"].as_str(), None, "fields are flat");
    assert_eq!(shown[0]["contentType"], "text");
    assert_eq!(shown[1]["bytes"], 60_000);
    assert_eq!(shown[2]["name"], "agent-message");
    assert_eq!(shown[2]["contentType"], "bytes");
    let said = done(&control, &["events"]);
    assert!(said.contains("state: very\\nwell"), "{said}");
}

/// (C06)
#[test]
fn a_long_text_arrives_as_it_was_sent() {
    let mut company = Company::start(0, 2, &[]);
    let text = "ä€𝄞\0".repeat(100_000);
    let to = company.workers[1].id();
    company.workers[0].does(&Order::Send(Way::To(to), letter("long", &text)));
    let heard = company.workers[1].hears();
    assert_eq!((heard.len, heard.hash), (text.len(), hash(text.as_bytes())));
}

#[test]
fn the_longest_message_arrives_whole_and_in_its_place() {
    let mut company = Company::start(0, 2, &[]);
    let to = company.workers[1].id();
    let longest = noise("longest", 42, 64 << 20);
    let wanted = hash(&longest.content.bytes());
    let [sender, receiver] = company.workers.as_mut_slice() else {
        panic!("two");
    };
    sender.sends(Way::To(to.clone()), "before");
    sender.tell(&Order::Deliver(to.clone(), longest, 60_000));
    sender.tell(&Order::Send(Way::To(to.clone()), letter("after", "")));
    assert_eq!(receiver.hears().action, "before");
    let heard = receiver.hears();
    assert_eq!((heard.len, heard.hash), (64 << 20, wanted));
    assert_eq!(receiver.hears().action, "after");
    assert_eq!(sender.answer(), Answer::Receipt(delivered(1)));
    assert_eq!(sender.answer(), Answer::Done);
}

/// (N82)
#[test]
fn what_is_sent_to_somebody_who_has_just_come_is_received() {
    let mut company = Company::appear(1, 2, &[]);
    company.workers = company.next_workers(2);
    let ids = [0, 1].map(|which| company.workers[which].id());
    let newcomer = company.workers[1].who.worker;
    company.workers[0].starts();
    company.workers[0].sees("the other", |peers| {
        peers.iter().any(|peer| peer.worker == newcomer)
    });
    let [other, newcomer] = company.workers.as_mut_slice() else {
        panic!("two");
    };
    let receipt = other.receipt(ids[1].clone(), letter("early", ""));
    assert_eq!(receipt, delivered(1));
    newcomer.starts();
    assert_eq!(newcomer.hears().action, "early");
}

/// (G11)
#[test]
fn what_an_agent_sends_before_anybody_is_there_reaches_them_when_they_come() {
    let mut company = Company::begin(1, 3, &[]);
    let mut agent = company.stage.next();
    let slot = Recipient::Slot {
        role: Role::Worker,
        slot: Slot(1),
    };
    for (way, action) in [
        (Way::ToWorkers, "workers"),
        (Way::Broadcast, "everybody"),
        (Way::To(slot), "slot"),
        (Way::Random, "any"),
        (Way::ToAgent(None), "agent"),
        (Way::BroadcastToOthers, "others"),
    ] {
        agent.sends(way, action);
    }
    agent.starts();
    agent.sends(Way::Broadcast, "end");
    assert_eq!(agent.hears_until("end"), ["everybody", "agent"]);
    company.workers = company.next_workers(3);
    let mut any = 0;
    for worker in &mut company.workers {
        worker.starts();
        let mut heard = worker.hears_until("end");
        any += heard.iter().filter(|action| *action == "any").count();
        heard.retain(|action| action != "any");
        let wanted = match worker.who.slot {
            Slot(1) => vec!["workers", "everybody", "slot", "others"],
            _ => vec!["workers", "everybody", "others"],
        };
        assert_eq!(heard, wanted, "{:?}", worker.who);
    }
    assert_eq!(any, 1);
}

/// What is for the agent waits for it, in order, and no longer than its sender says.
#[test]
fn an_agent_that_was_away_gets_what_was_sent_meanwhile() {
    let mut company = Company::start(1, 1, &["--backoff", "2s..2s"]);
    kill(company.agents[0].pid(), Signal::SIGKILL).unwrap();
    let worker = &mut company.workers[0];
    worker.sees("the agent gone", has_no_agent);
    for action in ["first", "second"] {
        worker.sends(Way::ToAgent(None), action);
    }
    let impatient = Order::Deliver(Recipient::Agent(None), letter("too late", ""), 100);
    let clock = Stopwatch::start();
    let answer = worker.ask(&impatient);
    assert_eq!(answer, Answer::Receipt(Receipt::Expired));
    assert!(clock.elapsed() < Duration::from_secs(1));

    let mut agent = company.stage.next();
    agent.starts();
    company.workers[0].sends(Way::ToAgent(None), "end");
    assert_eq!(agent.hears_until("end"), ["first", "second"]);
}

#[test]
fn who_sends_to_nobody_is_told() {
    let mut company = Company::start(0, 2, &[]);
    let sender = &mut company.workers[0];
    let slot = |role, slot| Recipient::Slot { role, slot };
    for nobody in [
        Recipient::Worker(WorkerId(99)),
        Recipient::Worker(WorkerId(u64::MAX)),
        Recipient::Pid(1),
        Recipient::Pid(0),
        slot(Role::Worker, Slot(2)),
        slot(Role::Agent, Slot(0)),
        Recipient::Agent(None),
        Recipient::Agent(Some("nobody".to_owned())),
    ] {
        let receipt = sender.receipt(nobody.clone(), letter("hello", ""));
        assert_eq!(receipt, Receipt::NoSuchPeer, "{nobody:?}");
    }
    for everybody in [Recipient::Everyone, Recipient::Workers] {
        let receipt = sender.receipt(everybody, letter("hello", ""));
        assert_eq!(receipt, delivered(2));
    }
    let others = sender.receipt(Recipient::Others, letter("hello", ""));
    assert_eq!(others, delivered(1));
}

/// Its successor is sent to instead, and gets nothing that was meant for it.
#[test]
fn who_is_leaving_is_sent_nothing_new() {
    let mut company = Company::start(0, 2, &[]);
    let control = company.cluster.control();
    let first_slot = Recipient::Slot {
        role: Role::Worker,
        slot: Slot(0),
    };
    done(&control, &["restart", "0"]);
    let mut successor = company.stage.next();
    let [leaving, sender] = company.workers.as_mut_slice() else {
        panic!("two");
    };
    let receipt = sender.receipt(first_slot.clone(), letter("to the old", ""));
    assert_eq!(receipt, delivered(1));
    successor.starts();
    let old = leaving.who.worker;
    sender.sees("it leaving", |peers| {
        let is_leaving = |state| state == PeerState::Draining;
        peers
            .iter()
            .any(|peer| peer.worker == old && is_leaving(peer.state))
    });
    let to_the_old = sender.receipt(leaving.id(), letter("too late", ""));
    assert_eq!(to_the_old, Receipt::Draining);
    let receipt = sender.receipt(first_slot, letter("to the new", ""));
    assert_eq!(receipt, delivered(1));
    let receipt = sender.receipt(Recipient::Workers, letter("end", ""));
    assert_eq!(receipt, delivered(2));
    assert_eq!(successor.hears_until("end"), ["to the new"]);
    // It may speak until it is gone, and gets the replies to what it asks.
    let id = successor.id();
    leaving.tell(&Order::Request(id, letter("who are you?", ""), 20_000));
    assert_eq!(successor.hears().action, "who are you?");
    successor.does(&Order::Reply(Content::Text("your successor".to_owned())));
    let Answer::Heard(reply) = leaving.answer() else {
        panic!("no reply");
    };
    assert_eq!(reply.text.as_deref(), Some("your successor"));
    assert_eq!(leaving.hears().action, "to the old");
}

/// Others are not kept waiting by it, and the master does not keep what it does not take.
#[test]
fn who_does_not_take_costs_the_master_no_more_than_its_bound() {
    let mut company = Company::start(0, 3, &["--max-message", "1MiB"]);
    let master = company.cluster.pid();
    let [sender, deaf, other] = company.workers.as_mut_slice() else {
        panic!("three");
    };
    let before = resident(master);
    for (len, count) in [(60_000, 500), (0, 50_000)] {
        let flood = Order::SendMany(deaf.id(), noise("flood", 1, len), count);
        sender.does(&flood);
        let receipt = sender.receipt(deaf.id(), noise("flood", 1, 60_000));
        assert_eq!(receipt, Receipt::Full);
        let grown = resident(master).saturating_sub(before);
        assert!(grown < 12 << 20, "{grown} bytes more, {len} each");
        let receipt = sender.receipt(other.id(), letter("others", ""));
        assert_eq!(receipt, delivered(1));
    }
    // Of many to whom it goes, it is one that is missed.
    let receipt = sender.receipt(Recipient::Workers, noise("all", 1, 60_000));
    let expected = Receipt::Delivered {
        receivers: 2,
        missed: 1,
    };
    assert_eq!(receipt, expected);

    // What it takes after all is in order and bounded, and there is room again.
    deaf.tell(&Order::Hear(20_000));
    let mut taken = 0;
    let mut smaller = 60_000;
    while let Answer::Heard(heard) = deaf.answer() {
        assert!(heard.len <= smaller, "the order");
        smaller = heard.len;
        taken += heard.len + 256;
        deaf.tell(&Order::Hear(300));
    }
    assert!((1 << 20..3 << 20).contains(&taken), "{taken}");
    let receipt = sender.receipt(deaf.id(), letter("again", ""));
    assert_eq!(receipt, delivered(1));
    assert_eq!(deaf.hears().action, "again");
}

/// What waits for a receiver waits no longer than its sender says, and does not come after that.
#[test]
fn what_was_not_taken_in_time_does_not_come_any_more() {
    let mut company = Company::start(0, 2, &[]);
    let [sender, busy] = company.workers.as_mut_slice() else {
        panic!("two");
    };
    // More than a process may have that its program has not taken.
    let flood = Order::SendMany(busy.id(), noise("flood", 1, 100_000), 20);
    sender.does(&flood);
    let clock = Stopwatch::start();
    let late = sender.ask(&Order::Deliver(busy.id(), letter("late", ""), 200));
    assert_eq!(late, Answer::Receipt(Receipt::Expired));
    let request = sender.ask(&Order::Request(busy.id(), letter("late", ""), 200));
    let Answer::Failed(why) = request else {
        panic!("{request:?}");
    };
    assert!(why.ends_with("and the request was not delivered"), "{why}");
    assert!(clock.elapsed() < Duration::from_secs(3));
    sender.sends(Way::To(busy.id()), "end");
    let heard = busy.hears_until("end");
    assert_eq!(heard, ["flood"; 20]);
}

#[test]
fn what_is_no_message_is_refused_where_it_is_sent() {
    let mut company = Company::start(0, 1, &["--max-message", "1MiB"]);
    let worker = &mut company.workers[0];
    let own = worker.id();
    let long = "x".repeat(1 << 20);
    for (letter, says) in [
        (
            noise("large", 1, (1 << 20) + 1),
            "a message of 1048577 bytes: the master carries at most 1048576 (--max-message)",
        ),
        (letter("", ""), "the action is empty"),
        (
            letter(&long, ""),
            "the action has 1048576 bytes, at most 256 are allowed",
        ),
        (letter("rr.leader", ""), "which is for the master"),
    ] {
        let Answer::Failed(why) = worker.delivers(own.clone(), letter) else {
            panic!("sent");
        };
        assert!(why.contains(says), "{why}");
        assert!(why.len() < 300, "{why}");
    }
    let largest = noise("large", 1, 1 << 20);
    assert_eq!(worker.receipt(own, largest), delivered(1));
    assert_eq!(worker.hears().len, 1 << 20);
}

#[test]
fn who_takes_the_place_of_another_gets_nothing_that_was_for_it() {
    let mut company = Company::start(0, 2, &[]);
    let slot = Recipient::Slot {
        role: Role::Worker,
        slot: Slot(1),
    };
    let [sender, receiver] = company.workers.as_mut_slice() else {
        panic!("two");
    };
    // Some of it is in the process, some on its channel, the rest with the master.
    for to in [slot.clone(), receiver.id()] {
        let flood = Order::SendMany(to, noise("old", 1, 100_000), 20);
        sender.does(&flood);
    }
    sender.tell(&Order::Deliver(slot.clone(), letter("old", ""), 20_000));
    sender.tell(&Order::Deliver(slot.clone(), letter("old", ""), 20_000));
    let receiver = receiver.pid();
    kill(receiver, Signal::SIGKILL).unwrap();
    assert_eq!(sender.answer(), Answer::Receipt(Receipt::NoSuchPeer));
    let mut successor = company.stage.next();
    successor.starts();
    // It was sent to nobody, or to the successor: either is told.
    let second = company.workers[0].answer();
    company.workers[0].sends(Way::To(slot), "end");
    let heard = successor.hears_until("end");
    if second == Answer::Receipt(Receipt::NoSuchPeer) {
        assert_eq!(heard, [""; 0]);
    } else {
        assert_eq!(second, Answer::Receipt(delivered(1)));
        assert_eq!(heard, ["old"]);
    }
}

/// Its last words are heard, and only then it is known to be gone. (C10)
#[test]
fn who_ends_right_after_it_has_spoken_was_heard() {
    let mut company = Company::start(1, 3, &[]);
    let control = company.cluster.control();
    for (end, len) in [(End::Exit, 10), (End::Abort, 10), (End::Abort, 1 << 20)] {
        let mut speaker = company.workers.remove(0);
        let words = noise("last words", 7, len);
        let wanted = hash(&words.content.bytes());
        let stamp = speaker.sender();
        speaker.sends(Way::ToMaster, "last words");
        speaker.tell(&Order::Last(words, end));
        for puppet in company.all() {
            let heard = puppet.hears();
            assert_eq!(heard.from, stamp);
            assert_eq!((heard.len, heard.hash), (len, wanted), "{end:?}");
        }
        let mut successor = company.stage.next();
        successor.starts();
        company.workers.push(successor);

        let events = events(&control);
        let id = speaker.who.worker.0;
        let of_speaker = events.iter().filter(|event| event["worker"] == id);
        let mut names: Vec<_> = of_speaker
            .map(|event| event["name"].as_str().unwrap())
            .collect();
        names.retain(|name| ["message", "disconnect", "exit"].contains(name));
        assert_eq!(names, ["message", "disconnect", "exit"]);
    }
}

#[test]
fn a_request_is_replied_to_by_the_one_who_was_asked() {
    let mut company = Company::start(1, 2, &[]);
    let agent = Recipient::Agent(None);
    for which in [0, 1] {
        let asker = &mut company.workers[which];
        asker.tell(&Order::Request(agent.clone(), letter("sum", "1+1"), 20_000));
        let stamp = asker.sender();
        let agent = &mut company.agents[0];
        let heard = agent.hears();
        assert_eq!((heard.from, heard.is_request), (stamp, true));
        agent.does(&Order::Reply(Content::Text("2".to_owned())));
        let again = agent.ask(&Order::Reply(Content::Text("3".to_owned())));
        assert!(matches!(again, Answer::Failed(_)), "{again:?}");
        let reply = company.workers[which].answer();
        let Answer::Heard(reply) = reply else {
            panic!("{reply:?}");
        };
        assert_eq!(reply.text.as_deref(), Some("2"));
        assert_eq!(reply.from, company.agents[0].sender());
    }
}

/// A program may ask while it takes nothing of what others send to it.
#[test]
fn a_reply_does_not_wait_for_messages_to_be_taken() {
    let mut company = Company::start(1, 2, &["--message-hold", "60s"]);
    let [asker, asked] = [0, 1].map(|which| company.workers[which].id());
    let letters = noise("flood", 1, 30_000);
    company.agents[0].does(&Order::SendMany(asker, letters, 200));
    // What comes now waits with the master.
    company.agents[0].sends(Way::Broadcast, "over");
    company.workers[1].hears_until("over");
    company.workers[0].tell(&Order::Request(asked, letter("ask", "?"), 15_000));
    assert_eq!(company.workers[1].hears().action, "ask");
    let reply = Content::Text("!".to_owned());
    company.workers[1].does(&Order::Reply(reply));
    let answer = company.workers[0].answer();
    assert_eq!(answer.heard().and_then(|it| it.text).as_deref(), Some("!"));
    let heard = company.workers[0].hears_until("over");
    assert_eq!(heard, vec!["flood"; 200]);
}

#[test]
fn who_asks_somebody_that_dies_does_not_wait() {
    let mut company = Company::start(0, 2, &[]);
    let [asker, asked] = company.workers.as_mut_slice() else {
        panic!("two");
    };
    let clock = Stopwatch::start();
    asker.tell(&Order::Request(asked.id(), letter("?", ""), 60_000));
    assert!(asked.hears().is_request);
    kill(asked.pid(), Signal::SIGKILL).unwrap();
    let gone = asker.answer();
    let wanted = "the receiver was gone before it replied";
    assert_eq!(gone, Answer::Failed(wanted.to_owned()));
    let nobody = asker.ask(&Order::Request(asked.id(), letter("?", ""), 60_000));
    let wanted = "nobody got the request: there is nobody it could be for";
    assert_eq!(nobody, Answer::Failed(wanted.to_owned()));
    assert!(clock.elapsed() < Duration::from_secs(10));
}

/// (E19)
#[test]
fn an_agent_sees_workers_come_and_go() {
    let company = Company::begin(1, 2, &[]);
    let mut agent = company.stage.next();
    agent.starts();
    let sees = |agent: &mut Puppet, workers: &[&Puppet]| {
        let mut ids: Vec<_> = workers.iter().map(|worker| worker.who.worker).collect();
        ids.sort();
        agent.sees("the workers", |peers| ready_workers(peers) == ids)
    };
    let peers = sees(&mut agent, &[]);
    let own = peers.iter().find(|peer| peer.worker == agent.who.worker);
    assert!(own.is_some(), "{peers:?}");
    let mut workers = company.next_workers(2);
    workers[0].starts();
    sees(&mut agent, &[&workers[0]]);
    workers[1].starts();
    sees(&mut agent, &[&workers[0], &workers[1]]);

    kill(workers[0].pid(), Signal::SIGKILL).unwrap();
    sees(&mut agent, &[&workers[1]]);
    workers[0] = company.stage.next();
    workers[0].starts();
    let peers = sees(&mut agent, &[&workers[0], &workers[1]]);
    let successor = &workers[0].who;
    let peer = peers
        .iter()
        .find(|peer| peer.worker == successor.worker)
        .unwrap();
    assert_eq!(
        (peer.pid, peer.slot, peer.generation),
        (successor.pid, successor.slot, successor.generation)
    );

    kill(agent.pid(), Signal::SIGKILL).unwrap();
    let mut agent = company.stage.next();
    agent.starts();
    sees(&mut agent, &[&workers[0], &workers[1]]);
}

/// (E20)
#[test]
fn a_worker_sees_an_agent_go_and_come() {
    let mut company = Company::start(1, 1, &[]);
    let worker = &mut company.workers[0];
    worker.sees("the agent", |peers| !has_no_agent(peers));
    kill(company.agents[0].pid(), Signal::SIGKILL).unwrap();
    worker.sees("no agent", has_no_agent);
    let mut agent = company.stage.next();
    agent.starts();
    let peers = worker.sees("the new one ready", |peers| {
        let mut agents = peers.iter().filter(|peer| peer.role == Role::Agent);
        agents.any(|agent| agent.state == PeerState::Ready)
    });
    let pids: Vec<_> = peers
        .iter()
        .filter(|peer| peer.role == Role::Agent)
        .map(|peer| peer.pid)
        .collect();
    assert_eq!(pids, [agent.who.pid]);
}

/// Its own words are not read any more, until it reads what became of them.
#[test]
fn who_reads_no_receipts_costs_the_master_nothing() {
    let modes = ["raw letter-flood", "serve"];
    let (mut cluster, address) = Cluster::by_slot(&[], &modes);
    let flooder = pid_in(&cluster.find_text("] w1 slot=0"));
    await_quiet(flooder);
    let before = resident(cluster.pid());
    assert!(before < 32 << 20, "{before}");
    let load = Load::start(address, 2);
    load.await_more(100);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    await_quiet(cluster.pid());
    let grown = resident(cluster.pid()).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more");

    // What it had sent is read to its end all the same, before it is gone.
    kill(flooder, Signal::SIGKILL).unwrap();
    cluster.await_line("its end", |line| {
        line.contains("] w1 slot=0") && line.contains("signal SIGKILL")
    });
    let log = cluster.log();
    assert!(!log.contains("broke the protocol"), "{log}");
}

/// A sender that can be understood goes on: what it has sent is refused.
#[test]
fn a_message_that_is_none_is_refused_and_its_sender_goes_on() {
    for (rule, receipt) in [
        ("letter-long-action", "BadAction"),
        ("letter-content-type", "UnknownContentType"),
        ("letter-too-large", "TooLarge"),
    ] {
        let mode = format!("raw {rule}");
        let flags = ["--max-message", "1MiB"];
        let (mut cluster, address) = Cluster::by_slot(&flags, &[&mode, "serve"]);
        let wanted = format!("Receipt {{ message: MessageId(7), receipt: {receipt} }}");
        cluster.find_text(&wanted);
        let answer = common::client::get(address, "/").unwrap();
        assert_eq!(answer.server().slot, 1);
        let log = cluster.log();
        assert!(!log.contains("broke the protocol"), "{rule}\n{log}");
    }
}

/// The short form of `scripts/messages-soak`: each message is received once and in its place, or
/// its sender is told, or somebody who was killed has taken it along.
#[test]
fn no_message_is_lost_or_doubled_when_workers_are_killed() {
    let soak = Command::new(example("messages_soak"))
        .args(["--messages", "50000", "--workers", "4"])
        .args(["--kill-every", "30ms"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&soak.stdout);
    let errors = String::from_utf8_lossy(&soak.stderr);
    assert!(soak.status.success(), "{report}{errors}");
    let row = |what: &str| {
        let line = report.lines().find(|line| line.contains(what));
        let count = line.and_then(|line| line.split_whitespace().last());
        count.and_then(|count| count.parse::<u64>().ok())
    };
    assert_eq!(row("lost, twice, out of order"), Some(0), "{report}");
    assert!(row("messages received") >= Some(50_000), "{report}");
    assert!(row("SIGKILLs") >= Some(10), "{report}");
}

fn delivered(receivers: u32) -> Receipt {
    Receipt::Delivered {
        receivers,
        missed: 0,
    }
}

fn has_no_agent(peers: &[worker_proto::message::Peer]) -> bool {
    peers.iter().all(|peer| peer.role != Role::Agent)
}

/// The resident memory of a process in bytes.
fn resident(pid: Pid) -> u64 {
    let kib = status(pid, "VmRSS");
    kib.trim_end_matches(" kB").parse::<u64>().expect("KiB") << 10
}
