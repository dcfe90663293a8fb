//! Each kind of source accepts what it should and nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use millrace_grammar::{Expr, Source, Tag, TextRules, Whitespace};
use serde_json::json;

#[test]
fn json_follows_its_schema() {
    let person = schema(json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
        "required": ["name", "age"],
        "additionalProperties": false,
    }));
    for good in
        [r#"{"name": "Jo", "age": 7}"#, r#"{"name":"Jo","age":120}"#, "{\n  \"name\": \"\",\n  \"age\": 0\n}"]
    {
        assert!(accepts(&person, good), "{good}");
    }
    for bad in [
        r#"{"name": "Jo", "age": 121}"#,
        r#"{"name": "Jo"}"#,
        r#"{"age": 1, "name": "Jo"}"#,
        "[]",
        r#"{"name": "abcdef", "age": 1}"#,
    ] {
        assert!(!accepts(&person, bad), "{bad}");
    }
}

#[test]
fn white_space_is_as_asked_for() {
    let list =
        |whitespace| Source::Json { schema: json!({"type": "array", "items": {"type": "null"}}), whitespace };
    let spaced = |n: usize| format!("[null,{}null]", " ".repeat(n));
    let flexible = list(Whitespace::Flexible);
    assert!(
        accepts(&flexible, &spaced(0)) && accepts(&flexible, &spaced(1)) && !accepts(&flexible, &spaced(2))
    );
    assert!(accepts(&flexible, "[\n\t\tnull,\r\n    null\n]") && !accepts(&flexible, "[\n\nnull]"));
    assert!(accepts(&list(Whitespace::None), &spaced(0)) && !accepts(&list(Whitespace::None), &spaced(1)));
    let one = list(Whitespace::Pattern(" ?".into()));
    assert!(accepts(&one, &spaced(1)) && accepts(&one, &spaced(0)) && !accepts(&one, &spaced(2)));
}

