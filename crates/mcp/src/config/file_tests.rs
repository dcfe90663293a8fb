//! Tests of the configuration's form.

use serde_json::json;

use super::*;

fn parse(servers: &Value) -> Result<McpConfig, McpError> {
    let lookup = |name: &str| (name == "TOKEN").then(|| "tok-12345678".to_owned());
    McpConfig::parse(
        &json!({"mcpServers": servers, "other": 1}).to_string(),
        &CommandRules::default(),
        &lookup,
    )
}

fn one(entry: &Value) -> Result<ServerSpec, McpError> {
    parse(&json!({"s": entry})).map(|mut config| config.servers.remove(0))
}

#[test]
fn a_program() {
    let spec = one(&json!({
        "command": "npx", "args": ["-y", "thing", "--key=${TOKEN}"], "env": {"A_KEY": "Bearer ${TOKEN}", "MODE": "fast"},
        "timeout": 2.5, "allowedTools": ["x"], "type": "stdio",
    }))
    .unwrap();
    let Endpoint::Stdio(stdio) = &spec.endpoint else { panic!("{spec:?}") };
    assert_eq!(stdio.args[2].expose(), "--key=tok-12345678");
    assert_eq!(stdio.env[0].1.expose(), "Bearer tok-12345678");
    assert_eq!((spec.timeout, spec.disabled), (Some(Duration::from_millis(2500)), false));
    assert_eq!(spec.allowed_tools.as_deref(), Some(&["x".to_owned()][..]));
    assert_eq!(spec.redactor.clean("--key=tok-12345678, fast"), "[secret], [secret]");
    let shown = format!("{spec:?}");
    assert!(!shown.contains("tok-") && !shown.contains("fast"), "{shown}");
}

#[test]
fn a_url() {
    let spec = one(&json!({
        "url": "https://example.org/mcp/abcdef?key=${TOKEN}", "headers": {"Authorization": "Bearer very-secret"},
    }))
    .unwrap();
    let Endpoint::Http(remote) = &spec.endpoint else { panic!("{spec:?}") };
    assert_eq!(remote.url.query(), Some("key=tok-12345678"));
    let said = spec.redactor.clean(&format!("{} Bearer very-secret, very-secret", remote.url));
    assert_eq!(said, "https://example.org/[secret]?[secret] [secret], [secret]");
    let shown = format!("{spec:?}");
    assert!(["secret-", "tok-", "very", "abcdef"].iter().all(|word| !shown.contains(word)), "{shown}");
    assert_eq!(one(&json!({"url": "http://a.example/", "type": "sse"})).unwrap().endpoint.transport(), "sse");
}

