//! A bare proxy: what a mode of dispatch that passes bytes on instead of descriptors would cost at
//! the least. `splice_proxy ADDRESS BACKEND...`, a backend being `unix:PATH` or `HOST:PORT`.
//!
//! One thread, one epoll set, and bytes that are spliced from socket to pipe to socket and never
//! seen, see splice(2). Each client takes two descriptors here for as long as it is there; with
//! hand-off it takes none. Clients go to the backends in turn. Ends on SIGTERM.

mod backends;
mod flow;
mod pipes;
mod proxy;
mod session;

use std::env::args;
use std::io::{Write, stdout};

use anyhow::{Context, Result, bail};
use mio::net::TcpListener;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use self::backends::{Backends, resolve};
use self::proxy::Proxy;

fn main() -> Result<()> {
    let names: Vec<String> = args().skip(1).collect();
    let [address, backends @ ..] = &names[..] else {
        bail!("splice_proxy ADDRESS BACKEND...");
    };
    let backends = Backends::new(backends)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;

    let listener = listen(address).with_context(|| format!("listen on {address}"))?;
    let proxy = Proxy::new(listener, backends)?;
    // Nobody need read it.
    _ = writeln!(stdout(), "listening on {}", proxy.address()?);
    let lost = proxy.run()?;
    if lost > 0 {
        eprintln!("splice_proxy: {lost} clients found no backend");
    }
    Ok(())
}

fn listen(address: &str) -> Result<TcpListener> {
    let name = resolve(address)?;
    let socket = Socket::new(
        Domain::from(i32::from(name.family())),
        Type::STREAM.nonblocking(),
        None,
    )?;
    socket.set_reuse_address(true)?;
    // Connections inherit it, so it need not be said for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&name)?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

const BACKLOG: i32 = 4096;
