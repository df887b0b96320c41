#!/usr/bin/env python3
"""The presets `chatgpt` and `codex-backend` as their users start them, driven with curl.

    run.py --patchbay target/release/patchbay [--only NAME] [--keep DIR]

Only addresses differ from what a user would type: the backend is the scripted one.
"""
import argparse
import contextlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import codex_scenes  # noqa: E402
import harness  # noqa: E402
import upstream  # noqa: E402
from harness import equal, expect  # noqa: E402

HELLO = [{"role": "user", "content": "plain"}]
DEFAULT_ALLOWED = ["gpt-5", "gpt-5.2", "gpt-5.3-codex", "gpt-5.2-codex"]
# Model, efforts that it takes, effort of a request that says none.
TABLE = [
    ("gpt-5.2", ("none", "low", "medium", "high", "xhigh"), "high"),
    ("gpt-5.2-codex", ("low", "medium", "high", "xhigh"), "high"),
    ("gpt-5.1-codex-max", ("low", "medium", "high", "xhigh"), "high"),
    ("gpt-5.1-codex", ("low", "medium", "high"), "medium"),
    ("gpt-5.1-codex-mini", ("medium", "high"), "medium"),
    ("gpt-5.1", ("none", "low", "medium", "high"), "medium"),
]
# Asked model, asked effort, model upstream, effort upstream.
CLAMPED = [
    ("gpt-5.1-codex-xhigh", None, "gpt-5.1-codex", "high"),
    ("gpt-5.1-codex-none", None, "gpt-5.1-codex", "low"),
    ("gpt-5.1-minimal", None, "gpt-5.1", "low"),
    ("gpt-5.1-codex-mini-low", None, "gpt-5.1-codex-mini", "medium"),
    ("gpt-5.1-codex-mini-xhigh", None, "gpt-5.1-codex-mini", "high"),
    ("gpt-5.1-codex-max-extra-high", None, "gpt-5.1-codex-max", "xhigh"),
    ("gpt-5.1-codex high", None, "gpt-5.1-codex", "high"),
    ("openai/gpt-5.1-codex-high", None, "gpt-5.1-codex", "high"),
    ("gpt-5.2-codex-low", "high", "gpt-5.2-codex", "high"),
    ("gpt-5.2-high", "minimal", "gpt-5.2", "low"),
]


