//! `millrace run`.

use anyhow::{Context, Result, anyhow, bail};
use millrace_api::{ChatEvent, Collected, Collector, EndReason};
use millrace_server::Generation;
use serde_json::{Value, json};

use crate::args::RunArgs;
use crate::chat::Conversation;
use crate::pipeline::{self, InProcess};
use crate::show::Screen;
use crate::{embedded, input, load, output};

/// Longest prompt from standard input, in bytes.
const MAX_PROMPT: u64 = 64 << 20;

/// Runs the command.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let prompt = match args.prompt.as_str() {
        "-" => input::read("-", MAX_PROMPT)?.trim_end_matches('\n').to_owned(),
        prompt => prompt.to_owned(),
    };
    let model = load::find(args.model.as_deref(), &args.common.flags.model_args)?;
    if model.is_demo {
        tracing::info!("{}", embedded::DEMO_NOTICE);
    }
    let server = InProcess::start(&model, &args.common)?;
    let answer = pipeline::runtime()?.block_on(answer(&server, args, &prompt))?;
    let end = if args.json { to_json(&model.name, &answer)?.to_string() } else { String::new() };
    output::print(&(end + "\n"))?;
    server.stop();
    Ok(())
}

async fn answer(server: &InProcess, args: &RunArgs, prompt: &str) -> Result<Collected> {
    let system = args.common.prompting.system.as_deref();
    let input = match server.has_template {
        true => {
            let mut talk = Conversation::new(system);
            talk.user(prompt);
            pipeline::conversation(talk.messages().to_vec(), args.common.prompting.thinking)
        }
        false if system.is_some() => {
            bail!("this model has no chat template, so --system has no place; give one with --chat-template")
        }
        false => pipeline::raw(prompt),
    };
    let generation =
        server.service.generate(pipeline::request(input, &args.common.prompting), Vec::new()).await?;
    collect(generation, !args.json).await
}

/// Gathers the answer, and prints it as it comes if that is wanted.
async fn collect(mut generation: Generation, print: bool) -> Result<Collected> {
    let (mut collector, mut screen) = (Collector::default(), Screen::stdout());
    while let Some(event) = generation.next().await {
        if print && let ChatEvent::Delta(delta) = &event {
            for part in &delta.parts {
                output::print(&screen.show(part))?;
            }
        }
        if let Some(answer) = collector.push(event)? {
            return Ok(answer);
        }
    }
    Err(anyhow!("the answer has no end"))
}

fn to_json(model: &str, answer: &Collected) -> Result<Value> {
    let choice = answer.choices.first().context("there is no answer")?;
    let usage = answer.usage;
    Ok(json!({
        "model": model,
        "text": choice.text,
        "reasoning": choice.reasoning,
        "finish_reason": reason_name(choice.end.reason),
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }))
}

/// The end of an answer, in OpenAI's words.
pub(crate) fn reason_name(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Stop => "stop",
        EndReason::Length => "length",
        EndReason::Abort => "abort",
    }
}
