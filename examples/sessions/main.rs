//! Who is logged in, known to every worker: an HTTP server whose sessions are kept outside of it.
//!
//! ```text
//! cargo build --example sessions --example agent_sessions
//! rr-master -w 4 target/debug/examples/sessions --redis 127.0.0.1:6379      # or REDIS_URL=redis://...
//! rr-master -w 4 --agent sessions=target/debug/examples/agent_sessions target/debug/examples/sessions
//!
//! curl -c jar -d name=ada http://127.0.0.1:8000/login
//! curl -b jar http://127.0.0.1:8000/whoami              # several times: another worker each time
//! curl -b jar -X POST http://127.0.0.1:8000/logout
//! ```
//!
//! Connections go from worker to worker, and workers come and go, so a worker's own memory is no place
//! for what a client may ask for later. Without Redis (6.2 or later) the sessions are in the memory of an agent, which
//! a reload leaves alone. When they cannot be had, the answer is 503, and the worker goes on.
//!
//! There are no passwords: that is not what this is about.

mod store;

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, error::ErrorKind};
use worker_proto::{Alarm, Connection, Identity, Server, Worker};

use store::{RedisStore, SessionId, Store, Unavailable};

/// Log in, be known to every worker, log out; a worker of rr-master.
#[derive(Parser)]
#[command(name = "sessions")]
struct Args {
    /// Where Redis is: HOST:PORT, or a URL such as redis://:PASSWORD@HOST/0 or unix:///run/redis.sock;
    /// REDIS_URL if not given, which is the place for a password: everybody sees a command line.
    /// Without either the agent called `sessions` keeps the sessions
    #[arg(long, value_name = "REDIS")]
    redis: Option<String>,

    /// How long a session lasts that nobody uses
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_ttl)]
    ttl: Duration,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let url = args.redis.or_else(|| {
        let url = std::env::var("REDIS_URL").ok();
        url.filter(|url| !url.is_empty())
    });
    let redis = match url.map(|url| RedisStore::at(&url, args.ttl)).transpose() {
        Ok(redis) => redis,
        Err(wrong) => Args::command()
            .error(ErrorKind::ValueValidation, wrong)
            .exit(),
    };
    serve(redis, args.ttl).unwrap_or_else(|err| {
        eprintln!("sessions: {err}");
        ExitCode::FAILURE
    })
}

fn serve(redis: Option<RedisStore>, ttl: Duration) -> Result<ExitCode, Box<dyn Error>> {
    let worker = Worker::connect()?;
    worker.catch_panics();
    let listeners = worker.listen_declared_or("127.0.0.1:8000")?;
    let site = Site {
        me: worker.identity().clone(),
        alarm: worker.alarm(),
        store: match redis {
            Some(redis) => Store::Redis(redis),
            None => Store::agent(worker.messenger(), ttl),
        },
        ttl,
    };
    worker.ready()?;
    Server::new().serve(listeners, |connection| {
        // A client that goes away in the middle is no news.
        let _ = site.converse(&connection);
    })?;
    Ok(worker.leave())
}

struct Site {
    me: Identity,
    alarm: Alarm,
    store: Store,
    ttl: Duration,
}

impl Site {
    /// One request, one answer.
    fn converse(&self, mut connection: &Connection) -> io::Result<()> {
        connection.set_read_timeout(Some(SILENCE))?;
        let mut reader = BufReader::new(connection.take(MAX_REQUEST_BYTES));
        let answer = match Request::read(&mut reader)? {
            Some(request) => self.answer(&request).unwrap_or_else(|err| {
                self.alarm.report(&err.to_string());
                let mut answer = Answer::new("503 Service Unavailable", "not now: try again soon");
                answer.header = "Retry-After: 1\r\n".to_owned();
                answer
            }),
            None => Answer::new("400 Bad Request", "this is no request of at most 16 KiB"),
        };
        connection.write_all(answer.text(&self.me).as_bytes())?;
        // Closing with unread bytes would reset the connection, and the answer could be lost.
        connection.shutdown(Shutdown::Write)?;
        io::copy(&mut reader, &mut io::sink())?;
        Ok(())
    }

