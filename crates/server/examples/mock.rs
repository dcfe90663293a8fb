//! A server whose engine answers at once: what is left is the cost of HTTP, JSON, template, tokenizer and detokenizer.
//!
//!     cargo run --release -p millrace-server --example mock -- models/demo 8100 [MICROSECONDS]
//!
//! The tokenizer and the chat template are the demo model's. The engine goes round its requests and gives each one
//! token a turn, as a real one does, only without computing it: the tokens are those of a fixed text, over and over. With MICROSECONDS a round takes at
//! least so long; then tokens come one by one, instead of faster than anybody reads.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for measurements, used by developers"
)]

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use millrace_api::SamplingDefaults;
use millrace_engine::{Command, EngineInfo, EnginePort, channel};
use millrace_parse::{Families, detect};
use millrace_server::{App, ModelParts, Registry, ServedModel, ServerConfig, bind, serve, stop_signals};
use millrace_text::{ChatTemplate, TextFiles, Tokenizer};
use millrace_types::{Finish, FinishReason, Request, RequestOutput, TokenId, Usage};
use tokio::sync::mpsc::{UnboundedSender, error::TryRecvError};

const TEXT: &str =
    "The quick brown fox jumps over the lazy dog, and 12 more of its kind follow: \"Wait!\" they cry.\n";

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().unwrap_or_else(|| "models/demo".into());
    let port = args.next().map_or(8100, |port| port.parse().unwrap());
    let pace = args.next().map_or(0, |micros| micros.parse().unwrap());
    let files = TextFiles::from_folder(Path::new(&folder)).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_files(&files).unwrap());
    let template = ChatTemplate::from_files(&files).unwrap();
    let found = detect(template.as_ref().map(ChatTemplate::source), |t| tokenizer.token_to_id(t).is_some());
    let info = EngineInfo {
        max_model_len: 8192,
        vocab_size: tokenizer.vocab_size(),
        kv_capacity_tokens: 1 << 20,
        block_size: 16,
        max_queued: 1 << 16,
        prefix_caching: true,
        device: "mock".into(),
        pooling: None,
    };
    let parts = ModelParts {
        names: vec!["mock".into()],
        root: folder,
        template: template.map(Arc::new),
        pair_template: None,
        defaults: SamplingDefaults::default(),
        eos_token_ids: Vec::new(),
        families: Families::named(found.tool, found.reasoning).unwrap(),
        tokenizer: tokenizer.clone(),
    };
    let (handle, engine) = channel(info);
    let text = tokenizer.encode(TEXT, false).unwrap();
    thread::spawn(move || answer(engine, &text, Duration::from_micros(pace)));
    let app =
        App::new(Registry::new(vec![Arc::new(ServedModel::new(parts, handle))]), ServerConfig::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (listener, address) = bind("127.0.0.1", port).await.unwrap();
        println!("listening on http://{address}");
        serve(listener, app, stop_signals()).await.unwrap();
    });
}

/// One open request.
struct Open {
    request: Box<Request>,
    outputs: UnboundedSender<RequestOutput>,
    made: usize,
}

/// The engine's thread: a token for each open request, then the next round.
fn answer(mut port: EnginePort, text: &[TokenId], pace: Duration) {
    let mut open: Vec<Open> = Vec::new();
    loop {
        let begun = Instant::now();
        if open.is_empty() {
            match port.commands.blocking_recv() {
                Some(command) => {
                    if !take(command, &port, &mut open) {
                        return;
                    }
                }
                None => return,
            }
        }
        loop {
            match port.commands.try_recv() {
                Ok(command) => {
                    if !take(command, &port, &mut open) {
                        return;
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        open.retain_mut(|open| step(open, text));
        thread::sleep(pace.saturating_sub(begun.elapsed()));
    }
}

/// False if the engine is to end.
fn take(command: Command, port: &EnginePort, open: &mut Vec<Open>) -> bool {
    match command {
        Command::Submit(request, outputs) => {
            port.queued.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
            open.push(Open { request, outputs, made: 0 });
        }
        Command::Abort(id) => open.retain(|open| open.request.id != id),
        Command::Inspect(reply) => drop(reply.send(millrace_engine::Inspection::default())),
        Command::DropCache(reply) => drop(reply.send(0)),
        Command::Drain | Command::Shutdown => return false,
    }
    true
}

/// One token; false with the last one.
fn step(open: &mut Open, text: &[TokenId]) -> bool {
    let token = text[open.made % text.len()];
    open.made += 1;
    let ends = open.made >= open.request.sampling.max_tokens;
    let usage =
        Usage { prompt_tokens: open.request.prompt.len(), cached_tokens: 0, completion_tokens: open.made };
    let finish = ends.then_some(Finish { reason: FinishReason::Length, stop_token: None });
    let output = RequestOutput { tokens: vec![token], finish, usage, ..RequestOutput::default() };
    open.outputs.send(output).is_ok() && !ends
}
