//! The chat of `examples/chat`: what a client of one worker types reaches the clients of all.

mod common;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::signal::{Signal, kill};
use socket2::{Domain, Socket, Type};

use common::operator::done;
use common::{Cluster, DEADLINE, example};

/// Somebody who chats.
struct Client {
    name: String,
    /// Of the worker that it is connected to.
    slot: u32,
    stream: BufReader<TcpStream>,
}

#[test]
fn what_one_types_everybody_reads_once_and_in_order() {
    let (_cluster, address) = start();
    let mut clients = one_at_each_worker(address);
    let speakers = [0, 2];
    for number in 0..50 {
        for speaker in speakers {
            clients[speaker].says(&format!("line {number}"));
        }
    }
    let names = speakers.map(|speaker| clients[speaker].name.clone());
    for client in &mut clients {
        let mut heard: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for _ in 0..100 {
            let line = client.hears_of(&names);
            let (name, text) = line.split_once(": ").unwrap();
            let name = names.iter().find(|known| *known == name).unwrap();
            heard.entry(name).or_default().push(text.to_owned());
        }
        let wanted: Vec<_> = (0..50).map(|number| format!("line {number}")).collect();
        assert_eq!(heard[&*names[0]], wanted);
        assert_eq!(heard[&*names[1]], wanted);
    }
    // Nothing came twice: what is said next comes next.
    clients[3].says("/nick Ada");
    clients[3].says("\x1b[2Jthat was all");
    for client in &mut clients {
        let line = client.hears("that was all");
        assert_eq!(line, "Ada: [2Jthat was all");
    }
}

#[test]
fn who_comes_and_goes_is_announced_to_everybody() {
    let (_cluster, address) = start();
    let mut clients = one_at_each_worker(address);
    let newcomer = Client::connect(address);
    let name = newcomer.name.clone();
    for client in &mut clients {
        client.hears(&format!("* {name} joined"));
    }
    drop(newcomer);
    for client in &mut clients {
        client.hears(&format!("* {name} left"));
    }
}

#[test]
fn a_worker_that_dies_takes_along_its_own_clients_only() {
    let (mut cluster, address) = start();
    let mut clients = one_at_each_worker(address);
    kill(cluster.worker(1).pid(), Signal::SIGKILL).unwrap();
    clients.remove(1).hears_the_end();
    clients[0].says("are you there?");
    for client in &mut clients {
        client.hears("are you there?");
    }

    cluster.await_line("its successor", |line| {
        line.contains("] w5 slot=1") && line.contains("ready after")
    });
    clients.push(client_at(address, 1));
    for speaker in [3, 0] {
        let said = format!("all again, says {speaker}");
        clients[speaker].says(&said);
        for client in &mut clients {
            client.hears(&said);
        }
    }
}

#[test]
fn who_does_not_read_is_put_out_and_nobody_waits_for_it() {
    let (_cluster, address) = start();
    let mut clients = one_at_each_worker(address);
    let mut deaf = Client::over(narrow(address));
    let mut beside = client_at(address, deaf.slot);
    let long = "x".repeat(900);
    let gone = format!("* {} left", deaf.name);
    let mut sent = 0;
    // The kernel keeps some megabytes of what it does not read.
    while sent < 50_000 {
        for _ in 0..100 {
            clients[0].says(&long);
        }
        sent += 100;
        clients[0].says(&format!("end of {sent}"));
        let mut is_gone = false;
        for client in clients.iter_mut().chain([&mut beside]) {
            is_gone |= client.hears_before(&format!("end of {sent}"), &gone);
        }
        if is_gone {
            break;
        }
    }
    assert!(sent < 50_000, "it was never put out");
    deaf.hears_the_end();
}

/// It has no gap: who is asked to come again is served at once.
#[test]
fn a_reload_asks_clients_to_come_again() {
    let (mut cluster, address) = start();
    let control = cluster.control();
    let clients = one_at_each_worker(address);
    done(&control, &["reload", "--wait"]);
    for mut client in clients {
        client.hears("* this server restarts, please connect again");
        client.hears_the_end();
    }
    let mut clients = one_at_each_worker(address);
    clients[2].says("here we are again");
    for client in &mut clients {
        client.hears("here we are again");
    }
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(!ended.log.contains("SIGTERM to w"), "{}", ended.log);
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("connect"))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let mut client = Client {
            name: stream.local_addr().unwrap().to_string(),
            slot: 0,
            stream: BufReader::new(stream),
        };
        let greeting = client.hears("* you are ");
        assert!(greeting.contains(&client.name), "{greeting}");
        let (_, slot) = greeting.split_once(" slot ").unwrap();
        let (slot, _) = slot.split_once(';').unwrap();
        client.slot = slot.parse().unwrap();
        client.hears(&format!("* {} joined", client.name));
        client
    }

    fn says(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.stream.get_mut().write_all(line.as_bytes()).unwrap();
    }

    fn next(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let len = self.stream.read_line(&mut line)?;
        Ok((len > 0).then(|| line.trim_end().to_owned()))
    }

    /// The next line with this text.
    fn hears(&mut self, text: &str) -> String {
        loop {
            let line = self.next().expect("a line").expect("no end");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The next line that one of them has said.
    fn hears_of(&mut self, names: &[String]) -> String {
        loop {
            let line = self.next().expect("a line").expect("no end");
            if names.iter().any(|name| line.starts_with(&**name)) {
                return line;
            }
        }
    }

    /// Whether another line comes before this one.
    fn hears_before(&mut self, last: &str, other: &str) -> bool {
        let mut came = false;
        loop {
            let line = self.next().expect("a line").expect("no end");
            came |= line == other;
            if line.ends_with(last) {
                return came;
            }
        }
    }

    /// There is an end, after whatever still comes.
    fn hears_the_end(&mut self) {
        loop {
            match self.next() {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(err) if err.kind() == io::ErrorKind::ConnectionReset => return,
                Err(err) => panic!("no end: {err}"),
            }
        }
    }
}

fn start() -> (Cluster, SocketAddr) {
    let chat = example("chat");
    let flags = ["-w", "4", "-l", "127.0.0.1:0", "--canary", "100ms"];
    let args = flags.iter().copied().chain(chat.to_str());
    let mut cluster = Cluster::start(args);
    let address = cluster.address();
    cluster.await_ready();
    (cluster, address)
}

/// By slot: four connections in a row go to four workers.
fn one_at_each_worker(address: SocketAddr) -> Vec<Client> {
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(address)).collect();
    clients.sort_by_key(|client| client.slot);
    let slots: Vec<_> = clients.iter().map(|client| client.slot).collect();
    assert_eq!(slots, [0, 1, 2, 3]);
    clients
}

/// One of the next four is there.
fn client_at(address: SocketAddr, slot: u32) -> Client {
    let mut clients = (0..4).map(|_| Client::connect(address));
    let client = clients.find(|client| client.slot == slot);
    client.expect("one at that worker")
}

/// A connection whose client has room for little that it does not read.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}
