//! Bodies of Anthropic's API to the neutral request, and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test may fail, and reads better without borrows"
)]

use millrace_api::{
    ApiError, Call, ChatInput, ErrorKind, Input, Limits, MaxTokensDefault, ToolChoice,
    anthropic::{parse, parse_count},
};
use serde_json::{Value, json};

/// A request with some fields added; null takes one away.
fn body(extra: Value) -> Value {
    let mut body = json!({"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

fn call(extra: Value) -> Result<Call, ApiError> {
    parse(&body(extra), &Limits::default(), "req")
}

fn chat(extra: Value) -> ChatInput {
    match call(extra).unwrap_or_else(|error| panic!("{error}")).request.input {
        Input::Chat(chat) => *chat,
        Input::Prompts { .. } => panic!("not a conversation"),
    }
}

fn messages(messages: Value) -> Value {
    json!(chat(json!({ "messages": messages })).messages)
}

fn refusal(extra: Value) -> String {
    match call(extra) {
        Ok(_) => panic!("not refused"),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::BadRequest, "{error}");
            error.message
        }
    }
}

#[test]
fn options_become_neutral_ones() {
    let call = call(json!({
        "temperature": 0.5, "top_p": 0.25, "top_k": 7, "stop_sequences": ["END"], "stream": true,
        "metadata": {"user_id": "u"}, "service_tier": "standard_only", "context_management": {"edits": []},
        "cache_control": {"type": "ephemeral"}, "speed": "fast", "container": null, "mcp_servers": [],
    }))
    .unwrap();
    assert!(call.stream);
    assert_eq!(call.request.model.as_deref(), Some("m"));
    let options = call.request.options;
    assert_eq!((options.temperature, options.top_p, options.top_k), (Some(0.5), Some(0.25), Some(7)));
    assert_eq!(options.stop, ["END"]);
    assert_eq!((options.max_tokens, options.max_tokens_default), (None, MaxTokensDefault::Fixed(64)));
    options.validate(&Limits::default()).unwrap();
    let edge = self::call(json!({"top_p": 0, "temperature": 1, "top_k": 0})).unwrap().request.options;
    edge.validate(&Limits::default()).unwrap();
}

#[test]
fn system_text_comes_first_and_counting_noise_goes() {
    let one = chat(json!({"system": "Be brief."}));
    assert_eq!(one.messages[0], json!({"role": "system", "content": "Be brief."}));
    let blocks = chat(json!({"system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=abc"},
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "Be kind."},
    ]}));
    assert_eq!(blocks.messages[0]["content"], "Be brief.\nBe kind.");
    assert_eq!(blocks.messages.len(), 2);
    for nothing in [json!([]), json!("")] {
        assert_eq!(chat(json!({"system": nothing})).messages.len(), 1);
    }
    // Some clients make one text of all blocks.
    let joined = "x-anthropic-billing-header: cch=abc\nBe brief.\nBe kind.";
    for system in [json!(joined), json!([{"type": "text", "text": joined}])] {
        assert_eq!(chat(json!({"system": system})).messages[0]["content"], "Be brief.\nBe kind.");
    }
    for noise in ["x-anthropic-billing-header: cch=abc", "x-anthropic-billing-header: cch=abc\n"] {
        assert_eq!(chat(json!({"system": noise})).messages.len(), 1);
    }
}

