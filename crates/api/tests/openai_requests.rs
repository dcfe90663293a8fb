//! OpenAI bodies to neutral requests, and what is refused on the way.
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test may fail, and reads better without borrows"
)]

use millrace_api::{
    ApiError, Input, Limits, MaxTokensDefault, Prompt,
    openai::{Call, chat, completions, tokenize},
};
use serde_json::{Value, json};

fn chat(mut extra: Value) -> Result<Call, ApiError> {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    merge(&mut extra, &body);
    chat::parse(&extra, &Limits::default())
}

fn completion(mut extra: Value) -> Result<Call, ApiError> {
    merge(&mut extra, &json!({"model": "m", "prompt": "hi"}));
    completions::parse(&extra, &Limits::default())
}

/// Adds the fields that `body` doesn't have yet.
fn merge(body: &mut Value, defaults: &Value) {
    for (key, value) in defaults.as_object().unwrap() {
        body.as_object_mut().unwrap().entry(key).or_insert(value.clone());
    }
}

fn error(result: Result<Call, ApiError>) -> ApiError {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    }
}

#[test]
fn every_sampling_parameter_arrives_on_both_endpoints() {
    let body = json!({
        "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "typical_p": 0.8, "presence_penalty": 1,
        "frequency_penalty": -1, "repetition_penalty": 1.2, "logit_bias": {"5": 3, " 5": 3, " 6 ": -200}, "bad_words": ["x"],
        "allowed_token_ids": [1, 2], "min_tokens": 2, "max_tokens": 9, "stop": "end", "stop_token_ids": [4],
        "include_stop_str_in_output": true, "ignore_eos": true, "seed": 11, "n": 2, "prompt_logprobs": 3,
        "skip_special_tokens": false, "priority": -2, "cache_salt": "s", "timeout": 2.5,
    });
    for call in [chat(body.clone()).unwrap(), completion(body).unwrap()] {
        let o = call.request.options;
        assert_eq!((o.temperature, o.top_p, o.top_k), (Some(0.5), Some(0.9), Some(7)));
        assert_eq!((o.min_p, o.typical_p), (Some(0.1), Some(0.8)));
        assert_eq!((o.presence_penalty, o.frequency_penalty), (Some(1.0), Some(-1.0)));
        assert_eq!((o.repetition_penalty, o.seed, o.n), (Some(1.2), Some(11), 2));
        let mut bias = o.logit_bias;
        bias.sort_by_key(|entry| entry.0);
        assert_eq!(bias, [(5, 3.0), (6, -200.0)]);
        assert_eq!((o.bad_words, o.allowed_token_ids), (vec!["x".to_owned()], Some(vec![1, 2])));
        assert_eq!((o.min_tokens, o.max_tokens, o.prompt_logprobs), (2, Some(9), Some(3)));
        assert_eq!((o.stop, o.stop_token_ids), (vec!["end".to_owned()], vec![4]));
        assert!(o.include_stop_str_in_output && o.ignore_eos && !o.skip_special_tokens);
        assert_eq!((o.priority, o.cache_salt.as_deref(), o.timeout), (-2, Some("s"), Some(2.5)));
    }
}

#[test]
fn the_endpoints_differ_where_openai_differs() {
    let call = chat(json!({"max_completion_tokens": 5, "max_tokens": 3, "logprobs": true})).unwrap();
    let options = &call.request.options;
    assert_eq!((options.max_tokens, options.max_tokens_name), (Some(5), "max_completion_tokens"));
    assert_eq!((options.logprobs, options.max_tokens_default), (Some(0), MaxTokensDefault::RestOfContext));

    let call = completion(json!({"logprobs": 2, "echo": true, "max_tokens": 0})).unwrap();
    let options = &call.request.options;
    assert_eq!((options.logprobs, options.echo), (Some(2), true));
    assert_eq!(options.max_tokens_default, MaxTokensDefault::Fixed(16));
}

#[test]
fn null_means_not_said() {
    let names =
        ["temperature", "stop", "n", "logprobs", "tools", "tool_choice", "response_format", "stream_options"];
    let body: Value = names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    assert_eq!(chat(body.clone()).unwrap().request.options.n, 1);
    assert_eq!(completion(body).unwrap().request.options.n, 1);
}

