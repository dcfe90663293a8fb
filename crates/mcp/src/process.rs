//! Child processes: started without a shell, in a group of their own, and gone with all their children at the end.

use std::process::Stdio;

use tokio::{
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{McpLimits, StdioSpec, command, secret::Redactor, stderr};

/// A running child. Dropping it kills its whole group.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The child's own id, which is its group's too.
    group: Option<u32>,
}

impl Process {
    /// Starts a server's program; its standard error goes to the log.
    ///
    /// # Errors
    /// Why it can't be started.
    pub(crate) fn start(
        server: &str,
        spec: &StdioSpec,
        redactor: &Redactor,
    ) -> Result<(Self, ChildStdin, ChildStdout), String> {
        let program = command::find(&spec.command)?;
        let mut command = Command::new(&program);
        command
            .args(spec.args.iter().map(|arg| arg.expose()))
            .env_clear()
            .envs(command::inherited())
            .envs(spec.env.iter().map(|(name, value)| (name, value.expose())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(cwd) = &spec.cwd {
            command.current_dir(cwd);
        }
        // Its own group: a Ctrl-C in our terminal is ours alone, and its children can be found.
        #[cfg(unix)]
        command.process_group(0);
        let mut child =
            command.spawn().map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        let (Some(stdin), Some(stdout), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("its standard streams are missing".into());
        };
        tokio::spawn(stderr::follow(server.to_owned(), errors, redactor.clone()));
        Ok((Self { group: child.id(), child }, stdin, stdout))
    }

    /// Lets it end, after its standard input was closed: of itself, then on demand, then by force.
    pub(crate) async fn end(mut self, limits: &McpLimits) {
        if timeout(limits.farewell, self.child.wait()).await.is_err() {
            self.signal(Signal::Terminate);
            // Whether it obeys or not, the drop does the rest.
            let _ = timeout(limits.farewell, self.child.wait()).await;
        }
    }

    /// To the whole group, children of the child included.
    #[cfg(unix)]
    fn signal(&self, signal: Signal) {
        use rustix::process::{Pid, Signal as Number, kill_process_group};
        let group = self.group.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let number = match signal {
            Signal::Terminate => Number::TERM,
            Signal::Kill => Number::KILL,
        };
        if let Some(group) = group {
            // It fails if nobody is left, which is what is wanted.
            let _ = kill_process_group(group, number);
        }
    }

    #[cfg(not(unix))]
    fn signal(&self, _signal: Signal) {}
}

#[derive(Debug, Clone, Copy)]
enum Signal {
    Terminate,
    Kill,
}

impl Drop for Process {
    fn drop(&mut self) {
        // The child itself may be gone already; its group isn't before its last member is.
        self.signal(Signal::Kill);
    }
}
