//! `millrace chat`.

use clap::Args;

use super::TalkArgs;

/// `millrace chat`.
#[derive(Debug, Args)]
#[command(after_help = "\
In the chat:
  /system TEXT   Set the instructions and start over
  /reset         Forget the conversation
  /save FILE     Write the conversation as JSON
  /help, /quit   Ctrl-D quits too; Ctrl-C stops the answer

Examples:
  millrace chat                               With the built-in demo model, in this process
  millrace chat Qwen/Qwen3-0.6B --quantize q8
  millrace chat --url http://127.0.0.1:8000   With a running server, Millrace or another
  printf 'Hello!\\n/save talk.json\\n' | millrace chat")]
pub(crate) struct ChatArgs {
    /// Model folder, or ORG/NAME on the Hub; with --url, the server's name for it [default: the built-in demo model]
    pub(crate) model: Option<String>,
    /// Talk to this OpenAI-compatible server instead of loading a model
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Key for the server at --url
    #[arg(long, value_name = "KEY")]
    #[arg(env = "MILLRACE_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    #[command(flatten)]
    pub(crate) common: TalkArgs,
}
