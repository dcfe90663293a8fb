//! What a child process writes, kept within bounds.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// Bytes taken at a time.
const PIECE: usize = 16 << 10;

/// A reader that ends with an error at a line that is too long, and that reads no faster than it is allowed: who
/// writes more waits at a full pipe, and costs nobody anything.
pub(crate) struct Inbound<R> {
    inner: R,
    line: usize,
    longest_line: usize,
    rate: usize,
    /// Bytes that may be read now; at most a second's worth. Negative after a read that took too much.
    allowance: f64,
    counted: Instant,
    pause: Option<Pin<Box<Sleep>>>,
    flooded: Flooded,
}

/// Whether the reader ended because of a line that was too long.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flooded(Arc<AtomicBool>);

impl Flooded {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<R> Inbound<R> {
    /// `rate` is in bytes per second.
    pub(crate) fn new(inner: R, longest_line: usize, rate: usize, flooded: Flooded) -> Self {
        let rate = rate.max(1);
        let (allowance, counted) = (rate as f64, Instant::now());
        Self { inner, line: 0, longest_line, rate, allowance, counted, pause: None, flooded }
    }

    /// Adds what the time since the last look has earned.
    fn earn(&mut self) {
        let now = Instant::now();
        let earned = (now - self.counted).as_secs_f64() * self.rate as f64;
        self.allowance = (self.allowance + earned).min(self.rate as f64);
        self.counted = now;
    }

    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line += part.len();
            if self.line > self.longest_line {
                self.flooded.0.store(true, Ordering::Relaxed);
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
            }
            if part.ends_with(b"\n") {
                self.line = 0;
            }
        }
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Inbound<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        let mut piece = [0; PIECE];
        let most = piece.len().min(buf.remaining());
        let mut piece = ReadBuf::new(&mut piece[..most]);
        ready!(Pin::new(&mut this.inner).poll_read(cx, &mut piece))?;
        let bytes = piece.filled();
        this.check(bytes)?;
        buf.put_slice(bytes);
        this.earn();
        this.allowance -= bytes.len() as f64;
        if this.allowance < 0.0 {
            let seconds = -this.allowance / this.rate as f64;
            this.pause = Some(Box::pin(sleep(Duration::from_secs_f64(seconds))));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read_all(input: &[u8], longest: usize, rate: usize) -> (io::Result<Vec<u8>>, bool) {
        let flooded = Flooded::default();
        let mut inbound = Inbound::new(input, longest, rate, flooded.clone());
        let mut all = Vec::new();
        let result = inbound.read_to_end(&mut all).await.map(|_| all);
        (result, flooded.get())
    }

    #[tokio::test]
    async fn lines_are_bounded_and_their_number_is_not() {
        let lines = b"abcd\n".repeat(10_000);
        let (all, flooded) = read_all(&lines, 5, 1 << 20).await;
        assert_eq!((all.unwrap(), flooded), (lines, false));
        let (result, flooded) = read_all(b"abc\nabcdef", 5, 1 << 20).await;
        assert_eq!((result.unwrap_err().kind(), flooded), (io::ErrorKind::InvalidData, true));
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_rate_takes_its_time() {
        let start = Instant::now();
        let lines = b"abcd\n".repeat(200_000);
        let (all, _) = read_all(&lines, 5, 100_000).await;
        assert_eq!(all.unwrap().len(), 1_000_000);
        // The first second's worth is free.
        let seconds = start.elapsed().as_secs_f64();
        assert!((8.0..9.5).contains(&seconds), "{seconds}");
    }
}
