//! How each family writes calls: the reverse of parsing, written apart from it.

use serde_json::{Map, Value, json};

/// A call: name and arguments.
pub type Call<'a> = (&'a str, Value);

/// A family's way.
pub struct Format {
    /// Its name.
    pub name: &'static str,
    /// Writes calls in one go.
    pub write: fn(&[Call<'_>]) -> String,
    /// Nothing marks its calls.
    pub bare: bool,
}

const fn marked(name: &'static str, write: fn(&[Call<'_>]) -> String) -> Format {
    Format { name, write, bare: false }
}

const fn bare(name: &'static str, write: fn(&[Call<'_>]) -> String) -> Format {
    Format { name, write, bare: true }
}

/// All families, some with several forms.
pub const FORMATS: &[Format] = &[
    marked("hermes", |calls| {
        each(calls, |n, a| format!("<tool_call>\n{}\n</tool_call>", object(n, a)), "\n")
    }),
    marked("hermes", |calls| each(calls, qwen_xml, "\n")),
    marked("qwen", |calls| each(calls, |n, a| format!("[Calling tool: {n}({a})]"), "\n")),
    marked("qwen3_coder", |calls| each(calls, qwen_xml, "\n")),
    marked("qwen3_coder", |calls| each(calls, function_xml, "\n")),
    marked("nemotron", |calls| {
        each(calls, |n, a| format!("<tool_call><function={n}>{a}</function></tool_call>"), "")
    }),
    marked("step3p5", |calls| each(calls, qwen_xml, "")),
    marked("seed_oss", |calls| {
        each(calls, |n, a| format!("<seed:tool_call>\n{}\n</seed:tool_call>", function_xml(n, a)), "\n")
    }),
    marked("minimax_m2", |calls| {
        format!(
            "<minimax:tool_call>\n{}</minimax:tool_call>",
            each(calls, |n, a| invoke(n, a, "", false), "")
        )
    }),
    marked("deepseek_v32", |calls| {
        let invokes = each(calls, |n, a| invoke(n, a, "｜DSML｜", true), "");
        format!("<｜DSML｜function_calls>\n{invokes}</｜DSML｜function_calls>")
    }),
    marked("muse", |calls| {
        each(
            calls,
            |n, a| format!("<atem:function_calls>\n{}</atem:function_calls>", invoke(n, a, "atem:", false)),
            "",
        )
    }),
    marked("glm45", |calls| each(calls, |n, a| glm(n, a, "\n"), "\n")),
    marked("poolside_v1", |calls| each(calls, |n, a| glm(n, a, ""), "")),
    marked("hunyuan", |calls| {
        let one = |n: &str, a: &Value| {
            let pairs = pairs(a, |k, v| {
                format!(
                    "<arg_key:opensource>{k}</arg_key:opensource>\n<arg_value:opensource>{}</arg_value:opensource>\n",
                    plain(v)
                )
            });
            format!("<tool_call:opensource>{n}<tool_sep:opensource>\n{pairs}</tool_call:opensource>\n")
        };
        format!("<tool_calls:opensource>\n{}</tool_calls:opensource>", each(calls, one, ""))
    }),
    marked("hunyuan", |calls| format!("<tool_calls>{}</tool_calls>", list(calls))),
    marked("llama3_json", |calls| format!("<|python_tag|>{}", each(calls, parameters, "; "))),
    bare("llama3_json", |calls| each(calls, parameters, "; ")),
    marked("granite", |calls| format!("<|tool_call|>{}", list(calls))),
    marked("granite4", |calls| {
        each(calls, |n, a| format!("<tool_call>\n{}\n</tool_call>", object(n, a)), "\n")
    }),
    bare("xlam", list),
    bare("xlam", |calls| format!("```json\n{}\n```", list(calls))),
    marked("xlam", |calls| format!("[TOOL_CALLS]{}", list(calls))),
    marked("nemotron_v2", |calls| format!("<TOOLCALL>{}</TOOLCALL>", list(calls))),
    marked("minimax_m1", |calls| format!("<tool_calls>\n{}\n</tool_calls>", each(calls, object, "\n"))),
    marked("jamba", |calls| format!("<tool_calls>{}</tool_calls>", list(calls))),
    marked("phi4", |calls| format!("functools{}", list(calls))),
    marked("phi4", |calls| format!("<|tool_call|>{}<|/tool_call|>", list(calls))),
    marked("command_r", |calls| {
        let one =
            |n: &str, a: &Value| json!({"tool_call_id": "0", "tool_name": n, "parameters": a}).to_string();
        format!("<|START_ACTION|>[\n    {}\n]<|END_ACTION|>", each(calls, one, ",\n    "))
    }),
    marked("apertus", |calls| {
        format!("<|tools_prefix|>[{}]<|tools_suffix|>", each(calls, |n, a| json!({n: a}).to_string(), ", "))
    }),
    marked("gigachat", |calls| each(calls, |n, a| format!("<|function_call|>{}", object(n, a)), "")),
    bare("json", |calls| each(calls, object, "\n")),
    bare("json", list),
    bare("pythonic", |calls| format!("[{}]", each(calls, python, ", "))),
    bare("llama4_pythonic", |calls| format!("[{}]", each(calls, python, ", "))),
    marked("llama4_pythonic", |calls| {
        format!("<|python_start|>[{}]<|python_end|>", each(calls, python, ", "))
    }),
    marked("lfm2", |calls| format!("<|tool_call_start|>[{}]<|tool_call_end|>", each(calls, python, ", "))),
    marked("olmo3", |calls| format!("<function_calls>\n{}\n</function_calls>", each(calls, python, "\n"))),
    marked("auto", |calls| each(calls, |n, a| format!("<tool_call>\n{}\n</tool_call>", object(n, a)), "\n")),
    marked("auto", |calls| {
        format!(
            "<minimax:tool_call>\n{}</minimax:tool_call>",
            each(calls, |n, a| invoke(n, a, "", false), "")
        )
    }),
    bare("auto", |calls| format!("[{}]", each(calls, |n, a| format!("{n}({a})"), ", "))),
    marked("mistral", |calls| format!("[TOOL_CALLS] {}", list(calls))),
    marked("mistral", |calls| each(calls, |n, a| format!("[TOOL_CALLS]{n}[ARGS]{a}"), "")),
    marked("mistral", |calls| each(calls, |n, a| format!("[TOOL_CALLS]{n}[CALL_ID]abc123XYZ[ARGS]{a}"), "")),
    marked("deepseek_v3", |calls| {
        let one = |n: &str, a: &Value| {
            format!("<｜tool▁call▁begin｜>function<｜tool▁sep｜>{n}\n```json\n{a}\n```<｜tool▁call▁end｜>")
        };
        format!("<｜tool▁calls▁begin｜>{}<｜tool▁calls▁end｜>", each(calls, one, "\n"))
    }),
    marked("deepseek_v31", |calls| {
        let one =
            |n: &str, a: &Value| format!("<｜tool▁call▁begin｜>{n}<｜tool▁sep｜>{a}<｜tool▁call▁end｜>");
        format!("<｜tool▁calls▁begin｜>{}<｜tool▁calls▁end｜>", each(calls, one, ""))
    }),
    marked("kimi_k2", |calls| {
        let one = |n: &str, a: &Value| {
            format!("<|tool_call_begin|>functions.{n}:0<|tool_call_argument_begin|>{a}<|tool_call_end|>")
        };
        format!("<|tool_calls_section_begin|>{}<|tool_calls_section_end|>", each(calls, one, ""))
    }),
    marked("functionary", |calls| {
        each(calls, |n, a| format!("<|from|>assistant\n<|recipient|>{n}\n<|content|>{a}<|stop|>"), "")
    }),
    marked("functionary", |calls| each(calls, |n, a| format!("<function={n}>{a}</function>"), "")),
    marked("functionary", |calls| each(calls, |n, a| format!(">>>{n}\n{a}"), "\n")),
    marked("gemma4", |calls| each(calls, |n, a| format!("<|tool_call>call:{n}{}<tool_call|>", gemma(a)), "")),
    marked("gemma4", |calls| {
        each(calls, |n, a| format!("tool_code = {}\nprint(tool_code)", python(n, a)), "\n")
    }),
    marked("gemma3", |calls| each(calls, |n, a| format!("```tool_code\n{}\n```", python(n, a)), "\n")),
    marked("solar_open", |calls| {
        let one = |n: &str, a: &Value| {
            format!("<|tool_call:begin|>call00001<|tool_call:name|>{n}<|tool_call:args|>{a}<|tool_call:end|>")
        };
        format!("<|tool_calls|>{}<|calls|>", each(calls, one, ""))
    }),
    marked("harmony", |calls| {
        let one = |n: &str, a: &Value| {
            format!(
                "<|start|>assistant<|channel|>commentary to=functions.{n} <|constrain|>json<|message|>{a}<|call|>"
            )
        };
        each(calls, one, "")
    }),
    marked("harmony", |calls| {
        let one = |n: &str, a: &Value| {
            format!("<|start|>assistant to=functions.{n}<|channel|>commentary json<|message|>{a}<|call|>")
        };
        each(calls, one, "")
    }),
];

