//! `push`: a file, or standard input, becomes a value of the cluster, in as many requests as it takes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use serde_json::Value;
use worker_proto::message::ContentType;
use worker_proto::name;

use super::screen::Screen;
use super::{ExitCode, Failure, Quiet, await_answer, find};
use crate::control::client::Client;
use crate::control::protocol::{Command, Said, When};
use crate::control::push::{LONGEST_PIECE, Piece};
use crate::printable::printable;
use crate::values::Content;
use crate::values::content::parse_type;

/// What to push, and how.
#[derive(Debug, Args)]
pub(super) struct PushArgs {
    /// What processes ask for: worker.config("KEY")
    #[arg(value_parser = parse_key)]
    key: String,
    /// What it is to say; `-` reads standard input
    file: PathBuf,
    /// How to read it: bytes, text, json or bincode. By default json for a file that is called .json,
    /// otherwise text if it is UTF-8
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    content_type: Option<ContentType>,
    /// Wait until every process that watches it has taken it over
    #[arg(long, short)]
    wait: bool,
}

/// Pushes it.
pub(super) fn run(push: &PushArgs, args: &super::Args, screen: &mut Screen) -> Result<(), Quiet> {
    let content = push.content()?;
    let mut client = find::master(args)?;
    let answer = send(push, &content, &mut client, args)?;
    if args.json {
        return screen.json(&answer);
    }
    screen.line(&printable(answer["message"].as_str().unwrap_or("done")))
}

/// Sends piece after piece; the answer to the last one is the answer.
fn send(
    push: &PushArgs,
    content: &Content,
    client: &mut Client,
    args: &super::Args,
) -> Result<Value, Quiet> {
    let whole = &content.bytes;
    let mut at = 0;
    loop {
        let end = whole.len().min(at + LONGEST_PIECE);
        let is_last = end == whole.len();
        let piece = Piece {
            key: push.key.clone(),
            content_type: content.content_type,
            size: content.len(),
            at: at as u64,
            bytes: whole.slice(at..end),
            answer: if push.wait { When::Done } else { When::Begun },
        };
        let patience = match is_last && push.wait {
            true => args.timeout,
            false => args.patience(),
        };
        let id = client.ask(Command::Push(piece))?;
        let answer = await_answer(client, id, patience, |_: &Said| Ok(()))?;
        if is_last {
            return Ok(answer);
        }
        at = end;
    }
}

impl PushArgs {
    fn content(&self) -> Result<Content, Failure> {
        let bytes = self.read().map_err(|reason| self.failure(&reason))?;
        let content = match self.content_type {
            None => Content::of_file(&self.file, bytes),
            Some(content_type) => {
                let content = Content {
                    content_type,
                    bytes,
                };
                content.check().map(|()| content)
            }
        };
        content.map_err(|misread| {
            let reason = format!("{misread}: mend it, or say what it is with --type");
            self.failure(&reason)
        })
    }

    fn read(&self) -> Result<Bytes, String> {
        let mut bytes = Vec::new();
        let read = match self.file == Path::new("-") {
            true => io::stdin()
                .lock()
                .take(READ_AT_MOST)
                .read_to_end(&mut bytes),
            false => File::open(&self.file)
                .and_then(|file| file.take(READ_AT_MOST).read_to_end(&mut bytes)),
        };
        match read {
            Err(err) => Err(err.to_string()),
            Ok(_) if bytes.len() as u64 == READ_AT_MOST => {
                Err("it has more than 1 GiB, and no master takes that: push less".to_owned())
            }
            Ok(_) => Ok(bytes.into()),
        }
    }

    fn failure(&self, reason: &str) -> Failure {
        let code = ExitCode::Usage;
        let reason = format!("push {}: {reason}", self.file.display());
        Failure { code, reason }
    }
}

fn parse_key(key: &str) -> Result<String, String> {
    match name::check(key) {
        Ok(()) => Ok(key.to_owned()),
        Err(problem) => Err(problem.to_string()),
    }
}

/// One byte more than the longest value that is sent.
const READ_AT_MOST: u64 = (1 << 30) + 1;
