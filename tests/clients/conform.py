#!/usr/bin/env python3
"""Saves what patchbay really sends to its clients, and has independent validators judge it.

    VENV/bin/python conform.py --patchbay target/release/patchbay --validators DIR [--only NAME] [--keep DIR]

Every case runs for both client APIs, both upstream APIs, streamed and whole. Beside the validators'
view (types, grammar, echo), the text, reasoning and calls must be what the scripted upstream said.
Runs in the Python that has the validators' packages.
"""
import argparse
import contextlib
import http.client
import importlib
import io
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness  # noqa: E402
from harness import equal, expect  # noqa: E402
from upstream import USAGE, Answer, Broken, Call, Interleaved, Reasoning, Refusal, Text, fail  # noqa: E402

TRICKY = 'He said "hi" \\ \\n \t <b>\u2028 größe 日本語 👩‍👩‍👧 {"a": [1]} \u0007 end.'
PATCH = '*** Begin Patch\n*** Add File: größe "1".txt\n+a\\b\n*** End Patch\n'
CODEX = {"originator": "codex_exec", "user-agent": "codex_exec/0.169.0 (Linux; x86_64) dumb (codex_exec; 0.169.0)"}
LOOK = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
CALLS = [Call.of(f"call_{n}", "look", path=f"größe/{n}.txt") for n in (1, 2)]


@dataclass
class Case:
    """One answer of the upstream, and what must be left of it at the client."""

    answer: Answer
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list = field(default_factory=list)  # (id, name, arguments or input)
    end: str = "completed"  # completed | length | content_filter | failed, or the HTTP status of an error
    usage: dict | None = field(default_factory=lambda: dict(USAGE))
    tools: bool = False
    custom: bool = False
    codex: bool = False  # only as the Codex CLI, whose rules differ
    chat_upstream_only: bool = False  # a habit that only chat servers have
    stream_only: bool = False


def plain(calls):
    return [(call.id, call.name, json.loads(call.arguments)) for call in calls]


