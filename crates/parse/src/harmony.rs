//! OpenAI's harmony format, which gpt-oss writes: a sequence of messages, each with a header that says whether it is
//! reasoning, text, or a call. <https://github.com/openai/harmony> describes it.

use crate::json::Tracker;
use crate::output::Channel;
use crate::scan::Scan;

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const CONSTRAIN: &str = "<|constrain|>";
const END: &str = "<|end|>";
const CALL: &str = "<|call|>";
const RETURN: &str = "<|return|>";

/// What ends a message.
const ENDS: [&str; 5] = [START, CHANNEL, END, CALL, RETURN];

/// All marks.
pub(crate) const MARKS: [&str; 7] = [START, CHANNEL, END, CALL, RETURN, MESSAGE, CONSTRAIN];

/// How a message of reasoning begins.
pub(crate) const ANALYSIS: &str = "<|channel|>analysis<|message|>";

/// Longest header in bytes; what is longer is text.
const MAX_HEADER: usize = 1024;

/// Recipients that are no tools.
const PEOPLE: [&str; 3] = ["assistant", "user", "all"];

/// What a header says.
#[derive(Debug, Default)]
struct Header {
    channel: String,
    recipient: Option<String>,
}

/// Reads an output to its end; returns the last channel. The prompt has begun the first header already.
pub(crate) async fn run(scan: &mut Scan) -> Channel {
    let mut channel = Channel::Content;
    let begins_header = |rest: &str, ended: bool| match rest.trim_start() {
        "" | "t" | "to" if !ended && rest.len() < MAX_HEADER => None,
        text => Some(text.starts_with("to=")),
    };
    let mut in_header = scan.decide(begins_header).await == Some(true);
    loop {
        scan.out.enter(channel);
        if !in_header {
            text(scan, channel).await;
        }
        if scan.peek().await.is_none() {
            return channel;
        }
        in_header = false;
        scan.mark();
        let header = header(scan).await;
        let left = scan.marked().to_owned();
        scan.unmark();
        match header {
            Ok(Some(header)) => channel = message(scan, &header).await,
            Ok(None) => {}
            Err(TooLong) => scan.out.text(channel, &left),
        }
    }
}

/// Reads text up to a mark.
async fn text(scan: &mut Scan, channel: Channel) {
    while scan.at_any(&MARKS).await.is_none() {
        let Some(c) = scan.next().await else { return };
        scan.out.text(channel, c.encode_utf8(&mut [0; 4]));
    }
    scan.out.end_of_block(Channel::Reasoning);
}

/// The header ran on and on: it is none.
struct TooLong;

/// Reads a header up to its message. `None` if none begins here.
async fn header(scan: &mut Scan) -> Result<Option<Header>, TooLong> {
    let mut header = Header::default();
    let mut words = String::new();
    let mut in_channel = false;
    loop {
        let mark = scan.eat_any(&MARKS).await;
        if let Some(mark) = mark {
            header.take(&words, in_channel);
            words.clear();
            in_channel = mark == CHANNEL;
            match mark {
                MESSAGE => return Ok(Some(header)),
                END | CALL | RETURN => return Ok(None),
                START => header = Header::default(),
                _ => {}
            }
            continue;
        }
        match scan.next().await {
            Some(c) => words.push(c),
            None => return Ok(None),
        }
        if scan.marked().len() > MAX_HEADER {
            return Err(TooLong);
        }
    }
}

impl Header {
    /// Adds what stands between two marks.
    fn take(&mut self, words: &str, in_channel: bool) {
        for (place, word) in words.split_whitespace().enumerate() {
            if let Some(recipient) = word.strip_prefix("to=") {
                self.recipient = Some(recipient.to_owned()).filter(|name| !PEOPLE.contains(&name.as_str()));
            } else if in_channel && place == 0 {
                self.channel = word.to_owned();
            }
        }
    }
}

/// Begins a message: a call is read to its end, text is left to the caller.
async fn message(scan: &mut Scan, header: &Header) -> Channel {
    if let Some(recipient) = &header.recipient {
        call(scan, recipient.strip_prefix("functions.").unwrap_or(recipient)).await;
        return Channel::Content;
    }
    // "commentary" to nobody is what the user should read before a call.
    if header.channel == "analysis" { Channel::Reasoning } else { Channel::Content }
}

/// Reads the arguments of a call, as they are. Marks inside of strings are text.
async fn call(scan: &mut Scan, name: &str) {
    scan.out.begin_call(name, None);
    scan.skip_blank().await;
    let mut tracker = Tracker::default();
    let mut blank = String::new();
    let mut piece = String::new();
    let (mut any, mut closed) = (false, false);
    let end = loop {
        if !tracker.in_string()
            && let Some(mark) = scan.at_any(&ENDS).await
        {
            break Some(mark);
        }
        if !tracker.in_string() && scan.is_cut(&ENDS) {
            scan.skip(MAX_HEADER);
        }
        let Some(c) = scan.next().await else { break None };
        if c.is_whitespace() && !tracker.in_string() {
            blank.push(c);
            continue;
        }
        piece.push_str(&std::mem::take(&mut blank));
        tracker.write(c, &mut piece);
        closed = tracker.add(c);
        any = true;
        scan.out.arguments(&piece);
        piece.clear();
    };
    if !any && end == Some(CALL) {
        scan.out.arguments("{}");
    }
    scan.out.end_call(closed || end == Some(CALL));
}
