//! The thread pool: persistent workers that spin for a moment and then park.
//!
//! A job is a number of tasks that the caller and whichever workers are awake claim one by one. The caller does not
//! wait for workers that never joined, so that a short job costs nothing when everyone sleeps.

#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Longer than the gaps between the operations of a step, shorter than anything that a scheduler notices.
const SPIN: Duration = Duration::from_micros(50);

/// A task panicked; its job's results are incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task of the CPU thread pool panicked")]
pub struct TaskPanicked;

type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// `threads` threads, the calling one included.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One job at a time: the pool may move between threads but not be shared by them.
    not_sync: PhantomData<Cell<()>>,
}

/// Bits of [`Shared::state`]: epoch << 32 | OPEN | STOP | number of workers inside the job.
const OPEN: u64 = 1 << 31;
const STOP: u64 = 1 << 30;
const INSIDE: u64 = STOP - 1;

fn epoch(state: u64) -> u64 {
    state >> 32
}

/// Alone in its cache lines: written by one side while the other spins on it.
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    state: Padded<AtomicU64>,
    /// Next task to claim.
    next: Padded<AtomicUsize>,
    tasks: AtomicUsize,
    /// Written by the caller while no worker is inside.
    job: UnsafeCell<Option<*const Task<'static>>>,
    panicked: AtomicBool,
    /// Per worker: it is parked, or about to.
    parked: Box<[AtomicBool]>,
    /// The caller, when it got tired of spinning for the last workers.
    waiting: AtomicBool,
    caller: Mutex<Option<Thread>>,
}

// SAFETY: `job` is written only between jobs (no worker inside) and read only inside one; the accesses are ordered
// by `state`.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is only followed while the caller that lent it waits.
unsafe impl Send for Shared {}

impl Pool {
    /// Starts `threads - 1` workers and returns when all of them run: what a thread allocates at its start does not
    /// fall into somebody's step. If the system refuses some, the pool has fewer threads.
    pub fn new(threads: usize) -> Self {
        let count = threads.clamp(1, 1024) - 1;
        let shared = Arc::new(Shared {
            state: Padded(AtomicU64::new(0)),
            next: Padded(AtomicUsize::new(0)),
            tasks: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            parked: (0..count).map(|_| AtomicBool::new(false)).collect(),
            waiting: AtomicBool::new(false),
            caller: Mutex::new(None),
        });
        let (starting, started) = mpsc::channel::<()>();
        let workers = (0..count)
            .map_while(|index| {
                let (shared, starting) = (shared.clone(), starting.clone());
                let run = move || {
                    drop(starting);
                    worker(&shared, index);
                };
                std::thread::Builder::new().name(format!("millrace-cpu-{}", index + 1)).spawn(run).ok()
            })
            .collect();
        drop(starting);
        // Nothing is ever sent: this is the last worker's end of the channel going away.
        let _ = started.recv();
        Self { shared, workers, not_sync: PhantomData }
    }

    /// Threads that work on a job, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(index, thread)` once for each index below `tasks`, on any thread, in any order, and returns when
    /// all are done. `thread` is below [`Pool::threads`] and differs between calls that run at the same time.
    ///
    /// # Errors
    /// A task panicked; tasks not yet claimed by then were not run.
    pub fn run(&self, tasks: usize, task: &Task<'_>) -> Result<(), TaskPanicked> {
        if tasks <= 1 || self.workers.is_empty() {
            let all = || (0..tasks).for_each(|index| task(index, 0));
            return catch_unwind(AssertUnwindSafe(all)).map_err(|_| TaskPanicked);
        }
        self.open(tasks, task);
        self.shared.work(task, 0);
        self.close();
        if self.shared.panicked.swap(false, SeqCst) { Err(TaskPanicked) } else { Ok(()) }
    }

    fn open(&self, tasks: usize, task: &Task<'_>) {
        let shared = &*self.shared;
        let pointer: *const Task<'_> = task;
        // SAFETY: only the lifetime changes. `close` returns when no worker is inside, so nobody follows the pointer
        // after `run` has returned.
        let pointer = unsafe { std::mem::transmute::<*const Task<'_>, *const Task<'static>>(pointer) };
        // SAFETY: the job is closed and empty, so no worker reads the cell.
        unsafe { *shared.job.get() = Some(pointer) };
        shared.tasks.store(tasks, SeqCst);
        shared.next.0.store(0, SeqCst);
        let old = shared.state.0.load(SeqCst);
        shared.state.0.store((epoch(old) + 1) << 32 | OPEN, SeqCst);
        for (worker, parked) in self.workers.iter().zip(&shared.parked).take(tasks - 1) {
            if parked.load(SeqCst) && parked.swap(false, SeqCst) {
                worker.thread().unpark();
            }
        }
    }