CASES = {
    "text": Case(Answer([Text(TRICKY)]), text=TRICKY),
    "text-one-character": Case(Answer([Text(TRICKY)], slice=1, write=5), text=TRICKY),
    "text-one-delta": Case(Answer([Text(TRICKY * 50)], slice=100_000), text=TRICKY * 50),
    "text-crlf": Case(Answer([Text("One. Two.")], newline="\r\n", write=3), text="One. Two."),
    "no-done": Case(Answer([Text("One.")], done=False), text="One.", chat_upstream_only=True),
    "empty": Case(Answer([])),
    "reasoning": Case(Answer([Reasoning("Hm, größe.\n\nYes."), Text(TRICKY)]), reasoning="Hm, größe.\n\nYes.", text=TRICKY),
    "reasoning-other-field": Case(Answer([Reasoning("Hm.", "reasoning"), Text("So.")]), reasoning="Hm.", text="So.", chat_upstream_only=True),
    "tool": Case(Answer([CALLS[0]], finish="tool_calls"), calls=plain(CALLS[:1]), tools=True),
    "tool-empty-arguments": Case(Answer([Call("call_1", "look", "{}")], finish="tool_calls"), calls=[("call_1", "look", {})], tools=True),
    "tool-with-all": Case(
        Answer([Reasoning("Hm."), Text("Let me look."), CALLS[0]], finish="tool_calls"),
        reasoning="Hm.", text="Let me look.", calls=plain(CALLS[:1]), tools=True,
    ),
    "parallel": Case(Answer([CALLS[0], CALLS[1]], finish="tool_calls"), calls=plain(CALLS), tools=True),
    "parallel-interleaved": Case(Answer([Interleaved(CALLS)], finish="tool_calls", slice=3), calls=plain(CALLS), tools=True),
    "custom": Case(Answer([Call.of("call_1", "write", input=PATCH)], finish="tool_calls", slice=2), calls=[("call_1", "write", PATCH)], tools=True, custom=True),
    "refusal": Case(Answer([Refusal("I will not.")]), refusal="I will not."),
    "length": Case(Answer([Text("As far as it we")], finish="length"), text="As far as it we", end="length"),
    "length-in-call": Case(
        Answer([Text("So."), Call("call_1", "look", '{"path": "to')], finish="length"),
        text="So.", calls=[("call_1", "look", '{"path": "to')], end="length", tools=True,
    ),
    "content-filter": Case(Answer([Text("Well, ")], finish="content_filter"), text="Well, ", end="content_filter"),
    "error-in-text": Case(Answer([Text("Half a sent"), Broken("The GPU fell over")], finish=None, usage=None, done=False), end="failed"),
    "error-at-once": Case(Answer([Broken("The GPU fell over")], finish=None, usage=None, done=False), end="failed"),
    "end-in-text": Case(Answer([Text("Half a sent")], finish=None, usage=None, done=False), end="failed", stream_only=True),
    "cut-in-text": Case(Answer([Text("Half a sent")], finish=None, usage=None, done=False, end="cut"), end="failed"),
    "reset-in-text": Case(Answer([Text("Half a sent")], finish=None, usage=None, done=False, end="reset"), end="failed"),
    "cut-in-call": Case(Answer([Call("call_1", "look", '{"path": "to')], finish=None, usage=None, done=False, end="cut"), end="failed", tools=True),
    "no-usage": Case(Answer([Text("One.")], usage=None), text="One.", usage=None),
    "usage-in-finish": Case(Answer([Text("One.")], usage_in_finish=True), text="One.", chat_upstream_only=True),
    "usage-minimal": Case(
        Answer([Text("One.")], usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}),
        text="One.", usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, chat_upstream_only=True,
    ),
    "codex-text": Case(Answer([Reasoning("Hm."), Text(TRICKY)]), reasoning="Hm.", text=TRICKY, codex=True),
    "codex-parallel": Case(Answer([Interleaved(CALLS)], finish="tool_calls", slice=3), calls=plain(CALLS), tools=True, codex=True, chat_upstream_only=True),
    "codex-refusal": Case(Answer([Refusal("I will not.")]), text="I will not.", codex=True, chat_upstream_only=True),
    "http-400": Case(fail(400, "No such thing", "unsupported_value"), end="400"),
    "http-404": Case(fail(404, "The model does not exist", "model_not_found"), end="404"),
    "http-429": Case(fail(429, "Slow down", "rate_limit_exceeded", "rate_limit_error", {"retry-after": "7"}), end="429"),
    "http-500": Case(fail(500, "Oh", None, "server_error"), end="500"),
    "http-502-html": Case(Answer(status=502, error=b"<html><h1>Bad Gateway</h1></html>", headers={"content-type": "text/html"}), end="502"),
    "http-503-empty": Case(Answer(status=503, error=b""), end="503"),
    "http-422-detail": Case(Answer(status=422, error={"detail": [{"loc": ["body"], "msg": "field required"}]}), end="422"),
}


class Judge:
    """The validators, in this process: importing their packages takes longer than judging."""

    def __init__(self, folder):
        folder = Path(folder).resolve()
        sys.path.insert(0, str(folder))
        if not (folder / "mock_upstream.py").exists():
            sys.path.append(str(Path(__file__).resolve().parent / "stand_in"))
        names = ("validate_responses_stream", "validate_response_json", "validate_chat_stream", "validate_chat_json", "validate_requests")
        self.tools = {name: importlib.import_module(name) for name in names}

    def __call__(self, tool, *args):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = self.tools[tool].main([str(arg) for arg in args] + ["--quiet"])
        expect(code == 0, f"{tool} {' '.join(map(str, args))}", said.getvalue())