#[test]
fn prompts_of_all_shapes() {
    for (prompt, count) in
        [(json!("a"), 1), (json!(["a", "b"]), 2), (json!([1, 2]), 1), (json!([[1], [2]]), 2)]
    {
        let Input::Prompts { prompts, .. } = completion(json!({"prompt": prompt})).unwrap().request.input
        else {
            panic!("not prompts");
        };
        assert_eq!(prompts.len(), count);
    }
    let call = completion(json!({"prompt": [3, 4], "add_special_tokens": false})).unwrap();
    let Input::Prompts { prompts, add_special_tokens } = call.request.input else { panic!("not prompts") };
    assert_eq!((prompts, add_special_tokens), (vec![Prompt::Tokens(vec![3, 4])], false));
}

#[test]
fn thinking_and_templates() {
    let kwargs = |body: Value| {
        let Input::Chat(input) = chat(body).unwrap().request.input else { panic!("not chat") };
        Value::Object(input.template_kwargs)
    };
    assert_eq!(kwargs(json!({"enable_thinking": false})), json!({"enable_thinking": false}));
    assert_eq!(
        kwargs(json!({"chat_template_kwargs": {"enable_thinking": true, "x": 1}, "enable_thinking": false})),
        json!({"enable_thinking": true, "x": 1})
    );
    assert_eq!(
        kwargs(json!({"reasoning_effort": "none"})),
        json!({"enable_thinking": false, "reasoning_effort": "none"})
    );
    let Input::Chat(input) =
        chat(json!({"continue_final_message": true, "echo": true})).unwrap().request.input
    else {
        panic!("not chat")
    };
    assert!(!input.add_generation_prompt && input.echo);
    assert_eq!(input.open_text(), Some("hi"));
}

#[test]
fn tools_are_shown_unless_they_must_not_be_called() {
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let shown = |choice: Value| {
        let Input::Chat(input) = chat(json!({"tools": tools, "tool_choice": choice})).unwrap().request.input
        else {
            panic!("not chat")
        };
        input.tools.len()
    };
    assert_eq!((shown(Value::Null), shown(json!("auto")), shown(json!("none"))), (1, 1, 0));
}

#[test]
fn strict_tools_are_named_and_formats_exclude_forced_calls() {
    let tool =
        |name: &str, strict: Value| json!({"type": "function", "function": {"name": name, "strict": strict}});
    let tools = json!([tool("f", json!(true)), tool("g", json!(false)), tool("h", Value::Null)]);
    let Input::Chat(input) = chat(json!({"tools": tools})).unwrap().request.input else { panic!("not chat") };
    assert_eq!(input.strict_tools, ["f"]);
    let wrong = error(chat(json!({"tools": [tool("f", json!("yes"))]})));
    assert_eq!(wrong.param.as_deref(), Some("tools[0].function.strict"));
    let format = json!({"type": "json_object"});
    assert!(
        chat(json!({"tools": tools, "response_format": format})).unwrap().request.options.structure.is_some()
    );
    let both = error(chat(json!({"tools": tools, "response_format": format, "tool_choice": "required"})));
    assert!(both.message.starts_with("You can only either use constraints"), "{both}");
}

