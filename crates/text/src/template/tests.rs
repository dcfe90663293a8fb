use serde_json::json;

use super::*;

fn template(source: &str) -> ChatTemplate {
    let config = br#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null}"#;
    let files = TextFiles::from_bytes(Vec::new(), Some(config), Some(source)).unwrap();
    ChatTemplate::from_files(&files).unwrap().unwrap()
}

fn user() -> Vec<Value> {
    vec![json!({"role": "user", "content": "Hi"})]
}

/// Renders with the variables in `kwargs`.
fn render_with(source: &str, kwargs: &Value) -> Result<String, TextError> {
    let messages = user();
    let kwargs = kwargs.as_object().cloned();
    template(source).render(&TemplateInput {
        messages: &messages,
        kwargs: kwargs.as_ref(),
        now: Some(jiff::civil::date(2026, 3, 5).at(9, 7, 0, 0)),
        ..TemplateInput::default()
    })
}

#[track_caller]
fn check(source: &str, expected: &str) {
    let kwargs = json!({
        "tool": {"name": "f", "n": 1, "x": 1.0, "big": 1e22, "none": null, "yes": true, "list": [1, "é<&'\""], "empty": {}},
        "text": " Hello World ", "words": ["b", "a"],
    });
    assert_eq!(render_with(source, &kwargs).unwrap(), expected, "{source}");
}

