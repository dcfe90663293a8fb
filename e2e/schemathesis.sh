#!/usr/bin/env bash
# Generated requests against every operation of /openapi.json: no 5xx, no hang, documented statuses and shapes only.
#
#   e2e/schemathesis.sh              about two minutes
#   EXAMPLES=2000 e2e/schemathesis.sh   tens of thousands of requests
#
# MILLRACE_BIN names the server's program, as for the tests; `st` comes from e2e/requirements.txt (STRUN=path/to/st).
set -euo pipefail
cd "$(dirname "$0")/.."

binary="$(realpath "${MILLRACE_BIN:-${CARGO_TARGET_DIR:-target}/release/millrace}")"
st="$(command -v "${STRUN:-st}")"
log="$(mktemp)"
folder="$(mktemp -d)"
schema="$folder/openapi.json"
# A short context keeps answers short: what is tested is how requests are read.
encoders="$PWD/crates/model/tests/encoders"
cat >"$folder/models.yaml" <<END
models:
  - {name: millrace-demo, max-model-len: 96, load: start}
  - {name: embedder, path: $encoders/bert_mean}
  - {name: scorer, path: $encoders/bert_cross}
  - {name: judge, path: $encoders/qwen3_judge}
END
echo '{"mcpServers": {}}' >"$folder/mcp.json"
"$binary" serve --models "$folder/models.yaml" --port 0 --mcp-config "$folder/mcp.json" \
    --enable-tokenizer-info-endpoint --request-timeout 20 --log-level error >"$log" 2>"$log.err" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true; rm -rf "$log" "$log.err" "$folder"' EXIT
for _ in $(seq 300); do
    url="$(sed -n 's/^listening on //p' "$log")"
    [ -n "$url" ] && break
    sleep 0.2
done
[ -n "$url" ] || { echo "the server did not start: $(cat "$log.err")" >&2; exit 1; }

# As served, but awake, with the model by name and few tokens: invented models are refused, which would say little.
curl -sf "$url/openapi.json" | python3 -c '
import json, sys
document = json.load(sys.stdin)
# Nobody would wake it.
del document["paths"]["/sleep"]
model = {"enum": ["millrace-demo"], "description": "The served model."}
reader = {"enum": ["embedder", "scorer", "judge"], "description": "Models that read whole texts."}
for schema in document["components"]["schemas"].values():
    fields = schema.get("properties", {})
    for part in [fields] + [part.get("properties", {}) for part in schema.get("allOf", [])]:
        if "max_tokens" in part or "return_token_strs" in part or "tokens" in part:
            part["model"] = model
        if "truncate_prompt_tokens" in part or "truncate" in part:
            part["model"] = reader
        for name in ("max_tokens", "max_completion_tokens"):
            if name in part:
                part[name] = {"type": "integer", "minimum": 0, "maximum": 24}
json.dump(document, sys.stdout)
' >"$schema"

# It keeps what it finds in the folder in which it runs.
cd "$folder"
"$st" run "$schema" --url "$url" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --phases examples,coverage,fuzzing,stateful --mode all --max-examples "${EXAMPLES:-25}" --seed "${SEED:-1}" \
    --request-timeout 30 --generation-database none --continue-on-failure ${ST_ARGS:-}

# Still there, and nothing left behind.
for _ in $(seq 100); do
    [ "$(curl -sf "$url/load")" = '{"server_load":0}' ] && exit 0
    sleep 0.2
done
echo "requests are left: $(curl -s "$url/v1/status")" >&2
exit 1
