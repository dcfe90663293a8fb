//! A server's life against servers in this process: time stands still where nothing happens.

use std::sync::atomic::{AtomicU32, Ordering};

use futures::{FutureExt, future::BoxFuture};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    },
    service::{Peer as ServerPeer, RequestContext},
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::{Endpoint, Manager, StdioSpec, secret::Redactor};

/// What happens at the other end.
#[derive(Debug)]
enum News {
    Connected(Remote),
    Cancelled,
}

/// The other end of a connection.
#[derive(Debug)]
struct Remote {
    peer: ServerPeer<RoleServer>,
    /// Ends it when dropped.
    _alive: oneshot::Sender<()>,
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Serves.
    Good,
    /// Can't be reached.
    Unreachable,
    /// Never greets.
    Mute,
    /// Serves, but answers no ping.
    Stuck,
}

/// Connects to servers in this process, each attempt by the next plan; the last one holds for all further ones.
struct Local {
    plans: Vec<Plan>,
    attempts: AtomicU32,
    news: mpsc::UnboundedSender<News>,
}

impl Connect for Local {
    fn connect(&self) -> BoxFuture<'_, Result<Session, String>> {
        async {
            let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) as usize;
            let plan = self.plans[attempt.min(self.plans.len() - 1)];
            let (ours, mut near) = tokio::io::duplex(1 << 16);
            match plan {
                Plan::Unreachable => return Err("no way with tok-12345".into()),
                // Held by the task, so that the connection stays open.
                // Held by the task, so that the connection stays open.
                Plan::Mute => drop(tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(near);
                })),
                Plan::Good | Plan::Stuck => {
                    let (mut far, theirs) = tokio::io::duplex(1 << 16);
                    let (alive, gone) = oneshot::channel::<()>();
                    let fake =
                        Fake { news: self.news.clone(), generation: attempt, stuck: plan == Plan::Stuck };
                    tokio::spawn(async move {
                        let news = fake.news.clone();
                        let service = fake.serve(theirs).await.unwrap();
                        news.send(News::Connected(Remote { peer: service.peer().clone(), _alive: alive }))
                            .ok();
                        service.waiting().await.ok();
                    });
                    tokio::spawn(async move {
                        select! {
                            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                            _ = gone => {}
                        }
                    });
                }
            }
            Session::open(ours).await
        }
        .boxed()
    }
}

/// A server with tools that misbehave.
struct Fake {
    news: mpsc::UnboundedSender<News>,
    generation: usize,
    stuck: bool,
}

impl ServerHandler for Fake {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build())
    }

    async fn ping(&self, _context: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        if self.stuck { std::future::pending().await } else { Ok(()) }
    }

    /// Two pages.
    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tool = |name: &'static str| Tool::new(name, "", Arc::new(Map::new()));
        let second = request.is_some_and(|page| page.cursor.is_some());
        let tools = if second { vec![tool("hang"), tool("refuse")] } else { vec![tool("echo")] };
        let mut page = ListToolsResult::with_all_items(tools);
        page.next_cursor = (!second).then(|| "2".to_owned());
        Ok(page)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        match request.name.as_ref() {
            "hang" => {
                context.ct.cancelled().await;
                self.news.send(News::Cancelled).ok();
                std::future::pending().await
            }
            "refuse" => Err(ErrorData::invalid_params("not with tok-12345", None)),
            _ => {
                let said = json!({"generation": self.generation, "arguments": request.arguments}).to_string();
                Ok(CallToolResult::success(vec![ContentBlock::text(said)]).into())
            }
        }
    }
}

fn start(plans: &[Plan], limits: McpLimits) -> (Manager, mpsc::UnboundedReceiver<News>) {
    let (sender, news) = mpsc::unbounded_channel();
    let mut redactor = Redactor::default();
    redactor.add("tok-12345", true);
    let spec = ServerSpec {
        name: "fake".into(),
        endpoint: Endpoint::Stdio(StdioSpec { command: "fake".into(), args: vec![], env: vec![], cwd: None }),
        timeout: None,
        disabled: false,
        allowed_tools: None,
        redactor,
    };
    let local = Local { plans: plans.to_vec(), attempts: AtomicU32::new(0), news: sender };
    let server = Server::new(Arc::new(spec), Arc::new(limits), Box::new(local));
    (Manager::over([server]), news)
}

async fn connected(news: &mut mpsc::UnboundedReceiver<News>) -> Remote {
    loop {
        if let News::Connected(remote) = news.recv().await.unwrap() {
            return remote;
        }
    }
}

async fn until(manager: &Manager, state: ServerState) -> ServerStatus {
    manager.server(0).now().wait_for(|now| now.state == state).await.unwrap();
    manager.servers().remove(0)
}

fn arguments() -> Map<String, Value> {
    Map::from_iter([("a".to_owned(), json!([1, "é"]))])
}