def curl(url, body=None, key="test-key"):
    """One call as the documents write it: status and what came back, as JSON where it is JSON."""
    command = ["curl", "-s", "-S", "--max-time", "30", "-w", "\n%{http_code}", url]
    if key:
        command += ["-H", f"Authorization: Bearer {key}"]
    if body is not None:
        command += ["-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps(body)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    expect(done.returncode == 0, "curl failed", done.stderr)
    text, status = done.stdout.rsplit("\n", 1)
    with contextlib.suppress(ValueError):
        return int(status), json.loads(text)
    return int(status), text


@contextlib.contextmanager
def chatgpt(options, folder, environment=None, args=()):
    """`patchbay serve --preset chatgpt --port N --auth-path F`"""
    with codex_scenes.open_scene(folder) as scene:
        command = ["--preset", "chatgpt", "--auth-path", str(scene.auth), "--upstream-url", scene.backend.host, "--ca-file", str(scene.certificate), *args]
        proxy = harness.Patchbay(options.patchbay.resolve(), None, folder, None, command, {"CODEX_REFRESH_TOKEN_URL_OVERRIDE": scene.oauth.token_url, "HOME": str(folder), **(environment or {})})
        with contextlib.closing(proxy):
            yield scene, f"http://127.0.0.1:{proxy.port}"
        scene.holds()


@contextlib.contextmanager
def codex_backend(options, folder, environment=None):
    """`patchbay serve --preset codex-backend`, with the URL and the key in the environment."""
    with codex_scenes.open_scene(folder, accounts=False) as scene:
        env = {"CODEX_BASE_URL": scene.backend.host, "CODEX_API_KEY": upstream.KEY, "HOME": str(folder), **(environment or {})}
        proxy = harness.Patchbay(options.patchbay.resolve(), None, folder, None, ["--preset", "codex-backend", "--ca-file", str(scene.certificate)], env)
        with contextlib.closing(proxy):
            yield scene, f"http://127.0.0.1:{proxy.port}"
        scene.holds()


def names(listed):
    return [model["id"] for model in listed["data"]]


# ---- chatgpt ---------------------------------------------------------------------------------------------
def chatgpt_usage(options, folder):
    with chatgpt(options, folder) as (_, base):
        curl(f"{base}/v1/chat/completions", {"model": "gpt-5", "messages": HELLO})
        status, seen = curl(f"{base}/usage")
        equal(status, 200, "the status")
        expect("12.5" in json.dumps(seen) and "1893456000" in json.dumps(seen), "the limits are not shown", seen)
        return json.dumps(seen)


def chatgpt_commands(options, folder):
    with chatgpt(options, folder) as (scene, base):
        status, health = curl(f"{base}/health", key=None)
        equal(status, 200, "the health check's status")
        for path in ("/models", "/v1/models"):
            equal(names(curl(base + path)[1]), DEFAULT_ALLOWED, f"the models of {path}")
        for path in ("/chat/completions", "/v1/chat/completions"):
            status, answer = curl(base + path, {"model": "gpt-5", "messages": HELLO})
            equal((status, status == 200 and answer["choices"][0]["message"]["content"]), (200, "Hello!"), f"the answer of {path}")
        body = scene.backend.requests[-1].body
        equal((body["store"], body["stream"], bool(body["instructions"]), isinstance(body["input"], list)), (False, True, True, True), "the body upstream")
        parts = [{"role": "user", "content": [{"type": "text", "text": "plain"}, {"type": "text", "text": " and more"}]}]
        equal(curl(f"{base}/chat/completions", {"model": "gpt-5", "messages": parts, "temperature": 0.3, "max_tokens": 100})[0], 200, "the status for content in parts")
        status, text = curl(f"{base}/v1/chat/completions", {"model": "gpt-5", "messages": HELLO, "stream": True})
        expect(status == 200 and text.rstrip().endswith("data: [DONE]") and "Hello!" in text, "the stream", text)
        status, answer = curl(f"{base}/v1/chat/completions", {"model": "gpt-9", "messages": HELLO})
        equal((status, answer["error"]["code"]), (400, "model_not_allowed"), "the refusal")
        for name in DEFAULT_ALLOWED:
            expect(name in answer["error"]["message"], f"the refusal does not name {name}", answer)
        return f"health says {json.dumps(health)}"


def chatgpt_allowed(options, folder):
    with chatgpt(options, folder, {"ALLOWED_MODELS": "gpt-5,gpt-5.2,gpt-5.1-codex"}) as (scene, base):
        equal(names(curl(f"{base}/models")[1]), ["gpt-5", "gpt-5.2", "gpt-5.1-codex"], "the models")
        equal(curl(f"{base}/v1/chat/completions", {"model": "gpt-5.3-codex", "messages": HELLO})[0], 400, "the status of a model outside")
        equal(curl(f"{base}/v1/chat/completions", {"model": "gpt-5.1-codex-high", "messages": HELLO})[0], 200, "the status of a model with a suffix")
        equal((scene.backend.requests[-1].body["model"], scene.backend.requests[-1].body["reasoning"]["effort"]), ("gpt-5.1-codex", "high"), "model and effort upstream")


def chatgpt_flat_file(options, folder):
    """The shape that the document shows, which has no refresh token."""
    with codex_scenes.open_scene(folder / "other") as scene:
        access, _ = scene.tokens.issue()
        path = folder / "flat.json"
        path.write_text(json.dumps({"access_token": access, "account_id": codex_scenes.codex_backend.ACCOUNT, "api_key": "sk-proj-0123456789"}))
        command = ["--preset", "chatgpt", "--auth-path", str(path), "--upstream-url", scene.backend.host, "--ca-file", str(scene.certificate)]
        proxy = harness.Patchbay(options.patchbay.resolve(), None, folder, None, command, {"HOME": str(folder)})
        with contextlib.closing(proxy):
            status, answer = curl(f"{proxy.base}/chat/completions", {"model": "gpt-5", "messages": HELLO})
            equal((status, status == 200 and answer["choices"][0]["message"]["content"]), (200, "Hello!"), "the answer")
        scene.holds()


def chatgpt_no_file(options, folder):
    """A missing or broken file is said at the start."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("missing.json", None), ("broken.json", '{"tokens": {'), ("empty.json", "{}")):
        path = folder / name
        if text:
            path.write_text(text)
        command = [str(options.patchbay.resolve()), "serve", "--preset", "chatgpt", "--port", "0", "--auth-path", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=20, cwd=folder, env={"PATH": os.environ["PATH"], "HOME": str(folder)})
        said = done.stdout + done.stderr
        expect(done.returncode not in (0, None) and name in said and "panicked" not in said, f"{name} is not refused at the start ({done.returncode})", said)


# ---- codex-backend ---------------------------------------------------------------------------------------
def backend_table(options, folder):
    with codex_backend(options, folder) as (scene, base):
        listed = names(curl(f"{base}/v1/models")[1])
        asked = []
        for model, efforts, default in TABLE:
            expect(model in listed, f"{model} is not listed", listed)
            asked.append((model, None, model, default))
            asked += [(f"{model}-{effort}", None, model, effort) for effort in efforts]
        for name, effort, model, wanted in asked + CLAMPED:
            body = {"model": name, "messages": HELLO} | ({"reasoning_effort": effort} if effort else {})
            status, answer = curl(f"{base}/v1/chat/completions", body)
            equal(status, 200, f"the status for {name}: {answer}")
            sent = scene.backend.requests[-1].body
            equal((sent["model"], sent.get("reasoning", {}).get("effort")), (model, wanted), f"model and effort upstream for {name} with {effort}")
        return f"{len(asked + CLAMPED)} rows"


def backend_wrong_key(options, folder):
    with codex_backend(options, folder, {"CODEX_API_KEY": "sk-wrong-0123456789"}) as (_, base):
        status, answer = curl(f"{base}/v1/chat/completions", {"model": "gpt-5.1-codex-high", "messages": HELLO})
        equal(status, 401, "the status")
        message = answer["error"]["message"]
        expect("key" in message and "sk-wrong-0123456789" not in message, "the message cannot be read", answer)
        return message


def backend_client_key(options, folder):
    with codex_backend(options, folder, {"PROXY_API_KEY": "pk-0123456789"}) as (_, base):
        for key in ("sk-other", None):
            status, answer = curl(f"{base}/v1/chat/completions", {"model": "gpt-5.1-codex", "messages": HELLO}, key)
            equal((status, bool(answer["error"]["message"])), (401, True), "the refusal")
        equal(curl(f"{base}/health", key=None)[0], 200, "the health check's status")
        equal(curl(f"{base}/v1/chat/completions", {"model": "gpt-5.1-codex", "messages": HELLO}, "pk-0123456789")[0], 200, "the status with the key")


def backend_codex_route(options, folder):
    """A client that believes to speak to a Codex backend."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "plain"}]}
    body = {"model": "gpt-5.1-codex-low", "instructions": "Be brief.", "input": [item], "store": False, "stream": True}
    with codex_backend(options, folder) as (scene, base):
        status, text = curl(f"{base}/backend-api/codex/responses", body)
        expect(status == 200 and "event: response.completed" in text and "Hello!" in text, f"the stream ({status})", text)
        equal(scene.backend.requests[-1].body["reasoning"]["effort"], "low", "effort upstream")


def backend_bridge(options, folder):
    """With a prompt and tools of the client's own: its text stays, ours tells of the harness."""
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}} for name in ("edit", "todowrite")]
    ask = {"model": "gpt-5.2-codex", "messages": [{"role": "system", "content": "You are OtherAgent."}, *HELLO], "tools": tools}
    seen = []
    for mode in ("1", "0"):
        with codex_backend(options, folder / mode, {"CODEX_MODE": mode}) as (scene, base):
            equal(curl(f"{base}/v1/chat/completions", ask)[0], 200, "the status")
            seen.append(scene.backend.requests[-1].body)
    on, off = seen
    developer = [item for item in on["input"] if item.get("role") == "developer"]
    expect("You are OtherAgent." in json.dumps(developer), "the client's text is not developer text", on)
    expect("You are OtherAgent." not in on["instructions"] and len(on["instructions"]) > 100, "the bridge's text is missing", on["instructions"])
    expect("You are OtherAgent." in off["instructions"] + json.dumps(off["input"]), "without the bridge the client's text is lost", off)
    expect(on["instructions"] != off["instructions"], "the switch does nothing", off["instructions"])


def backend_capture(options, folder):
    with codex_backend(options, folder, {"ENABLE_PLUGIN_REQUEST_LOGGING": "1"}) as (_, base):
        equal(curl(f"{base}/v1/chat/completions", {"model": "gpt-5.1-codex", "messages": HELLO}, "sk-client-secret-1")[0], 200, "the status")
    files = [path for path in (folder / ".patchbay").rglob("*") if path.is_file()]
    expect(files, "nothing was captured")
    for path in files:
        data = path.read_bytes()
        expect(upstream.KEY.encode() not in data and b"sk-client-secret-1" not in data, f"a secret is in {path.name}")
        expect(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, f"{path.name} can be read by others")
    return f"{len(files)} files"


CASES = [value for name, value in list(globals().items()) if name.startswith(("chatgpt_", "backend_"))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patchbay", required=True, type=Path, help="the binary under test")
    parser.add_argument("--only", help="only cases whose name holds this")
    parser.add_argument("--keep", type=Path, help="keep every file of the run here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="patchbay-presets-") as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        cases = {case.__name__: (lambda case=case: case(options, folder / case.__name__)) for case in CASES}
        return harness.run_cases(harness.only(cases, options.only), 1, "codex-presets")


if __name__ == "__main__":
    sys.exit(main())
