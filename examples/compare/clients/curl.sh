#!/usr/bin/env bash
# The job with curl.
set -euo pipefail
[ $# = 3 ] || { echo "usage: BASE_URL FILE INTERVAL_MS" >&2; exit 1; }
base_url=$1 file=$2 interval=$3

ask() { curl --silent --show-error --fail --header "api-secret: sk-0123456789abcdef0123456789abcdef01234567" "$@"; }

# The text in a field of a response.
field() { [[ $response =~ \"$1\":\ *\"([^\"]*)\" ]] && echo "${BASH_REMATCH[1]}"; }

response=$(
    {
        printf '{"prompt":"You are a friendly assistant.","image":"'
        base64 --wrap=0 "$file"
        printf '"}'
    } | ask --header "content-type: application/json" --data-binary @- "$base_url/v1/agent/generate"
)
agent_id=$(field agent_id)

while true; do
    response=$(ask "$base_url/v1/agent/status/$agent_id")
    case $(field status) in
        ready) field model_url; exit ;;
        failed) echo "$agent_id: $(field error_message)" >&2; exit 1 ;;
    esac
    sleep "$(printf '%d.%03d' $((interval / 1000)) $((interval % 1000)))"
done
