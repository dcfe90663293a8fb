//! `millrace chat`: a conversation in the terminal, or a script of one.

mod answer;
mod commands;
mod conversation;
mod interrupts;
mod lines;
mod remote;

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use millrace_api::Part;
use tokio::runtime::Runtime;

use crate::args::ChatArgs;
use crate::output::print;
use crate::pipeline::{self, InProcess};
use crate::show::Screen;
use crate::{embedded, load};
use answer::{Answer, Piece};
use commands::{HELP, Input, parse};
pub(crate) use conversation::Conversation;
use interrupts::Interrupts;
use lines::Lines;
use remote::Remote;

/// Runs the command.
pub(crate) fn run(args: &ChatArgs) -> Result<()> {
    let runtime = pipeline::runtime()?;
    let (partner, model) = Partner::open(args)?;
    let lines = Lines::open()?;
    if lines.is_terminal() {
        eprintln!("talking to {model}; /help explains, Ctrl-D leaves");
        if args.url.is_none() && args.model.is_none() {
            eprintln!("{}", embedded::DEMO_NOTICE);
        }
    }
    let interrupts = Interrupts::watch(&runtime, lines.is_terminal());
    let talk = Conversation::new(args.common.prompting.system.as_deref());
    let mut chat = Chat { args, partner, model, runtime, interrupts, talk };
    let result = chat.converse(lines);
    chat.partner.close();
    result
}

/// Who answers.
enum Partner {
    Local(Box<InProcess>),
    Remote(Remote),
}

impl Partner {
    /// Loads a model or connects to a server; also tells the model's name.
    fn open(args: &ChatArgs) -> Result<(Self, String)> {
        if let Some(url) = &args.url {
            let remote = Remote::connect(url, args.api_key.as_deref(), args.model.as_deref())?;
            let model = remote.model.clone();
            return Ok((Self::Remote(remote), model));
        }
        let model = load::find(args.model.as_deref(), &args.common.flags.model_args)?;
        let server = InProcess::start(&model, &args.common)?;
        ensure!(
            server.has_template,
            "{} has no chat template and cannot hold a conversation; give one with --chat-template, or use `millrace run`",
            model.name
        );
        Ok((Self::Local(Box::new(server)), model.name))
    }

    fn close(self) {
        if let Self::Local(server) = self {
            server.stop();
        }
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Whole,
    /// By its length limit.
    CutOff,
    /// By Ctrl-C.
    Stopped,
}

struct Chat<'a> {
    args: &'a ChatArgs,
    partner: Partner,
    model: String,
    runtime: Runtime,
    interrupts: Interrupts,
    talk: Conversation,
}

impl Chat<'_> {
    /// Line by line until the end. In a script, a failure ends the program; a person is told and goes on.
    fn converse(&mut self, mut lines: Lines) -> Result<()> {
        while let Some(line) = lines.next()? {
            match self.obey(parse(&line)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if lines.is_terminal() => eprintln!("error: {}", crate::one_sentence(&error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// False to leave.
    fn obey(&mut self, input: Input) -> Result<bool> {
        match input {
            Input::Empty => {}
            Input::Say(text) => self.say(&text)?,
            Input::System(text) => {
                self.talk = Conversation::new(Some(&text));
                eprintln!("new instructions; the conversation starts over");
            }
            Input::Reset => {
                self.talk.reset();
                eprintln!("the conversation starts over");
            }
            Input::Save(file) => {
                self.talk.save(Path::new(&file), &self.model)?;
                eprintln!("saved to {file}");
            }
            Input::Help => eprintln!("{HELP}"),
            Input::Quit => return Ok(false),
            Input::Wrong(problem) => return Err(anyhow!(problem)),
        }
        Ok(true)
    }

    fn say(&mut self, text: &str) -> Result<()> {
        self.talk.user(text);
        match self.answer() {
            Ok((answer, ended)) => {
                self.talk.assistant(&answer);
                match ended {
                    Ended::Whole => {}
                    Ended::CutOff => eprintln!("(the answer reached its longest length)"),
                    Ended::Stopped => eprintln!("(stopped)"),
                }
                Ok(())
            }
            Err(error) => {
                self.talk.take_back();
                Err(error)
            }
        }
    }

    /// Prints the answer as it comes, and returns its text.
    fn answer(&self) -> Result<(String, Ended)> {
        let _answering = self.interrupts.answering();
        self.runtime.block_on(async {
            let mut answer = self.ask().await?;
            let (mut text, mut screen) = (String::new(), Screen::stdout());
            let ended = loop {
                tokio::select! {
                    piece = answer.next() => match piece {
                        Piece::Part(part) => {
                            print(&screen.show(&part))?;
                            if let Part::Text(more) = part {
                                text += &more;
                            }
                        }
                        Piece::End(reason) if reason == "length" => break Ended::CutOff,
                        Piece::End(_) => break Ended::Whole,
                        Piece::Failed(problem) => {
                            print("\n")?;
                            return Err(anyhow!(problem));
                        }
                    },
                    () = self.interrupts.next() => break Ended::Stopped,
                }
            };
            print("\n")?;
            Ok((text, ended))
        })
    }

    async fn ask(&self) -> Result<Answer> {
        let (messages, prompting) = (self.talk.messages(), &self.args.common.prompting);
        match &self.partner {
            Partner::Remote(remote) => {
                Ok(Answer::Remote(remote.ask(messages, prompting, self.args.common.flags.engine.seed)))
            }
            Partner::Local(server) => {
                let input = pipeline::conversation(messages.to_vec(), prompting.thinking);
                let request = pipeline::request(input, prompting);
                Ok(Answer::local(server.service.generate(request, Vec::new()).await?))
            }
        }
    }
}