# ---- requests ------------------------------------------------------------------------------------------
def responses_request(name, case, stream):
    body = {
        "model": name, "instructions": "Be brief.", "input": "Say it.", "stream": stream, "temperature": 0.5, "max_output_tokens": 1000,
        "metadata": {"team": "größe"}, "store": False, "text": {"format": {"type": "text"}},
    }
    if case.tools:
        body["tools"] = [{"type": "function", "name": "look", "description": "Looks.", "parameters": LOOK, "strict": False}]
        body["parallel_tool_calls"] = True
    if case.custom:
        body["tools"].append({"type": "custom", "name": "write", "description": "Writes.", "format": {"type": "text"}})
    return body


def chat_request(name, case, stream):
    body = {
        "model": name, "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say it."}],
        "stream": stream, "temperature": 0.5, "max_tokens": 1000,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    if case.tools:
        body["tools"] = [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": LOOK}}]
    if case.custom:
        body["tools"].append({"type": "custom", "custom": {"name": "write", "description": "Writes."}})
    return body


CLIENTS = {"responses": ("/v1/responses", responses_request), "chat": ("/v1/chat/completions", chat_request)}


@dataclass
class Got:
    """What came back."""

    status: int
    headers: dict
    body: bytes
    torn: bool  # the connection broke before the body's end


def ask(port, path, body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, json.dumps(body, ensure_ascii=False).encode(), {"content-type": "application/json", **headers})
    reply = connection.getresponse()
    torn, data = False, b""
    try:
        while piece := reply.read1(65536):
            data += piece
        torn = bool(reply.chunked and reply.chunk_left not in (None, 0))
    except (http.client.HTTPException, ConnectionError) as error:
        data += getattr(error, "partial", b"")
        torn = True
    connection.close()
    return Got(reply.status, {k.lower(): v for k, v in reply.getheaders()}, data, torn)


# ---- what an answer says -------------------------------------------------------------------------------
def frames(data):
    """The JSON of every event of a stream."""
    text = data.decode().replace("\r\n", "\n")
    lines = [line[5:].strip() for line in text.split("\n") if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def said_by_response(response):
    """Text, reasoning, refusal and calls of a Response object."""
    said = {"text": "", "reasoning": "", "refusal": "", "calls": []}
    for item in response["output"]:
        if item["type"] == "message":
            for part in item["content"]:
                said["text" if part["type"] == "output_text" else "refusal"] += part.get("text", part.get("refusal", ""))
        elif item["type"] == "reasoning":
            said["reasoning"] += "".join(part["text"] for part in item["summary"] or item.get("content", []))
        elif item["type"] == "function_call":
            said["calls"].append((item["call_id"], item["name"], loads(item["arguments"])))
        elif item["type"] == "custom_tool_call":
            said["calls"].append((item["call_id"], item["name"], item["input"]))
    return said


def loads(text):
    """JSON where it is whole."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def said_by_message(message):
    said = {"text": message.get("content") or "", "refusal": message.get("refusal") or "", "calls": []}
    said["reasoning"] = message.get("reasoning_content") or message.get("reasoning") or ""
    for call in message.get("tool_calls", []):
        inner = call.get("function") or call["custom"]
        said["calls"].append((call["id"], inner["name"], inner["input"] if "input" in inner else loads(inner["arguments"])))
    return said


def message_of(chunks):
    """The message that a stream of chunks adds up to, its finish_reason and usage."""
    message, calls, finish, usage = {}, {}, None, None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices", []):
            finish = choice.get("finish_reason") or finish
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    for delta in value:
                        add_call(calls.setdefault(delta["index"], {}), delta)
                elif isinstance(value, str) and name != "role":
                    message[name] = message.get(name, "") + value
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return message, finish, usage


def add_call(call, delta):
    call.setdefault("id", delta.get("id"))
    for kind in ("function", "custom"):
        for name, value in delta.get(kind, {}).items():
            inner = call.setdefault(kind, {})
            inner[name] = inner.get(name, "") + value if name in ("arguments", "input") else value


# ---- judging -------------------------------------------------------------------------------------------
class Bench:
    def __init__(self, judge, proxies, folder):
        self.judge, self.proxies, self.folder = judge, proxies, folder

    def run(self, name, client, upstream, stream):
        case = CASES[name]
        path, build = CLIENTS[client]
        request = build(name, case, stream)
        got = ask(self.proxies[upstream].port, path, request, CODEX if case.codex else {})
        base = self.folder / f"{name}.{client}-from-{upstream}"
        asked = base.with_name(base.name + (".stream" if stream else ".whole") + ".request.json")
        asked.write_text(json.dumps(request, ensure_ascii=False))
        answer = base.with_name(base.name + (".sse" if stream else ".json"))
        answer.write_bytes(got.body)
        relay = client == upstream
        if case.end.isdigit() or (case.end == "failed" and got.status != 200):
            return self.refused(case, client, got, answer)
        expect(got.status == 200, f"the status is {got.status}", got.body.decode(errors="replace"))
        if case.end == "failed":
            return self.broken(case, client, stream, relay, got, answer, asked)
        expect(not got.torn, "the connection broke", got.body.decode(errors="replace")[-500:])
        wanted = "text/event-stream" if stream else "application/json"
        expect(got.headers.get("content-type", "").startswith(wanted), f"the content type is not {wanted}", got.headers)
        return getattr(self, f"{client}_{'stream' if stream else 'whole'}")(case, relay, got, answer, asked)

    def refused(self, case, client, got, answer):
        """An error before the answer began: a true status, in the client's envelope."""
        if case.end.isdigit():
            equal(str(got.status), case.end, "the status")
            given = {k.lower(): v for k, v in case.answer.headers.items()}
            equal(got.headers.get("retry-after"), given.get("retry-after"), "retry-after")
        else:
            expect(got.status >= 500, f"an upstream that fails is a status {got.status}")
        expect(b"<h1>" not in got.body, "HTML reaches the client")
        self.judge("validate_response_json" if client == "responses" else "validate_chat_json", answer, "--error")

    def broken(self, case, client, stream, relay, got, answer, asked):
        """An error after the answer began is told in the stream; only when the upstream's connection
        broke, the client's body breaks off behind it. A relay hands on a document as it is."""
        said = got.body.decode(errors="replace")
        expect(stream or relay, "a whole answer of status 200 from an upstream that failed", said)
        equal(got.torn, case.answer.end != "clean", "that the body breaks off")
        if not stream:
            return
        if client == "responses":
            # A relay's own last event does not know when the upstream began.
            own = ["--ignore", "response.created_at_changed"] if relay else []
            self.judge("validate_responses_stream", answer, "--expect", "failed", "--request", asked, *own)
        else:
            self.judge("validate_chat_stream", answer, "--expect-error", "--request", asked)
            expect(message_of(frames(got.body))[1] is None, "a finish_reason in a broken stream")

    def responses_stream(self, case, relay, got, answer, asked):
        end = "incomplete" if case.end in ("length", "content_filter") else "completed"
        extra = ["--sequential"] if case.codex else []
        self.judge("validate_responses_stream", answer, "--profile", "openai", "--request", asked, "--expect", end, *extra)
        events = frames(got.body)
        last = [event for event in events if event["type"] == f"response.{end}"]
        self.response(case, relay, last[-1]["response"])
        ids = [event["response"]["id"] for event in events if "response" in event]
        expect(len(set(ids)) == 1, "the response's id changes", ids)

    def responses_whole(self, case, relay, got, answer, asked):
        self.judge("validate_response_json", answer, "--profile", "openai", "--request", asked)
        self.response(case, relay, json.loads(got.body))

    def response(self, case, relay, response):
        if case.end != "completed":
            wanted = {"length": "max_output_tokens"}.get(case.end, case.end)
            equal(response["incomplete_details"], {"reason": wanted}, "incomplete_details")
        self.same(case, said_by_response(response))
        usage = response["usage"]
        equal(usage and (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]), totals(case), "usage")

    def chat_stream(self, case, relay, got, answer, asked):
        message, finish, usage = message_of(frames(got.body))
        # Without usage upstream there is no chunk to ask for; a relay leaves usage where it was.
        odd_usage = case.usage is None or (relay and case.answer.usage_in_finish)
        how = ["--ignore", "usage", "--include-usage", "auto"] if odd_usage else ["--include-usage", "yes"]
        done = ["--ignore", "done.missing"] if relay and not case.answer.done else []
        # No SDK knows chunks of custom tool calls; there is only one form that they can have.
        custom = ["--ignore", "schema.literal", "--ignore", "openapi.schema"] if case.custom else []
        asked = [] if odd_usage else ["--request", asked]
        self.judge("validate_chat_stream", answer, *asked, *how, *done, *custom, "--expect-finish", self.finish(case))
        self.chat(case, message, finish, usage)

    def chat_whole(self, case, relay, got, answer, asked):
        self.judge("validate_chat_json", answer, "--request", asked)
        whole = json.loads(got.body)
        choice = whole["choices"][0]
        self.chat(case, choice["message"], choice["finish_reason"], whole.get("usage"))

    def chat(self, case, message, finish, usage):
        equal(finish, self.finish(case), "finish_reason")
        self.same(case, said_by_message(message))
        equal(usage and (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]), totals(case), "usage")

    @staticmethod
    def finish(case):
        return case.end if case.end != "completed" else "tool_calls" if case.calls else "stop"

    @staticmethod
    def same(case, said):
        wanted = {"text": case.text, "reasoning": case.reasoning, "refusal": case.refusal, "calls": case.calls}
        for name, value in wanted.items():
            equal(said[name], value, name)


