"""A byte-level BPE vocabulary of any size that both programs load: the bytes, a few merges, and filler."""
import json

COMMON = "etaoinshrdlu"
CHAT_TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
                 "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_letters():
    """The printable letter that stands for each byte (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (chr(256 + n) for n in range(256))
    return [chr(byte) if byte in plain else next(others) for byte in range(256)]


class Vocabulary:
    """`size` tokens; the last ones are special: end of text, start and end of a message."""

    def __init__(self, size):
        pairs = [(a, b) for a in COMMON for b in COMMON] + [("\u0120", a) for a in COMMON]
        tokens = byte_letters() + [a + b for a, b in pairs]
        tokens += [f"\u0120w{n:x}" for n in range(size - len(tokens) - len(SPECIAL))]
        self.merges = [f"{a} {b}" for a, b in pairs]
        self.special = {text: len(tokens) + n for n, text in enumerate(SPECIAL)}
        self.tokens = tokens + list(SPECIAL)

    def write(self, folder):
        """The files that go beside safetensors."""
        added = [{"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                  "normalized": False, "special": True} for text, number in self.special.items()]
        bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        plain = self.tokens[:len(self.tokens) - len(SPECIAL)]
        tokenizer = {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": bytes_, "post_processor": None, "decoder": bytes_,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "vocab": {token: number for number, token in enumerate(plain)}, "merges": self.merges}}
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>",
                  "pad_token": "<|endoftext|>", "chat_template": CHAT_TEMPLATE}
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
