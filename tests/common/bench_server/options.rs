//! What the command line says.

use std::env::args;

use anyhow::{Context, Result, bail};
use worker_proto::address::Address;

use super::burn::Burn;

/// Flags and address.
pub(crate) struct Options {
    /// Where it listens by itself; `None` for a worker.
    pub(crate) address: Option<Address>,
    pub(crate) threads: u32,
    pub(crate) burn: Burn,
    /// How many connections a worker takes in a packet.
    pub(crate) batch: u8,
    pub(crate) defer_accept: bool,
    /// How many bytes are added to an answer.
    pub(crate) pad: usize,
    /// A thread for each connection of a worker, instead of one loop for all.
    pub(crate) pool: bool,
}

impl Options {
    pub(crate) fn read() -> Result<Self> {
        let mut options = Options {
            address: None,
            threads: 1,
            burn: Burn::default(),
            batch: 8,
            defer_accept: false,
            pad: 0,
            pool: false,
        };
        let mut args = args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} takes a value"));
            match arg.as_str() {
                "--threads" => options.threads = value()?.parse().context("--threads")?,
                "--burn" => options.burn = Burn::of_micros(value()?.parse().context("--burn")?),
                "--batch" => options.batch = value()?.parse().context("--batch")?,
                "--defer-accept" => options.defer_accept = true,
                "--pad" => options.pad = value()?.parse().context("--pad")?,
                "--pool" => options.pool = true,
                flag if flag.starts_with('-') => bail!("there is no {flag}"),
                address => options.address = Some(address.parse().context("ADDRESS")?),
            }
        }
        Ok(options)
    }
}