fn each(calls: &[Call<'_>], one: impl Fn(&str, &Value) -> String, between: &str) -> String {
    calls.iter().map(|(name, arguments)| one(name, arguments)).collect::<Vec<_>>().join(between)
}

fn object(name: &str, arguments: &Value) -> String {
    json!({"name": name, "arguments": arguments}).to_string()
}

fn parameters(name: &str, arguments: &Value) -> String {
    json!({"type": "function", "name": name, "parameters": arguments}).to_string()
}

fn list(calls: &[Call<'_>]) -> String {
    format!("[{}]", each(calls, object, ", "))
}

fn members(arguments: &Value) -> &Map<String, Value> {
    arguments.as_object().unwrap()
}

fn pairs(arguments: &Value, one: impl Fn(&str, &Value) -> String) -> String {
    members(arguments).iter().map(|(key, value)| one(key, value)).collect()
}

/// Strings as they are, the rest as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn function_xml(name: &str, arguments: &Value) -> String {
    let parameters = pairs(arguments, |k, v| format!("<parameter={k}>\n{}\n</parameter>\n", plain(v)));
    format!("<function={name}>\n{parameters}</function>")
}

fn qwen_xml(name: &str, arguments: &Value) -> String {
    format!("<tool_call>\n{}\n</tool_call>", function_xml(name, arguments))
}

fn invoke(name: &str, arguments: &Value, prefix: &str, types: bool) -> String {
    let parameters = pairs(arguments, |k, v| {
        let kind = if types { format!(" string=\"{}\"", v.is_string()) } else { String::new() };
        format!("<{prefix}parameter name=\"{k}\"{kind}>{}</{prefix}parameter>\n", plain(v))
    });
    format!("<{prefix}invoke name=\"{name}\">\n{parameters}</{prefix}invoke>\n")
}

fn glm(name: &str, arguments: &Value, line: &str) -> String {
    let pairs = pairs(arguments, |k, v| {
        format!("{line}<arg_key>{k}</arg_key>{line}<arg_value>{}</arg_value>", plain(v))
    });
    format!("<tool_call>{name}{pairs}{line}</tool_call>")
}

fn python(name: &str, arguments: &Value) -> String {
    let keywords: Vec<String> =
        members(arguments).iter().map(|(key, value)| format!("{key}={}", repr(value))).collect();
    format!("{name}({})", keywords.join(", "))
}

/// As Python's `repr`, more or less.
fn repr(value: &Value) -> String {
    let all = |values: Vec<String>| values.join(", ");
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => {
            let text =
                text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\t', "\\t");
            format!("'{text}'")
        }
        Value::Array(values) => format!("[{}]", all(values.iter().map(repr).collect())),
        Value::Object(map) => {
            format!("{{{}}}", all(map.iter().map(|(k, v)| format!("'{k}': {}", repr(v))).collect()))
        }
    }
}

fn gemma(value: &Value) -> String {
    match value {
        Value::String(text) => format!("<|\"|>{text}<|\"|>"),
        Value::Array(values) => format!("[{}]", values.iter().map(gemma).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let members: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", gemma(v))).collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}
