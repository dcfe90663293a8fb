"""A model that looks like gpt-oss: the demo model, whose markers have the names of harmony's. What it says makes no sense, but
limits and grammars lead it through harmony's frames, and the parser has to read them."""

import json
import shutil
from pathlib import Path

DEMO = Path(__file__).parents[2] / "models" / "demo"

NAMES = {
    "<|endoftext|>": "<|call|>", "<|im_start|>": "<|start|>", "<|im_end|>": "<|return|>",
    "<tool_call>": "<|channel|>", "</tool_call>": "<|message|>", "<tool_response>": "<|end|>",
    "</tool_response>": "<|constrain|>", "<think>": "<|reserved_1|>", "</think>": "<|reserved_2|>",
}

TEMPLATE = """\
{%- for tool in tools or [] %}<|start|>developer<|message|>{{ tool.function | tojson }}<|end|>{% endfor -%}
{%- for message in messages -%}
  {%- if message.role == "tool" -%}
    <|start|>functions.f to=assistant<|channel|>commentary<|message|>{{ message.content }}<|end|>
  {%- elif message.tool_calls -%}
    {%- set call = message.tool_calls[0].function -%}
    <|start|>assistant to=functions.{{ call.name }}<|channel|>commentary <|constrain|>json<|message|>
    {{- call.arguments | tojson }}<|call|>
  {%- elif message.role == "assistant" -%}
    {%- if message.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ message.thinking }}<|end|>{% endif -%}
    <|start|>assistant<|channel|>final<|message|>{{ message.content }}<|end|>
  {%- else -%}
    <|start|>{{ message.role }}<|message|>{{ message.content }}<|end|>
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|start|>assistant{% endif -%}
"""


def make(folder: Path, names: dict = NAMES, template: str = TEMPLATE) -> Path:
    """Writes the model's files; returns their folder. Other names and another template make another model look-alike."""
    shutil.copytree(DEMO, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for token in [*tokenizer["added_tokens"], *config["added_tokens_decoder"].values()]:
        token |= {"content": names.get(token["content"], token["content"]), "special": True}
    for key, value in config.items():
        config[key] = names.get(value, value) if isinstance(value, str) else value
    config |= {"chat_template": template, "additional_special_tokens": list(names.values())}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
