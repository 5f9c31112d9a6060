//! The wire format, byte by byte: what is written here must never change, only grow.
//!
//! An exchange of the codec, a reordered variant or a new field in the middle fails here first.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker_proto::address::Address;
use worker_proto::codec::{self, DecodeError, MAX_FRAME_BYTES};
use worker_proto::frame::{
    Attach, Connections, DeclaredListener, DispatchMode, FromMaster, Hello, InheritedOption,
    Limits, Listen, ListenOptions, Listening, MAX_BATCH, MAX_CONNECTIONS_BYTES, ToMaster, Welcome,
};
use worker_proto::ids::{Generation, ListenerId, RequestId, Role, Slot, WorkerId};
use worker_proto::job::{JobRun, JobSpec, JobTarget, OnLost, Overlap, Schedule};
use worker_proto::message::{
    ContentType, Deliver, Kind, MAX_ACTION_BYTES, MAX_CHUNK_BYTES, MAX_NAME_BYTES, MAX_PEERS,
    MessageId, More, Peer, PeerState, Receipt, Recipient, Send, Sender,
};

/// One of each variant, in the order of the enum.
fn to_master() -> Vec<ToMaster> {
    vec![
        ToMaster::Hello(Hello {
            protocol: 1,
            pid: 4711,
            sdk: "sdk 1".to_owned(),
        }),
        ToMaster::Listen(Listen {
            request: RequestId(3),
            target: "web".to_owned(),
            options: ListenOptions {
                nonblocking: true,
                max_batch: 8,
                backlog: Some(4096),
                v6only: Some(false),
            },
        }),
        ToMaster::Unlisten {
            listener: ListenerId(2),
        },
        ToMaster::Ready,
        ToMaster::Pong { token: 1 << 32 },
        ToMaster::Goodbye,
        ToMaster::NoRoom {
            listener: ListenerId(2),
        },
        ToMaster::Relieved,
        ToMaster::Retiring {
            reason: "ill".to_owned(),
        },
        ToMaster::Report {
            problem: "odd".to_owned(),
        },
        ToMaster::Send(Send {
            message: MessageId(9),
            recipient: Recipient::Slot {
                role: Role::Worker,
                slot: Slot(2),
            },
            kind: Kind::Request,
            wants_receipt: true,
            within_ms: Some(5000),
            action: "hi".to_owned(),
            content_type: ContentType::JSON,
            len_bytes: 3,
            chunk: Bytes::from_static(b"{}"),
        }),
        ToMaster::SendMore(More {
            index: 1,
            chunk: Bytes::from_static(b"\n"),
        }),
        ToMaster::Taken { bytes: 256 },
        ToMaster::WatchPeers,
        ToMaster::Lead {
            name: "db".to_owned(),
        },
        ToMaster::Resign {
            name: "db".to_owned(),
        },
        ToMaster::Follow {
            name: "db".to_owned(),
        },
        ToMaster::Watch {
            key: "k".to_owned(),
        },
        ToMaster::Adopted {
            key: "k".to_owned(),
            version: 2,
        },
        ToMaster::RegisterJob(JobSpec {
            name: "j".to_owned(),
            schedule: Schedule::Cron {
                expression: "@daily".to_owned(),
                time_zone: Some("UTC".to_owned()),
            },
            immediate: true,
            target: JobTarget::Slot(Slot(3)),
            overlap: Overlap::Queue,
            timeout: Some(Duration::from_secs(60)),
            jitter: Duration::from_secs(1),
            on_lost: OnLost::Retry,
        }),
        ToMaster::UnregisterJob {
            name: "j".to_owned(),
        },
        ToMaster::JobDone {
            run: 7,
            outcome: Err("no".to_owned()),
        },
        ToMaster::ReopenLogs,
        ToMaster::Attach(Attach {
            protocol: 3,
            pid: 4711,
            library: "rr".to_owned(),
            listen: Listen {
                request: RequestId(4711),
                target: "a".to_owned(),
                options: ListenOptions::default(),
            },
            options: vec![
                InheritedOption::NoDelay(true),
                InheritedOption::Linger(Some(9)),
            ],
            file_mode: 0o640,
        }),
        ToMaster::Inherit {
            listener: ListenerId(2),
            options: vec![InheritedOption::DeferAccept(5)],
        },
        ToMaster::Weight { weight: 1000 },
    ]
}

