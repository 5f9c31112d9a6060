//! `rr-ctl`: the operator's program. Asks a running master through its control socket.
//!
//! Results go to standard output, progress and errors to standard error, and nothing is printed for a
//! reader that has gone.

mod args;
mod find;
mod jobs;
mod push;
mod screen;
mod strategies;
mod table;
mod values;
mod watch;

use std::io::{self, Read, Write};
use std::process;
use std::time::Duration;

use clap::Parser;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::args::{Action, Args};
use self::screen::Screen;
use crate::control::change::Change;
use crate::control::client::{Client, ClientError};
use crate::control::job::Job;
use crate::control::protocol::{Command, Fault, Said, When};
use crate::control::status::Cluster;
use crate::printable::printable;

/// How `rr-ctl` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// The master said no, or it did not work.
    Refused = 1,
    /// A flag or an argument is wrong.
    Usage = 2,
    /// No master could be reached.
    Unreachable = 3,
    /// It did not come to an end in time.
    Timeout = 4,
    /// The reload was rolled back.
    RolledBack = 5,
}

/// Why it did not work, for the person at the terminal.
#[derive(Debug)]
struct Failure {
    code: ExitCode,
    reason: String,
}

/// How a command went that did not fail in a way worth a word.
enum Quiet {
    Failure(Failure),
    /// Whoever read the output has gone: `rr-ctl events | head`.
    NobodyReads,
}

/// Runs `rr-ctl` with the arguments of this process.
pub fn main() -> process::ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(err) if err.use_stderr() => {
            let _ = err.print();
            return ExitCode::Usage.into();
        }
        // --help and --version are printed whole, on standard output.
        Err(err) => err.exit(),
    };
    match run(&args) {
        Ok(()) | Err(Quiet::NobodyReads) => ExitCode::Done.into(),
        Err(Quiet::Failure(Failure { code, mut reason })) => {
            if code == ExitCode::Timeout {
                reason += args.action.when_it_takes_longer();
            }
            let _ = writeln!(io::stderr(), "rr-ctl: {}", shown(&reason));
            code.into()
        }
    }
}

fn run(args: &Args) -> Result<(), Quiet> {
    let mut screen = Screen::of_stdout();
    if let Action::Push(push) = &args.action {
        return push::run(push, args, &mut screen);
    }
    let Some(command) = args.action.command() else {
        return Ok(());
    };
    let command = with_input(command)?;
    let mut client = find::master(args)?;
    match command {
        Command::Status if args.action.is_watch() => watch::run(&mut client, args, &mut screen),
        command @ Command::Status => {
            let id = client.ask(command)?;
            let value = await_answer(&mut client, id, args.patience(), |_| Ok(()))?;
            match args.action.is_strategy() {
                true => show_strategies(args, value, &mut screen),
                false => show_status(args, value, &mut screen),
            }
        }
        command @ Command::JobList => {
            let id = client.ask(command)?;
            let value = await_answer(&mut client, id, args.patience(), |_| Ok(()))?;
            show_jobs(args, value, &mut screen)
        }
        command @ Command::Events { follow } => {
            events(&mut client, args, command, follow, &mut screen)
        }
        command @ Command::ConfigShow => {
            let id = client.ask(command)?;
            let value = await_answer(&mut client, id, args.patience(), |_| Ok(()))?;
            screen.line(&if args.json {
                serde_json::to_string_pretty(&value).unwrap_or_default()
            } else {
                shown_config(&value)
            })
        }
        command @ Command::Values => {
            let id = client.ask(command)?;
            let value = await_answer(&mut client, id, args.patience(), |_| Ok(()))?;
            if args.json {
                return screen.json(&value);
            }
            let held = understood(value)?;
            screen.line(&values::shown(&held, screen.width(), screen.palette()))
        }
        command @ (Command::ConfigCheck | Command::Push(_) | Command::Change { .. }) => {
            change(&mut client, args, command, &mut screen)
        }
    }
}