    fn answer(&self, request: &Request) -> Result<Answer, Unavailable> {
        let session = request.session.as_ref();
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/login") => {
                let Some(name) = name_in(&request.body) else {
                    let rule =
                        "send name=NAME: 1 to 64 letters, digits, dots, dashes or underscores";
                    return Ok(Answer::new("400 Bad Request", rule));
                };
                let id = SessionId::fresh()?;
                self.store.put(&id, name)?;
                let mut answer = Answer::new("200 OK", &format!("welcome, {name}"));
                let ttl = self.ttl.as_secs();
                answer.header = cookie(id.as_str(), ttl);
                Ok(answer)
            }
            ("GET", "/whoami") => {
                let name = session.map(|id| self.store.get(id)).transpose()?;
                Ok(match name.flatten() {
                    Some(name) => Answer::new("200 OK", &name),
                    None => Answer::new("401 Unauthorized", "nobody: log in first"),
                })
            }
            ("POST", "/logout") => {
                session.map(|id| self.store.remove(id)).transpose()?;
                let mut answer = Answer::new("200 OK", "goodbye");
                answer.header = cookie("", 0);
                Ok(answer)
            }
            _ => {
                let there_are = "there are POST /login, GET /whoami and POST /logout";
                Ok(Answer::new("404 Not Found", there_are))
            }
        }
    }
}

/// Out of reach of scripts, and of requests that other sites make.
fn cookie(value: &str, seconds: u64) -> String {
    format!("Set-Cookie: session={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict\r\n")
}

/// What matters here of a request.
struct Request {
    method: String,
    path: String,
    session: Option<SessionId>,
    body: String,
}

impl Request {
    /// `None` if it is none, or too long.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ');
        let (Some(method), Some(path), Some(_)) = (words.next(), words.next(), words.next()) else {
            return Ok(None);
        };
        let mut request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            session: None,
            body: String::new(),
        };
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if !line.ends_with('\n') {
                return Ok(None);
            }
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(u64::MAX),
                "cookie" => {
                    let mut cookies = value.split(';').filter_map(|it| it.trim().split_once('='));
                    let session = cookies.find(|(name, _)| *name == "session");
                    request.session = session.and_then(|(_, id)| SessionId::parse(id));
                }
                _ => {}
            }
        }
        let read = reader.take(length).read_to_string(&mut request.body)?;
        Ok((read as u64 == length).then_some(request))
    }
}

/// The name in a form, if it is one that may be shown, and kept, as it is.
fn name_in(form: &str) -> Option<&str> {
    let mut fields = form.split('&').filter_map(|field| field.split_once('='));
    let (_, name) = fields.find(|(field, _)| *field == "name")?;
    let may_be = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ((1..=64).contains(&name.len()) && name.chars().all(may_be)).then_some(name)
}

struct Answer {
    status: &'static str,
    /// With its end of line, if there is one.
    header: String,
    body: String,
}

impl Answer {
    fn new(status: &'static str, body: &str) -> Self {
        Answer {
            status,
            header: String::new(),
            body: format!("{body}\n"),
        }
    }

    /// Head and body in one piece: one write, one packet.
    fn text(&self, me: &Identity) -> String {
        let (slot, id, pid, generation) = (me.slot, me.worker.0, me.pid, me.generation);
        let Answer {
            status,
            header,
            body,
        } = self;
        format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\
             Cache-Control: no-store\r\n\
             Connection: close\r\n\
             X-Worker: slot={slot} id={id} pid={pid} gen={generation}\r\n\
             {header}\r\n\
             {body}",
            body.len(),
        )
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(ttl) if ttl.as_secs() == 0 => Err("at least 1s".to_owned()),
        Ok(ttl) => Ok(ttl),
        Err(err) => Err(format!("{err}: write a time such as 90s or 30m")),
    }
}

/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(5);

const MAX_REQUEST_BYTES: u64 = 16 * 1024;