#[test]
fn regular_expressions_match_as_a_whole() {
    for pattern in [r"[a-c]+\d{2}", r"^[a-c]+\d{2}$"] {
        let source = Source::Regex(pattern.into());
        assert!(
            accepts(&source, "abc42") && !accepts(&source, "abc4") && !accepts(&source, "xabc42"),
            "{pattern}"
        );
        assert!(!accepts(&source, "abc423"), "{pattern}");
    }
    let source = Source::Regex(r#"a/b\\|"x"|c\$"#.into());
    assert!(accepts(&source, r"a/b\") && accepts(&source, r#""x""#) && accepts(&source, "c$"));
    let alternatives = Source::Regex("yes|no".into());
    assert!(accepts(&alternatives, "yes") && accepts(&alternatives, "no") && !accepts(&alternatives, "yno"));
}

#[test]
fn choices_are_taken_literally() {
    let texts = ["yes", "yes, but", "a.b*(c)", "line\nbreak", "\"quoted\\\"", "<a/>", "größe", "$^#~&-"];
    let source = Source::Choice(texts.iter().map(|text| (*text).into()).collect());
    assert!(texts.iter().all(|text| accepts(&source, text)));
    assert!(!accepts(&source, "yes,") && !accepts(&source, "axb*(c)") && !accepts(&source, ""));
}

#[test]
fn grammars_are_lark_or_ebnf() {
    let lark = Source::Grammar("start: \"a\" NUMBER (\",\" NUMBER)*\nNUMBER: /[0-9]+/\n".into());
    assert!(accepts(&lark, "a1,22,3") && !accepts(&lark, "a1,"));
    let ebnf = Source::Grammar(
        "root ::= expr # start\nexpr ::= term (op term)*\nterm ::= [0-9]+ | \"(\" expr \")\"\nop ::= \"+\" | \"\\x2a\"".into(),
    );
    assert!(accepts(&ebnf, "1+(2*30)") && !accepts(&ebnf, "1+") && !accepts(&ebnf, "(1"));
    let classes = Source::Grammar("root ::= [^\\]\\-a-z] [-+]? \"x\"{2,3}".into());
    assert!(
        accepts(&classes, "A-xx")
            && accepts(&classes, "[xxx")
            && !accepts(&classes, "]xx")
            && !accepts(&classes, "-xx")
    );
}

fn call(name: &str) -> Expr {
    let arguments = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false});
    Expr::Seq(vec![
        literal(&format!("{{\"name\": \"{name}\", \"arguments\": ")),
        Expr::Json { schema: arguments, whitespace: Whitespace::Flexible },
        literal("}"),
    ])
}

#[test]
fn parts_are_put_together() {
    let calls = |min, max| {
        let item =
            Expr::Seq(vec![literal("<call>"), Expr::Any(vec![call("f"), call("g")]), literal("</tool>")]);
        Source::Expr(Expr::Repeat { item: Box::new(item), separator: "\n".into(), min, max })
    };
    let one = |name: &str| format!("<call>{{\"name\": \"{name}\", \"arguments\": {{\"a\": 1}}}}</tool>");
    let two = format!("{}\n{}", one("f"), one("g"));
    assert!(accepts(&calls(1, None), &one("f")) && accepts(&calls(1, None), &two));
    assert!(!accepts(&calls(1, None), &one("h")) && !accepts(&calls(1, None), ""));
    assert!(accepts(&calls(1, Some(1)), &one("g")) && !accepts(&calls(1, Some(1)), &two));
    assert!(accepts(&calls(0, Some(2)), "") && accepts(&calls(0, Some(2)), &two));
    // The name of a control token is that token and not its letters.
    let spelled = accepts_tokens(&calls(1, None), &encode(&one("f")));
    assert!(!spelled);
}

#[test]
fn free_text_is_free_up_to_a_trigger() {
    for trigger in ["<tool_call>", "<call>"] {
        let tag = |name: &str| Tag {
            trigger: trigger.into(),
            rest: Expr::Seq(vec![call(name), literal("</tool>")]),
        };
        let free = |min, max| {
            Source::Expr(Expr::Free { tags: vec![tag("f"), tag("g")], min, max, rules: TextRules::default() })
        };
        let one =
            |name: &str| format!("{trigger}{{\"name\": \"{name}\", \"arguments\": {{\"a\": 1}}}}</tool>");
        let good = format!("Let me see.\n{} and {} <tool", one("f"), one("g"));
        assert!(accepts(&free(0, None), &good), "{trigger}");
        assert!(accepts(&free(0, None), "no call") && !accepts(&free(1, None), "no call"));
        assert!(!accepts(&free(0, None), &format!("x {}", one("h"))), "{trigger}");
        assert!(!accepts(&free(0, None), &format!("x {trigger} y")), "{trigger}");
        assert!(!accepts(&free(0, Some(1)), &good) && accepts(&free(0, Some(1)), &one("g")));
    }
}

#[test]
fn free_text_keeps_its_rules() {
    let tag = Tag { trigger: "{\"f\"".into(), rest: literal("}") };
    let rules = TextRules { never: vec![r#"\{\s*"(f|g)""#.into()], open: vec![r#"\("[^"]*"#.into()] };
    let source = Source::Expr(Expr::Free { tags: vec![tag], min: 0, max: None, rules });
    for good in ["", "{ \"h\": 1}", "so: {\"f\"}{\"f\"} {\"f", "a (\"quote\") {\"f\"}", "an (\"open one"] {
        assert!(accepts(&source, good), "{good}");
    }
    for bad in ["{\"g\"", "{\n\"f\"}", "{\"f\":", "an (\"open one {\"f\"}"] {
        assert!(!accepts(&source, bad), "{bad}");
    }
}

#[test]
fn what_cannot_be_held_to_is_refused() {
    let nested = |levels: usize| format!("start: {}\"a\"{}", "(".repeat(levels), ")".repeat(levels));
    for (source, words) in [
        (schema(json!({"type": "array", "uniqueItems": true})), "uniqueItems"),
        (schema(json!({"not": {"pattern": r"\ba"}})), "opposite of `pattern`"),
        (schema(json!({"not": {"format": "regex"}})), "opposite of `format`"),
        (schema(json!({"not": {}})), "nsatisfiable"),
        (schema(json!({"type": "string", "format": "no-such-format"})), "no-such-format"),
        (schema(json!({"type": "string", "pattern": "(?=a)b"})), "can't be used"),
        (schema(json!({"$ref": "https://example.org/x"})), "never fetched"),
        (schema(json!({"$ref": "other.json"})), "never fetched"),
        (schema(json!({"$ref": "https://json-schema.org/draft/2020-12/schema"})), "never fetched"),
        (schema(json!({"$ref": "#/$defs/none"})), "can't be used"),
        (schema(json!({"type": "nothing"})), "nothing"),
        (schema(json!({"type": "object", "properties": {"a": false}, "required": ["a"]})), "nsatisfiable"),
        (schema(json!({"allOf": [{"type": "string"}, {"type": "null"}]})), "nsatisfiable"),
        (schema(json!({"oneOf": [{"type": "object"}, {"type": "object"}]})), "nsatisfiable"),
        (
            schema(json!({
                "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}},
                "not": {"$ref": "#/$defs/a"},
            })),
            "refers to itself",
        ),
        (schema(json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})), "nothing satisfies it"),
        (Source::Regex("(".into()), "regular expression"),
        (Source::Regex("a\\1".into()), "regular expression"),
        (Source::Regex(String::new()), "empty"),
        (Source::Regex("a\0".into()), "NUL"),
        (Source::Choice(vec![]), "empty"),
        (Source::Grammar("start: missing".into()), "missing"),
        (Source::Grammar("root ::= missing".into()), "missing"),
        (Source::Grammar(nested(300)), "levels of brackets"),
        (Source::Grammar(format!("start: /{}/", "a".repeat(70_000))), "too large"),
    ] {
        let error = start(&source).unwrap_err().to_string();
        assert!(
            error.contains(words) && error.ends_with('.') && !error.contains('\n'),
            "{source:?}: {error}"
        );
    }
    assert!(start(&Source::Grammar(nested(20))).is_ok());
}

#[test]
fn grammars_are_compiled_once() {
    let grammars = grammars();
    let source = schema(json!({"type": "integer"}));
    assert!(grammars.get(&source).unwrap().compiled_in.is_some());
    assert!(grammars.get(&source).unwrap().compiled_in.is_none());
    let other = Source::Json { schema: json!({"type": "integer"}), whitespace: Whitespace::None };
    assert!(grammars.get(&other).unwrap().compiled_in.is_some());
}

#[test]
fn texts_without_quotes_end_at_their_mark() {
    let never = ["<p", "</p>", "</call>", "</section>"];
    let text = |patterns: &[&str]| {
        Source::Expr(Expr::Seq(vec![
            Expr::Text {
                patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
                without: never.iter().map(|text| (*text).to_owned()).collect(),
                end: "\n</p>\n".into(),
            },
            literal("."),
        ]))
    };
    for (answer, fits) in [
        ("\n</p>\n.", true),
        ("a < b <</ c\n\n</p>\n.", true),
        ("a</p>\n</p>\n.", false),
        ("a<p>\n</p>\n.", false),
        ("<</section>\n</p>\n.", false),
        ("a\n</p>\n", false),
        ("é\n</p>\n.", true),
    ] {
        assert_eq!(accepts(&text(&[]), answer), fits, "{answer}");
    }
    assert!(accepts(&text(&["[a-z]+"]), "abc\n</p>\n.") && !accepts(&text(&["[a-z]+"]), "\n</p>\n."));
    assert!(!accepts(&text(&["[a-z]+", "(.|\n){0,2}"]), "abc\n</p>\n."));
    // Long texts of random characters cost no more than short ones.
    let mut constraint = start(&text(&[])).unwrap();
    let mut random = Random(5);
    for _ in 0..3000 {
        let mask = mask(&mut *constraint);
        let all: Vec<u32> = (0..128).filter(|token| is_set(&mask, *token)).collect();
        let marks: Vec<u32> =
            all.iter().copied().filter(|t| b"</p>\nsection".contains(&(*t as u8))).collect();
        let list = if random.below(2) == 0 && !marks.is_empty() { marks } else { all };
        let Some(token) = list.get(random.below(list.len().max(1))) else { break };
        constraint.commit(*token).unwrap();
    }
}

#[test]
fn texts_end_at_control_tokens() {
    let source = Source::Expr(Expr::Text {
        patterns: Vec::new(),
        without: vec!["</p>".into()],
        end: "\n<call>x".into(),
    });
    assert!(accepts(&source, "a <call\n\n<call>x") && accepts(&source, "\n<call>x"));
    assert!(!accepts(&source, "a<call>x") && !accepts(&source, "</p>\n<call>x"));
}

#[test]
fn members_come_in_order_and_once() {
    let member = |name: &str, required| (literal(name), required);
    let source = |items: Vec<(Expr, bool)>| {
        Source::Expr(Expr::Seq(vec![
            literal("("),
            Expr::Members { items, separator: ", ".into() },
            literal(")"),
        ]))
    };
    let some = source(vec![member("a", false), member("b", true), member("c", false)]);
    for (answer, fits) in [
        ("(b)", true),
        ("(a, b)", true),
        ("(a, b, c)", true),
        ("(b, c)", true),
        ("(a)", false),
        ("(b, a)", false),
        ("(, b)", false),
    ] {
        assert_eq!(accepts(&some, answer), fits, "{answer}");
    }
    let optional = source(vec![member("a", false), member("b", false)]);
    for answer in ["()", "(a)", "(b)", "(a, b)"] {
        assert!(accepts(&optional, answer), "{answer}");
    }
    assert!(!accepts(&optional, "(a, )") && accepts(&source(Vec::new()), "()"));
    // Thirty that may all be left out are no problem.
    let many = source((0..30).map(|n| member(&format!("x{n}"), false)).collect());
    assert!(accepts(&many, "(x3, x17, x29)"));
}