/// A message whose payload is to be read from standard input has it.
fn with_input(mut command: Command) -> Result<Command, Quiet> {
    if let Command::Change {
        change: Change::Send(message),
        ..
    } = &mut command
        && message.payload == "-"
    {
        message.payload.clear();
        let mut input = io::stdin().lock().take(LONGEST_PAYLOAD + 1);
        let read = input.read_to_string(&mut message.payload);
        let failure = match read {
            Err(err) => format!("standard input: {err}"),
            Ok(len) if len as u64 > LONGEST_PAYLOAD => format!(
                "standard input: longer than {LONGEST_PAYLOAD} bytes: send a path, or push it as a value"
            ),
            Ok(_) => return Ok(command),
        };
        return Err(Quiet::Failure(Failure {
            code: ExitCode::Usage,
            reason: failure,
        }));
    }
    Ok(command)
}

/// The settings as a file, and what is not as it says there. A master that is embedded has no file.
fn shown_config(value: &Value) -> String {
    let Some(document) = value["document"].as_str() else {
        return serde_json::to_string_pretty(value).unwrap_or_default();
    };
    let mut text = document.trim_end().to_owned();
    text += &format!("\n\n# Now: {} workers wanted.", value["workers"]);
    let unapplied = value["takes-a-restart"].as_array();
    for change in unapplied.into_iter().flatten().filter_map(Value::as_str) {
        text += &format!("\n# Not yet, it takes a restart of the master: {change}");
    }
    text
}

fn change(
    client: &mut Client,
    args: &Args,
    command: Command,
    screen: &mut Screen,
) -> Result<(), Quiet> {
    let waits = matches!(
        command,
        Command::Change {
            answer: When::Done,
            ..
        }
    );
    // Who waits, waits as long as it takes, unless a time is given.
    let patience = if waits { args.timeout } else { args.patience() };
    let id = client.ask(command)?;
    let answer = await_answer(client, id, patience, |said| match said {
        _ if args.json => screen.json(said),
        Said::Progress(event) => progress(&event.fact.text),
        Said::Lost(count) => progress(&format!("({count} lines left out)")),
        Said::Hello(_) | Said::Ok(_) | Said::Error(_) | Said::Event(_) => Ok(()),
    })?;
    if args.json {
        return screen.json(&answer);
    }
    let message = printable(answer["message"].as_str().unwrap_or("done"));
    match (waits, &args.action) {
        (true, Action::Stop { .. } | Action::Send { .. }) | (false, _) => screen.line(&message),
        (true, _) => screen.line(&format!("done: {message}")),
    }
}

fn events(
    client: &mut Client,
    args: &Args,
    command: Command,
    follow: bool,
    screen: &mut Screen,
) -> Result<(), Quiet> {
    let id = client.ask(command)?;
    let json = args.json;
    await_answer(client, id, args.patience(), |said| {
        show_event(json, said, screen)
    })?;
    if !follow {
        return Ok(());
    }
    loop {
        match client.next_reply(None) {
            Ok(reply) => show_event(json, &reply.said, screen)?,
            // The end of the cluster is the end of its events.
            Err(ClientError::Closed) => return Ok(()),
            Err(err) => return Err(err.into()),
        }
    }
}

fn show_event(json: bool, said: &Said, screen: &mut Screen) -> Result<(), Quiet> {
    match said {
        Said::Event(event) if json => screen.json(event),
        Said::Event(event) => screen.line(&screen.event(event)),
        lost @ Said::Lost(_) if json => screen.json(lost),
        Said::Lost(count) => screen.line(&format!("({count} events left out: read faster)")),
        Said::Hello(_) | Said::Ok(_) | Said::Error(_) | Said::Progress(_) => Ok(()),
    }
}

fn show_status(args: &Args, value: Value, screen: &mut Screen) -> Result<(), Quiet> {
    if args.json {
        return screen.json(&value);
    }
    let text = table::status(&cluster(value)?, screen.width(), screen.palette());
    screen.line(text.trim_end())
}

