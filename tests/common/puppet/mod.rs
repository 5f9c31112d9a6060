//! Puppets: processes of a cluster that do what the test tells them, one thing after the other.
//!
//! Each comes to the test's stage, a Unix socket, as soon as it has joined its cluster. Without the
//! test it leaves.

pub mod order;

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::unistd::Pid;
use tempfile::TempDir;
use worker_proto::ids::{Role, WorkerId};
use worker_proto::message::{Peer, PeerState, Receipt, Recipient, Sender};

use super::{Cluster, DEADLINE, await_condition, test_worker};
use order::{Answer, Content, Heard, Introduction, Letter, Order, Way};

/// Where puppets come to.
pub struct Stage {
    directory: TempDir,
    listener: UnixListener,
}

/// One process under the test's hand.
pub struct Puppet {
    pub who: Introduction,
    stream: BufReader<UnixStream>,
}

/// A cluster of puppets, each by its slot.
pub struct Company {
    pub cluster: Cluster,
    pub stage: Stage,
    pub agents: Vec<Puppet>,
    pub workers: Vec<Puppet>,
}

impl Stage {
    pub fn build() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("stage")).expect("bind");
        listener.set_nonblocking(true).expect("a flag");
        Stage {
            directory,
            listener,
        }
    }

    /// The command of a puppet that comes here.
    pub fn command(&self) -> [String; 3] {
        let stage = self.directory.path().join("stage");
        let program = test_worker().display().to_string();
        [program, "puppet".to_owned(), stage.display().to_string()]
    }

    /// The next one that comes.
    pub fn next(&self) -> Puppet {
        let mut came = None;
        await_condition("the next puppet", || {
            came = self.try_next();
            came.is_some()
        });
        came.expect("waited for")
    }

    fn try_next(&self) -> Option<Puppet> {
        let (stream, _) = match self.listener.accept() {
            Ok(came) => came,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return None,
            Err(err) => panic!("accept: {err}"),
        };
        stream.set_nonblocking(false).expect("a flag");
        stream.set_read_timeout(Some(DEADLINE * 3)).expect("a time");
        let mut stream = BufReader::new(stream);
        let who = read_line(&mut stream).expect("an introduction");
        Some(Puppet { who, stream })
    }
}

impl Company {
    /// So many agents and workers, subscribed to everything and ready, and the whole cluster as well.
    pub fn start(agents: usize, workers: usize, flags: &[&str]) -> Self {
        let mut company = Self::appear(agents, workers, flags);
        company.workers = company.next_workers(workers);
        for worker in &mut company.workers {
            worker.starts();
        }
        company.cluster.await_ready();
        company
    }

    /// The same without its workers, who have not come yet.
    pub fn appear(agents: usize, workers: usize, flags: &[&str]) -> Self {
        let mut company = Self::begin(agents, workers, flags);
        company.agents = (0..agents).map(|_| company.stage.next()).collect();
        company.agents.sort_by_key(|agent| agent.who.slot);
        for agent in &mut company.agents {
            agent.starts();
        }
        company
    }

    /// The same, with nobody on the stage yet.
    pub fn begin(agents: usize, workers: usize, flags: &[&str]) -> Self {
        let stage = Stage::build();
        let command = stage.command();
        let (agent, workers) = (command.join(" "), workers.to_string());
        let mut args = vec!["-w", &workers];
        for _ in 0..agents {
            args.extend(["--agent", &agent]);
        }
        args.extend(flags);
        args.extend(command.iter().map(String::as_str));
        Company {
            cluster: Cluster::start(args),
            stage,
            agents: Vec::new(),
            workers: Vec::new(),
        }
    }

    /// The next workers to come, by slot.
    pub fn next_workers(&self, count: usize) -> Vec<Puppet> {
        let mut workers: Vec<_> = (0..count).map(|_| self.stage.next()).collect();
        workers.sort_by_key(|worker| worker.who.slot);
        workers
    }

    /// Everybody: the agents, then the workers.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Puppet> {
        self.agents.iter_mut().chain(&mut self.workers)
    }
}

