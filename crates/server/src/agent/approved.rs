//! Calls that the client has approved: they are run before the model speaks.

use futures::{StreamExt, stream};
use millrace_api::{ApprovedCall, CallApproval, ChatInput, ServerCallNews, ServerTools};
use serde_json::{Value, json};

use super::{
    AgentLimits,
    choose::Chosen,
    rounds::{Said, not_here, run_tool},
    servers::Servers,
};

/// Runs them, several at a time, and puts their results into the conversation; gives what the client is told.
pub(super) async fn run(
    servers: &Servers,
    chosen: &Chosen,
    wanted: &ServerTools,
    chat: &mut ChatInput,
    limits: &AgentLimits,
) -> Vec<ServerCallNews> {
    let one = |call: &ApprovedCall| {
        let name = chosen.of_server(&call.server, &call.name).map(|tool| tool.name.clone());
        let (servers, arguments, time) = (servers.clone(), call.arguments.clone(), limits.time);
        async move {
            match name {
                Some(name) => run_tool(&servers, &name, &arguments, time).await,
                None => not_here(),
            }
        }
    };
    let running: Vec<_> = wanted.approved.iter().take(limits.calls_per_round).map(one).collect();
    let mut said: Vec<Said> = stream::iter(running).buffered(limits.concurrent_calls).collect().await;
    let too_many = || ("The call was not run: there were too many.".to_owned(), true);
    said.resize_with(wanted.approved.len(), too_many);
    let mut news = Vec::new();
    for (index, (call, (output, is_error))) in wanted.approved.iter().zip(said).enumerate() {
        let name = format!("{}__{}", call.server, call.name);
        add_result(&mut chat.messages, call, &name, &output);
        news.extend([
            ServerCallNews::Begin {
                index,
                id: call.id.clone(),
                server: call.server.clone(),
                name,
                own_name: call.name.clone(),
                approval: CallApproval::Given(call.id.clone()),
            },
            ServerCallNews::Arguments { index, delta: call.arguments.clone() },
            ServerCallNews::Complete { index },
            ServerCallNews::Result { index, output, is_error },
        ]);
    }
    news
}

/// Puts a result behind its call and behind the results that are there already. A call that was left out, because the
/// conversation is too long, comes back.
fn add_result(messages: &mut Vec<Value>, call: &ApprovedCall, name: &str, output: &str) {
    let result = json!({"role": "tool", "tool_call_id": call.id, "name": name, "content": output});
    let calls = |message: &Value| {
        let calls = message.get("tool_calls").and_then(Value::as_array);
        calls.into_iter().flatten().any(|known| known["id"] == call.id)
    };
    match messages.iter().position(calls) {
        Some(at) => {
            let results = messages[at + 1..].iter().take_while(|message| message["role"] == "tool").count();
            messages.insert(at + 1 + results, result);
        }
        None => {
            let function = json!({"name": name, "arguments": call.arguments});
            let calls = json!([{"id": call.id, "type": "function", "function": function}]);
            messages.extend([json!({"role": "assistant", "content": "", "tool_calls": calls}), result]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_behind_their_calls() {
        let call = |id: &str| ApprovedCall {
            id: id.into(),
            server: "s".into(),
            name: "t".into(),
            arguments: "{}".into(),
        };
        let mut messages = vec![
            json!({"role": "assistant", "tool_calls": [{"id": "a"}, {"id": "b"}]}),
            json!({"role": "user", "content": "Go on."}),
        ];
        for id in ["a", "b", "c"] {
            add_result(&mut messages, &call(id), "s__t", "done");
        }
        let kinds: Vec<(&str, &str)> = messages
            .iter()
            .map(|m| (m["role"].as_str().unwrap(), m["tool_call_id"].as_str().unwrap_or_default()))
            .collect();
        let expected =
            [("assistant", ""), ("tool", "a"), ("tool", "b"), ("user", ""), ("assistant", ""), ("tool", "c")];
        assert_eq!(kinds, expected);
    }
}
