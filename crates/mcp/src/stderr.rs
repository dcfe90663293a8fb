//! What a child process says on its standard error goes to the log, a little at a time.

use std::{pin::pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::Instant,
};

use crate::{error::shorten, secret::Redactor};

/// Lines per window; more are counted and not shown.
const LINES: usize = 50;
const WINDOW: Duration = Duration::from_secs(10);
const LINE_CHARS: usize = 500;
const PIECE: usize = 8 << 10;

/// Reads until the end. Lines are logged at the level `info`, without the server's secrets.
pub(crate) async fn follow(server: String, stderr: impl AsyncRead, redactor: Redactor) {
    let mut stderr = pin!(stderr);
    let mut log =
        Log::new(|line: &str| tracing::info!(target: "millrace_mcp::stderr", "{server}: {line}"), redactor);
    let mut piece = [0; PIECE];
    while let Ok(count @ 1..) = stderr.read(&mut piece).await {
        log.push(&piece[..count]);
    }
    log.end_line();
    log.end_window();
}

/// Splits into lines and counts them.
struct Log<F> {
    show: F,
    redactor: Redactor,
    line: Vec<u8>,
    shown: usize,
    hidden: usize,
    window: Instant,
}

impl<F: FnMut(&str)> Log<F> {
    fn new(show: F, redactor: Redactor) -> Self {
        Self { show, redactor, line: Vec::new(), shown: 0, hidden: 0, window: Instant::now() }
    }

    fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            // What is kept is enough for the characters that are shown, however many bytes each has.
            let room = (4 * LINE_CHARS + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if self.window.elapsed() >= WINDOW {
            self.end_window();
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        if self.shown == LINES {
            self.hidden += 1;
            return;
        }
        self.shown += 1;
        // Control characters would let a server draw on the operator's terminal.
        let clean: String =
            self.redactor.clean(text).chars().filter(|c| *c == '\t' || !c.is_control()).collect();
        (self.show)(&shorten(&clean, LINE_CHARS));
    }

    fn end_window(&mut self) {
        if self.hidden > 0 {
            (self.show)(&format!("[{} more lines are not shown]", self.hidden));
        }
        (self.shown, self.hidden, self.window) = (0, 0, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[&[u8]]) -> Vec<String> {
        let mut redactor = Redactor::default();
        redactor.add("hunter2", true);
        let mut lines = Vec::new();
        let mut log = Log::new(|line: &str| lines.push(line.to_owned()), redactor);
        input.iter().for_each(|bytes| log.push(bytes));
        log.end_line();
        log.end_window();
        drop(log);
        lines
    }

    #[tokio::test]
    async fn lines_are_whole_clean_and_short() {
        assert_eq!(
            lines(&[b"one\r\ntw", b"o\n\n", b"the key is hunter2\x1b[2J\n", b"last"]),
            ["one", "two", "the key is [secret][2J", "last"]
        );
        let long = lines(&[&b"x".repeat(1 << 20), b"\nafter\n"]);
        assert_eq!((long[0].chars().count(), long[1].as_str()), (LINE_CHARS + 1, "after"));
    }

    #[tokio::test]
    async fn a_flood_is_counted() {
        let shown = lines(&[&b"spam\n".repeat(10_000)]);
        assert_eq!(shown.len(), LINES + 1);
        assert_eq!(shown[LINES], "[9950 more lines are not shown]");
    }
}