#[tokio::test]
async fn tools_are_listed_and_called() {
    let (manager, _news) = start(&[Plan::Good], McpLimits::default());
    manager.settled().await;
    let names: Vec<String> = manager.tools().into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["fake__echo", "fake__hang", "fake__refuse"]);
    let output = manager.call("fake__echo", arguments()).await.unwrap();
    assert_eq!(output.text, r#"{"generation":0,"arguments":{"a":[1,"é"]}}"#);
    assert_eq!(manager.call("echo", arguments()).await, Err(McpError::UnknownTool { name: "echo".into() }));
    let error = manager.call("fake__refuse", arguments()).await.unwrap_err();
    assert_eq!(error.to_string(), "MCP server `fake` refused the call: not with [secret]");
    manager.stop().await;
    assert_eq!(manager.servers()[0].state, ServerState::Stopped);
    let error = manager.call("fake__echo", arguments()).await.unwrap_err();
    assert_eq!(error, McpError::NotReady { server: "fake".into(), state: "disconnected" });
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_cancelled_and_the_server_lives_on() {
    let (manager, mut news) = start(&[Plan::Good], McpLimits::default());
    let _remote = connected(&mut news).await;
    until(&manager, ServerState::Ready).await;
    let error = manager.call("fake__hang", arguments()).await.unwrap_err();
    assert_eq!(error, McpError::Timeout { server: "fake".into(), limit: Duration::from_secs(30) });
    assert!(matches!(news.recv().await, Some(News::Cancelled)));
    let output = manager.call("fake__echo", arguments()).await.unwrap();
    assert!(output.text.contains(r#""generation":0"#), "{output:?}");
}

#[tokio::test]
async fn a_dropped_call_is_cancelled() {
    let (manager, mut news) = start(&[Plan::Good], McpLimits::default());
    let _remote = connected(&mut news).await;
    until(&manager, ServerState::Ready).await;
    let hanging = Box::pin(manager.call("fake__hang", arguments()));
    // The echo is answered after the hanging call was sent, which is then dropped.
    let echo = Box::pin(manager.call("fake__echo", arguments()));
    match futures::future::select(hanging, echo).await {
        futures::future::Either::Right((Ok(_), hanging)) => drop(hanging),
        _ => panic!("the call that hangs has ended"),
    }
    assert!(matches!(news.recv().await, Some(News::Cancelled)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_nothing_is_started_anew() {
    let (manager, mut news) = start(&[Plan::Stuck, Plan::Good], McpLimits::default());
    let _remote = connected(&mut news).await;
    until(&manager, ServerState::Ready).await;
    manager.call("fake__hang", arguments()).await.unwrap_err();
    let status = until(&manager, ServerState::Waiting).await;
    assert_eq!(status.error.as_deref(), Some("it answers neither calls nor pings"));
    assert_eq!(until(&manager, ServerState::Ready).await.restarts, 1);
    let output = manager.call("fake__echo", arguments()).await.unwrap();
    assert!(output.text.contains(r#""generation":1"#), "{output:?}");
}

#[tokio::test(start_paused = true)]
async fn attempts_come_at_growing_intervals_and_hide_secrets() {
    let plans = [Plan::Unreachable, Plan::Unreachable, Plan::Unreachable, Plan::Mute, Plan::Good];
    let begin = tokio::time::Instant::now();
    let (manager, mut news) = start(&plans, McpLimits::default());
    let status = until(&manager, ServerState::Waiting).await;
    assert_eq!(status.error.as_deref(), Some("no way with [secret]"));
    let _remote = connected(&mut news).await;
    let status = until(&manager, ServerState::Ready).await;
    assert_eq!((status.restarts, status.error, status.tools), (4, None, 3));
    // Pauses of 1, 2, 4 and 8 seconds, and a minute for the mute one.
    let seconds = begin.elapsed().as_secs_f64();
    assert!((75.0..75.5).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_fails_its_calls_and_is_made_again() {
    let (manager, mut news) = start(&[Plan::Good], McpLimits::default());
    let remote = connected(&mut news).await;
    until(&manager, ServerState::Ready).await;
    let call = manager.call("fake__hang", arguments());
    let cut = async {
        // Answered by the server, so the hanging call has reached it before.
        manager.call("fake__echo", arguments()).await.unwrap();
        drop(remote);
    };
    let (result, ()) = tokio::join!(call, cut);
    assert_eq!(result, Err(McpError::Lost { server: "fake".into() }));
    let _remote = connected(&mut news).await;
    assert_eq!(until(&manager, ServerState::Ready).await.restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_list_are_followed() {
    let (manager, mut news) = start(&[Plan::Good], McpLimits::default());
    let remote = connected(&mut news).await;
    let mut now = manager.server(0).now();
    now.wait_for(|now| now.state == ServerState::Ready).await.unwrap();
    for _ in 0..100 {
        remote.peer.notify_tool_list_changed().await.unwrap();
    }
    now.changed().await.unwrap();
    assert_eq!(manager.tools().len(), 3);
}