/// A new variant does not compile until it has its bytes here, and fails until `to_master` has it.
fn bytes_to_master(frame: &ToMaster) -> &'static str {
    match frame {
        // protocol 1; pid 4711 = 0x1267; 5 letters.
        ToMaster::Hello(_) => "00 01 fb6712 05 73646b2031",
        // request 3; "web"; true; 8; Some(4096 = 0x1000); Some(false).
        ToMaster::Listen(_) => "01 03 03 776562 01 08 01fb0010 0100",
        ToMaster::Unlisten { .. } => "02 02",
        ToMaster::Ready => "03",
        ToMaster::Pong { .. } => "04 fd0000000001000000",
        ToMaster::Goodbye => "05",
        ToMaster::NoRoom { .. } => "06 02",
        ToMaster::Relieved => "07",
        ToMaster::Retiring { .. } => "08 03 696c6c",
        ToMaster::Report { .. } => "09 03 6f6464",
        // message 9; worker slot 2; a request; a receipt; 5000 = 0x1388; "hi"; JSON; 3 in all; "{}".
        ToMaster::Send(_) => "0a 09 01 00 02 01 01 01fb8813 02 6869 02 03 02 7b7d",
        ToMaster::SendMore(_) => "0b 01 01 0a",
        ToMaster::Taken { .. } => "0c fb0001",
        ToMaster::WatchPeers => "0d",
        ToMaster::Lead { .. } => "0e 02 6462",
        ToMaster::Resign { .. } => "0f 02 6462",
        ToMaster::Follow { .. } => "10 02 6462",
        ToMaster::Watch { .. } => "11 01 6b",
        ToMaster::Adopted { .. } => "12 01 6b 02",
        // "j"; cron, "@daily", Some("UTC"); immediate; slot 3; queue; Some(60 s); 1 s; retry.
        ToMaster::RegisterJob(_) => {
            "13 01 6a 02 06 406461696c79 01 03 555443 01 03 03 01 01 3c 00 01 00 01"
        }
        ToMaster::UnregisterJob { .. } => "14 01 6a",
        ToMaster::JobDone { .. } => "15 07 01 02 6e6f",
        ToMaster::ReopenLogs => "16",
        // protocol 3; pid 4711; "rr"; request 4711, "a", blocking, 1 at a time, neither backlog nor
        // v6only; no delay, linger for 9 s; 0o640 = 0x1a0.
        ToMaster::Attach(_) => {
            "17 03 fb6712 02 7272 fb6712 01 61 00 01 00 00 02 00 01 08 01 09 fba001"
        }
        ToMaster::Inherit { .. } => "18 02 01 09 05",
        // 1000 = 0x03e8.
        ToMaster::Weight { .. } => "19 fbe803",
    }
}

/// One of each variant, in the order of the enum.
fn from_master() -> Vec<FromMaster> {
    vec![
        FromMaster::Welcome(Welcome {
            protocol: 1,
            worker: WorkerId(7),
            slot: Slot(2),
            generation: Generation(1),
            role: Role::Agent,
            count: 4,
            listeners: vec![DeclaredListener {
                name: "web".to_owned(),
                address: v4(),
            }],
            limits: Limits {
                orphan_grace: Duration::from_millis(500),
                max_message_bytes: 64 << 20,
            },
        }),
        FromMaster::Rejected {
            reason: "no".to_owned(),
        },
        FromMaster::Listening(Listening {
            request: RequestId(3),
            listener: ListenerId(2),
            name: "web".to_owned(),
            address: v4(),
            mode: DispatchMode::HandOff,
        }),
        FromMaster::NotListening {
            request: RequestId(3),
            errno: 98,
            reason: "no".to_owned(),
        },
        FromMaster::Unlistened {
            listener: ListenerId(2),
        },
        FromMaster::ClusterReady,
        FromMaster::Drain {
            within: Duration::new(10, 1),
        },
        FromMaster::Ping { token: 250 },
        FromMaster::Farewell,
        FromMaster::Deliver(Deliver {
            from: Sender::Process {
                worker: WorkerId(7),
                slot: Slot(2),
                generation: Generation(1),
                role: Role::Agent,
                pid: 4711,
            },
            message: MessageId(9),
            kind: Kind::Reply { to: MessageId(8) },
            action: "hi".to_owned(),
            content_type: ContentType::BINCODE,
            len_bytes: 1 << 16,
            chunk: Bytes::from_static(b"x"),
        }),
        FromMaster::DeliverMore(More {
            index: 2,
            chunk: Bytes::from_static(b"y"),
        }),
        FromMaster::Receipt {
            message: MessageId(9),
            receipt: Receipt::Delivered {
                receivers: 3,
                missed: 1,
            },
        },
        FromMaster::Peers(vec![Peer {
            worker: WorkerId(7),
            slot: Slot(2),
            generation: Generation(1),
            role: Role::Agent,
            pid: 4711,
            name: Some("a".to_owned()),
            state: PeerState::Draining,
        }]),
        FromMaster::Leader {
            name: "db".to_owned(),
            term: 2,
            leader: Some(WorkerId(7)),
        },
        FromMaster::NotLeading {
            name: "db".to_owned(),
            reason: "no".to_owned(),
        },
        FromMaster::NoValue {
            key: "k".to_owned(),
        },
        FromMaster::JobRegistered {
            name: "j".to_owned(),
            problem: Some("no".to_owned()),
        },
        FromMaster::Job(JobRun {
            run: 7,
            name: "j".to_owned(),
            due_ms: 1 << 40,
            attempt: 1,
            timeout: None,
        }),
        FromMaster::JobCancelled { run: 7 },
        FromMaster::ReopenLogs,
    ]
}