impl Puppet {
    pub fn tell(&mut self, order: &Order) {
        let mut line = serde_json::to_string(order).expect("JSON");
        line.push('\n');
        let told = self.stream.get_mut().write_all(line.as_bytes());
        told.unwrap_or_else(|err| panic!("{:?} is not there: {err}", self.who));
    }

    pub fn answer(&mut self) -> Answer {
        read_line(&mut self.stream).unwrap_or_else(|| panic!("{:?} is gone", self.who))
    }

    pub fn ask(&mut self, order: &Order) -> Answer {
        self.tell(order);
        self.answer()
    }

    /// Does what has to work.
    pub fn does(&mut self, order: &Order) {
        let answer = self.ask(order);
        assert_eq!(answer, Answer::Done, "{order:?} by {:?}", self.who);
    }

    /// Subscribes, and is ready.
    pub fn starts(&mut self) {
        self.does(&Order::Subscribe);
        self.does(&Order::Ready);
    }

    pub fn sends(&mut self, way: Way, action: &str) {
        self.does(&Order::Send(way, letter(action, "")));
    }

    pub fn delivers(&mut self, to: Recipient, letter: Letter) -> Answer {
        self.ask(&Order::Deliver(to, letter, PATIENCE_MS))
    }

    pub fn receipt(&mut self, to: Recipient, letter: Letter) -> Receipt {
        let answer = self.delivers(to, letter);
        let Answer::Receipt(receipt) = answer else {
            panic!("{answer:?} by {:?}", self.who);
        };
        receipt
    }

    pub fn hears(&mut self) -> Heard {
        self.ask(&Order::Hear(PATIENCE_MS))
            .heard()
            .unwrap_or_else(|| panic!("nothing heard by {:?}", self.who))
    }

    /// The actions of what comes before the one named.
    pub fn hears_until(&mut self, last: &str) -> Vec<String> {
        let heard = std::iter::repeat_with(|| self.hears().action);
        heard.take_while(|action| action != last).collect()
    }

    /// Its peers, once they are as the test wants them: who, and how far.
    pub fn sees(&mut self, what: &str, wanted: impl Fn(&[Peer]) -> bool) -> Vec<Peer> {
        loop {
            let answer = self.ask(&Order::Peers(PATIENCE_MS));
            let Answer::Peers(peers) = answer else {
                panic!("{answer:?} instead of {what}");
            };
            if wanted(&peers) {
                return peers;
            }
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.who.pid.cast_signed())
    }

    pub fn id(&self) -> Recipient {
        Recipient::Worker(self.who.worker)
    }

    /// The stamp that has to be on what it sends.
    pub fn sender(&self) -> Sender {
        Sender::Process {
            worker: self.who.worker,
            slot: self.who.slot,
            generation: self.who.generation,
            role: self.who.role,
            pid: self.who.pid,
        }
    }
}

impl Answer {
    pub fn heard(self) -> Option<Heard> {
        match self {
            Answer::Heard(heard) => Some(heard),
            Answer::Done
            | Answer::Failed(_)
            | Answer::Receipt(_)
            | Answer::Silence
            | Answer::Peers(_) => None,
        }
    }
}

pub fn letter(action: &str, text: &str) -> Letter {
    Letter {
        action: action.to_owned(),
        content: Content::Text(text.to_owned()),
    }
}

pub fn noise(action: &str, seed: u64, len: usize) -> Letter {
    Letter {
        action: action.to_owned(),
        content: Content::Noise { seed, len },
    }
}

/// The workers among the peers that are ready.
pub fn ready_workers(peers: &[Peer]) -> Vec<WorkerId> {
    let ready = |peer: &&Peer| peer.role == Role::Worker && peer.state == PeerState::Ready;
    peers.iter().filter(ready).map(|peer| peer.worker).collect()
}

fn read_line<T: serde::de::DeserializeOwned>(stream: &mut BufReader<UnixStream>) -> Option<T> {
    let mut line = String::new();
    match stream.read_line(&mut line) {
        Ok(0) => None,
        Ok(_) => Some(serde_json::from_str(&line).expect("JSON")),
        Err(err) if err.kind() == io::ErrorKind::ConnectionReset => None,
        Err(err) => panic!("read from a puppet: {err}"),
    }
}

/// Shorter than the test waits for the answer.
const PATIENCE_MS: u64 = 20_000;
