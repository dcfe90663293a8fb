//! One connection to one server, from the greeting to the end.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use rmcp::{
    ClientHandler, RoleClient, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig,
        ClientRequest, Implementation, PaginatedRequestParams, PingRequest,
    },
    service::{NotificationContext, Peer, RunningServiceCancellationToken, ServiceError},
    transport::{IntoTransport, async_rw::AsyncRwTransport},
};
use serde_json::{Map, Value};
use tokio::{sync::Notify, time::timeout};

use crate::{
    Endpoint, McpLimits, ServerSpec,
    inbound::{Flooded, Inbound},
    process::Process,
    remote, sse,
    tools::{Offer, Offers},
};

/// Pages of a list of tools that are read.
const MOST_PAGES: usize = 256;

/// Makes connections. A trait, so that tests can put servers of their own at the other end.
pub(crate) trait Connect: Send + Sync + 'static {
    /// Connects and greets.
    fn connect(&self) -> BoxFuture<'_, Result<Session, String>>;
}

/// Connects as a configuration says.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) spec: Arc<ServerSpec>,
    pub(crate) limits: Arc<McpLimits>,
}

impl Connect for Connector {
    fn connect(&self) -> BoxFuture<'_, Result<Session, String>> {
        async {
            match &self.spec.endpoint {
                Endpoint::Stdio(stdio) => {
                    let (process, stdin, stdout) =
                        Process::start(&self.spec.name, stdio, &self.spec.redactor)?;
                    let flooded = Flooded::default();
                    let McpLimits { message_bytes, bytes_per_second, .. } = *self.limits;
                    let stdout = Inbound::new(stdout, message_bytes, bytes_per_second, flooded.clone());
                    // The reader's own bound, at which it ends, comes before the transport's, at which it would go on.
                    let transport = AsyncRwTransport::new_client(stdout, stdin)
                        .with_max_line_length(message_bytes.saturating_add(1));
                    let session = Session::open(transport).await.map_err(|error| explain(error, &flooded))?;
                    Ok(Session { process: Some(process), flooded, ..session })
                }
                Endpoint::Http(remote) => Session::open(remote::transport(remote, &self.limits)?).await,
                Endpoint::Sse(remote) => Session::open(sse::connect(remote, &self.limits).await?).await,
            }
        }
        .boxed()
    }
}

fn explain(error: String, flooded: &Flooded) -> String {
    if flooded.get() { TOO_LONG.into() } else { error }
}

const TOO_LONG: &str = "it sent a message that is too long";

/// An open connection. Dropping it closes it, and kills the child process.
pub(crate) struct Session {
    peer: Peer<RoleClient>,
    stop: RunningServiceCancellationToken,
    /// Done when the other side is gone.
    done: Shared<BoxFuture<'static, ()>>,
    changed: Arc<Notify>,
    process: Option<Process>,
    flooded: Flooded,
}

impl Session {
    /// Greets a server over a transport.
    ///
    /// # Errors
    /// What went wrong, in words that may hold secrets.
    pub(crate) async fn open<T, E, A>(transport: T) -> Result<Self, String>
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let changed = Arc::new(Notify::new());
        let client = Client { changed: changed.clone() };
        let service = client.serve(transport).await.map_err(|error| error.to_string())?;
        Ok(Self {
            peer: service.peer().clone(),
            stop: service.cancellation_token(),
            // How the connection's task ended makes no difference: it has.
            done: service.waiting().map(drop).boxed().shared(),
            changed,
            process: None,
            flooded: Flooded::default(),
        })
    }

    /// For calls.
    pub(crate) fn peer(&self) -> &Peer<RoleClient> {
        &self.peer
    }

    /// Told when the list of tools has changed.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Waits until the other side is gone; says why.
    pub(crate) async fn gone(&self) -> &'static str {
        self.done.clone().await;
        if self.flooded.get() { TOO_LONG } else { "it has closed the connection" }
    }

    /// Closes in good order.
    pub(crate) async fn close(mut self, limits: &McpLimits) {
        self.stop.cancel();
        let _ = timeout(limits.farewell, self.done).await;
        if let Some(process) = self.process.take() {
            process.end(limits).await;
        }
    }
}

/// Our side of the conversation: we offer nothing and ask for nothing but tools.
#[derive(Debug)]
struct Client {
    changed: Arc<Notify>,
}

impl ClientHandler for Client {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("millrace", env!("CARGO_PKG_VERSION")),
        )
    }
}

/// All tools that can be used.
///
/// # Errors
/// Why the list can't be had.
pub(crate) async fn list(
    peer: &Peer<RoleClient>,
    spec: &ServerSpec,
    limits: &McpLimits,
) -> Result<Vec<Offer>, String> {
    let mut offers = Offers::new(spec, limits);
    let mut page = PaginatedRequestParams::default();
    for _ in 0..MOST_PAGES {
        let listed = peer.list_tools(Some(page.clone())).await.map_err(|error| error.to_string())?;
        if !offers.add(listed.tools) {
            tracing::warn!("MCP server `{}` offers more tools than are taken", spec.name);
            break;
        }
        match listed.next_cursor {
            // The same cursor again would go on forever.
            Some(next) if page.cursor.as_ref() != Some(&next) => page.cursor = Some(next),
            _ => break,
        }
    }
    Ok(offers.finish())
}

/// Calls a tool. If the future is dropped, the server is told to give up.
///
/// # Errors
/// The connection's or the server's.
pub(crate) async fn call(
    peer: &Peer<RoleClient>,
    tool: String,
    arguments: Map<String, Value>,
) -> Result<CallToolResult, ServiceError> {
    match peer.call_tool_once(CallToolRequestParams::new(tool).with_arguments(arguments)).await? {
        CallToolResponse::Complete(result) => Ok(result),
        // Questions back and background tasks: nobody is there to answer, or to wait.
        _ => Err(ServiceError::UnexpectedResponse),
    }
}

/// Whether the server answers at all.
pub(crate) async fn ping(peer: &Peer<RoleClient>, within: Duration) -> bool {
    let request = ClientRequest::PingRequest(PingRequest::default());
    match timeout(within, peer.send_request(request)).await {
        Ok(Ok(_)) => true,
        // Servers that don't know it have answered nevertheless.
        Ok(Err(ServiceError::McpError(_))) => true,
        Ok(Err(_)) | Err(_) => false,
    }
}
