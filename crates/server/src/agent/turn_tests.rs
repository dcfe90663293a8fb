//! Tests of one round.

use super::*;
use crate::agent::choose::tests::chosen;

fn call(index: usize, name: &str, arguments: &str, complete: bool) -> [Part; 3] {
    [
        Part::ToolCall { index, id: format!("id{index}"), name: name.into() },
        Part::ToolArguments { index, delta: arguments.into() },
        Part::ToolCallEnd { index, complete },
    ]
}

fn stop() -> Option<End> {
    Some(End { reason: EndReason::Stop, stop: None })
}

fn delta(parts: Vec<Part>, end: Option<End>) -> Delta {
    let usage = Usage { prompt_tokens: 10, cached_tokens: 4, completion_tokens: 5 };
    Delta { parts, usage, reasoning_tokens: 2, token_ids: vec![1, 2], end, ..Delta::default() }
}

fn shown(events: Vec<ChatEvent>) -> Vec<Delta> {
    events
        .into_iter()
        .map(|event| if let ChatEvent::Delta(delta) = event { *delta } else { panic!() })
        .collect()
}

const BEFORE: Totals = Totals {
    usage: Usage { prompt_tokens: 100, cached_tokens: 0, completion_tokens: 50 },
    reasoning_tokens: 7,
    server_calls: 3,
    client_calls: 1,
};

#[test]
fn calls_go_to_those_who_run_them() {
    let mut turn = Turn::default();
    let mut parts = vec![Part::Reasoning("Hm".into()), Part::Text("See: ".into())];
    parts.extend(call(0, "now", "{}", true));
    parts.extend(call(1, "mine", "[]", true));
    parts.extend(call(2, "time__now", "{\"a\": 1}", true));
    let deltas = shown(turn.take(delta(parts, stop()), &chosen(), true, BEFORE));
    let kinds: Vec<(usize, usize, usize)> =
        deltas.iter().map(|d| (d.parts.len(), d.server_calls.len(), d.token_ids.len())).collect();
    assert_eq!(kinds, [(2, 0, 2), (0, 3, 0), (3, 0, 0), (0, 3, 0)]);
    assert!(
        deltas.iter().all(|d| d.end.is_none() && d.usage.completion_tokens == 55 && d.reasoning_tokens == 9)
    );
    assert_eq!(deltas[2].parts[0], Part::ToolCall { index: 1, id: "id1".into(), name: "mine".into() });
    let ServerCallNews::Begin { index: 4, name, .. } = &deltas[3].server_calls[0] else {
        panic!("{deltas:?}")
    };
    assert_eq!(name, "time__now");
    assert!(turn.calls_client());
    let run = turn.to_run();
    assert_eq!(run.iter().map(|call| call.index).collect::<Vec<_>>(), [3, 4]);
    let totals = turn.totals(BEFORE, Usage { prompt_tokens: 10, cached_tokens: 4, completion_tokens: 5 });
    assert_eq!((totals.server_calls, totals.client_calls, totals.reasoning_tokens), (5, 2, 9));
    assert_eq!(
        (totals.usage.prompt_tokens, totals.usage.cached_tokens, totals.usage.completion_tokens),
        (110, 4, 55)
    );
}

#[test]
fn the_round_becomes_messages() {
    let mut turn = Turn::default();
    let mut parts = vec![Part::Reasoning("Hm".into())];
    parts.extend(call(0, "now", "{\"zone\": \"UTC\"}", true));
    turn.take(delta(parts, stop()), &chosen(), true, Totals::default());
    let expected = vec![
        json!({
            "role": "assistant", "content": "", "reasoning_content": "Hm", "tool_calls": [
                {"id": "id0", "type": "function", "function": {"name": "now", "arguments": "{\"zone\": \"UTC\"}"}},
            ],
        }),
        json!({"role": "tool", "tool_call_id": "id0", "name": "now", "content": "noon"}),
    ];
    assert_eq!(turn.messages(&["noon".to_owned()]), expected);
}

#[test]
fn what_broke_off_is_not_run() {
    for (complete, reason) in [(false, EndReason::Stop), (true, EndReason::Length), (true, EndReason::Abort)]
    {
        let mut turn = Turn::default();
        let end = Some(End { reason, stop: None });
        let deltas =
            shown(turn.take(delta(call(0, "now", "{", complete).into(), end), &chosen(), true, BEFORE));
        assert!(turn.to_run().is_empty());
        let told =
            deltas[0].server_calls.iter().any(|n| matches!(n, ServerCallNews::Result { is_error: true, .. }));
        assert_eq!(told, !complete);
    }
}

#[test]
fn with_approval_the_client_gets_full_names() {
    let mut turn = Turn::default();
    let deltas = shown(turn.take(
        delta(call(0, "now", "{}", true).into(), stop()),
        &chosen(),
        false,
        Totals::default(),
    ));
    assert_eq!(deltas.len(), 1);
    assert_eq!(deltas[0].parts[0], Part::ToolCall { index: 0, id: "id0".into(), name: "time__now".into() });
    assert!(turn.to_run().is_empty() && turn.calls_client());
}

#[test]
fn arguments_are_objects() {
    let arguments = |text: &str| object(text).map(|map| map.len());
    assert_eq!([" ", "{}", "{\"a\": {}}"].map(arguments), [Some(0), Some(0), Some(1)]);
    assert_eq!(["[]", "1", "{", "null"].map(arguments), [None; 4]);
}

#[test]
fn calls_that_wait_for_the_client_are_not_run() {
    let mut turn = Turn::default();
    let deltas = shown(turn.take(
        delta(call(0, "now", "{}", true).into(), stop()),
        &chosen().asking(),
        true,
        Totals::default(),
    ));
    let asked = |news: &ServerCallNews| matches!(news, ServerCallNews::Begin { approval: CallApproval::Wanted, own_name, .. } if own_name == "now");
    assert!(deltas[0].server_calls.iter().any(asked), "{deltas:?}");
    assert!(turn.to_run().is_empty() && turn.calls_client());
}
