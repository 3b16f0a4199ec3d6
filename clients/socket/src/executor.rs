//! The executor for the client's tasks: the tasks of `async-task` and one run queue, which it owns.
//!
//! A task is polled only after a wake, so the cost of a wake does not depend on the number of tasks.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use async_task::Runnable;
use core::marker::PhantomData;

pub use async_task::Task;

/// Woken tasks in the order of their wakes. Each task is in the queue at most once, so the number of tasks bounds it.
type RunQueue = spin::Mutex<VecDeque<Runnable>>;

/// An executor for one thread. Copies are handles of one executor. Its queue lives as long as the program, so create only one.
#[derive(Clone, Copy)]
pub struct Executor {
    queue: &'static RunQueue,
    /// Keeps the executor, and so every poll and drop of a task, on the thread that created it.
    _one_thread: PhantomData<*mut ()>,
}

impl Executor {
    /// Creates an executor without tasks. Leaks its queue.
    pub fn new() -> Executor {
        let queue = Box::leak(Box::new(spin::Mutex::new(VecDeque::with_capacity(64))));
        Executor {
            queue,
            _one_thread: PhantomData,
        }
    }

    /// Starts a task. Dropping the returned handle cancels the task; [`Task::detach`] lets the task go on without a handle.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let queue = self.queue;
        let schedule = move |runnable| queue.lock().push_back(runnable);
        // SAFETY: future and output are 'static. The future need not be Send, because its Runnable exists in two places only: in
        // the queue, which is never dropped, or in `try_tick` on this thread (Executor is not Send). The schedule closure is Send
        // + Sync, so any thread may use and drop wakers: a waker only pushes to the queue.
        let (runnable, task) = unsafe { async_task::spawn_unchecked(future, schedule) };
        runnable.schedule();
        task
    }

    /// Polls the task that was woken first. Returns true if there was one.
    pub fn try_tick(&self) -> bool {
        let runnable = self.queue.lock().pop_front();
        match runnable {
            Some(runnable) => {
                runnable.run();
                true
            }
            None => false,
        }
    }
}

impl Default for Executor {
    fn default() -> Self {
        Executor::new()
    }
}

/// Lets all other woken tasks run first.
pub async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(|cx| {
        if core::mem::replace(&mut yielded, true) {
            return core::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        core::task::Poll::Pending
    })
    .await
}
