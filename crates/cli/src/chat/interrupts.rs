//! Ctrl-C: ends an answer, not the program.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// Exit code of a program that Ctrl-C ended (128 + SIGINT).
const INTERRUPTED: i32 = 130;

/// Ctrl-C as an event.
pub(super) struct Interrupts(Arc<Shared>);

#[derive(Default)]
struct Shared {
    pressed: Notify,
    answering: AtomicBool,
}

/// While it lives, Ctrl-C belongs to the answer.
pub(super) struct Answering<'a>(&'a Shared);

impl Interrupts {
    /// From now on Ctrl-C doesn't end the program, except between the answers of a script: a line editor reads the
    /// key itself, but nothing else reads it from a pipe.
    pub(super) fn watch(runtime: &Runtime, terminal: bool) -> Self {
        let shared = Arc::new(Shared::default());
        let watcher = shared.clone();
        // The handler must be there before the line editor first saves and restores the key's action.
        let _inside = runtime.enter();
        let pressed = millrace_server::interrupts();
        runtime.spawn(async move {
            let mut pressed = pin!(pressed);
            while pressed.next().await.is_some() {
                if watcher.answering.load(Ordering::Acquire) {
                    watcher.pressed.notify_one();
                } else if !terminal {
                    std::process::exit(INTERRUPTED);
                }
            }
        });
        Self(shared)
    }

    /// An answer begins.
    pub(super) fn answering(&self) -> Answering<'_> {
        self.0.answering.store(true, Ordering::Release);
        Answering(&self.0)
    }

    /// The next Ctrl-C during an answer.
    pub(super) async fn next(&self) {
        self.0.pressed.notified().await;
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.answering.store(false, Ordering::Release);
    }
}
