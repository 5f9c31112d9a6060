//! Opens connections and keeps them open, for `scripts/memory`: `hold ADDRESS COUNT [--from SOURCE]
//! [--ask]`. Says `holding COUNT` when it has them, `holding 17 of COUNT: WHY` when it gets no
//! more, and closes them when its standard input ends.
//!
//! From one address to another there are as many connections as ephemeral ports: several of these
//! programs have a source each, 127.0.0.2 and so on. With `--ask` each connection has a request
//! answered and stays for the next one that does not come.

use std::env::args;
use std::io::{Read, Write, stdin, stdout};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Socket, Type};

fn main() -> Result<()> {
    let order = Order::read()?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;

    let mut held = Vec::new();
    let opened = order.open(&mut held);
    let say = match opened {
        Ok(()) => format!("holding {}\n", order.count),
        Err(err) => format!("holding {} of {}: {err:#}\n", held.len(), order.count),
    };
    stdout().write_all(say.as_bytes())?;
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// What the command line says.
struct Order {
    address: SocketAddr,
    count: usize,
    source: Option<IpAddr>,
    asks: bool,
}

impl Order {
    fn read() -> Result<Self> {
        let mut words = args().skip(1);
        let mut next = || {
            words
                .next()
                .context("hold ADDRESS COUNT [--from SOURCE] [--ask]")
        };
        let mut order = Order {
            address: next()?.parse().context("ADDRESS")?,
            count: next()?.parse().context("COUNT")?,
            source: None,
            asks: false,
        };
        while let Some(flag) = words.next() {
            match flag.as_str() {
                "--from" => {
                    let source = words.next().context("--from takes an address")?;
                    order.source = Some(source.parse().context("--from")?);
                }
                "--ask" => order.asks = true,
                flag => bail!("there is no {flag}"),
            }
        }
        Ok(order)
    }

    fn open(&self, held: &mut Vec<TcpStream>) -> Result<()> {
        held.try_reserve_exact(self.count)?;
        while held.len() < self.count {
            let mut stream = self.connect().context("connect")?;
            if self.asks {
                ask(&mut stream).context("ask")?;
            }
            held.push(stream);
        }
        Ok(())
    }

    fn connect(&self) -> Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        if let Some(source) = self.source {
            // A port is chosen when it is known for which destination, ip(7).
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        loop {
            match socket.connect(&self.address.into()) {
                Err(err) if err.raw_os_error() == Some(Errno::EINTR as i32) => {}
                connected => {
                    connected?;
                    return Ok(socket.into());
                }
            }
        }
    }
}

/// One request and its answer, which must not be the last.
fn ask(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: hold\r\n\r\n")?;
    let mut answer = [0; 1024];
    let count = stream.read(&mut answer)?;
    ensure!(answer[..count].starts_with(b"HTTP/1.1 200 "), "refused");
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(20);
