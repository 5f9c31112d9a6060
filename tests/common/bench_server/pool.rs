//! The same answers from the SDK's pool: a thread serves a connection to its end.

use std::io::{Read, Write};

use anyhow::Result;
use worker_proto::{Connection, Listener, Server};

use super::answer::{Answer, Request};
use super::burn::Burn;

/// Until there will be no more connections, and the last one is over.
pub(crate) fn serve(listener: Listener, answer: &Answer, burn: Burn) -> Result<()> {
    Server::new()
        .max_threads(THREADS)
        .serve([listener], |connection| converse(connection, answer, burn))?;
    Ok(())
}

fn converse(mut connection: Connection, answer: &Answer, burn: Burn) {
    let mut buffer = [0; 2048];
    while let Ok(count) = connection.read(&mut buffer) {
        let (bytes, is_over) = match Request::read(&buffer[..count]) {
            Request::Partial => return,
            Request::Last => (answer.last(), true),
            Request::KeepAlive => (answer.more(), false),
        };
        burn.run();
        // A client that is gone is no news.
        if connection.write_all(bytes).is_err() || is_over {
            return;
        }
    }
}

/// As many as clients may be there at once.
const THREADS: usize = 256;
