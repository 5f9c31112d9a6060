//! Workers that send each other messages through the master, and measure it: the other side of
//! `scripts/messages`, which starts them under a master.
//!
//! Each worker keeps `--window` messages under way to workers chosen by chance. Who gets one sends it
//! back, and who gets it back sends another. Every hop through the master counts as a message, and its
//! latency is that of the hop: `CLOCK_MONOTONIC` is the same for all processes of a machine. At the
//! end the worker in slot 0 prints what all of them measured, as one line of JSON.

#![allow(clippy::disallowed_methods, reason = "measures and waits in real time")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "measurements fit"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_gettime};
use worker_proto::ids::{Role, Slot, WorkerId};
use worker_proto::message::{PeerState, Recipient, Sender};
use worker_proto::sdk::{Event, Message, Messenger, Payload, Worker};

fn main() -> Result<ExitCode> {
    let plan = Plan::from_args()?;
    let worker = Worker::connect().context("run it under rr-master")?;
    let messenger = worker.messenger();
    let inbox = messenger.subscribe_all();
    let peers = worker.peers();
    let events = worker.events();
    worker.ready()?;
    let is_ready = events.iter().any(|event| event == Event::ClusterReady);
    if !is_ready {
        bail!("the cluster never got ready");
    }
    let me = worker.identity().worker;
    let others = move || -> Vec<WorkerId> {
        let peers = peers.now().into_iter();
        peers
            .filter(|it| it.role == Role::Worker && it.state == PeerState::Ready && it.worker != me)
            .map(|it| it.worker)
            .collect()
    };
    let others =
        until(|| Some(others()).filter(|found| found.len() as u32 + 1 >= worker.identity().count))?;

    let mut load = Load {
        messenger: &messenger,
        others,
        dice: me.0,
        payload: vec![0; plan.bytes],
    };
    for _ in 0..plan.window {
        load.send_another()?;
    }
    let warm = now() + WARM_UP.as_nanos() as u64;
    let end = warm + plan.lasts.as_nanos() as u64;
    let mut latencies = Latencies::default();
    let mut measured = Measured::default();
    while now() < end {
        let Ok(message) = inbox.recv_timeout(Duration::from_millis(100)) else {
            continue;
        };
        let arrived = now();
        if (warm..end).contains(&arrived) && matches!(&*message.action, "there" | "back") {
            latencies.note(arrived.saturating_sub(sent_at(&message)));
        }
        match &*message.action {
            "there" => load.send_back(&message)?,
            "back" => load.send_another()?,
            _ => measured.hear(&message)?,
        }
    }
    let first = Recipient::Slot {
        role: Role::Worker,
        slot: Slot(0),
    };
    messenger.send_to(first, "measured", Payload::bincode(&latencies.counts)?)?;
    if worker.identity().slot == Slot(0) {
        while measured.workers < worker.identity().count {
            let message = inbox
                .recv_timeout(Duration::from_secs(20))
                .context("what the others measured")?;
            measured.hear(&message)?;
        }
        println!("{}", measured.all.report(plan.lasts));
    }
    // Until the master stops.
    for event in events {
        if matches!(event, Event::Drain { .. } | Event::MasterGone) {
            break;
        }
    }
    Ok(worker.leave())
}

/// What is to be measured.
struct Plan {
    bytes: usize,
    window: u32,
    lasts: Duration,
}

impl Plan {
    fn from_args() -> Result<Self> {
        let mut plan = Plan {
            bytes: 64,
            window: 16,
            lasts: Duration::from_secs(5),
        };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            let value: u32 = args
                .next()
                .and_then(|value| value.parse().ok())
                .with_context(|| format!("{flag} needs a number"))?;
            match &*flag {
                "--bytes" => plan.bytes = value.max(STAMP as u32) as usize,
                "--window" => plan.window = value,
                "--seconds" => plan.lasts = Duration::from_secs(value.into()),
                _ => bail!("unknown flag {flag}: --bytes, --window, --seconds"),
            }
        }
        Ok(plan)
    }
}

/// One worker's messages.
struct Load<'a> {
    messenger: &'a Messenger,
    others: Vec<WorkerId>,
    dice: u64,
    payload: Vec<u8>,
}

impl Load<'_> {
    fn send_another(&mut self) -> Result<()> {
        // xorshift64: any order will do, as long as it is not the same for all.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let to = self.others[(self.dice % self.others.len() as u64) as usize];
        self.send(to, "there")
    }

    fn send_back(&mut self, message: &Message) -> Result<()> {
        match message.from {
            Sender::Process { worker, .. } => self.send(worker, "back"),
            Sender::Master => Ok(()),
        }
    }

    fn send(&mut self, to: WorkerId, action: &str) -> Result<()> {
        self.payload[..STAMP].copy_from_slice(&now().to_le_bytes());
        let payload = Payload::from(&self.payload[..]);
        Ok(self
            .messenger
            .send_to(Recipient::Worker(to), action, payload)?)
    }
}

/// What the workers measured, as far as they have told.
#[derive(Default)]
struct Measured {
    workers: u32,
    all: Latencies,
}

impl Measured {
    fn hear(&mut self, message: &Message) -> Result<()> {
        if message.action == "measured" {
            self.all.add(message.bincode()?);
            self.workers += 1;
        }
        Ok(())
    }
}

/// How long messages took: how often which, in steps of about 3 %.
#[derive(Default)]
struct Latencies {
    counts: BTreeMap<u32, u64>,
}

impl Latencies {
    fn note(&mut self, nanos: u64) {
        *self.counts.entry(step_of(nanos)).or_default() += 1;
    }

    fn add(&mut self, counts: BTreeMap<u32, u64>) {
        for (step, count) in counts {
            *self.counts.entry(step).or_default() += count;
        }
    }

    fn report(&self, lasted: Duration) -> String {
        let messages: u64 = self.counts.values().sum();
        let micros = |share: f64| {
            let wanted = (messages as f64 * share).ceil() as u64;
            let mut seen = 0;
            let found = self.counts.iter().find(|(_, count)| {
                seen += **count;
                seen >= wanted
            });
            found.map_or(0.0, |(step, _)| nanos_of(*step) / 1000.0)
        };
        format!(
            "{{\"messages\":{messages},\"per_second\":{:.0},\"p50_us\":{:.1},\"p99_us\":{:.1},\"p99_9_us\":{:.1}}}",
            messages as f64 / lasted.as_secs_f64(),
            micros(0.5),
            micros(0.99),
            micros(0.999),
        )
    }
}

fn step_of(nanos: u64) -> u32 {
    ((nanos.max(1) as f64).ln() / STEP.ln()) as u32
}

fn nanos_of(step: u32) -> f64 {
    STEP.powf(f64::from(step) + 0.5)
}

fn sent_at(message: &Message) -> u64 {
    let stamp = message.bytes().get(..STAMP);
    let stamp = stamp.and_then(|stamp| stamp.try_into().ok());
    stamp.map_or(0, u64::from_le_bytes)
}

/// Nanoseconds on the clock that all processes share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock that every Linux has");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

fn until<T>(mut found: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Some(found) = found() {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("not within 10 s")
}

const STAMP: usize = 8;
const STEP: f64 = 1.03;
const WARM_UP: Duration = Duration::from_secs(1);