/// A new variant does not compile until it has its bytes here, and fails until `from_master` has
/// it.
fn bytes_from_master(frame: &FromMaster) -> &'static str {
    match frame {
        // 1; worker 7; slot 2; generation 1; agent; 4 slots; 1 listener "web" at 127.0.0.1:8000
        // = 0x1f40; 0 s and 500,000,000 = 0x1dcd6500 ns; 64 Mi = 0x4000000.
        FromMaster::Welcome(_) => {
            "00 01 07 02 01 01 04 01 03 776562 00 7f000001 fb401f 00 fc0065cd1d fc00000004"
        }
        FromMaster::Rejected { .. } => "01 02 6e6f",
        // request 3; listener 2; "web"; the address; hand-off.
        FromMaster::Listening(_) => "02 03 02 03 776562 00 7f000001 fb401f 00",
        // request 3; 98, zigzag = 196 = 0xc4; "no".
        FromMaster::NotListening { .. } => "03 03 c4 02 6e6f",
        FromMaster::Unlistened { .. } => "04 02",
        FromMaster::ClusterReady => "05",
        FromMaster::Drain { .. } => "06 0a 01",
        // The largest number of one byte.
        FromMaster::Ping { .. } => "07 fa",
        FromMaster::Farewell => "08",
        // from worker 7, slot 2, generation 1, an agent, pid 4711; message 9; the reply to 8; "hi";
        // bincode; 65,536 in all; "x".
        FromMaster::Deliver(_) => "09 01 07 02 01 01 fb6712 09 02 08 02 6869 03 fc00000100 01 78",
        FromMaster::DeliverMore(_) => "0a 02 01 79",
        FromMaster::Receipt { .. } => "0b 09 00 03 01",
        // 1 of them: worker 7, slot 2, generation 1, an agent, pid 4711, Some("a"), draining.
        FromMaster::Peers(_) => "0c 01 07 02 01 01 fb6712 01 01 61 02",
        FromMaster::Leader { .. } => "0d 02 6462 02 01 07",
        FromMaster::NotLeading { .. } => "0e 02 6462 02 6e6f",
        FromMaster::NoValue { .. } => "0f 01 6b",
        FromMaster::JobRegistered { .. } => "10 01 6a 01 02 6e6f",
        // run 7; "j"; 2^40 ms; the first attempt; no timeout.
        FromMaster::Job(_) => "11 07 01 6a fd0000000000010000 01 00",
        FromMaster::JobCancelled { .. } => "12 07",
        FromMaster::ReopenLogs => "13",
    }
}

/// One of each address.
fn connections() -> Connections {
    Connections {
        sequence: 251,
        peers: vec![
            v4(),
            Address::V6 {
                ip: std::net::Ipv6Addr::LOCALHOST.octets(),
                port: 443,
                flowinfo: 1,
                scope_id: 2,
            },
            Address::Path(b"/a".to_vec()),
            Address::Abstract(b"b".to_vec()),
            Address::Unnamed,
        ],
        padding: Vec::new(),
    }
}

const CONNECTIONS: &str = "fbfb00 05 \
    00 7f000001 fb401f \
    01 00000000000000000000000000000001 fbbb01 01 02 \
    02 02 2f61 \
    03 01 62 \
    04 \
    00";