#[test]
fn chat_refusals() {
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    let cases = [
        (json!({"messages": []}), "messages", "`messages` must hold at least one"),
        (json!({"messages": "hi"}), "messages", "Invalid value for `messages`: invalid type"),
        (json!({"messages": null}), "messages", "`messages` is required"),
        (json!({"messages": [3]}), "messages[0]", "`messages[0]` must be an object"),
        (
            json!({"temperature": "hot"}),
            "temperature",
            "Invalid value for `temperature`: invalid type: string",
        ),
        (json!({"top_k": 1.5}), "top_k", "Invalid value for `top_k`"),
        (json!({"seed": 1e30}), "seed", "Invalid value for `seed`"),
        (json!({"n": 0}), "n", "n must be at least 1, got 0."),
        (json!({"stop": ["a", 3]}), "stop[1]", "Invalid value for `stop[1]`"),
        (json!({"stop": [""]}), "stop", "stop cannot contain an empty string."),
        (
            json!({"max_completion_tokens": 0}),
            "max_completion_tokens",
            "max_completion_tokens must be at least 1",
        ),
        (
            json!({"top_logprobs": 3}),
            "top_logprobs",
            "when using `top_logprobs`, `logprobs` must be set to true.",
        ),
        (
            json!({"logprobs": true, "top_logprobs": -2}),
            "top_logprobs",
            "`top_logprobs` must be a positive value",
        ),
        (json!({"logprobs": 3}), "logprobs", "Invalid value for `logprobs`"),
        (
            json!({"stream_options": {"include_usage": true}}),
            "stream_options",
            "Stream options can only be defined",
        ),
        (
            json!({"stream": true, "prompt_logprobs": 1}),
            "prompt_logprobs",
            "`prompt_logprobs` are not available",
        ),
        (json!({"tools": []}), "tools", "`tools` must not be an empty array."),
        (json!({"tools": [{"type": "web"}]}), "tools[0].type", "`tools[0].type` must be \"function\"."),
        (
            json!({"tools": [{"type": "function"}]}),
            "tools[0].function.name",
            "`tools[0].function.name` must be",
        ),
        (json!({"tool_choice": "auto"}), "tool_choice", "When using `tool_choice`, `tools` must be set."),
        (
            json!({"tools": [tool], "tool_choice": named("g")}),
            "tool_choice",
            "The tool specified in `tool_choice`",
        ),
        (
            json!({"tools": [tool], "tool_choice": "x"}),
            "tool_choice",
            "Invalid value for `tool_choice`: \"x\"!",
        ),
        (
            json!({"continue_final_message": true, "add_generation_prompt": true}),
            "continue_final_message",
            "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
        ),
        (json!({"echo": true}), "echo", "`echo` gives back the message that is continued"),
        (
            json!({"chat_template_kwargs": {"messages": []}}),
            "chat_template_kwargs",
            "chat_template_kwargs may not",
        ),
        (
            json!({"logit_bias": {"x": 1}}),
            "logit_bias",
            "logit_bias contains key(s) that cannot be converted",
        ),
        (json!({"best_of": 3}), "best_of", "best_of is not supported here other than equal to n=1, got 3."),
        (
            json!({"response_format": {"type": "xml"}}),
            "response_format",
            "response_format has the type 'xml'",
        ),
        (json!({"cache_salt": ""}), "cache_salt", "Parameter 'cache_salt' must be a non-empty string"),
        (json!({"audio": {"voice": "x"}}), "audio", "`audio` with the value"),
    ];
    for (body, param, message) in cases {
        let error = error(chat(body.clone()));
        assert_eq!(error.param.as_deref(), Some(param), "{body}");
        assert!(error.message.starts_with(message), "{body}: {}", error.message);
    }
}

#[test]
fn completion_refusals() {
    let cases = [
        (json!({"prompt": []}), "prompt", "`prompt` must be provided and non-empty."),
        (json!({"prompt": null}), "prompt", "`prompt` must be provided and non-empty."),
        (json!({"prompt": [[]]}), "prompt", "The decoder prompt cannot be empty."),
        (
            json!({"prompt": [1, "a"]}),
            "prompt",
            "Invalid value for `prompt`: token ids and prompts can't be mixed",
        ),
        (json!({"prompt": [-5]}), "prompt[0]", "Invalid value for `prompt[0]`: -5 is not a token id"),
        (json!({"prompt": vec!["a"; 600], "n": 2}), "prompt", "600 prompts with n=2 make 1200 sequences"),
        (json!({"max_tokens": 0}), "max_tokens", "max_tokens must be at least 1, got 0."),
        (json!({"logprobs": -3}), "logprobs", "logprobs must be non-negative or -1, got -3."),
        (json!({"suffix": "x", "prompt": [1]}), "suffix", "`suffix` needs prompts of text"),
        (json!({"suffix": "x", "echo": true}), "suffix", "`suffix` and `echo` don't go together"),
        (json!({"use_beam_search": true}), "use_beam_search", "`use_beam_search` with the value true"),
    ];
    for (body, param, message) in cases {
        let error = error(completion(body.clone()));
        assert_eq!(error.param.as_deref(), Some(param), "{body}");
        assert!(error.message.starts_with(message), "{body}: {}", error.message);
    }
}

#[test]
fn tokenize_takes_a_prompt_or_messages() {
    let limits = Limits::default();
    let parse = |body: Value| tokenize::parse_tokenize(&body, &limits);
    assert!(matches!(parse(json!({"prompt": "a"})).unwrap().input, Input::Prompts { .. }));
    let messages = json!([{"role": "user", "content": "a"}]);
    assert!(matches!(parse(json!({"messages": messages})).unwrap().input, Input::Chat(_)));
    assert!(parse(json!({"messages": messages, "prompt": "a"})).is_err());
    assert!(parse(json!({})).is_err());
    assert!(tokenize::parse_detokenize(&json!({"tokens": [1, -1]})).is_err());
    assert!(tokenize::parse_detokenize(&json!({})).is_err());
}