def totals(case):
    usage = case.usage
    return usage and (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])


def combinations():
    """Every case with every pair of APIs in which it makes sense, streamed and whole."""
    for name, case in CASES.items():
        for client in CLIENTS:
            for upstream in ("chat", "responses"):
                relay = client == upstream
                if case.chat_upstream_only and (upstream == "responses" or relay):
                    continue
                if case.codex and (client == "chat" or relay):
                    continue
                if case.custom and relay:
                    continue
                for stream in (True,) if case.stream_only else (True, False):
                    yield f"{name}/{client}-from-{upstream}/{'stream' if stream else 'whole'}", (name, client, upstream, stream)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patchbay", required=True, type=Path, help="the binary under test")
    parser.add_argument("--validators", required=True, help="the folder of the validators")
    parser.add_argument("--only", help="only cases whose name holds this")
    parser.add_argument("--keep", type=Path, help="keep every file of the run here")
    options = parser.parse_args()
    judge = Judge(options.validators)
    with tempfile.TemporaryDirectory(prefix="patchbay-conformance-") as temporary, contextlib.ExitStack() as stack:
        folder = (options.keep or Path(temporary)).resolve()
        upstream = stack.enter_context(harness.open_upstream(lambda request: CASES[request.body["model"]].answer, folder))
        proxies = {}
        for dialect, url in (("chat", upstream.url), ("responses", upstream.responses_url)):
            proxies[dialect] = harness.Patchbay(options.patchbay.resolve(), url, folder / dialect, args=["--upstream-dialect", dialect])
            stack.callback(proxies[dialect].close)
        bench = Bench(judge, proxies, folder)
        cases = {name: (lambda args=args: bench.run(*args)) for name, args in combinations()}
        cases["requests"] = lambda: requests_hold(judge, upstream, folder)
        return harness.run_cases(harness.only(cases, options.only), 1, "conformance", quiet=True)


def requests_hold(judge, upstream, folder):
    """What the upstream was asked in all cases before."""
    expect(not upstream.complaints, "a strict upstream refuses", upstream.complaints)
    for request in upstream.requests:
        path = folder / f"upstream-{request.n:04}.json"
        path.write_text(json.dumps(request.body, ensure_ascii=False))
        judge("validate_requests", path, "--kind", "responses" if request.path.endswith("/responses") else "chat")


if __name__ == "__main__":
    sys.exit(main())
