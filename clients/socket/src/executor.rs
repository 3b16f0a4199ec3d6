//! The executor that clients run their tasks on: `async-task`'s tasks and one run queue.
//!
//! A task is polled only after it was woken, so a wake for one socket costs the same with one task as with sixty.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use async_task::Runnable;
use core::marker::PhantomData;

pub use async_task::Task;

/// Tasks that were woken, in that order. Each is in it at most once, so it is as long as there are tasks.
type RunQueue = spin::Mutex<VecDeque<Runnable>>;

/// An executor for one thread. A copy is a handle of the same; its queue lives as long as the program, so make one.
#[derive(Clone, Copy)]
pub struct Executor {
    queue: &'static RunQueue,
    /// Keeps it, and with it every poll and every drop of a task, on the thread that made it.
    _one_thread: PhantomData<*mut ()>,
}

impl Executor {
    /// An executor without tasks. Leaks its queue.
    pub fn new() -> Executor {
        let queue = Box::leak(Box::new(spin::Mutex::new(VecDeque::with_capacity(64))));
        Executor {
            queue,
            _one_thread: PhantomData,
        }
    }

    /// Starts a task. Dropping the returned handle cancels it; [`Task::detach`] lets it go on without one.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let queue = self.queue;
        let schedule = move |runnable| queue.lock().push_back(runnable);
        // SAFETY: future and output are 'static. The future need not be Send because its Runnable is only ever in the
        // queue, which is never dropped, or taken out of it by `try_tick` on this thread (Executor is not Send). The
        // schedule closure is Send + Sync, so wakers may be used and dropped anywhere: all they do is push.
        let (runnable, task) = unsafe { async_task::spawn_unchecked(future, schedule) };
        runnable.schedule();
        task
    }

    /// Polls the task that was woken first. Returns whether there was one.
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

/// Lets the other tasks that were woken run first.
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
