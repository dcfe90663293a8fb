//! How families write reasoning.

use super::ReasoningFamily;

/// `<think>…</think>` of which the template may have written the first tag.
const THINK: ReasoningFamily = ReasoningFamily {
    names: &[],
    open: &["<think>"],
    prompt_open: &[],
    close: &["</think>"],
    drop: &[],
    implicit: true,
    opens_anywhere: false,
    calls: Some(("<tool_call>", "</tool_call>")),
    harmony: false,
};

pub(super) const ALL: &[ReasoningFamily] = &[
    ReasoningFamily {
        names: &["qwen3", "think", "qwen3.5", "nemotron", "nemotron3", "smollm3", "ling3", "spark", "lfm2.5"],
        ..THINK
    },
    ReasoningFamily {
        names: &["deepseek_r1", "deepseek", "deepseek_v3", "deepseek_v32", "deepseek_v4"],
        ..THINK
    },
    ReasoningFamily { names: &["step3p5", "step3.5", "step", "step3"], ..THINK },
    ReasoningFamily { names: &["poolside_v1", "poolside"], ..THINK },
    ReasoningFamily { names: &["olmo3"], ..THINK },
    ReasoningFamily {
        names: &["glm45", "glm4", "glm4.5", "glm47", "glm4.7"],
        drop: &["<|begin_of_box|>", "<|end_of_box|>"],
        ..THINK
    },
    ReasoningFamily {
        names: &["kimi_k2", "kimi", "moonshot"],
        open: &["<think>", "◁think▷"],
        close: &["</think>", "◁/think▷"],
        calls: Some(("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")),
        ..THINK
    },
    ReasoningFamily {
        names: &["minimax_m2", "minimax", "minimax_m1", "minimax_m3"],
        open: &["<think>", "<mm:think>"],
        close: &["</think>", "</mm:think>"],
        calls: Some(("<minimax:tool_call>", "</minimax:tool_call>")),
        ..THINK
    },
    ReasoningFamily {
        names: &["seed_oss", "seed"],
        open: &["<seed:think>"],
        close: &["</seed:think>"],
        calls: Some(("<seed:tool_call>", "</seed:tool_call>")),
        ..THINK
    },
    ReasoningFamily {
        names: &["hunyuan", "hunyuan_a13b", "hunyuan_v3", "hy3"],
        open: &["<think>", "<think:opensource>"],
        close: &["</think>", "</think:opensource>"],
        drop: &["<answer>", "</answer>"],
        ..THINK
    },
    ReasoningFamily {
        names: &["granite", "granite3"],
        open: &["<think>", "Here is my thought process:", "Here's my thought process:"],
        close: &["</think>", "Here is my response:", "Here's my response:"],
        drop: &["<response>", "</response>"],
        implicit: false,
        ..THINK
    },
    ReasoningFamily {
        names: &["apriel"],
        open: &["Here are my reasoning steps:"],
        close: &["[BEGIN FINAL RESPONSE]"],
        drop: &["[END FINAL RESPONSE]"],
        ..THINK
    },
    ReasoningFamily {
        names: &["mistral", "magistral"],
        open: &["[THINK]", "<think>"],
        close: &["[/THINK]", "</think>"],
        calls: None,
        ..THINK
    },
    ReasoningFamily {
        names: &["command_r", "cohere", "command_r7b", "cohere2"],
        open: &["<|START_THINKING|>"],
        close: &["<|END_THINKING|>"],
        drop: &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"],
        opens_anywhere: true,
        calls: None,
        ..THINK
    },
    ReasoningFamily {
        names: &["apertus"],
        open: &["<|inner_prefix|>"],
        close: &["<|inner_suffix|>"],
        implicit: false,
        opens_anywhere: true,
        calls: None,
        ..THINK
    },
    ReasoningFamily {
        names: &["solar_open", "solar"],
        open: &["<|think|>"],
        close: &["<|end|><|begin|>assistant<|content|>", "<|end|><|begin|>assistant", "<|content|>"],
        implicit: false,
        opens_anywhere: true,
        calls: None,
        ..THINK
    },
    ReasoningFamily {
        names: &["gemma4"],
        open: &["<|channel>thought"],
        close: &["<channel|>"],
        // It closes what it didn't open at times.
        drop: &["thought\n<channel|>"],
        implicit: false,
        opens_anywhere: true,
        calls: None,
        ..THINK
    },
    ReasoningFamily { names: &["gpt_oss", "harmony", "openai"], harmony: true, ..THINK },
];