#[test]
fn every_frame_to_the_master_has_its_bytes() {
    let frames = to_master();
    for (index, frame) in frames.iter().enumerate() {
        is_written_and_read_as(frame, &hex(bytes_to_master(frame)));
        assert_eq!(usize::from(bytes(frame)[0]), index, "{frame:?}");
    }
    is_no_variant::<ToMaster>(frames.len());
}

#[test]
fn every_frame_of_the_master_has_its_bytes() {
    let frames = from_master();
    for (index, frame) in frames.iter().enumerate() {
        is_written_and_read_as(frame, &hex(bytes_from_master(frame)));
        assert_eq!(usize::from(bytes(frame)[0]), index, "{frame:?}");
    }
    is_no_variant::<FromMaster>(frames.len());
}

#[test]
fn a_packet_of_connections_has_its_bytes() {
    is_written_and_read_as(&connections(), &hex(CONNECTIONS));
}

#[test]
fn small_numbers_stay_what_they_are() {
    assert_eq!(bytes(&Role::Worker), [0]);
    assert_eq!(bytes(&Role::Agent), [1]);
    assert_eq!(bytes(&DispatchMode::HandOff), [0]);
    assert_eq!(bytes(&DispatchMode::Shared), [1]);
    assert_eq!(bytes(&DispatchMode::ReusePort), [2]);
    // The preload library and other languages count on these.
    assert_eq!(worker_proto::handshake::PROTOCOL, 3);
    assert_eq!(MAX_FRAME_BYTES, 65_536);
    assert_eq!(MAX_BATCH, 64);
}

#[test]
fn the_largest_packet_of_connections_has_room() {
    let longest = Address::Path(vec![b'x'; 108]);
    let frame = Connections {
        sequence: u64::MAX,
        peers: vec![longest; MAX_BATCH.into()],
        padding: Vec::new(),
    };
    assert!(bytes(&frame).len() <= MAX_CONNECTIONS_BYTES);
}

#[test]
fn the_largest_piece_of_a_message_fits_into_a_frame() {
    let send = Send {
        message: MessageId(u64::MAX),
        recipient: Recipient::Agent(Some("x".repeat(MAX_NAME_BYTES))),
        kind: Kind::Reply {
            to: MessageId(u64::MAX),
        },
        wants_receipt: true,
        within_ms: Some(u32::MAX),
        action: "x".repeat(MAX_ACTION_BYTES),
        content_type: ContentType(u8::MAX),
        len_bytes: u64::MAX,
        chunk: Bytes::from(vec![0; MAX_CHUNK_BYTES]),
    };
    assert!(bytes(&ToMaster::Send(send)).len() <= MAX_FRAME_BYTES);
}

#[test]
fn the_longest_page_of_peers_fits_into_a_frame() {
    let peer = Peer {
        worker: WorkerId(u64::MAX),
        slot: Slot(u32::MAX),
        generation: Generation(u64::MAX),
        role: Role::Agent,
        pid: u32::MAX,
        name: Some("x".repeat(MAX_NAME_BYTES)),
        state: PeerState::Gone,
    };
    assert!(bytes(&FromMaster::Peers(vec![peer; MAX_PEERS])).len() <= MAX_FRAME_BYTES);
}

#[test]
fn an_oversized_frame_is_refused_by_both_sides() {
    let hello = |len| {
        ToMaster::Hello(Hello {
            protocol: 1,
            pid: 1,
            sdk: "x".repeat(len),
        })
    };
    let mut buffer = Vec::new();
    // 1 variant, 1 protocol, 1 pid, 3 length.
    codec::encode(&hello(MAX_FRAME_BYTES - 6), &mut buffer).unwrap();
    assert_eq!(buffer.len(), MAX_FRAME_BYTES);
    assert!(codec::encode(&hello(MAX_FRAME_BYTES - 5), &mut buffer).is_err());
    // A frame that only claims to be long: nothing is allocated for it.
    for claimed in ["fcffffffff", "fdffffffffffffff7f", "fdffffffffffffffff"] {
        let bytes = hex(&format!("00 01 01 {claimed} 78"));
        assert!(codec::decode::<ToMaster>(&bytes).is_err(), "{claimed}");
    }
}

