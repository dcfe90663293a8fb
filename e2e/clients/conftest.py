"""The other clients. LiteLLM's tests need an environment of their own (README.md) and are left out in any other."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("litellm") else ["test_litellm.py"]