#[test]
fn errors_name_the_place_and_say_what_to_do() {
    for (entry, place, word) in [
        (json!({}), "mcpServers.s", "`command`"),
        (json!({"command": "npx", "url": "http://x"}), "mcpServers.s", "leave one out"),
        (json!({"command": "sh"}), "mcpServers.s.command", "--mcp-allow-command sh"),
        (json!({"command": "npx", "arg": []}), "mcpServers.s.arg", "unknown field"),
        (json!({"command": "npx", "args": "-y"}), "mcpServers.s.args", "wrong type"),
        (json!({"command": "npx", "env": {"A": 12345678}}), "mcpServers.s.env.A", "a string"),
        (json!({"command": "npx", "env": {"A": "${NOPE}"}}), "mcpServers.s.env.A", "`NOPE` is not set"),
        (json!({"command": "npx", "env": {"A=B": ""}}), "mcpServers.s.env.A=B", "no name"),
        (json!({"command": "npx", "cwd": "/no/such/folder"}), "mcpServers.s.cwd", "no such folder"),
        (json!({"command": "npx", "timeout": 0}), "mcpServers.s.timeout", "above 0"),
        (json!({"command": "npx", "timeout": 1e9}), "mcpServers.s.timeout", "at most"),
        (json!({"command": "npx", "type": "http"}), "mcpServers.s.type", "needs a `url`"),
        (json!({"command": "npx", "type": "pipe"}), "mcpServers.s.type", "\"stdio\""),
        (json!({"command": "npx", "headers": {"a": "b"}}), "mcpServers.s.headers", "leave it out"),
        (json!({"url": "https://x.example", "cwd": "/"}), "mcpServers.s.cwd", "leave it out"),
        (json!({"url": "not a url"}), "mcpServers.s.url", "no URL"),
        (json!({"url": "file:///etc/passwd"}), "mcpServers.s.url", "only http"),
        (json!({"url": "https://me:hunter2222@x.example"}), "mcpServers.s.url", "headers"),
        (json!({"url": "http://127.0.0.1:80/"}), "mcpServers.s.url", "allowPrivate"),
        (json!({"url": "http://[::1]/"}), "mcpServers.s.url", "allowPrivate"),
        (json!({"url": "http://2130706433/"}), "mcpServers.s.url", "allowPrivate"),
        (
            json!({"url": "https://x.example", "headers": {"Accept": "x"}}),
            "mcpServers.s.headers.Accept",
            "itself",
        ),
        (
            json!({"url": "https://x.example", "headers": {"A": "12345678\n"}}),
            "mcpServers.s.headers.A",
            "sent",
        ),
    ] {
        let McpError::Config { place: found, problem } = one(&entry).unwrap_err() else { panic!("{entry}") };
        assert_eq!(found, place, "{entry}: {problem}");
        assert!(problem.contains(word), "{entry}: {problem}");
        assert!(!problem.contains("12345678") && !problem.contains("hunter"), "{problem}");
    }
}

#[test]
fn the_whole_has_a_form() {
    let parse = |text: &str| {
        McpConfig::parse(text, &CommandRules::default(), &|_| None).map(|config| config.servers.len())
    };
    assert_eq!(parse("{\"mcpServers\": {}}"), Ok(0));
    for text in ["", "[]", "{}", "{\"servers\": {}}", "{\"mcpServers\": []}", &"[".repeat(10_000)] {
        assert!(matches!(parse(text), Err(McpError::Config { .. })), "{text}");
    }
    assert!(super::tests::parse(&json!({"": {"command": "npx"}})).is_err());
    assert!(super::tests::parse(&json!({"x".repeat(65): {"command": "npx"}})).is_err());
    let many: serde_json::Map<String, Value> =
        (0..65).map(|i| (i.to_string(), json!({"command": "npx"}))).collect();
    assert!(super::tests::parse(&Value::Object(many)).is_err());
}

#[test]
fn a_missing_file_is_named() {
    let error = McpConfig::load(Path::new("/no/such/mcp.json"), &CommandRules::default()).unwrap_err();
    assert!(error.to_string().contains("/no/such/mcp.json"), "{error}");
}

#[test]
fn a_server_of_a_request_expands_nothing_and_stays_public() {
    let remote = |url: &str, header: (&str, &str), private| {
        let headers = [(header.0.to_owned(), header.1.to_owned())];
        ServerSpec::remote("s", url.to_owned(), headers, private)
    };
    let spec = remote("https://example.org/mcp", ("Authorization", "Bearer ${HOME}"), false).unwrap();
    let Endpoint::Http(http) = &spec.endpoint else { panic!("{spec:?}") };
    assert_eq!(http.headers[0].1, "Bearer ${HOME}");
    assert!(!http.allow_private && !format!("{spec:?}").contains("HOME"));
    assert_eq!(spec.redactor.clean("it said ${HOME}."), "it said [secret].");
    for (url, header, word) in [
        ("http://127.0.0.1/mcp", ("a", "b"), "private"),
        ("http://[::1]/mcp", ("a", "b"), "private"),
        ("ftp://example.org", ("a", "b"), "http"),
        ("https://me:pw@example.org", ("a", "b"), "password"),
        ("https://example.org", ("Host", "b"), "protocol"),
        ("https://example.org", ("a", "b\nc"), "header"),
    ] {
        let error = remote(url, header, false).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(remote("http://127.0.0.1/mcp", ("a", "b"), true).is_ok());
}
