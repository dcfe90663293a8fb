"""Config files as transformers 4 wrote them.

transformers 5 saves `rope_parameters`, `dtype` and `layer_types`; most checkpoints on the Hub still say
`rope_theta`, `rope_scaling`, `torch_dtype` and leave the layer types to be derived. A loader has to read both.
"""

from typing import Any


def to_legacy(config: dict[str, Any], overrides: dict[str, Any], drop: tuple[str, ...]) -> dict[str, Any]:
    """Translates a saved transformers 5 config; `overrides` and `drop` are applied last."""
    old = dict(config)
    rope = dict(old.pop("rope_parameters"))
    old["rope_theta"] = rope.pop("rope_theta")
    old["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    old["torch_dtype"] = old.pop("dtype")
    for key in ("layer_types", "transformers_version", *drop):
        old.pop(key, None)
    return dict(sorted((old | overrides).items()))