#[test]
fn an_oversized_frame_is_refused_also_where_its_numbers_are_longer_than_they_must_be() {
    // Each unnamed peer takes five bytes instead of one.
    let count: u16 = 14_000;
    let peers = hex("fc04000000").repeat(count.into());
    let [low, high] = count.to_le_bytes();
    let bytes = [&[0, 0xfb, low, high][..], &peers, &[0]].concat();
    let err = codec::decode::<Connections>(&bytes).expect_err("a frame of 70,005 bytes");
    assert!(matches!(err, DecodeError::Oversized { len: 70_005 }));
}

#[test]
fn oversized_connections_are_refused_also_where_their_addresses_are_reused() {
    let frame = Connections {
        sequence: 7,
        peers: vec![Address::Unnamed],
        padding: vec![0; MAX_FRAME_BYTES - 6],
    };
    let mut bytes = Vec::new();
    codec::encode(&frame, &mut bytes).unwrap();
    assert_eq!(bytes.len(), MAX_FRAME_BYTES);
    let mut peers = Vec::new();
    assert_eq!(codec::decode_connections(&bytes, &mut peers).unwrap(), 7);
    let padding = u16::try_from(MAX_FRAME_BYTES - 5).unwrap();
    bytes[4..6].copy_from_slice(&padding.to_le_bytes());
    bytes.push(0);
    let err = codec::decode_connections(&bytes, &mut peers).expect_err("a byte too many");
    assert!(
        matches!(err, DecodeError::Oversized { len: 65_537 }),
        "{err}"
    );
}

#[test]
fn what_is_not_too_large_to_write_is_not_too_large_to_read() {
    let FromMaster::Welcome(welcome) = from_master().swap_remove(0) else {
        panic!("the first variant");
    };
    // 12 bytes each, with numbers that take more in memory.
    let frame = FromMaster::Welcome(Welcome {
        listeners: vec![welcome.listeners[0].clone(); 5_000],
        ..welcome
    });
    assert_eq!(codec::decode::<FromMaster>(&bytes(&frame)).unwrap(), frame);
}

fn is_written_and_read_as<F>(frame: &F, golden: &[u8])
where
    F: Serialize + DeserializeOwned + PartialEq + Debug,
{
    assert_eq!(bytes(frame), golden, "{frame:?} is written");
    assert_eq!(&codec::decode::<F>(golden).unwrap(), frame, "is read");
    for len in 0..golden.len() {
        let short = codec::decode::<F>(&golden[..len]);
        assert!(
            matches!(short, Err(DecodeError::Malformed { len: l, .. }) if l == len),
            "the first {len} bytes of {frame:?} are read as {short:?}"
        );
    }
    let long = codec::decode::<F>(&[golden, &[0]].concat());
    assert!(
        matches!(long, Err(DecodeError::Trailing { excess: 1 })),
        "{frame:?} and a byte are read as {long:?}"
    );
}

fn is_no_variant<F: DeserializeOwned + Debug>(index: usize) {
    let unknown = [&[u8::try_from(index).unwrap()][..], &[0; 64]].concat();
    let err = codec::decode::<F>(&unknown).expect_err("a variant without a golden vector");
    assert!(matches!(err, DecodeError::Malformed { .. }), "{err}");
}

fn v4() -> Address {
    Address::V4 {
        ip: [127, 0, 0, 1],
        port: 8000,
    }
}

fn bytes<F: Serialize>(frame: &F) -> Vec<u8> {
    let mut buffer = Vec::new();
    codec::encode(frame, &mut buffer).unwrap();
    buffer
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) * 16 + digit(pair[1]))
        .collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        _ = codec::decode::<ToMaster>(&bytes);
        _ = codec::decode::<FromMaster>(&bytes);
        _ = codec::decode::<Connections>(&bytes);
    }

    #[test]
    fn damaged_frames_are_read_or_refused(
        frame in any_from_master(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = bytes(&frame);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        _ = codec::decode::<FromMaster>(&bytes);
    }

    #[test]
    fn a_frame_to_the_master_survives_the_round_trip(frame in any_to_master()) {
        prop_assert_eq!(codec::decode::<ToMaster>(&bytes(&frame)).unwrap(), frame);
    }

    #[test]
    fn a_frame_of_the_master_survives_the_round_trip(frame in any_from_master()) {
        prop_assert_eq!(codec::decode::<FromMaster>(&bytes(&frame)).unwrap(), frame);
    }

    #[test]
    fn connections_survive_the_round_trip(sequence: u64, peers in vec(any_address(), 0..64)) {
        let frame = Connections { sequence, peers, padding: Vec::new() };
        prop_assert_eq!(codec::decode::<Connections>(&bytes(&frame)).unwrap(), frame);
    }
}

