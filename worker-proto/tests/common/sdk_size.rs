//! What an open connection takes in a worker's own memory, for `scripts/memory`: the value that the
//! program holds, and what it has on the heap. Prints a line of JSON.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use allocation_counter::measure;
use worker_proto::{Connection, FakeMaster, Stream};

fn main() -> std::io::Result<()> {
    let (master, worker) = FakeMaster::new();
    let listener = worker.listen(WEB)?;
    let kernel = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let _client = TcpStream::connect(kernel.local_addr()?)?;
    let (server, peer) = kernel.accept()?;

    let accept = || -> std::io::Result<(Connection, i64)> {
        let stream = Stream::Tcp(server.try_clone()?);
        let handed = master.hand_off(WEB, vec![Connection::new(stream, peer.into())]);
        handed.expect("room in the queue");
        let mut accepted = Ok(None);
        let made = measure(|| accepted = listener.accept());
        Ok((accepted?.expect("just sent"), made.bytes_current))
    };
    // What the first one leaves behind is the listener's.
    drop(accept()?);
    let held = (0..COUNT).map(|_| accept());
    let held: Vec<_> = held.collect::<Result<_, _>>()?;
    let heap_bytes: i64 = held.iter().map(|(_, bytes)| bytes).sum();
    let each = heap_bytes / i64::from(COUNT);
    let connection = size_of::<Connection>();
    println!("{{\"connection\": {connection}, \"heap_per_connection\": {each}}}");
    Ok(())
}

const COUNT: i32 = 200;

const WEB: &str = "127.0.0.1:8000";
