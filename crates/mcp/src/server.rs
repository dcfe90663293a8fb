//! One server over its whole life: connect, serve calls, and connect again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rmcp::{
    RoleClient,
    service::{Peer, ServiceError},
};
use serde_json::{Map, Value};
use tokio::{
    select,
    sync::{Notify, Semaphore, watch},
    time::{sleep, timeout},
};

use crate::{
    CallStats, McpError, McpLimits, ServerSpec, ToolOutput,
    backoff::Backoff,
    counts::Counts,
    error::shorten,
    session::{self, Connect, Session},
    tools::Offer,
};

/// Longest reason that is passed on, in characters.
const LONGEST_REASON: usize = 300;

/// What a server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerState {
    /// The configuration says that it stays down.
    Disabled,
    /// It is being started or reached.
    #[default]
    Connecting,
    /// Its tools can be called.
    Ready,
    /// It failed and will be tried again after a pause.
    Waiting,
    /// We are shutting down.
    Stopped,
}

impl ServerState {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Connecting => "connecting",
            Self::Ready => "connected",
            Self::Waiting => "error",
            Self::Stopped => "disconnected",
        }
    }
}

/// A server as others may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// What it is doing.
    pub state: ServerState,
    /// `stdio`, `http` or `sse`.
    pub transport: &'static str,
    /// How many tools can be called.
    pub tools: usize,
    /// Attempts to connect after the first.
    pub restarts: u64,
    /// Why it isn't ready, or wasn't when it last failed; without secrets.
    pub error: Option<String>,
    /// What became of its calls.
    pub calls: CallStats,
}

/// A server, its state, and the way to call it.
pub(crate) struct Server {
    pub(crate) spec: Arc<ServerSpec>,
    limits: Arc<McpLimits>,
    connector: Box<dyn Connect>,
    now: watch::Sender<Now>,
    /// A call timed out: look whether the server still answers.
    suspect: Notify,
    calls: Semaphore,
    pub(crate) counts: Counts,
}

/// What is known at the moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Now {
    pub(crate) state: ServerState,
    error: Option<String>,
    attempts: u64,
    peer: Option<Peer<RoleClient>>,
    /// Of the last connection: they keep their names while the server is down.
    pub(crate) offers: Arc<[Offer]>,
}

/// Set when all is to end; so is a sender that is gone.
pub(crate) type Stop = watch::Receiver<bool>;

impl Server {
    pub(crate) fn new(spec: Arc<ServerSpec>, limits: Arc<McpLimits>, connector: Box<dyn Connect>) -> Self {
        let state = if spec.disabled { ServerState::Disabled } else { ServerState::Connecting };
        Self {
            now: watch::Sender::new(Now { state, ..Now::default() }),
            suspect: Notify::new(),
            calls: Semaphore::new(limits.concurrent_calls),
            counts: Counts::default(),
            spec,
            limits,
            connector,
        }
    }

    /// Runs until told to stop.
    pub(crate) async fn run(&self, mut stop: Stop) {
        if self.spec.disabled {
            return;
        }
        let mut backoff = Backoff::new(&self.limits);
        loop {
            self.now.send_modify(|now| {
                now.state = ServerState::Connecting;
                now.attempts += 1;
            });
            let mut up = Duration::ZERO;
            let Err(reason) = self.live(&mut stop, &mut up).await else { break };
            let pause = backoff.pause(up);
            let reason = shorten(&self.spec.redactor.clean(&reason), LONGEST_REASON);
            tracing::warn!("MCP server `{}`: {reason}; next attempt in {pause:?}", self.spec.name);
            self.now.send_modify(|now| {
                now.state = ServerState::Waiting;
                now.peer = None;
                now.error = Some(reason);
            });
            select! {
                () = stopped(&mut stop) => break,
                () = sleep(pause) => {}
            }
        }
        self.now.send_modify(|now| {
            now.state = ServerState::Stopped;
            now.peer = None;
        });
    }

