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
    /// There is a job for a helper.
    wake: Condvar,
    /// A helper has let go of a job.
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// Threads inside `share`, and helpers with a job.
    at_work: usize,
    waiting: usize,
    jobs: VecDeque<Arc<dyn Job>>,
    /// Addresses of the jobs that helpers hold, one for each helper.
    held: Vec<usize>,
}

static POOL: Lazy<Pool> =
    Lazy::new(|| Pool { state: Mutex::default(), wake: Condvar::new(), done: Condvar::new() });

/// Works at the job on this thread and on as many helpers as are free, at most `threads` in all. When it returns, no
/// helper holds the job any more: what the job refers to may go.
pub(crate) fn share<J: Job + 'static>(job: Arc<J>, threads: usize) -> Arc<J> {
    POOL.lock().at_work += 1;
    let shared = Shared { job };
    for _ in 1..threads {
        if !POOL.help(shared.job.clone()) {
            break;
        }
    }
    shared.job.work();
    shared.job.clone()
}

/// A job that helpers may hold; dropping it, also in a panic, calls them back.
struct Shared<J: Job + 'static> {
    job: Arc<J>,
}

impl<J: Job + 'static> Drop for Shared<J> {
    fn drop(&mut self) {
        let place = Arc::as_ptr(&self.job).cast::<()>();
        let mut state = POOL.lock();
        let queued = state.jobs.len();
        state.jobs.retain(|job| Arc::as_ptr(job).cast::<()>() != place);
        state.at_work -= 1 + queued - state.jobs.len();
        while state.held.contains(&(place as usize)) {
            state = POOL.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
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
                let place = Arc::as_ptr(&job).cast::<()>() as usize;
                state.held.push(place);
                drop(state);
                // A piece that is lost this way fails the batch; this thread and the caller's wait go on.
                let _ = catch_unwind(AssertUnwindSafe(|| job.work()));
                drop(job);
                state = self.lock();
                state.at_work -= 1;
                if let Some(index) = state.held.iter().position(|held| *held == place) {
                    state.held.swap_remove(index);
                }
                self.done.notify_all();
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