#[test]
fn a_tool_round_becomes_what_templates_read() {
    let history = messages(json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Two places.", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"b": 1, "a": "Paris"}},
            {"type": "tool_use", "id": "t2", "name": "time", "input": {}, "caller": {"type": "direct"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t2", "content": "noon"},
            {"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": [
                {"type": "text", "text": "no such"}, {"type": "text", "text": "place"},
            ]},
            {"type": "text", "text": "Go on.", "cache_control": {"type": "ephemeral"}},
        ]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t3", "name": "time", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]},
    ]));
    let function = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    assert_eq!(
        history,
        json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "I look.", "reasoning_content": "Two places.",
             "tool_calls": [function("t1", "weather", "{\"b\":1,\"a\":\"Paris\"}"), function("t2", "time", "{}")]},
            {"role": "tool", "tool_call_id": "t2", "name": "time", "content": "noon"},
            {"role": "tool", "tool_call_id": "t1", "name": "weather", "content": "Error: no such\nplace"},
            {"role": "user", "content": "Go on."},
            {"role": "assistant", "content": "", "tool_calls": [function("t3", "time", "{}")]},
            {"role": "tool", "tool_call_id": "t3", "name": "time", "content": ""},
        ])
    );
}

/// Models that write ids themselves begin anew in each answer.
#[test]
fn an_answered_calls_id_may_come_again() {
    let round = |name: &str| {
        [
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "0", "name": name, "input": {}}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "0", "content": name}]}),
        ]
    };
    let mut asked = vec![json!({"role": "user", "content": "hi"})];
    asked.extend(round("f").into_iter().chain(round("g")));
    let history = messages(json!(asked));
    assert_eq!((&history[2]["name"], &history[4]["name"]), (&json!("f"), &json!("g")));
    assert_eq!((&history[2]["content"], &history[4]["content"]), (&json!("f"), &json!("g")));
}

#[test]
fn neighbours_of_one_role_become_one_message() {
    let merged = messages(json!([
        {"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"}, {"role": "assistant", "content": "d"},
        {"role": "system", "content": "e"},
        {"role": "user", "content": "f"},
    ]));
    assert_eq!(
        merged,
        json!([
            {"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c\nd"},
            {"role": "system", "content": "e"}, {"role": "user", "content": "f"},
        ])
    );
}

#[test]
fn documents_and_search_results_are_read_as_text() {
    let read = messages(json!([{"role": "user", "content": [
        {"type": "document", "title": "T", "context": "C",
         "source": {"type": "text", "media_type": "text/plain", "data": "body"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "inner"}]},
         "citations": {"enabled": false}},
        {"type": "search_result", "source": "http://x", "title": "S", "content": [{"type": "text", "text": "hit"}]},
        {"type": "text", "text": "Sum up."},
    ]}]));
    let text = "<document>\nTitle: T\nContext: C\nbody\n</document>\n<document>\ninner\n</document>\n\
                <search_result>\nTitle: S\nSource: http://x\nhit\n</search_result>\nSum up.";
    assert_eq!(read, json!([{"role": "user", "content": text}]));
}

