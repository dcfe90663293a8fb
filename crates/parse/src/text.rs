//! The outermost level of the grammar: text, reasoning, and where calls stand.

use crate::call;
use crate::grammar::{Action, Plan};
use crate::output::Channel;
use crate::scan::{Scan, is_sequence};

/// What makes text in a reasoning a call that goes to the answer, if no parser looks for calls.
const CALL_BEGINS: [&str; 2] = ["{", "<function"];

/// Calls per answer. More of them are text.
const MAX_CALLS: usize = 512;

/// Reads an output to its end, from the given channel on; returns the last channel.
pub(crate) async fn run(scan: &mut Scan, plan: &Plan, start: Channel) -> Channel {
    let mut channel = start;
    loop {
        scan.out.enter(channel);
        if scan.peek().await.is_none() {
            return channel;
        }
        let table = if channel == Channel::Reasoning { &plan.reasoning } else { &plan.text };
        let plain = table.plain(scan.rest());
        if plain > 0 {
            pass(scan, channel, plain);
            continue;
        }
        let marker = scan.at_any(&table.markers).await;
        let action = marker.and_then(|marker| table.action(marker));
        let length = marker.map_or(1, str::len);
        match action {
            Some(Action::Section(section)) if scan.out.calls() < MAX_CALLS => {
                channel = call::section(scan, section, length, channel).await;
            }
            Some(Action::Open) if channel == Channel::Reasoning => {
                // The model writes the tag that the prompt has already; or it speaks of tags.
                if scan.out.is_fresh(channel) { scan.skip(length) } else { pass(scan, channel, length) }
            }
            Some(Action::Open) if plan.opens_anywhere || scan.out.is_line_start(channel) => {
                scan.out.settle(Channel::Content);
                scan.out.markup();
                scan.skip(length);
                channel = Channel::Reasoning;
            }
            Some(Action::Close) if channel != Channel::Content => {
                scan.out.settle(Channel::Reasoning);
                scan.out.end_of_block(Channel::Reasoning);
                scan.skip(length);
                channel = Channel::Content;
            }
            Some(Action::Close) if plan.opens_anywhere || scan.out.is_fresh(channel) => {
                scan.out.markup();
                scan.skip(length);
            }
            Some(Action::Replace(shown)) => {
                scan.out.markup();
                scan.out.text(channel, shown);
                scan.skip(length);
            }
            Some(Action::Pass(close)) => pass_call(scan, length, close).await,
            _ => {
                let length = scan.rest().chars().next().map_or(0, char::len_utf8);
                pass(scan, channel, length);
            }
        }
    }
}

/// Some bytes are text.
fn pass(scan: &mut Scan, channel: Channel, bytes: usize) {
    let text = scan.rest().get(..bytes).unwrap_or_default().to_owned();
    scan.skip(bytes);
    scan.out.text(channel, &text);
}

/// A call inside of reasoning, for a reader who looks for calls in the text. Prose about calls stays.
async fn pass_call(scan: &mut Scan, open: usize, close: &'static str) {
    let begins = |rest: &str, ended| {
        rest.get(open..).and_then(|after| is_sequence(after, ended, "", &CALL_BEGINS, true))
    };
    if scan.decide(begins).await != Some(true) {
        return pass(scan, Channel::Reasoning, open);
    }
    scan.out.markup();
    pass(scan, Channel::Content, open);
    while scan.peek().await.is_some() {
        if scan.at_any(&[close]).await.is_some() {
            pass(scan, Channel::Content, close.len());
            break;
        }
        let length = scan.rest().chars().next().map_or(0, char::len_utf8);
        pass(scan, Channel::Content, length);
    }
    scan.out.markup();
}