fn any_to_master() -> impl Strategy<Value = ToMaster> {
    let hello = (any::<u16>(), any::<u32>(), any::<String>())
        .prop_map(|(protocol, pid, sdk)| ToMaster::Hello(Hello { protocol, pid, sdk }));
    let listen =
        (any::<u32>(), any::<String>(), any_options()).prop_map(|(request, target, options)| {
            ToMaster::Listen(Listen {
                request: RequestId(request),
                target,
                options,
            })
        });
    prop_oneof![
        hello,
        listen,
        any::<u32>().prop_map(|listener| ToMaster::Unlisten {
            listener: ListenerId(listener)
        }),
        Just(ToMaster::Ready),
        any::<u64>().prop_map(|token| ToMaster::Pong { token }),
        Just(ToMaster::Goodbye),
        any::<u32>().prop_map(|listener| ToMaster::NoRoom {
            listener: ListenerId(listener)
        }),
        Just(ToMaster::Relieved),
        any::<String>().prop_map(|reason| ToMaster::Retiring { reason }),
        any::<String>().prop_map(|problem| ToMaster::Report { problem }),
        any_send().prop_map(ToMaster::Send),
        any_more().prop_map(ToMaster::SendMore),
        any::<u64>().prop_map(|bytes| ToMaster::Taken { bytes }),
        Just(ToMaster::WatchPeers),
        any::<String>().prop_map(|name| ToMaster::Lead { name }),
        any::<String>().prop_map(|name| ToMaster::Resign { name }),
        any::<String>().prop_map(|name| ToMaster::Follow { name }),
        any::<String>().prop_map(|key| ToMaster::Watch { key }),
        any::<(String, u64)>().prop_map(|(key, version)| ToMaster::Adopted { key, version }),
        any_job().prop_map(ToMaster::RegisterJob),
        any::<String>().prop_map(|name| ToMaster::UnregisterJob { name }),
        any::<(u64, Result<String, String>)>()
            .prop_map(|(run, outcome)| ToMaster::JobDone { run, outcome }),
        Just(ToMaster::ReopenLogs),
        any_attach().prop_map(ToMaster::Attach),
        (any::<u32>(), vec(any_inherited(), 0..5)).prop_map(|(listener, options)| {
            ToMaster::Inherit {
                listener: ListenerId(listener),
                options,
            }
        }),
        any::<u32>().prop_map(|weight| ToMaster::Weight { weight }),
    ]
}

fn any_attach() -> impl Strategy<Value = Attach> {
    let numbers = any::<(u16, u32, u32, u32)>();
    (
        numbers,
        any::<String>(),
        any::<String>(),
        any_options(),
        vec(any_inherited(), 0..20),
    )
        .prop_map(
            |((protocol, pid, request, file_mode), library, target, options, inherited)| Attach {
                protocol,
                pid,
                library,
                listen: Listen {
                    request: RequestId(request),
                    target,
                    options,
                },
                options: inherited,
                file_mode,
            },
        )
}

fn any_inherited() -> impl Strategy<Value = InheritedOption> {
    use InheritedOption::*;
    prop_oneof![
        any::<bool>().prop_map(NoDelay),
        any::<bool>().prop_map(KeepAlive),
        any::<u32>().prop_map(KeepIdle),
        any::<u32>().prop_map(KeepInterval),
        any::<u32>().prop_map(KeepCount),
        any::<u32>().prop_map(UserTimeout),
        any::<u32>().prop_map(ReceiveBuffer),
        any::<u32>().prop_map(SendBuffer),
        any::<Option<u32>>().prop_map(Linger),
        any::<u32>().prop_map(DeferAccept),
        any::<u32>().prop_map(FastOpen),
        any::<u32>().prop_map(MaxSegment),
        any::<u32>().prop_map(TypeOfService),
        any::<u32>().prop_map(TrafficClass),
    ]
}