#[test]
fn the_assistants_last_word_is_continued() {
    let user = json!({"role": "user", "content": "hi"});
    let open = chat(json!({"messages": [user, {"role": "assistant", "content": "The answer is"}]}));
    assert!(open.continue_final_message && !open.add_generation_prompt);
    let empty = chat(json!({"messages": [user, {"role": "assistant", "content": ""}]}));
    assert!(!empty.continue_final_message && empty.add_generation_prompt);
    assert_eq!(empty.messages.len(), 1);
    let refused = |content: Value, extra: Value| {
        let mut extra = extra;
        extra["messages"] = json!([user, {"role": "assistant", "content": content}]);
        refusal(extra)
    };
    assert!(
        refused(json!("It is "), json!({}))
            .contains("messages.1.content: The beginning of an answer must not")
    );
    let thought = json!([{"type": "thinking", "thinking": "x", "signature": "y"}]);
    assert!(refused(thought, json!({})).contains("must end with text"));
    let thinking = json!({"max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}});
    assert!(refused(json!("It is"), thinking).contains("messages.1: "));
}

#[test]
fn thinking_is_off_unless_asked_for() {
    let switch = |extra: Value| {
        let kwargs = chat(extra).template_kwargs;
        assert_eq!(kwargs["enable_thinking"], kwargs["thinking"]);
        kwargs["enable_thinking"].as_bool().unwrap()
    };
    assert!(!switch(json!({})));
    assert!(!switch(json!({"thinking": {"type": "disabled"}})));
    assert!(switch(json!({"thinking": {"type": "adaptive", "display": "omitted"}})));
    assert!(switch(json!({"max_tokens": 1025, "thinking": {"type": "enabled", "budget_tokens": 1024}})));
    let options =
        |thinking: Value| call(json!({"max_tokens": 2000, "thinking": thinking})).unwrap().request.options;
    let budget = options(json!({"type": "enabled", "budget_tokens": 1024}));
    assert_eq!((budget.thinking_token_budget, budget.thinking_budget_is_a_wish), (Some(1024), true));
    assert_eq!(options(json!({"type": "adaptive"})).thinking_token_budget, None);
    let effort = chat(json!({"output_config": {"effort": "max"}})).template_kwargs;
    assert_eq!(effort["reasoning_effort"], "high");
}

#[test]
fn tools_take_the_shape_that_templates_know() {
    let schema = json!({"type": "object", "properties": {"x": {"type": "string"}}});
    let tools = json!([
        {"name": "f", "description": "Does f.", "input_schema": schema, "cache_control": {"type": "ephemeral"}},
        {"type": "custom", "name": "g", "input_schema": {"type": "object"}, "strict": false,
         "eager_input_streaming": true, "allowed_callers": ["direct"], "input_examples": [{"x": "y"}]},
    ]);
    let with = |choice: Value| chat(json!({"tools": tools, "tool_choice": choice}));
    let auto = with(Value::Null);
    assert_eq!(
        json!(auto.tools),
        json!([
            {"type": "function", "function": {"name": "f", "description": "Does f.", "parameters": schema}},
            {"type": "function", "function":
                {"name": "g", "parameters": {"type": "object"}, "input_examples": [{"x": "y"}]}},
        ])
    );
    assert_eq!((auto.tool_choice, auto.parallel_tool_calls), (ToolChoice::Auto, true));
    let single = with(json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert!(!single.parallel_tool_calls && single.may_call());
    assert_eq!(with(json!({"type": "any"})).tool_choice, ToolChoice::Required);
    assert_eq!(with(json!({"type": "tool", "name": "g"})).tool_choice, ToolChoice::Named("g".into()));
    let none = with(json!({"type": "none"}));
    assert!(none.tools.is_empty() && !none.may_call());
}

#[test]
fn counting_reads_the_same_conversation() {
    let fields = json!({"system": "s", "tools": [{"name": "f", "input_schema": {"type": "object"}}],
                        "thinking": {"type": "adaptive"}});
    let mut counted = body(fields.clone());
    counted.as_object_mut().unwrap().remove("max_tokens");
    let Input::Chat(counted) = parse_count(&counted, &Limits::default()).unwrap().input else {
        panic!("not a conversation")
    };
    let asked = chat(fields);
    assert_eq!((counted.messages, counted.tools), (asked.messages, asked.tools));
    assert_eq!(counted.template_kwargs, asked.template_kwargs);
    let error = parse_count(&json!({"model": "m"}), &Limits::default()).unwrap_err();
    assert_eq!(error.message, "messages: Field required.");
}

#[test]
fn fields_are_refused_by_path() {
    let schema = json!({"type": "object"});
    let tool = |extra: Value| {
        let mut tool = json!({"name": "f", "input_schema": schema});
        tool.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"tools": [tool]})
    };
    let choice =
        |choice: Value| json!({"tools": [{"name": "f", "input_schema": schema}], "tool_choice": choice});
    for (extra, message) in [
        (json!({"model": null}), "model: Field required."),
        (json!({"model": 3}), "model: Input should be a string."),
        (json!({"max_tokens": null}), "max_tokens: Field required."),
        (json!({"max_tokens": 0}), "max_tokens: Must be at least 1, got 0."),
        (json!({"max_tokens": "9"}), "max_tokens: Input should be an integer."),
        (json!({"messages": null}), "messages: Field required."),
        (json!({"messages": []}), "messages: At least one message is required."),
        (json!({"messages": "hi"}), "messages: Input should be a list."),
        (json!({"temperature": 1.5}), "temperature: The range is 0 to 1, got 1.5."),
        (json!({"top_p": -0.1}), "top_p: The range is 0 to 1, got -0.1."),
        (json!({"top_k": -1}), "top_k: Must be at least 0, got -1."),
        (json!({"stop_sequences": ["a", "b", "c", "d", "e"]}), "stop_sequences: At most 4 stop sequences"),
        (json!({"stop_sequences": ["a", " "]}), "stop_sequences.1: A stop sequence must hold more"),
        (
            json!({"stop_sequences": ["x".repeat(1025)]}),
            "stop_sequences.0: A stop sequence may hold at most 1024",
        ),
        (json!({"stop_sequences": [1]}), "stop_sequences.0: Input should be a string."),
        (json!({"seed": 1}), "seed: Extra inputs are not permitted."),
        (json!({"metadata": {"name": "x"}}), "metadata.name: Extra inputs are not permitted."),
        (json!({"service_tier": "flex"}), "service_tier: Input should be one of 'auto', 'standard_only'"),
        (json!({"container": "c"}), "container: There are no containers"),
        (json!({"mcp_servers": [{}]}), "mcp_servers.0.name: Field required."),
        (
            json!({"output_config": {"format": {"type": "json_schema"}}}),
            "output_config.format.schema: Field required.",
        ),
        (json!({"system": 3}), "system: Input should be a string or a list of text blocks."),
        (
            json!({"system": [{"type": "image"}]}),
            "system.0.type: Input should be one of 'text', got 'image'.",
        ),
        (json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens: Field required."),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 1000}}),
            "thinking.budget_tokens: Must be at least 1024, got 1000.",
        ),
        (
            json!({"max_tokens": 1024, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
            "thinking.budget_tokens: The budget must be smaller than `max_tokens`.",
        ),
        (json!({"thinking": {"type": "maybe"}}), "thinking.type: Input should be one of 'enabled'"),
        (tool(json!({"name": ""})), "tools.0.name: A tool's name has 1 to 128"),
        (tool(json!({"name": "a b"})), "tools.0.name: A tool's name has 1 to 128"),
        (tool(json!({"input_schema": null})), "tools.0.input_schema: Field required."),
        (
            tool(json!({"input_schema": {"type": "string"}})),
            "tools.0.input_schema.type: Input should be 'object'.",
        ),
        (tool(json!({"type": "web_search_20250305"})), "tools.0: Tools of the type 'web_search_20250305'"),
        (tool(json!({"strict": 1})), "tools.0.strict: Input should be true or false."),
        (
            json!({"output_format": {"type": "json_schema", "schema": false}}),
            "`output_format.schema` must be a JSON",
        ),
        (
            json!({"output_format": {"type": "json_schema", "schema": {"x-guidance": {}}}}),
            "The JSON schema can't be used",
        ),
        (tool(json!({"defer_loading": true})), "tools.0.defer_loading: "),
        (
            tool(json!({"allowed_callers": ["code_execution_20250825"]})),
            "tools.0.allowed_callers: Only 'direct'",
        ),
        (tool(json!({"colour": "red"})), "tools.0.colour: Extra inputs are not permitted."),
        (
            json!({"tools": [{"name": "f", "input_schema": schema}, {"name": "f", "input_schema": schema}]}),
            "tools.1.name: Tool names must be unique.",
        ),
        (json!({"tool_choice": {"type": "auto"}}), "tool_choice: A choice among tools needs `tools`."),
        (choice(json!("auto")), "tool_choice: Input should be an object."),
        (choice(json!({"type": "tool"})), "tool_choice.name: Field required."),
        (choice(json!({"type": "tool", "name": "h"})), "tool_choice.name: There is no tool 'h' in `tools`."),
    ] {
        let got = refusal(extra.clone());
        assert!(got.starts_with(message), "{extra}: {got}");
    }
}

#[test]
fn messages_are_refused_by_path() {
    let user = json!({"role": "user", "content": "hi"});
    let block = |block: Value| json!([{"role": "user", "content": [block]}]);
    let call =
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]});
    let result =
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]});
    for (messages, message) in [
        (json!(["hi"]), "messages.0: Input should be an object."),
        (json!([{"role": "tool", "content": "x"}]), "messages.0.role: Input should be one of"),
        (json!([{"role": "user"}]), "messages.0.content: Field required."),
        (json!([{"role": "user", "content": ""}, user]), "messages.0.content: A message must have content"),
        (json!([{"role": "user", "content": []}]), "messages.0.content: A message must have content"),
        (json!([{"role": "user", "content": "x", "name": "Ada"}]), "messages.0.name: Extra inputs"),
        (block(json!({"text": "x"})), "messages.0.content.0.type: Field required."),
        (
            block(json!({"type": "text", "text": ""})),
            "messages.0.content.0.text: A text block must not be empty.",
        ),
        (block(json!({"type": "text", "text": "x", "y": 1})), "messages.0.content.0.y: Extra inputs"),
        (block(json!({"type": "image", "source": {}})), "messages.0.content.0: This model takes no images."),
        (block(json!({"type": "video"})), "messages.0.content.0: Blocks of type 'video'"),
        (
            block(json!({"type": "thinking", "thinking": "x"})),
            "messages.0.content.0: `thinking` blocks can't stand",
        ),
        (
            block(
                json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}}),
            ),
            "messages.0.content.0.source.data: The file is empty.",
        ),
        (
            block(json!({"type": "document", "source": {"type": "url", "url": "http://x"}})),
            "messages.0.content.0.source: This server fetches no files",
        ),
        (
            block(json!({"type": "search_result", "source": "s", "title": "t", "content": [],
                         "citations": {"enabled": true}})),
            "messages.0.content.0.citations.enabled: This server makes no citations.",
        ),
        (json!([user, call]), "messages.1: The tool_use 't' has no tool_result"),
        (json!([user, call, user]), "messages.2: The tool_use 't' has no tool_result"),
        (json!([result]), "messages.0: The tool_result for 't' has no tool_use"),
        (json!([user, call, result, result]), "messages.3: The tool_result for 't' has no tool_use"),
        (json!([user, call, call, result]), "messages.2: Two open tool_use blocks have the id 't'."),
        (
            json!([user, call, {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}]}]),
            "messages.2.content.0.content.0: This model takes no images.",
        ),
    ] {
        let got = refusal(json!({ "messages": messages }));
        assert!(got.starts_with(message), "{got} / {message}");
    }
}

#[test]
fn counts_and_sizes_are_bounded() {
    let limits = Limits { max_messages: 2, max_prompt_chars: 8, max_tools: 1, ..Limits::default() };
    let refused = |extra: Value| parse(&body(extra), &limits, "req").err().unwrap().message;
    let user = |text: &str| json!({"role": "user", "content": text});
    assert!(refused(json!({"messages": vec![user("a"); 3]})).contains("At most 2 messages"));
    assert!(refused(json!({"messages": [user("abcd")], "system": "efghi"})).contains("9 characters"));
    let call = json!({"type": "tool_use", "id": "t", "name": "f", "input": {"key": "sixsix"}});
    let called = [user("a"), json!({"role": "assistant", "content": [call]})];
    assert!(refused(json!({ "messages": called })).contains("11 characters"));
    let tool = |name: &str| json!({"name": name, "input_schema": {"type": "object"}});
    assert!(refused(json!({"tools": [tool("f"), tool("g")]})).contains("At most 1 tools"));
    let long = "x".repeat(100_000);
    assert!(refused(json!({ long.clone(): 1 })).len() < 300);
    assert!(refused(json!({"service_tier": long})).len() < 300);
}