    /// Lets no more workers in and waits for those inside.
    fn close(&self) {
        let shared = &*self.shared;
        shared.state.0.fetch_and(!OPEN, SeqCst);
        let empty = || shared.state.0.load(SeqCst) & INSIDE == 0;
        if spin_until(empty) {
            return;
        }
        *shared.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
        shared.waiting.store(true, SeqCst);
        while !empty() {
            std::thread::park();
        }
        shared.waiting.store(false, SeqCst);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.0.fetch_or(STOP, SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches its tasks' panics, so joining cannot fail in a way that matters here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn work(&self, task: &Task<'_>, thread: usize) {
        let tasks = self.tasks.load(SeqCst);
        let claim = || loop {
            let index = self.next.0.fetch_add(1, SeqCst);
            if index >= tasks {
                break;
            }
            task(index, thread);
        };
        if catch_unwind(AssertUnwindSafe(claim)).is_err() {
            self.panicked.store(true, SeqCst);
            // The rest of the job is pointless.
            self.next.0.store(tasks, SeqCst);
        }
    }

    /// Joins the job of this epoch if it is still open.
    fn enter(&self, job: u64) -> bool {
        let mut state = self.state.0.load(SeqCst);
        while state & OPEN != 0 && epoch(state) == job {
            match self.state.0.compare_exchange_weak(state, state + 1, SeqCst, SeqCst) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    fn leave(&self) {
        let before = self.state.0.fetch_sub(1, SeqCst);
        let last = before & INSIDE == 1 && before & OPEN == 0;
        if last
            && self.waiting.load(SeqCst)
            && let Some(caller) = &*self.caller.lock().unwrap_or_else(PoisonError::into_inner)
        {
            caller.unpark();
        }
    }
}

fn worker(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let news = || {
            let state = shared.state.0.load(SeqCst);
            state & STOP != 0 || state & OPEN != 0 && epoch(state) != seen
        };
        if !spin_until(news) {
            // Told again each time: whoever wakes us clears the flag, and may have finished without us by now.
            loop {
                shared.parked[index].store(true, SeqCst);
                if news() {
                    break;
                }
                std::thread::park();
            }
            shared.parked[index].store(false, SeqCst);
        }
        let state = shared.state.0.load(SeqCst);
        if state & STOP != 0 {
            return;
        }
        seen = epoch(state);
        if shared.enter(seen) {
            // SAFETY: we are inside, so the cell is not written and the task it points to is alive.
            if let Some(task) = unsafe { *shared.job.get() } {
                // SAFETY: as above.
                shared.work(unsafe { &*task }, index + 1);
            }
            shared.leave();
        }
    }
}

/// Spins for up to [`SPIN`]; whether the condition came true.
fn spin_until(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            if condition() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_runs_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 7, 100] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|index, thread| {
                    assert!(thread < threads);
                    counts[index].fetch_add(1, SeqCst);
                })
                .unwrap();
                assert!(counts.iter().all(|c| c.load(SeqCst) == 1));
            }
        }
    }

    #[test]
    fn many_short_jobs() {
        let pool = Pool::new(4);
        let sum = AtomicUsize::new(0);
        for round in 0..20_000 {
            pool.run(1 + round % 5, &|_, _| {
                sum.fetch_add(1, SeqCst);
            })
            .unwrap();
        }
        assert_eq!(sum.into_inner(), 60_000);
    }

    #[test]
    fn workers_wake_from_parking() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            // Wait for the event itself: every worker has parked.
            while !pool.shared.parked.iter().all(|p| p.load(SeqCst)) {
                std::thread::yield_now();
            }
            // Each task waits for the others, so all three threads have to come.
            let barrier = std::sync::Barrier::new(3);
            pool.run(3, &|_, _| {
                barrier.wait();
            })
            .unwrap();
        }
    }

    #[test]
    fn a_panic_is_reported_and_the_pool_lives_on() {
        for threads in [1, 4] {
            let pool = Pool::new(threads);
            assert_eq!(pool.run(50, &|index, _| assert!(index != 20, "on purpose")), Err(TaskPanicked));
            assert_eq!(pool.run(50, &|_, _| ()), Ok(()));
        }
    }
}
