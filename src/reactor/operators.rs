//! Operators: what comes through the control socket, done, and what goes out through it.

use std::io;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::Reactor;
use super::clock;
use super::command::{Answer, Origin};
use super::token::Source;
use crate::control::event::{Circumstances, Fact};
use crate::control::protocol::{BadRequest, Command, Request, Said};
use crate::control::server::{ClientId, Heard, Server, fault};
use crate::control::time::UnixTime;
use crate::exit_code::ExitCode;
use crate::supervisor::Notice;

impl Reactor {
    /// From now on operators can come.
    pub(crate) fn open_door(&mut self, path: &Path) -> io::Result<()> {
        let server = Server::open(path, self.poll.registry(), Source::Door.into())?;
        self.server = Some(server);
        Ok(())
    }

    pub(super) fn let_operators_in(&mut self, now: Instant) {
        if let Some(server) = &mut self.server {
            let token = |client| Source::Operator(client).into();
            server.let_in(now, self.poll.registry(), token, VERSION);
        }
    }

    /// Hears what operators say, each within its budget, and answers.
    pub(super) fn serve_operators(&mut self, now: Instant) {
        if self
            .server
            .as_ref()
            .is_some_and(|it| it.is_to_be_looked_at(now))
        {
            self.let_operators_in(now);
        }
        let Some(server) = &mut self.server else {
            return;
        };
        let heard = server.turn(now, self.poll.registry());
        self.closer.close(server.take_unwanted());
        for (client, heard) in heard {
            match heard {
                Heard::Request(request) => self.grant(now, client, request),
                Heard::Bad(BadRequest { id, message }) => {
                    log::debug!("control: bad request: {message}");
                    self.reply(client, id, fault("bad-request", message));
                }
            }
        }
    }

    /// Sends what has been said in this turn.
    pub(super) fn flush_operators(&mut self, now: Instant) {
        if let Some(server) = &mut self.server {
            server.flush(now, self.poll.registry());
        }
        self.forget_absent();
    }

    fn grant(&mut self, now: Instant, client: ClientId, Request { id, command }: Request) {
        match command {
            Command::Status => {
                let status = serde_json::to_value(self.report(now)).unwrap_or_default();
                self.reply(client, Some(id), Said::Ok(status));
            }
            Command::Events { follow } => {
                if let Some(server) = &mut self.server {
                    for event in self.chronicle.recent() {
                        server.tell(client, Some(id), Said::Event(event.clone()));
                    }
                    let latest = self.chronicle.latest();
                    server.tell(client, Some(id), Said::Ok(json!({ "latest": latest })));
                    if follow {
                        server.follow(client, id);
                    }
                }
            }
            Command::JobList => {
                let jobs = json!({ "jobs": self.job_list() });
                self.reply(client, Some(id), Said::Ok(jobs));
            }
            Command::ConfigShow => {
                let said = Said::Ok(self.shown_config());
                self.reply(client, Some(id), said);
            }
            Command::ConfigCheck => {
                let Some(peer) = self.server.as_ref().and_then(|it| it.peer(client)) else {
                    return;
                };
                self.check_config(Origin::Operator(peer), Answer::Operator(client, id));
            }
            Command::Values => {
                let values = serde_json::to_value(self.held_values()).unwrap_or_default();
                self.reply(client, Some(id), Said::Ok(values));
            }
            Command::Push(piece) => self.take_piece(client, id, &piece),
            Command::Change { change, answer } => {
                let Some(peer) = self.server.as_ref().and_then(|it| it.peer(client)) else {
                    return;
                };
                let by = (Origin::Operator(peer), answer);
                self.change(now, &change, by, Answer::Operator(client, id));
            }
        }
    }

    fn reply(&mut self, client: ClientId, id: Option<u64>, said: Said) {
        if let Some(server) = &mut self.server {
            server.tell(client, id, said);
        }
    }
}

/// Events.
impl Reactor {
    /// Takes down what the supervisor tells, and tells whoever listens.
    pub(super) fn chronicle_notice(&mut self, notice: &Notice, circumstances: &Circumstances) {
        let before = self.chronicle.latest();
        self.chronicle.note(clock::wall(), notice, circumstances);
        self.publish_since(before);
        self.note_reload(notice);
        self.is_scaling |= matches!(notice, Notice::Scaled { .. });
    }

    /// Takes down something else that happened.
    pub(super) fn announce(&mut self, at: UnixTime, fact: Fact) {
        let before = self.chronicle.latest();
        self.chronicle.record(at, fact);
        self.publish_since(before);
    }

    /// Once the cluster has come to rest after it was scaled.
    pub(super) fn note_scaled(&mut self, is_over: bool) {
        if std::mem::take(&mut self.is_scaling) && !is_over {
            let workers = self.supervisor.wanted();
            let text = format!("scaled to {workers} workers");
            let fact = Fact::of_cluster("scale-done", text, json!({ "workers": workers }));
            self.announce(clock::wall(), fact);
        }
    }

    /// The cluster begins.
    pub(super) fn announce_setup(&mut self) {
        let listeners: Vec<Value> = self
            .listeners()
            .into_iter()
            .map(|it| json!({ "name": it.name, "address": it.address.to_string() }))
            .collect();
        let (workers, agents) = (self.config.workers, self.config.agents.len());
        let text = format!(
            "workers: {workers}, agents: {agents}, listeners: {}",
            listeners.len()
        );
        let fields = json!({
            "pid": std::process::id(),
            "version": VERSION,
            "workers": workers,
            "agents": agents,
            "listeners": listeners,
        });
        self.announce(clock::wall(), Fact::of_cluster("setup", text, fields));
    }

    /// The cluster has ended.
    pub(super) fn announce_end(&mut self, code: ExitCode) {
        let code_number = code as u8;
        let text = format!("stopped with exit code {code_number}");
        let fact = Fact::of_cluster("stopped", text, json!({ "code": code_number }));
        self.announce(clock::wall(), fact);
        self.note_end(code);
    }

    fn publish_since(&mut self, before: u64) {
        let news: Vec<_> = self.chronicle.since(before).cloned().collect();
        for event in &news {
            if let Some(server) = &mut self.server {
                server.publish(event);
            }
            self.tell_progress(event);
        }
    }
}

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
