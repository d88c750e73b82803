"""The job with Python's requests. Not named after the module, or it would import itself."""

import base64
import sys
import time

import requests

if len(sys.argv) != 4:
    sys.exit("usage: BASE_URL FILE INTERVAL_MS")
base_url, file, interval = sys.argv[1], sys.argv[2], int(sys.argv[3]) / 1000
headers = {"api-secret": "sk-0123456789abcdef0123456789abcdef01234567"}

with open(file, "rb") as media:
    image = base64.b64encode(media.read()).decode()
response = requests.post(
    f"{base_url}/v1/agent/generate",
    headers=headers,
    json={"prompt": "You are a friendly assistant.", "image": image},
)
response.raise_for_status()
agent_id = response.json()["agent_id"]

while True:
    response = requests.get(f"{base_url}/v1/agent/status/{agent_id}", headers=headers)
    response.raise_for_status()
    agent = response.json()["data"]
    if agent["status"] == "ready":
        print(agent["model_url"])
        break
    if agent["status"] == "failed":
        sys.exit(f"{agent_id}: {agent['error_message']}")
    time.sleep(interval)