fn any_from_master() -> impl Strategy<Value = FromMaster> {
    let mode = prop_oneof![
        Just(DispatchMode::HandOff),
        Just(DispatchMode::Shared),
        Just(DispatchMode::ReusePort),
    ];
    let listening = (any::<(u32, u32)>(), any::<String>(), any_address(), mode).prop_map(
        |((request, listener), name, address, mode)| {
            FromMaster::Listening(Listening {
                request: RequestId(request),
                listener: ListenerId(listener),
                name,
                address,
                mode,
            })
        },
    );
    prop_oneof![
        any_welcome().prop_map(FromMaster::Welcome),
        any::<String>().prop_map(|reason| FromMaster::Rejected { reason }),
        listening,
        any::<(u32, i32, String)>().prop_map(|(request, errno, reason)| {
            FromMaster::NotListening {
                request: RequestId(request),
                errno,
                reason,
            }
        }),
        any::<u32>().prop_map(|listener| FromMaster::Unlistened {
            listener: ListenerId(listener)
        }),
        Just(FromMaster::ClusterReady),
        any::<Duration>().prop_map(|within| FromMaster::Drain { within }),
        any::<u64>().prop_map(|token| FromMaster::Ping { token }),
        Just(FromMaster::Farewell),
        any_deliver().prop_map(FromMaster::Deliver),
        any_more().prop_map(FromMaster::DeliverMore),
        (any::<u64>(), any_receipt()).prop_map(|(message, receipt)| FromMaster::Receipt {
            message: MessageId(message),
            receipt,
        }),
        vec(any_peer(), 0..5).prop_map(FromMaster::Peers),
        any::<(String, u64, Option<u64>)>().prop_map(|(name, term, leader)| FromMaster::Leader {
            name,
            term,
            leader: leader.map(WorkerId),
        }),
        any::<(String, String)>()
            .prop_map(|(name, reason)| FromMaster::NotLeading { name, reason }),
        any::<String>().prop_map(|key| FromMaster::NoValue { key }),
        any::<(String, Option<String>)>()
            .prop_map(|(name, problem)| FromMaster::JobRegistered { name, problem }),
        any::<(u64, String, u64, u32, Option<Duration>)>().prop_map(
            |(run, name, due_ms, attempt, timeout)| {
                FromMaster::Job(JobRun {
                    run,
                    name,
                    due_ms,
                    attempt,
                    timeout,
                })
            }
        ),
        any::<u64>().prop_map(|run| FromMaster::JobCancelled { run }),
        Just(FromMaster::ReopenLogs),
    ]
}

fn any_send() -> impl Strategy<Value = Send> {
    let numbers = any::<(u64, bool, Option<u32>, u8, u64)>();
    (
        numbers,
        any_recipient(),
        any_kind(),
        any::<String>(),
        any_chunk(),
    )
        .prop_map(
            |(
                (message, wants_receipt, within_ms, content_type, len_bytes),
                recipient,
                kind,
                action,
                chunk,
            )| {
                Send {
                    message: MessageId(message),
                    recipient,
                    kind,
                    wants_receipt,
                    within_ms,
                    action,
                    content_type: ContentType(content_type),
                    len_bytes,
                    chunk,
                }
            },
        )
}

fn any_deliver() -> impl Strategy<Value = Deliver> {
    let numbers = any::<(u64, u8, u64)>();
    (
        numbers,
        any_sender(),
        any_kind(),
        any::<String>(),
        any_chunk(),
    )
        .prop_map(
            |((message, content_type, len_bytes), from, kind, action, chunk)| Deliver {
                from,
                message: MessageId(message),
                kind,
                action,
                content_type: ContentType(content_type),
                len_bytes,
                chunk,
            },
        )
}

fn any_more() -> impl Strategy<Value = More> {
    (any::<u32>(), any_chunk()).prop_map(|(index, chunk)| More { index, chunk })
}

fn any_chunk() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn any_recipient() -> impl Strategy<Value = Recipient> {
    prop_oneof![
        any::<u64>().prop_map(|worker| Recipient::Worker(WorkerId(worker))),
        (any_role(), any::<u32>()).prop_map(|(role, slot)| Recipient::Slot {
            role,
            slot: Slot(slot)
        }),
        any::<u32>().prop_map(Recipient::Pid),
        any::<Option<String>>().prop_map(Recipient::Agent),
        Just(Recipient::Workers),
        Just(Recipient::AnyWorker),
        Just(Recipient::Everyone),
        Just(Recipient::Others),
        Just(Recipient::Master),
    ]
}

fn any_sender() -> impl Strategy<Value = Sender> {
    let process = (any::<(u64, u32, u64, u32)>(), any_role()).prop_map(
        |((worker, slot, generation, pid), role)| Sender::Process {
            worker: WorkerId(worker),
            slot: Slot(slot),
            generation: Generation(generation),
            role,
            pid,
        },
    );
    prop_oneof![Just(Sender::Master), process]
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Message),
        Just(Kind::Request),
        any::<u64>().prop_map(|to| Kind::Reply { to: MessageId(to) }),
        any::<u64>().prop_map(|version| Kind::Value { version }),
    ]
}

