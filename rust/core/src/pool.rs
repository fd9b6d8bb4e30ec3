//! Helper threads shared by every call of the process, and the rule of how many may be at work.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use once_cell::sync::Lazy;

use crate::{Error, ErrorKind, Result};

/// A helper without work for this long ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that any number of threads can work at together; `work` returns when nothing is left to take up.
pub(crate) trait Job: Send + Sync {
    fn work(&self);
}

/// The threads at work and those that wait. Calls side by side use their own threads; a lone one gets helpers.
struct Pool {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    /// Threads inside `share`, and helpers with a job.
    at_work: usize,
    waiting: usize,
    jobs: VecDeque<Arc<dyn Job>>,
}

static POOL: Lazy<Pool> = Lazy::new(|| Pool { state: Mutex::default(), wake: Condvar::new() });

/// Works at the job on this thread and on as many helpers as are free, at most `threads` in all. Returns when this
/// thread finds nothing more to take up; helpers may still be busy then.
pub(crate) fn share<J: Job + 'static>(job: &Arc<J>, threads: usize) {
    let _at_work = AtWork::enter();
    for _ in 1..threads {
        if !POOL.help(job.clone()) {
            break;
        }
    }
    job.work();
}

/// Processors this process may use.
pub(crate) fn processors() -> usize {
    static COUNT: Lazy<usize> = Lazy::new(|| std::thread::available_parallelism().map_or(1, usize::from));
    *COUNT
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the job to a helper, if a processor is free for one.
    fn help(&'static self, job: Arc<dyn Job>) -> bool {
        let mut state = self.lock();
        if state.at_work >= processors() {
            return false;
        }
        state.at_work += 1;
        state.jobs.push_back(job);
        if state.waiting >= state.jobs.len() {
            self.wake.notify_one();
            return true;
        }
        let started = std::thread::Builder::new().name("sparkdl-helper".to_owned()).spawn(|| self.serve());
        if started.is_err() {
            // The caller does the work alone; a waiting helper must not count a job that is gone.
            state.jobs.pop_back();
            state.at_work -= 1;
        }
        started.is_ok()
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job.work();
                drop(job);
                state = self.lock();
                state.at_work -= 1;
                continue;
            }
            state.waiting += 1;
            let (guard, waited) =
                self.wake.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.waiting -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                return;
            }
        }
    }
}

/// A calling thread at work; it never waits for a place.
struct AtWork;

impl AtWork {
    fn enter() -> Self {
        POOL.lock().at_work += 1;
        AtWork
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        POOL.lock().at_work -= 1;
    }
}

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic becomes an error of kind `Internal` with its text and place.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    note_places();
    // What `work` borrows is dropped or left for good after a panic: the batch fails as a whole.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(defect(&*panic)))
}

/// Notes where a panic happened, then does what the process did about panics before.
fn note_places() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string);
            // The thread may be at its end already: then nobody can ask for the place either.
            let _ = PLACE.try_with(|noted| noted.replace(place));
            before(info);
        }));
    });
}

fn defect(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text");
    let place =
        PLACE.with(|noted| noted.borrow_mut().take()).unwrap_or_else(|| "an unknown place".to_owned());
    Error::new(ErrorKind::Internal, format!("a defect of sparkdl, please report it: {text} at {place}"))
}