fn show_strategies(args: &Args, value: Value, screen: &mut Screen) -> Result<(), Quiet> {
    let listeners = cluster(value)?.listeners;
    if args.json {
        return screen.json(&strategies::json(&listeners));
    }
    screen.line(&strategies::shown(
        &listeners,
        screen.width(),
        screen.palette(),
    ))
}

fn show_jobs(args: &Args, mut value: Value, screen: &mut Screen) -> Result<(), Quiet> {
    if args.json {
        return screen.json(&value);
    }
    let jobs: Vec<Job> = understood(value["jobs"].take())?;
    let text = jobs::jobs(&jobs, screen.width(), screen.palette());
    screen.line(text.trim_end())
}

fn cluster(value: Value) -> Result<Cluster, Quiet> {
    understood(value)
}

fn understood<T: DeserializeOwned>(value: Value) -> Result<T, Quiet> {
    serde_json::from_value(value).map_err(|err| {
        let code = ExitCode::Unreachable;
        let reason = format!(
            "the master's answer is not understood ({err}): use the rr-ctl that came with it"
        );
        Quiet::Failure(Failure { code, reason })
    })
}

/// Waits for the answer to a request; shows what comes before it.
fn await_answer(
    client: &mut Client,
    id: u64,
    timeout: Option<Duration>,
    mut show: impl FnMut(&Said) -> Result<(), Quiet>,
) -> Result<Value, Quiet> {
    let deadline = timeout.map(find::Deadline::after);
    loop {
        let left = deadline.as_ref().map(find::Deadline::left);
        let reply = client
            .next_reply(left)
            .map_err(|err| match (err, timeout) {
                (ClientError::Timeout(_), Some(timeout)) => ClientError::Timeout(timeout),
                (err, _) => err,
            })?;
        match reply.said {
            Said::Ok(value) if reply.id == Some(id) => return Ok(value),
            Said::Error(fault) => return Err(Quiet::Failure(fault.into())),
            said @ (Said::Hello(_)
            | Said::Ok(_)
            | Said::Progress(_)
            | Said::Event(_)
            | Said::Lost(_)) => show(&said)?,
        }
    }
}

/// Line by line: a list of masters is several.
fn shown(reason: &str) -> String {
    let lines: Vec<_> = reason.lines().map(printable).collect();
    lines.join("\n")
}

/// What happens on the way is no result.
#[expect(
    clippy::unnecessary_wraps,
    reason = "one of several ways to show a line"
)]
fn progress(text: &str) -> Result<(), Quiet> {
    let _ = writeln!(io::stderr(), "  {}", printable(text));
    Ok(())
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let code = match fault.kind.as_str() {
            "bad-request" => ExitCode::Usage,
            "rolled-back" => ExitCode::RolledBack,
            "forbidden" | "ended" => ExitCode::Unreachable,
            _ => ExitCode::Refused,
        };
        let reason = fault.message;
        Failure { code, reason }
    }
}

impl From<ClientError> for Failure {
    fn from(err: ClientError) -> Self {
        let (code, hint) = match &err {
            // What may come of it depends on what was asked.
            ClientError::Timeout(_) => (ExitCode::Timeout, ""),
            ClientError::TurnedAway(fault) => return fault.clone().into(),
            ClientError::Closed => (
                ExitCode::Unreachable,
                ": it has ended, or was asked too much",
            ),
            ClientError::Connect(_)
            | ClientError::Mismatch { .. }
            | ClientError::Garbled(_)
            | ClientError::Io(_) => (ExitCode::Unreachable, ""),
        };
        let reason = format!("{err}{hint}");
        Failure { code, reason }
    }
}

impl From<ClientError> for Quiet {
    fn from(err: ClientError) -> Self {
        Quiet::Failure(err.into())
    }
}

impl From<Failure> for Quiet {
    fn from(failure: Failure) -> Self {
        Quiet::Failure(failure)
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        process::ExitCode::from(code as u8)
    }
}

/// What of a message fits into a line of the control protocol, however it is quoted.
const LONGEST_PAYLOAD: u64 = 8 * 1024;