fn any_receipt() -> impl Strategy<Value = Receipt> {
    prop_oneof![
        any::<(u32, u32)>()
            .prop_map(|(receivers, missed)| Receipt::Delivered { receivers, missed }),
        Just(Receipt::NoSuchPeer),
        Just(Receipt::Full),
        Just(Receipt::Draining),
        Just(Receipt::Expired),
        Just(Receipt::TooLarge),
        Just(Receipt::UnknownContentType),
        Just(Receipt::BadAction),
        Just(Receipt::TooManyRequests),
    ]
}

fn any_peer() -> impl Strategy<Value = Peer> {
    let state = prop_oneof![
        Just(PeerState::Starting),
        Just(PeerState::Ready),
        Just(PeerState::Draining),
        Just(PeerState::Gone),
    ];
    (
        any::<(u64, u32, u64, u32, Option<String>)>(),
        any_role(),
        state,
    )
        .prop_map(
            |((worker, slot, generation, pid, name), role, state)| Peer {
                worker: WorkerId(worker),
                slot: Slot(slot),
                generation: Generation(generation),
                role,
                pid,
                name,
                state,
            },
        )
}

fn any_job() -> impl Strategy<Value = JobSpec> {
    let schedule = prop_oneof![
        Just(Schedule::Never),
        any::<Duration>().prop_map(Schedule::Interval),
        any::<(String, Option<String>)>().prop_map(|(expression, time_zone)| Schedule::Cron {
            expression,
            time_zone,
        }),
    ];
    let target = prop_oneof![
        Just(JobTarget::One),
        Just(JobTarget::All),
        any::<Option<String>>().prop_map(JobTarget::Agent),
        any::<u32>().prop_map(|slot| JobTarget::Slot(Slot(slot))),
    ];
    let overlap = prop_oneof![
        Just(Overlap::Skip),
        Just(Overlap::Queue),
        Just(Overlap::Allow),
    ];
    let on_lost = prop_oneof![Just(OnLost::Drop), Just(OnLost::Retry)];
    let rest = any::<(String, bool, Option<Duration>, Duration)>();
    (rest, schedule, target, overlap, on_lost).prop_map(
        |((name, immediate, timeout, jitter), schedule, target, overlap, on_lost)| JobSpec {
            name,
            schedule,
            immediate,
            target,
            overlap,
            timeout,
            jitter,
            on_lost,
        },
    )
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Worker), Just(Role::Agent)]
}

fn any_welcome() -> impl Strategy<Value = Welcome> {
    let listener = (any::<String>(), any_address())
        .prop_map(|(name, address)| DeclaredListener { name, address });
    (
        any::<(u16, u64, u32, u64, u32)>(),
        any_role(),
        vec(listener, 0..5),
        any::<(Duration, u64)>(),
    )
        .prop_map(|(numbers, role, listeners, limits)| {
            let (orphan_grace, max_message_bytes) = limits;
            let (protocol, worker, slot, generation, count) = numbers;
            Welcome {
                protocol,
                worker: WorkerId(worker),
                slot: Slot(slot),
                generation: Generation(generation),
                role,
                count,
                listeners,
                limits: Limits {
                    orphan_grace,
                    max_message_bytes,
                },
            }
        })
}

fn any_options() -> impl Strategy<Value = ListenOptions> {
    (
        any::<bool>(),
        any::<u8>(),
        option::of(any::<u32>()),
        option::of(any::<bool>()),
    )
        .prop_map(|(nonblocking, max_batch, backlog, v6only)| ListenOptions {
            nonblocking,
            max_batch,
            backlog,
            v6only,
        })
}

fn any_address() -> impl Strategy<Value = Address> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| Address::V4 { ip, port }),
        any::<([u8; 16], u16, u32, u32)>().prop_map(|(ip, port, flowinfo, scope_id)| {
            Address::V6 {
                ip,
                port,
                flowinfo,
                scope_id,
            }
        }),
        vec(any::<u8>(), 0..109).prop_map(Address::Path),
        vec(any::<u8>(), 0..109).prop_map(Address::Abstract),
        Just(Address::Unnamed),
    ]
}
