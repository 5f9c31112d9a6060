//! The jobs of this process: who does them, and those that it does.
//!
//! Every run that was taken is answered once, before the process says goodbye: a run holds
//! [`Work`] until the master has been told. One that comes when the last work is finished is not
//! begun: the master sees it lost.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::control::{self, Control};
use super::hook;
use super::work::{Gate, Work};
use crate::frame::ToMaster;
use crate::job::{self, JobSpec, MAX_RESULT_BYTES};
use crate::scm::Wait;
use crate::socket::{SendError, WorkerChannel};
use crate::text::beginning;

/// One run of a job, for the one who does it; see [`Worker::on_job`](super::Worker::on_job).
#[derive(Clone, Debug)]
pub struct JobRun {
    run: job::JobRun,
    /// Ends when the run is cancelled.
    cancelled: Receiver<()>,
}

impl JobRun {
    /// The run's number, never reused while the master lives. Everybody who runs it has the same, and
    /// so has each attempt: two with the same number are the same piece of work.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.run.run
    }

    /// The job.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.run.name
    }

    /// When it was due, on the master's clock.
    #[must_use]
    pub fn due(&self) -> SystemTime {
        let since = Duration::from_millis(self.run.due_ms);
        UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
    }

    /// 1, and more when the processes died that had it before.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.run.attempt
    }

    /// How long it may take.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.run.timeout
    }

    /// Whether nobody waits for the result any more: it took too long, or the master is gone. Until
    /// the handler returns the job is not run again here or elsewhere, so look at this now and then.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.wait_cancelled(Duration::ZERO)
    }

    /// Waits until nobody waits for the result any more, at most `within`; says whether that is so. A
    /// pause that ends early.
    #[must_use]
    pub fn wait_cancelled(&self, within: Duration) -> bool {
        self.cancelled.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Why a job is not registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The master does not take it: it is none, or there is another one of that name.
    #[error("job {name:?}: {problem}")]
    Refused {
        /// The job.
        name: String,
        /// What is wrong with it, for a person.
        problem: String,
    },
    /// The master did not answer.
    #[error("the master did not answer within {within:?}")]
    NoAnswer {
        /// How long it was waited for.
        within: Duration,
    },
    /// The master is gone.
    #[error("the master is gone")]
    MasterGone,
    /// The master takes nothing.
    #[error("tell the master: {0}")]
    Send(#[source] io::Error),
}

type Handler = Arc<dyn Fn(JobRun) -> Result<String, String> + Send + Sync>;
type Answer = Option<String>;

/// Shared by the worker and the thread that reads the control channel.
#[derive(Clone)]
pub(crate) struct Jobs(Arc<Mutex<State>>);

struct State {
    gate: Gate,
    handlers: HashMap<String, Handler>,
    /// What ends when the run is cancelled, of each that goes on.
    running: HashMap<u64, Sender<()>>,
    /// Who waits for the answer to a registration, in the order in which they asked.
    registering: HashMap<String, VecDeque<Sender<Answer>>>,
}

impl Jobs {
    pub(crate) fn new(gate: Gate) -> Self {
        Jobs(Arc::new(Mutex::new(State {
            gate,
            handlers: HashMap::new(),
            running: HashMap::new(),
            registering: HashMap::new(),
        })))
    }

    /// From now on runs of this job are given to this handler.
    pub(crate) fn on<E: fmt::Display>(
        &self,
        name: &str,
        handler: impl Fn(JobRun) -> Result<String, E> + Send + Sync + 'static,
    ) {
        let handler = move |run| hook::attempt(|| handler(run)).map_err(hook::Failure::into_words);
        let handlers = &mut self.lock().handlers;
        handlers.insert(name.to_owned(), Arc::new(handler));
    }

    /// Asks for a job to be run, and waits for the answer.
    pub(crate) fn register(
        &self,
        control: &Control,
        spec: JobSpec,
        within: Duration,
    ) -> Result<(), RegisterError> {
        let name = spec.name.clone();
        let (answer, answered) = bounded(1);
        {
            let registering = &mut self.lock().registering;
            let asking = registering.entry(name.clone()).or_default();
            asking.push_back(answer);
            // In the order of the answers.
            if let Err(err) = control.send(&ToMaster::RegisterJob(spec)) {
                asking.pop_back();
                return Err(match err {
                    SendError::Gone => RegisterError::MasterGone,
                    SendError::TooLarge(_) => RegisterError::Refused {
                        problem: "too long".to_owned(),
                        name: name.chars().take(LONGEST_QUOTE).collect(),
                    },
                    err @ (SendError::Full | SendError::Exhausted(_) | SendError::Io(_)) => {
                        RegisterError::Send(io::Error::other(err))
                    }
                });
            }
        }
        match answered.recv_timeout(within) {
            Ok(None) => Ok(()),
            Ok(Some(problem)) => Err(RegisterError::Refused { name, problem }),
            Err(RecvTimeoutError::Timeout) => Err(RegisterError::NoAnswer { within }),
            Err(RecvTimeoutError::Disconnected) => Err(RegisterError::MasterGone),
        }
    }

    /// The master has answered the oldest registration of this name.
    pub(crate) fn registered(&self, name: &str, problem: Answer) {
        let registering = &mut self.lock().registering;
        let asked = registering.get_mut(name).and_then(VecDeque::pop_front);
        if let Some(asked) = asked {
            // Room for one, and this is the only one; who asked may have given up.
            _ = asked.try_send(problem);
        }
    }

    /// Runs it on a thread of its own.
    pub(crate) fn run(&self, run: job::JobRun, channel: &Arc<WorkerChannel>) {
        let number = run.run;
        let (handler, work, cancelled) = {
            let mut state = self.lock();
            // Nothing is left that anybody waits for.
            let Some(work) = state.gate.begin() else {
                return;
            };
            let (cancel, cancelled) = bounded(0);
            let handler = state.handlers.get(&run.name).cloned();
            if handler.is_some() {
                state.running.insert(number, cancel);
            }
            (handler, work, cancelled)
        };
        let report = Report {
            number,
            jobs: self.clone(),
            channel: Arc::clone(channel),
            work,
        };
        let Some(handler) = handler else {
            let why = format!(
                "nobody does {:?} here: call Worker::on_job before ready",
                run.name
            );
            return report.send_apart(Err(why));
        };
        let handed_over = report.clone();
        let life = move || handed_over.send(handler(JobRun { run, cancelled }));
        if let Err(err) = control::start_thread("rr-job", life) {
            report.send_apart(Err(format!("start a thread for it: {err}")));
        }
    }

    /// Nobody waits for the result any more.
    pub(crate) fn cancel(&self, run: u64) {
        self.lock().running.remove(&run);
    }

    /// The master is gone.
    pub(crate) fn orphaned(&self) {
        let mut state = self.lock();
        state.running.clear();
        state.registering.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer that a run owes.
#[derive(Clone)]
struct Report {
    number: u64,
    jobs: Jobs,
    channel: Arc<WorkerChannel>,
    /// Leaving waits for it.
    work: Work,
}

impl Report {
    /// Tells the master, for as long as it takes: a run that is not answered keeps its job from being
    /// run ever again.
    fn send(self, outcome: Result<String, String>) {
        let Report {
            number,
            jobs,
            channel,
            work,
        } = self;
        jobs.lock().running.remove(&number);
        let done = ToMaster::JobDone {
            run: number,
            outcome: outcome.map(kept).map_err(kept),
        };
        loop {
            match channel.send(&done, &[], Wait::AsSet) {
                Ok(()) | Err(SendError::Gone) => break,
                Err(SendError::Full) => {}
                Err(SendError::Exhausted(_)) => {
                    _ = crossbeam_channel::after(SEND_AGAIN_AFTER).recv();
                }
                Err(err @ (SendError::TooLarge(_) | SendError::Io(_))) => {
                    log::error!("failed to tell the master of run {number}: {err}");
                    break;
                }
            }
        }
        drop(work);
    }

    /// The same without waiting: for the thread that reads what the master says.
    fn send_apart(self, outcome: Result<String, String>) {
        let (number, apart) = (self.number, self.clone());
        let told = outcome.clone();
        if let Err(err) = control::start_thread("rr-job", move || apart.send(told)) {
            log::error!("failed to start a thread to tell of run {number}: {err}");
            self.send(outcome);
        }
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Jobs")
            .field("handlers", &state.handlers.keys())
            .field("running", &state.running.keys())
            .finish_non_exhaustive()
    }
}

/// As much of it as the master keeps.
fn kept(text: String) -> String {
    beginning(&text, MAX_RESULT_BYTES).to_owned()
}

/// How much is shown of a name that is too long.
const LONGEST_QUOTE: usize = 40;

/// How long a frame rests that could not be sent for want of resources.
const SEND_AGAIN_AFTER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::process::ExitCode;
    use std::thread;

    use super::*;
    use crate::frame::FromMaster;
    use crate::job::Schedule;
    use crate::sdk::{FakeMaster, Worker};

    #[test]
    fn what_a_handler_answers_is_told_the_master() {
        let (master, worker) = FakeMaster::new();
        worker.on_job("sweep", |run| {
            Ok::<_, String>(format!("{} for the {}th time", run.name(), run.number()))
        });
        worker.on_job("fail", |_| Err::<String, _>("no such file"));
        worker.on_job("panic", |run| -> Result<String, String> {
            panic!("attempt {}", run.attempt())
        });
        for (name, expected) in [
            ("sweep", Ok("sweep for the 7th time")),
            ("fail", Err("no such file")),
            ("panic", Err("panicked: attempt 1")),
            (
                "unknown",
                Err("nobody does \"unknown\" here: call Worker::on_job before ready"),
            ),
        ] {
            master.send(give(7, name));
            assert_eq!(master.next_frame(), done(7, expected));
        }
    }

    #[test]
    fn a_run_learns_that_it_is_cancelled_and_that_the_master_is_gone() {
        let (master, worker) = FakeMaster::new();
        worker.on_job("wait", |run| {
            assert!(run.wait_cancelled(PATIENCE));
            Ok::<_, String>(String::new())
        });
        master.send(give(1, "wait"));
        master.send(FromMaster::JobCancelled { run: 1 });
        assert_eq!(master.next_frame(), done(1, Ok("")));
        master.send(give(2, "wait"));
        master.die();
        // It waits for the run, if it heard of it.
        assert_eq!(worker.leave(), ExitCode::SUCCESS);
    }

    #[test]
    fn who_leaves_finishes_its_runs_and_tells_of_them_first() {
        let (master, worker) = FakeMaster::new();
        let (go_on, may_go_on) = bounded::<()>(0);
        let (begun, has_begun) = bounded(1);
        worker.on_job("slow", move |_| {
            begun.send(()).unwrap();
            _ = may_go_on.recv();
            Ok::<_, String>("late".to_owned())
        });
        master.send(give(1, "slow"));
        has_begun.recv_timeout(PATIENCE).unwrap();
        let draining = worker.draining();
        thread::scope(|scope| {
            let leaving = scope.spawn(|| worker.leave());
            assert!(draining.wait(PATIENCE));
            drop(go_on);
            assert_eq!(leaving.join().unwrap(), ExitCode::SUCCESS);
        });
        assert_eq!(master.next_frame(), done(1, Ok("late")));
        assert_eq!(master.next_frame(), ToMaster::Goodbye);
    }

    #[test]
    fn a_registration_is_answered() {
        let (master, worker) = FakeMaster::new();
        worker.register_job(spec("sweep")).unwrap();
        worker.unregister_job("sweep").unwrap();
        assert!(matches!(master.next_frame(), ToMaster::RegisterJob(_)));
        assert!(matches!(
            master.next_frame(),
            ToMaster::UnregisterJob { .. }
        ));
        master.answer_by_hand();
        thread::scope(|scope| {
            let asking = scope.spawn(|| worker.register_job(spec("sweep")));
            assert!(matches!(master.next_frame(), ToMaster::RegisterJob(_)));
            master.send(FromMaster::JobRegistered {
                name: "sweep".to_owned(),
                problem: Some("no room".to_owned()),
            });
            let err = asking.join().unwrap().unwrap_err();
            assert_eq!(err.to_string(), "job \"sweep\": no room");
            let asking = scope.spawn(|| worker.register_job(spec("sweep")));
            assert!(matches!(master.next_frame(), ToMaster::RegisterJob(_)));
            master.die();
            let err = asking.join().unwrap().unwrap_err();
            assert!(matches!(err, RegisterError::MasterGone), "{err}");
        });
    }

    #[test]
    fn alone_nothing_is_run_and_nothing_is_wrong() {
        let worker = Worker::connect().unwrap();
        worker.on_job("sweep", |_| Ok::<_, String>(String::new()));
        worker.register_job(spec("sweep")).unwrap();
        worker.unregister_job("sweep").unwrap();
    }

    #[test]
    fn a_result_is_cut_between_two_characters() {
        let longer = "x".repeat(MAX_RESULT_BYTES - 1) + "ä";
        assert_eq!(kept(longer).len(), MAX_RESULT_BYTES - 1);
    }

    fn give(run: u64, name: &str) -> FromMaster {
        FromMaster::Job(job::JobRun {
            run,
            name: name.to_owned(),
            due_ms: 0,
            attempt: 1,
            timeout: None,
        })
    }

    fn spec(name: &str) -> JobSpec {
        JobSpec::new(name, Schedule::Never)
    }

    fn done(run: u64, outcome: Result<&str, &str>) -> ToMaster {
        ToMaster::JobDone {
            run,
            outcome: outcome.map(str::to_owned).map_err(str::to_owned),
        }
    }

    const PATIENCE: Duration = Duration::from_secs(5);
}
