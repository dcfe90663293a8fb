//! Detection on the published chat templates, `../shared/chat-templates/templates` beside the checkout.

use std::path::PathBuf;

use millrace_parse::{ArgumentsForm, Detected, arguments_form, detect};

/// Template, tool-call family, reasoning family, form of arguments in the history.
const EXPECTED: &[(&str, &str, &str, ArgumentsForm)] = &[
    ("Apertus-8B-Instruct", "apertus", "apertus", ArgumentsForm::Object),
    ("Apriel-1.6-15b-Thinker-fixed", "jamba", "apriel", ArgumentsForm::Object),
    ("ByteDance-Seed-OSS", "seed_oss", "seed_oss", ArgumentsForm::Object),
    ("Cohere2MoE", "command_r", "command_r", ArgumentsForm::Object),
    ("CohereForAI-c4ai-command-r-plus-tool_use", "command_r", "", ArgumentsForm::Object),
    ("CohereForAI-c4ai-command-r7b-12-2024-tool_use", "command_r", "command_r", ArgumentsForm::Object),
    ("GLM-4.7-Flash", "glm45", "glm45", ArgumentsForm::Object),
    ("GigaChat3-10B-A1.8B", "gigachat", "", ArgumentsForm::Object),
    ("GigaChat3.1-10B-A1.8B", "gigachat", "", ArgumentsForm::Object),
    ("HuggingFaceTB-SmolLM3-3B", "", "qwen3", ArgumentsForm::Object),
    ("Kimi-K2-Thinking", "kimi_k2", "kimi_k2", ArgumentsForm::Object),
    ("LFM2-8B-A1B", "lfm2", "", ArgumentsForm::Object),
    ("LFM2.5-8B-A1B", "lfm2", "qwen3", ArgumentsForm::Object),
    ("MiMo-VL", "hermes", "", ArgumentsForm::Object),
    ("MiniMax-M1", "minimax_m1", "", ArgumentsForm::Object),
    ("MiniMax-M2", "minimax_m2", "minimax_m2", ArgumentsForm::Object),
    ("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "qwen3_coder", "qwen3", ArgumentsForm::Object),
    ("NVIDIA-Nemotron-Nano-v2", "nemotron_v2", "qwen3", ArgumentsForm::Object),
    ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "hermes", "", ArgumentsForm::Object),
    ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "hermes", "", ArgumentsForm::Object),
    ("Qwen-Qwen2.5-7B-Instruct", "hermes", "", ArgumentsForm::Object),
    ("Qwen-Qwen3-0.6B", "hermes", "qwen3", ArgumentsForm::Object),
    ("Qwen3-Coder", "qwen3_coder", "", ArgumentsForm::Object),
    ("Qwen3.5-4B", "qwen3_coder", "qwen3", ArgumentsForm::Object),
    ("Spark2.5", "glm45", "qwen3", ArgumentsForm::Object),
    ("StepFun3.5-Flash", "qwen3_coder", "step3p5", ArgumentsForm::Object),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "deepseek_v3", "deepseek_r1", ArgumentsForm::Text),
    ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "deepseek_v3", "deepseek_r1", ArgumentsForm::Object),
    ("deepseek-ai-DeepSeek-V3.2", "deepseek_v32", "deepseek_r1", ArgumentsForm::Object),
    ("deepseek-ai-DeepSeek-V4", "deepseek_v32", "deepseek_r1", ArgumentsForm::Object),
    ("deepseek-ai-DeepSeek-V4-Flash-0731", "deepseek_v32", "deepseek_r1", ArgumentsForm::Object),
    ("fireworks-ai-llama-3-firefunction-v2", "phi4", "", ArgumentsForm::Object),
    ("google-gemma-4-31B-it", "gemma4", "gemma4", ArgumentsForm::Object),
    ("google-gemma-4-31B-it-interleaved", "gemma4", "gemma4", ArgumentsForm::Object),
    ("ibm-granite-granite-3.3-2B-Instruct", "granite", "granite", ArgumentsForm::Object),
    ("ibm-granite-granite-4.0", "hermes", "", ArgumentsForm::Object),
    ("inclusionai-ling-3.0-flash", "glm45", "qwen3", ArgumentsForm::Object),
    ("llama-cpp-deepseek-r1", "deepseek_v3", "deepseek_r1", ArgumentsForm::Object),
    ("llama-cpp-rwkv-world", "", "qwen3", ArgumentsForm::Object),
    ("meetkai-functionary-medium-v3.1", "functionary", "", ArgumentsForm::Object),
    ("meta-llama-Llama-3.1-8B-Instruct", "llama3_json", "", ArgumentsForm::Object),
    ("meta-llama-Llama-3.2-3B-Instruct", "llama3_json", "", ArgumentsForm::Object),
    ("meta-llama-Llama-3.3-70B-Instruct", "llama3_json", "", ArgumentsForm::Object),
    ("microsoft-Phi-3.5-mini-instruct", "", "", ArgumentsForm::Object),
    ("mistralai-Mistral-Nemo-Instruct-2407", "mistral", "", ArgumentsForm::Object),
    ("moonshotai-Kimi-K2", "kimi_k2", "", ArgumentsForm::Object),
    ("muse-glimmer", "muse", "", ArgumentsForm::Object),
    ("openai-gpt-oss-120b", "harmony", "gpt_oss", ArgumentsForm::Object),
    ("poolside-Laguna-S-2.1", "glm45", "poolside_v1", ArgumentsForm::Object),
    ("poolside-Laguna-XS-2.1", "glm45", "poolside_v1", ArgumentsForm::Object),
    ("poolside-Laguna-XS.2", "glm45", "poolside_v1", ArgumentsForm::Object),
    ("tencent-Hy3", "hunyuan", "hunyuan", ArgumentsForm::Object),
    ("unsloth-mistral-Devstral-Small-2507", "mistral", "", ArgumentsForm::Object),
    ("upstage-Solar-Open-100B", "solar_open", "solar_open", ArgumentsForm::Object),
];

#[test]
fn the_published_templates_are_recognised() {
    let folder = std::env::var_os("MILLRACE_CHAT_TEMPLATES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/chat-templates"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        return eprintln!("skipped: there is no {}", folder.display());
    }
    let mut wrong = Vec::new();
    for (name, tool, reasoning, form) in EXPECTED {
        let path = folder.join("templates").join(format!("{name}.jinja"));
        let template = std::fs::read_to_string(&path).unwrap();
        let some = |name: &'static str| Some(name).filter(|name| !name.is_empty());
        let got = (detect(Some(&template), |_| false), arguments_form(&template));
        let want = (Detected { tool: some(tool), reasoning: some(reasoning) }, *form);
        if got != want {
            wrong.push(format!("{name}: {got:?}, not {want:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
