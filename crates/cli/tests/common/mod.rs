//! Runs the command as a user does, with a limit on how long it may take.
#![allow(dead_code, reason = "no test file needs all of it")]
#![allow(clippy::unwrap_used, reason = "clippy doesn't see that this is part of the tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use serde_json::Value;

/// No test takes nearly this long; a hanging program is killed so that the test fails.
const LIMIT: Duration = Duration::from_secs(300);

/// The command, away from the settings of the user who runs the tests. The KV cache is small, so that tests may run
/// side by side.
pub(crate) fn millrace(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.args(args);
    for variable in ["MILLRACE_API_KEY", "MILLRACE_CPU", "RUST_LOG", "HF_TOKEN", "HF_HOME"] {
        command.env_remove(variable);
    }
    command.env("HF_HUB_OFFLINE", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str], input: &str) -> Output {
    let mut child = millrace(args).spawn().unwrap();
    // A program that fails early may have closed its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let _guard = watch(&child);
    child.wait_with_output().unwrap()
}

/// Standard output of a run that succeeds.
pub(crate) fn stdout(args: &[&str], input: &str) -> String {
    let output = run(args, input);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The one sentence on standard error of a run that fails with `code`.
pub(crate) fn failure(args: &[&str], code: i32) -> String {
    let output = run(args, "");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    stderr
}

/// [`failure`] with code 1, which says one sentence and no more.
pub(crate) fn sentence(args: &[&str]) -> String {
    let stderr = failure(args, 1);
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    stderr.trim_end().strip_prefix("error: ").unwrap_or_else(|| panic!("{stderr}")).to_owned()
}

/// A file or folder of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A copy of the demo model that may be spoiled.
pub(crate) fn copy_of_demo() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ] {
        std::fs::copy(repository("models/demo").join(file), folder.path().join(file)).unwrap();
    }
    folder
}

/// Kills `child` if the guard lives too long.
fn watch(child: &Child) -> Sender<()> {
    let (guard, dropped) = mpsc::channel();
    let id = child.id();
    std::thread::spawn(move || {
        if dropped.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            signal(id, "KILL");
        }
    });
    guard
}

fn signal(id: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().unwrap();
    assert!(status.success());
}

/// A running command that is talked to.
pub(crate) struct Session {
    child: Child,
    pub(crate) stdout: ChildStdout,
    stdin: Option<ChildStdin>,
    _guard: Sender<()>,
}

impl Session {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = millrace(args).stderr(Stdio::inherit()).spawn().unwrap();
        let guard = watch(&child);
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, stdout, stdin, _guard: guard }
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Ends its input and waits for the end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.stdin = None;
        self.child.wait().unwrap()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `millrace serve`.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: String,
    _guard: Sender<()>,
}

impl Server {
    /// Starts one on a free port and waits until it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut all = vec!["serve", "--port", "0", "--kv-cache-memory", "128M"];
        all.extend(args);
        let mut command = millrace(&all);
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let guard = watch(&child);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, stdout, address, _guard: guard }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Status and body of a request.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = self.send(method, path, headers, body);
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{text}"));
        (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// Sends a request; its answer is up to the caller.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        let head =
            format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n");
        stream.write_all((head + body).as_bytes()).unwrap();
        stream
    }

    /// The JSON of an answer with status 200.
    pub(crate) fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, text) = self.request(method, path, "", body);
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end; also gives what it printed after its first line.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