#[test]
fn tojson_writes_what_json_dumps_writes() {
    check(
        "{{ tool | tojson }}",
        r#"{"name": "f", "n": 1, "x": 1.0, "big": 1e+22, "none": null, "yes": true, "list": [1, "é<&'\""], "empty": {}}"#,
    );
    check("{{ tool.list | tojson(ensure_ascii=true) }}", r#"[1, "\u00e9<&'\""]"#);
    check("{{ '🙂\\n' | tojson(ensure_ascii=true) }}", r#""\ud83d\ude42\n""#);
    check(
        "{{ {'b': [], 'a': [1]} | tojson(indent=2, sort_keys=true) }}",
        "{\n  \"a\": [\n    1\n  ],\n  \"b\": []\n}",
    );
    check("{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':')) }}", r#"{"b":1,"a":2}"#);
    check(
        "{{ {1: none, 2: 'x'} | tojson }} {{ {true: 'x'} | tojson }}",
        r#"{"1": null, "2": "x"} {"true": "x"}"#,
    );
    assert!(render_with("{{ missing | tojson }}", &json!({})).is_err());
    assert!(render_with("{{ 1 | tojson(indent=100000) }}", &json!({})).is_err());
}

#[test]
fn values_print_as_in_python() {
    check("{{ tool.yes }} {{ tool.none }} {{ tool.x }} {{ missing }}|", "True None 1.0 |");
    check(
        "{{ words }} {{ {'k': none} }} {{ (1, 'b') }} {{ [\"it's\", 'é\\n'] }} {{ tool.big }}",
        "['b', 'a'] {'k': None} (1, 'b') [\"it's\", 'é\\n'] 1e+22",
    );
    check(
        "{{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ -7 % 3 }} {{ 'ab' * 2 }} {{ [1] + [2] }}",
        "3 3.5 8 2 abab [1, 2]",
    );
    check(
        "{{ '%s is %d' % ('x', 3) }} {{ '{} {a}'.format(1, a=2) }} {{ '%.2f' | format(1) }}",
        "x is 3 1 2 1.00",
    );
}

#[test]
fn operators_and_tests_are_as_in_python() {
    check(
        "{{ 'x'|safe + '<' ~ '>' }} {{ '<' + '>'|safe + '&' }} {{ ('a'|safe + '\"') ~ '<' }}",
        "x&lt;&gt; &lt;>&amp; a&#34;<",
    );
    check("{{ '%s<' % 3 ~ 'x' }} {{ '%s-%s' % ('a', 1) }} {{ 10 % 3 }} {{ '%d%%' % 5 }}", "3<x a-1 1 5%");
    check(
        "{{ 'a' is sequence }} {{ {} is sequence }} {{ u is sequence }} {{ none is sequence }} {{ 1 is sequence }}",
        "True True True False False",
    );
    check(
        "{{ 'a' is iterable }} {{ u is iterable }} {{ none is iterable }} {{ {}.items() is iterable }}",
        "True True False True",
    );
    check(
        "{{ {'items': 1, 'get': 2}.items() | list }} {{ {'items': 1}.get('items') }}",
        "[('items', 1), ('get', 2)] 1",
    );
    check(
        "{{ {'b': 1, 'A': 2} | dictsort }} {{ [3, 1] | sort }} {{ 3.7 | round }} {{ 'a\\nb' | indent(4, true) }}|",
        "[('A', 2), ('b', 1)] [1, 3] 4.0     a\n    b|",
    );
    check(
        "{{ 10 / 5 }} {{ -7 // 2 }} {{ 2 ** -1 }} {{ 'abc'[-2:] }} {{ [1, none] | select | list }} {{ 'x' if false }}|",
        "2.0 -4 0.5 bc [1] |",
    );
}

#[test]
fn python_methods_work() {
    check(
        "{{ text.strip() }}|{{ text.lstrip() }}|{{ text.strip(' Hd') }}",
        "Hello World|Hello World |ello Worl",
    );
    check(
        "{{ text.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }}",
        "['Hello', 'World'] ['a', 'b,c'] ['a,b', 'c']",
    );
    check(
        "{{ ' a  b c '.split(none, 1) }} {{ ' a  b c '.rsplit(none, 1) }} {{ ''.split(',') }}",
        "['a', 'b c '] [' a  b', 'c'] ['']",
    );
    check(
        "{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'a'.partition('=') }}",
        "('a', '=', 'b=c') ('a=b', '=', 'c') ('a', '', '')",
    );
    check(
        "{{ 'abc'.removeprefix('a').removesuffix('c') }} {{ 'ab'.index('b') }} {{ 'x'.swapcase() }}",
        "b 1 X",
    );
    check(
        "{{ '7'.zfill(3) }} {{ '-7'.zfill(3) }} {{ 'a'.ljust(3) }}| {{ 'a'.rjust(3, '.') }} {{ 'ab'.center(5, '.') }}",
        "007 -07 a  | ..a ..ab.",
    );
    check(
        "{{ words.index('a') }} {{ words.copy() }} {{ tool.get('n') }} {{ tool.get('q', 'd') }} {{ tool.keys() | list | length }}",
        "1 ['b', 'a'] 1 d 8",
    );
    check(
        "{% for k, v in {'z': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %} {{ {'z': 1} | items | list }}",
        "z1a2 [('z', 1)]",
    );
    check(
        "{{ 'Hello'.startswith('He') }} {{ 'a' in words }} {{ 'n' in tool }} {{ 'lo' in 'Hello' }} {{ 'x' not in words }}",
        "True True True True True",
    );
    check(
        "{{ 'abc'[::-1] }} {{ words[-1] }} {{ 'abc'[1:] }} {{ text | trim | upper }}",
        "cba a bc HELLO WORLD",
    );
}

#[test]
fn blocks_are_trimmed_and_control_structures_work() {
    check("{% if true %}\n  {% for w in words %}\n{{ w }}\n  {% endfor %}\n{% endif %}\nend\n", "b\na\nend");
    check(
        "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        "02",
    );
    check(
        "{% set ns = namespace(n=0) %}{% for w in words %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "2",
    );
    check("{% macro m(a, b='d') %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, b=2) }}", "1d12");
    check("{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}x{% endcall %}", "[x]");
    check("{% generation %}\nx{% endgeneration %}\ny", "xy");
    check("{% set x %}a{% endset %}{{ x }}{% raw %}{{ x }}{% endraw %}", "a{{ x }}");
    check("{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}", "<s></s>False");
    check(
        "{{ words | map('upper') | join('-') }} {{ [tool] | map(attribute='n') | list }} {{ [tool] | selectattr('yes') | list | length }}",
        "B-A [1] 1",
    );
    check("{{ strftime_now('%d %b %Y %H:%M, %-d') }}", "05 Mar 2026 09:07, 5");
    check(
        "{{ messages[0]['content'] if messages[0].role is string else 'no' }}{{ tools is none }}",
        "HiTrue",
    );
}

#[test]
fn variables_of_the_request_overrule_special_tokens_but_not_the_conversation() {
    let kwargs = json!({"bos_token": "B", "messages": [], "enable_thinking": false});
    let source = "{{ bos_token }} {{ messages | length }} {{ enable_thinking }}";
    assert_eq!(render_with(source, &kwargs).unwrap(), "B 1 False");
}

#[test]
fn raise_exception_is_a_refusal_with_its_message() {
    for source in [
        "{{ raise_exception('Roles must alternate') }}",
        "{% macro m() %}{{ raise_exception('Roles ' ~ 'must alternate') }}{% endmacro %}{% for x in [1] %}{{ m() }}{% endfor %}",
    ] {
        match render_with(source, &json!({})) {
            Err(error @ TextError::Refused(_)) => {
                assert!(error.is_bad_request());
                assert_eq!(error.to_string(), "Roles must alternate");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_template_for_tools_is_used_when_there_are_tools() {
    let config = br#"{"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools | length }} tools"}]}"#;
    let files = TextFiles::from_bytes(Vec::new(), Some(config), None).unwrap();
    let template = ChatTemplate::from_files(&files).unwrap().unwrap();
    let messages = user();
    let input = TemplateInput { messages: &messages, ..TemplateInput::default() };
    assert_eq!(template.render(&input).unwrap(), "plain");
    assert_eq!(template.render(&TemplateInput { tools: Some(&[json!({})]), ..input }).unwrap(), "1 tools");
}

const CHATML: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
const TRIMMING: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}";

fn continued(source: &str, content: &Value) -> Result<String, TextError> {
    let messages =
        [json!({"role": "user", "content": "Count"}), json!({"role": "assistant", "content": content})];
    template(source).render(&TemplateInput {
        messages: &messages,
        continue_final_message: true,
        ..TemplateInput::default()
    })
}

#[test]
fn a_continued_message_ends_the_prompt() {
    assert_eq!(continued(CHATML, &json!("1, 2 ")).unwrap(), "<user>Count</>\n<assistant>1, 2 ");
    assert_eq!(continued(TRIMMING, &json!("1, 2 ")).unwrap(), "<user>Count</><assistant>1, 2");
    let parts = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %};{% endfor %}";
    assert_eq!(
        continued(parts, &json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])).unwrap(),
        ";ab"
    );
}

#[test]
fn a_message_that_cannot_be_continued_is_refused() {
    for content in [json!(null), json!([]), json!(3)] {
        assert!(matches!(continued(CHATML, &content), Err(TextError::BadConversation(_))));
    }
    let hidden = "{% for m in messages %}{{ m.role }}{% endfor %}";
    assert!(matches!(continued(hidden, &json!("x")), Err(TextError::BadConversation(_))));
    let both = TemplateInput {
        messages: &user(),
        continue_final_message: true,
        add_generation_prompt: true,
        ..TemplateInput::default()
    };
    assert!(matches!(template(CHATML).render(&both), Err(TextError::BadConversation(_))));
    assert!(matches!(template(CHATML).render(&TemplateInput::default()), Err(TextError::BadConversation(_))));
}

#[test]
fn reasoning_is_found_under_any_of_its_names() {
    for name in ["reasoning_content", "reasoning", "thinking"] {
        let mut message = json!({"role": "assistant", "content": "2"});
        message[name] = json!("because");
        let messages = [message];
        let source = "{{ messages[0].reasoning_content }} {{ messages[0].thinking }}";
        let input = TemplateInput { messages: &messages, ..TemplateInput::default() };
        assert_eq!(template(source).render(&input).unwrap(), "because because");
    }
}

#[test]
fn messages_are_brought_into_the_form_that_templates_expect() {
    let original = [
        json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
        json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
        json!({"role": "assistant", "tool_calls": [
            {"function": {"name": "f", "arguments": "{\"b\": 1, \"a\": 2}"}},
            {"function": {"name": "g", "arguments": "not JSON"}},
        ]}),
    ];
    let mut messages = original.clone();
    let text_only = template(CHATML);
    assert!(!text_only.takes_parts());
    text_only.prepare_messages(&mut messages, false);
    assert_eq!(messages[0]["content"], "a\nb");
    assert_eq!(messages[1], original[1]);
    assert_eq!(messages[2]["tool_calls"][0]["function"]["arguments"].to_string(), r#"{"b":1,"a":2}"#);
    assert_eq!(messages[2]["tool_calls"][1], original[2]["tool_calls"][1]);

    let mut messages = original.clone();
    let with_parts =
        template("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}");
    assert!(with_parts.takes_parts());
    with_parts.prepare_messages(&mut messages, false);
    assert_eq!(messages[..2], original[..2]);
}

#[test]
fn no_template_takes_the_server_down() {
    let cases = [
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "work"),
        ("{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "output size"),
    ];
    for (source, limit) in cases {
        match render_with(source, &json!({})) {
            Err(TextError::RenderLimit(reached)) => assert_eq!(reached, limit),
            other => panic!("{source}: {:?}", other.map(|text| text.len())),
        }
    }
    let recursion = "{% macro m(n) %}{% if true %}{{ m(n + 1) }}{% endif %}{% endmacro %}{{ m(0) }}";
    let small_stack = std::thread::Builder::new().stack_size(2 << 20);
    let result = small_stack.spawn(move || render_with(recursion, &json!({}))).unwrap().join().unwrap();
    assert!(matches!(result, Err(TextError::Render(_))));
}

#[test]
fn a_broken_template_is_named_with_its_line() {
    let files = TextFiles::from_bytes(Vec::new(), None, Some("a\n{% if %}")).unwrap();
    let error = ChatTemplate::from_files(&files).unwrap_err();
    assert!(!error.is_bad_request());
    assert!(
        error.to_string().contains("default chat template") && error.to_string().contains("line 2"),
        "{error}"
    );
}

#[test]
fn the_command_line_takes_a_file_or_a_template() {
    let files = TextFiles::from_bytes(Vec::new(), None, None).unwrap();
    assert!(ChatTemplate::from_files(&files).unwrap().is_none());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.jinja");
    std::fs::write(&path, "from file").unwrap();
    let messages = user();
    let input = TemplateInput { messages: &messages, ..TemplateInput::default() };
    let render =
        |argument: &str| ChatTemplate::from_argument(argument, &files).unwrap().render(&input).unwrap();
    assert_eq!(render(path.to_str().unwrap()), "from file");
    assert_eq!(render("{{ messages[0].role }}"), "user");
    assert!(matches!(ChatTemplate::from_argument("missing.jinja", &files), Err(TextError::Read { .. })));
}
