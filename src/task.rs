//! What is done beside the requests as long as there are any.
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::runtime::Handle;

/// A task that begins with the first who needs it, and anew if the runtime in which it ran has ended.
#[derive(Debug, Default)]
pub(crate) struct Task(Arc<AtomicBool>);

/// Dropped with the task, however it ends.
struct Running(Arc<AtomicBool>);

impl Task {
    /// Whether it runs.
    #[inline]
    pub(crate) fn runs(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Begins in this runtime, if there is one, and it does not run. Whether it has begun.
    pub(crate) fn begin<F>(&self, work: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.runs() {
            return false;
        }
        let Ok(runtime) = Handle::try_current() else { return false };
        if self.0.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (running, work) = (Running(Arc::clone(&self.0)), work());
        runtime.spawn(async move {
            work.await;
            drop(running);
        });
        true
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn it_begins_anew_in_another_runtime() {
        let task = Task::default();
        assert!(!task.begin(pending), "there is no runtime");
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                assert!(task.begin(pending));
                assert!(task.runs() && !task.begin(pending));
            });
            drop(runtime);
            assert!(!task.runs());
        }
    }

    #[tokio::test]
    async fn it_begins_anew_after_a_panic() {
        let task = Task::default();
        assert!(task.begin(|| async { panic!("on purpose") }));
        tokio::task::yield_now().await;
        assert!(!task.runs() && task.begin(pending));
    }
}
