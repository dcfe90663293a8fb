//! Which families a model belongs to, from its chat template and vocabulary.
//!
//! A template shows calls and reasoning of earlier turns in the form that the model was trained on, so the markers
//! that it writes name the family. The order matters: a rule may use what an earlier one has excluded.

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Detected {
    /// The tool-call family's name.
    pub tool: Option<&'static str>,
    /// The reasoning family's name.
    pub reasoning: Option<&'static str>,
}

/// A family and the texts that a template of it holds, all of them.
struct Rule(&'static str, &'static [&'static str]);

const TOOLS: &[Rule] = &[
    Rule("harmony", &["<|channel|>", "<|message|>", "<|start|>assistant to="]),
    Rule("deepseek_v32", &["｜DSML｜"]),
    Rule("deepseek_v3", &["<｜tool▁call▁begin｜>"]),
    Rule("kimi_k2", &["<|tool_call_begin|>"]),
    Rule("minimax_m2", &["<minimax:tool_call>", "<invoke"]),
    Rule("seed_oss", &["<seed:tool_call>"]),
    Rule("seed_oss", &["seed:tool_call", "<function="]),
    Rule("muse", &["atem:", "invoke"]),
    Rule("hunyuan", &["<tool_sep{}>"]),
    Rule("hunyuan", &["<tool_sep:opensource>"]),
    Rule("gemma4", &["<|tool_call>", "call:"]),
    Rule("gemma4", &["<start_function_call>"]),
    Rule("solar_open", &["<|tool_call:begin|>"]),
    Rule("mistral", &["[TOOL_CALLS]"]),
    Rule("glm45", &["<arg_key>"]),
    Rule("qwen3_coder", &["<function=", "<parameter="]),
    Rule("functionary", &["<|recipient|>"]),
    Rule("functionary", &[">>>all"]),
    Rule("functionary", &["<function=", "</function>"]),
    Rule("nemotron_v2", &["<TOOLCALL>"]),
    Rule("lfm2", &["<|tool_call_start|>"]),
    Rule("lfm2", &["<|tool_list_start|>"]),
    Rule("command_r", &["<|START_ACTION|>"]),
    Rule("command_r", &["\"tool_name\"", "Action:"]),
    Rule("apertus", &["<|tools_prefix|>"]),
    Rule("gigachat", &["<|function_call|>"]),
    Rule("gigachat", &["function call", "<|role_sep|>"]),
    Rule("phi4", &["functools["]),
    Rule("phi4", &["<|tool_call|>", "<|/tool_call|>"]),
    Rule("granite", &["<|tool_call|>"]),
    Rule("olmo3", &["<function_calls>"]),
    Rule("minimax_m1", &["<tool_calls>", "<beginning_of_sentence>"]),
    Rule("jamba", &["<tool_calls>"]),
    Rule("llama4_pythonic", &["<|python_start|>"]),
    Rule("llama4_pythonic", &["<|header_start|>", "[func_name1("]),
    Rule("llama3_json", &["\"parameters\": ", "<|start_header_id|>", "ipython"]),
    Rule("hermes", &["<tool_call>"]),
    Rule("gemma3", &["<start_of_turn>", "tools"]),
];

const REASONING: &[Rule] = &[
    Rule("gpt_oss", &["<|channel|>", "<|message|>", "analysis"]),
    Rule("gemma4", &["<|channel>thought"]),
    Rule("mistral", &["[THINK]"]),
    Rule("seed_oss", &["<seed:think>"]),
    Rule("seed_oss", &["seed:think"]),
    Rule("command_r", &["<|START_THINKING|>"]),
    Rule("apertus", &["<|inner_prefix|>"]),
    Rule("solar_open", &["<|think|>", "<|begin|>assistant"]),
    Rule("apriel", &["[BEGIN FINAL RESPONSE]"]),
    Rule("hunyuan", &["<think{}>"]),
    Rule("hunyuan", &["<think:opensource>"]),
    Rule("kimi_k2", &["◁think▷"]),
    Rule("minimax_m2", &["<mm:think>"]),
    Rule("kimi_k2", &["<think>", "<|im_middle|>"]),
    Rule("minimax_m2", &["<think>", "]~b]"]),
    Rule("hunyuan", &["<think>", "<answer>"]),
    Rule("granite", &["<|start_of_role|>", "<think>"]),
    Rule("granite", &["Here is my thought process:"]),
    Rule("deepseek_r1", &["</think>", "<｜Assistant｜>"]),
    Rule("poolside_v1", &["</think>", "</assistant>", "<assistant>"]),
    Rule("glm45", &["</think>", "[gMASK]"]),
    Rule("step3p5", &["</think>", "<|im_start|>tool_response"]),
    Rule("qwen3", &["</think>"]),
];

/// Tokens that a vocabulary has for one family only, for templates that say nothing of calls or reasoning.
const TOOL_TOKENS: &[(&str, &str)] = &[
    ("mistral", "[TOOL_CALLS]"),
    ("deepseek_v3", "<｜tool▁call▁begin｜>"),
    ("kimi_k2", "<|tool_call_begin|>"),
    ("minimax_m2", "<minimax:tool_call>"),
    ("seed_oss", "<seed:tool_call>"),
    ("gemma4", "<|tool_call>"),
    ("lfm2", "<|tool_call_start|>"),
    ("command_r", "<|START_ACTION|>"),
    ("granite", "<|tool_call|>"),
    ("glm45", "<arg_key>"),
    ("llama4_pythonic", "<|python_start|>"),
    ("llama3_json", "<|python_tag|>"),
    ("hermes", "<tool_call>"),
];

const REASONING_TOKENS: &[(&str, &str)] = &[
    ("mistral", "[THINK]"),
    ("gemma4", "<|channel>"),
    ("seed_oss", "<seed:think>"),
    ("command_r", "<|START_THINKING|>"),
    ("kimi_k2", "◁think▷"),
];

/// Finds the families of a model. `template` is its chat template, `has_token` whether a text is one token of its
/// vocabulary.
///
/// A family is found for templates that show calls or reasoning in a known form; the vocabulary decides where the
/// template is silent. `<think>` as a token isn't enough: many models have it and never use it.
pub fn detect(template: Option<&str>, has_token: impl Fn(&str) -> bool) -> Detected {
    let find = |rules: &[Rule]| {
        let template = template?;
        let holds = |rule: &&Rule| rule.1.iter().all(|sign| template.contains(sign));
        rules.iter().find(holds).map(|rule| rule.0)
    };
    let token = |tokens: &[(&'static str, &'static str)]| {
        tokens.iter().find(|(_, token)| has_token(token)).map(|(family, _)| *family)
    };
    Detected {
        tool: find(TOOLS).or_else(|| token(TOOL_TOKENS)),
        reasoning: find(REASONING).or_else(|| token(REASONING_TOKENS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families;

    #[test]
    fn every_rule_names_a_family() {
        for name in TOOLS.iter().map(|rule| rule.0).chain(TOOL_TOKENS.iter().map(|rule| rule.0)) {
            assert_eq!(families::tool(Some(name)).unwrap().unwrap().names[0], name);
        }
        for name in REASONING.iter().map(|rule| rule.0).chain(REASONING_TOKENS.iter().map(|rule| rule.0)) {
            assert_eq!(families::reasoning(Some(name)).unwrap().unwrap().names[0], name);
        }
    }

    #[test]
    fn the_template_wins_over_the_vocabulary() {
        let has = |token: &str| token == "[TOOL_CALLS]";
        assert_eq!(detect(None, has), Detected { tool: Some("mistral"), reasoning: None });
        let template = "<tool_call>{{ x }}</tool_call></think>";
        assert_eq!(detect(Some(template), has), Detected { tool: Some("hermes"), reasoning: Some("qwen3") });
        assert_eq!(detect(Some("{{ messages }}"), |_| false), Detected::default());
    }
}