    /// One connection from beginning to end. `Ok` if we end it, else the reason; `up` is how long it was ready.
    async fn live(&self, stop: &mut Stop, up: &mut Duration) -> Result<(), String> {
        let connected = select! {
            () = stopped(stop) => return Ok(()),
            connected = timeout(self.limits.startup, self.connector.connect()) => connected,
        };
        let late = || format!("it did not get ready within {:?}", self.limits.startup);
        let session = connected.map_err(|_| late())??;
        let result = select! {
            () = stopped(stop) => Ok(()),
            listed = timeout(self.limits.startup, self.list(session.peer())) => match listed {
                Err(_) => Err(late()),
                Ok(Err(reason)) => Err(reason),
                Ok(Ok(())) => {
                    let since = Instant::now();
                    let reason = self.watch_over(&session, stop).await;
                    *up = since.elapsed();
                    reason
                }
            },
        };
        // Calls must not go to a connection that is about to close.
        self.now.send_modify(|now| now.peer = None);
        session.close(&self.limits).await;
        result
    }

    /// Reads the tools and is ready with them.
    async fn list(&self, peer: &Peer<RoleClient>) -> Result<(), String> {
        let offers = session::list(peer, &self.spec, &self.limits).await?;
        tracing::info!("MCP server `{}` is ready with {} tools", self.spec.name, offers.len());
        self.now.send_modify(|now| {
            now.state = ServerState::Ready;
            now.error = None;
            now.peer = Some(peer.clone());
            now.offers = offers.into();
        });
        Ok(())
    }

    /// Follows changes until the connection ends or has to.
    async fn watch_over(&self, session: &Session, stop: &mut Stop) -> Result<(), String> {
        let changed = session.changed();
        loop {
            select! {
                biased;
                () = stopped(stop) => return Ok(()),
                reason = session.gone() => return Err(reason.to_owned()),
                () = self.suspect.notified() => {
                    if !session::ping(session.peer(), self.limits.ping).await {
                        return Err("it answers neither calls nor pings".into());
                    }
                }
                () = changed.notified() => {
                    match timeout(self.limits.startup, self.list(session.peer())).await {
                        Ok(listed) => listed?,
                        Err(_) => return Err("it does not list its tools any more".into()),
                    }
                    // However often it says so: changes in the meantime are seen once, afterwards.
                    select! {
                        () = stopped(stop) => return Ok(()),
                        () = sleep(self.limits.relist_pause) => {}
                    }
                }
            }
        }
    }

    /// Calls one of the server's tools by its own name. Dropping the future cancels the call.
    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<ToolOutput, McpError> {
        let name = || self.spec.name.clone();
        let (peer, state) = {
            let now = self.now.borrow();
            (now.peer.clone(), now.state)
        };
        let peer = peer.ok_or_else(|| McpError::NotReady { server: name(), state: state.as_str() })?;
        let limit = self.spec.timeout.unwrap_or(self.limits.call);
        let work = async {
            // Never closed, so the permit always comes.
            let _permit = self.calls.acquire().await.ok();
            session::call(&peer, tool.to_owned(), arguments).await
        };
        let result = match timeout(limit, work).await {
            Ok(result) => result.map_err(|error| self.failure(error)),
            Err(_) => {
                self.suspect.notify_one();
                Err(McpError::Timeout { server: name(), limit })
            }
        };
        result.map(|result| ToolOutput::new(&result, self.limits.result_bytes, &self.spec.redactor))
    }

    fn failure(&self, error: ServiceError) -> McpError {
        let server = self.spec.name.clone();
        match error {
            ServiceError::McpError(error) => {
                let reason = shorten(&self.spec.redactor.clean(&error.message), LONGEST_REASON);
                McpError::Refused { server, reason }
            }
            ServiceError::UnexpectedResponse => {
                McpError::Refused { server, reason: "its answer is no result of a tool".into() }
            }
            _ => McpError::Lost { server },
        }
    }

    /// What is known at the moment, and later.
    pub(crate) fn now(&self) -> watch::Receiver<Now> {
        self.now.subscribe()
    }

    pub(crate) fn status(&self) -> ServerStatus {
        let now = self.now.borrow();
        ServerStatus {
            name: self.spec.name.clone(),
            state: now.state,
            transport: self.spec.endpoint.transport(),
            tools: if now.state == ServerState::Ready { now.offers.len() } else { 0 },
            restarts: now.attempts.saturating_sub(1),
            error: now.error.clone(),
            calls: self.counts.stats(),
        }
    }
}

async fn stopped(stop: &mut Stop) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
