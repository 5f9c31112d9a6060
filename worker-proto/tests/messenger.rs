//! Messages, as a program sends and gets them. Without a real master: the fake one is a cluster of
//! one, and says what other processes say.

use std::thread;
use std::time::Duration;

use crossbeam_channel::TryRecvError;
use worker_proto::frame::ToMaster;
use worker_proto::ids::{Role, Slot, WorkerId};
use worker_proto::message::{Kind, MessageId, Recipient, Send};
use worker_proto::{FakeMaster, Message, Payload, Subscription, Worker};

#[test]
fn every_way_of_sending_names_its_recipient() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    master.answer_by_hand();
    messenger
        .send_to(Recipient::Worker(WorkerId(7)), "a", "1")
        .unwrap();
    let slot = Recipient::Slot {
        role: Role::Worker,
        slot: Slot(3),
    };
    messenger.send_to(slot.clone(), "a", "2").unwrap();
    messenger.send_to(Recipient::Pid(11), "a", "3").unwrap();
    messenger.send_to_agent(Some("logs"), "a", "4").unwrap();
    messenger.send_to_agent(None, "a", "5").unwrap();
    messenger.send_to_workers("a", "6").unwrap();
    messenger.send_random("a", "7").unwrap();
    messenger.broadcast("a", "8").unwrap();
    messenger.broadcast_to_others("a", "9").unwrap();
    messenger.send_to_master("a", "10").unwrap();
    let recipients = [
        Recipient::Worker(WorkerId(7)),
        slot,
        Recipient::Pid(11),
        Recipient::Agent(Some("logs".to_owned())),
        Recipient::Agent(None),
        Recipient::Workers,
        Recipient::AnyWorker,
        Recipient::Everyone,
        Recipient::Others,
        Recipient::Master,
    ];
    for (number, recipient) in (1..).zip(recipients) {
        let send = next_send(&master);
        assert_eq!(send.message, MessageId(number));
        assert_eq!(send.recipient, recipient);
        assert_eq!(send.kind, Kind::Message);
        assert!(!send.wants_receipt);
        assert_eq!(send.chunk, number.to_string());
    }
}

#[test]
fn what_is_sent_to_all_comes_back_in_order() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("count");
    worker.ready().unwrap();
    for number in 0..1_000_u32 {
        messenger.broadcast("count", &number.to_le_bytes()).unwrap();
    }
    for number in 0..1_000_u32 {
        assert_eq!(next(&inbox).bytes()[..], number.to_le_bytes());
    }
    assert!(matches!(inbox.try_recv(), Err(TryRecvError::Empty)));
}

#[test]
fn a_request_gets_its_reply() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let requests = messenger.subscribe("double");
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                let request = next(&requests);
                assert!(request.is_request());
                let number: u32 = request.bincode().unwrap();
                request
                    .reply(Payload::bincode(&(2 * number)).unwrap())
                    .unwrap();
            }
        });
        for number in [1_u32, 20, 300] {
            let payload = Payload::bincode(&number).unwrap();
            let reply = messenger.request(own(&worker), "double", payload, PATIENCE);
            let doubled: u32 = reply.unwrap().bincode().unwrap();
            assert_eq!(doubled, 2 * number);
        }
    });
}

fn own(worker: &Worker) -> Recipient {
    Recipient::Worker(worker.identity().worker)
}

fn next(subscription: &Subscription) -> Message {
    subscription.recv_timeout(PATIENCE).expect("a message")
}

fn next_send(master: &FakeMaster) -> Send {
    let frame = master.next_frame();
    let ToMaster::Send(send) = frame else {
        panic!("{frame:?}");
    };
    send
}

const PATIENCE: Duration = Duration::from_secs(5);
