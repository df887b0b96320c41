"""What the real Codex CLI must be able to do through patchbay. One class a scenario.

`script` is the upstream model; `check` looks at what the upstream received, what Codex said on
stdout, and the files it left. Requests that a strict Chat Completions server would refuse fail every
scenario by themselves.
"""
import base64
import concurrent.futures
import json
import os
import re
import sys
import time
import urllib.request
from pathlib import Path

from harness import CLIENT_KEY, Failed, equal, expect
from mcp_calc import PNG
from upstream import USAGE, Answer, Call, Interleaved, Pause, Raw, Reasoning, Refusal, Text, fail

# Everything that escaping and slicing can break: quotes, backslashes, controls, two- to four-byte
# characters, a family emoji, U+2028 and a combining mark.
TRICKY = 'He said "hi" \\ \\n \t <b>\u2028 größe 日本語 👩‍👩‍👧 e\u0301 {"a": [1]} \u0007 end.'
FINAL = "All done: 42."


class Scenario:
    """The defaults: a text turn of a classic model."""

    name = ""
    model = "gpt-5.5"
    prompt = "Please do what is to be done."
    provider = {}
    timeout_s = 60
    config = None
    dialect = "chat"  # what the upstream speaks

    def env(self, _run):
        return {}

    def arguments(self, _run):
        return []

    def prepare(self, run):
        """Before anything starts."""

    def refuse(self, _request):
        """More rules of this upstream."""
        return []

    def script(self, request):
        raise NotImplementedError

    def drive(self, run):
        run.codex(self.prompt)

    def check(self, run):
        raise NotImplementedError


def all_scenarios():
    """Every scenario with a name, in the order of this file."""
    found, left = [], [Scenario]
    while left:
        for kind in left.pop().__subclasses__():
            left.append(kind)
            if kind.name:
                found.append(kind())
    names = [scenario.name for scenario in found]
    assert len(set(names)) == len(names), names
    return found


def tool_outputs(request):
    """The tool messages of a request: id to text."""
    return {m["tool_call_id"]: m["content"] for m in request.messages("tool")}


def images(request):
    """URLs of all images in a request."""
    parts = [p for m in request.messages("user") if isinstance(m["content"], list) for p in m["content"]]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


# ---- text in the three shapes of request -----------------------------------------------------------
class TextClassic(Scenario):
    name = "text-classic"

    def script(self, request):
        return Answer([Text(TRICKY)], slice=1, write=11)

    def check(self, run):
        run.succeeded(TRICKY, requests=1)
        equal(run.messages(), [TRICKY], "what Codex shows")
        sent = run.requests[0]
        equal(sent.body["model"], self.model, "the model upstream")
        equal(sent.body["stream"], True, "stream")
        equal(sent.body["stream_options"], {"include_usage": True}, "stream_options")
        expect(self.prompt in sent.text("user"), "the prompt did not arrive", sent.text("user"))
        equal(sent.body["messages"][0]["role"], "system", "the first role")
        usage = run.usage()
        equal(usage["input_tokens"], USAGE["prompt_tokens"], "input_tokens")
        equal(usage["cached_input_tokens"], 40, "cached_input_tokens")
        equal(usage["output_tokens"], USAGE["completion_tokens"], "output_tokens")
        equal(usage["reasoning_output_tokens"], 5, "reasoning_output_tokens")
        self.check_tools(sent)
        leaks = [name for name, value in sent.headers.items() if CLIENT_KEY in value or name.lower().startswith("x-codex")]
        expect(not leaks, "headers meant for the proxy reach the upstream", leaks)

    def check_tools(self, sent):
        expect("exec_command" in sent.tools(), "the shell tool did not arrive", list(sent.tools()))


class TextUnknown(TextClassic):
    name = "text-unknown-model"
    model = "some-model-nobody-knows"

    def check_tools(self, sent):
        super().check_tools(sent)
        flat = [name for name in sent.tools() if name.startswith("multi_agent_v1")]
        expect(flat, "the tools of a namespace did not arrive", list(sent.tools()))


class TextLite(TextClassic):
    name = "text-lite"
    model = None  # the CLI's own default

    def check(self, run):
        self.model = run.requests[0].body["model"] if run.requests else None
        super().check(run)

    def check_tools(self, sent):
        sent.tool("exec")


class UsageInFinish(Scenario):
    """Usage in the chunk of the finish_reason, CRLF framing, no [DONE]."""

    name = "text-other-framing"
    model = "some-model"

    def script(self, request):
        return Answer([Text("One."), Text(" Two.")], usage_in_finish=True, newline="\r\n", done=False)

    def check(self, run):
        run.succeeded("One. Two.", requests=1)
        equal(run.usage()["input_tokens"], 120, "input_tokens")


# ---- a shell call in the three shapes --------------------------------------------------------------
class ShellClassic(Scenario):
    name = "shell-classic"
    command = 'echo "out-$((40 + 2))-größe"; printf "a\\tb\\\\n"'

    def script(self, request):
        if request.n == 1:
            return Answer([self.call(request)], finish="tool_calls", slice=3)
        return Answer([Text(FINAL)])

    def call(self, request):
        return Call.of("call_shell_1", request.tool("exec_command"), cmd=self.command)

    def check(self, run):
        run.succeeded(FINAL, requests=2)
        output = tool_outputs(run.requests[1])
        equal(list(output), ["call_shell_1"], "the answered calls")
        expect("out-42-größe\na\tb" in output["call_shell_1"], "the command's output did not come back", output)
        ran = run.items("command_execution")
        equal([item["exit_code"] for item in ran], [0], "the exit codes of what ran")
        self.check_history(run.requests[1])

    def check_history(self, request):
        call = next(m for m in request.messages("assistant") if "tool_calls" in m)["tool_calls"][0]
        equal(json.loads(call["function"]["arguments"]), {"cmd": self.command}, "the arguments in the history")
        expect(call["function"]["name"] in request.tools(), "the history names a tool that is not declared", call)


class ShellUnknown(ShellClassic):
    name = "shell-unknown-model"
    model = "some-model"


class ShellLite(ShellClassic):
    """Code mode: the model writes JavaScript for a freeform tool `exec` in the namespace `functions`."""

    name = "shell-lite"
    model = None

    def call(self, request):
        source = f"const r = await tools.exec_command({{cmd: {json.dumps(self.command)}}});\ntext(r.output);"
        self.source = source
        return Call.of("call_shell_1", request.tool("exec"), input=source)

    def check_history(self, request):
        call = next(m for m in request.messages("assistant") if "tool_calls" in m)["tool_calls"][0]
        equal(json.loads(call["function"]["arguments"]), {"input": self.source}, "the script in the history")
        expect(call["function"]["name"] in request.tools(), "the history names a tool that is not declared", call)


class ShellPlainText(ShellClassic):
    """A model without the `input` object: bare text as the arguments of a freeform tool."""

    name = "shell-lite-bare-input"
    model = None

    def call(self, request):
        return Call("call_shell_1", request.tool("exec"), f"const r = await tools.exec_command({{cmd: {json.dumps(self.command)}}}); text(r.output);")

    def check_history(self, request):
        pass


class TextAndCall(Scenario):
    """Text, reasoning and a call in one answer, then text again; nothing is lost or out of place."""

    name = "text-then-call"

    def script(self, request):
        if request.n == 1:
            call = Call.of("call_1", "exec_command", cmd="echo hello")
            return Answer([Reasoning("I should look."), Text("Let me look."), call], finish="tool_calls")
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=2)
        equal(run.messages(), ["Let me look.", FINAL], "the messages")
        before = [m for m in run.requests[1].body["messages"] if m["role"] in ("assistant", "tool")]
        equal([m["role"] for m in before], ["assistant", "tool"], "the history")
        equal(before[0]["content"], "Let me look.", "the text next to the call")
        equal([item["text"] for item in run.items("reasoning")], ["I should look."], "the reasoning that Codex shows")


# ---- freeform tools -----------------------------------------------------------------------------------
PATCH = """*** Begin Patch
*** Update File: notes.txt
@@
 first
-second
+zweite "größe" \\ 日本
 third
*** Add File: new.txt
+hello
*** End Patch
"""


class ApplyPatch(Scenario):
    """apply_patch is a custom tool: it must be answered with custom_tool_call, or Codex aborts it."""

    name = "apply-patch-classic"

    def prepare(self, run):
        (run.work / "notes.txt").write_text("first\nsecond\nthird\n")

    def script(self, request):
        if request.n == 1:
            return Answer([Call.of("call_patch", request.tool("apply_patch"), input=PATCH)], finish="tool_calls", slice=2)
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=2)
        equal((run.work / "notes.txt").read_text(), 'first\nzweite "größe" \\ 日本\nthird\n', "the patched file")
        equal((run.work / "new.txt").read_text(), "hello\n", "the added file")
        output = tool_outputs(run.requests[1])["call_patch"]
        expect("Success" in output, "the patch's result did not come back", output)
        call = next(m for m in run.requests[1].messages("assistant") if "tool_calls" in m)["tool_calls"][0]
        equal(json.loads(call["function"]["arguments"]), {"input": PATCH}, "the patch in the history")
        equal([item["status"] for item in run.items("file_change")], ["completed"], "the file changes")


class ApplyPatchCatalog(ApplyPatch):
    """The same on a model that only the proxy's own catalog knows."""

    name = "apply-patch-catalog"
    model = "house-model"

    def config(self, upstream):
        return f"""
[providers.house]
dialect = "chat"
url = "{upstream.url}"
credential = {{ kind = "key", env = "UPSTREAM_KEY" }}
models = [{{ id = "house-model", context_window = 100000, images = true, reasoning = true, apply_patch = true }}]
"""

    def drive(self, run):
        with urllib.request.urlopen(urllib.request.Request(
            f"{run.proxy.base}/models?client_version=0.169.0", headers={"authorization": f"Bearer {CLIENT_KEY}"}
        )) as reply:
            catalog = reply.read()
        (run.folder / "catalog.json").write_bytes(catalog)
        slugs = [model["slug"] for model in json.loads(catalog)["models"]]
        equal(slugs, ["house-model"], "the models of the catalog")
        super().drive(run)

    def arguments(self, run):
        return ["-c", f"model_catalog_json={json.dumps(str(run.folder / 'catalog.json'))}"]

    def check(self, run):
        super().check(run)
        expect(not run.items("error"), "Codex warns about the catalog", run.items("error"))


class Custom(ApplyPatch):
    """The arguments arrive in one delta, with escapes that a sloppy unescape breaks."""

    name = "apply-patch-one-delta"

    def script(self, request):
        if request.n == 1:
            escaped = "".join(f"\\u{ord(c):04x}" for c in PATCH)
            return Answer([Call("call_patch", "apply_patch", f'{{ "input" : "{escaped}" }}')], finish="tool_calls", slice=5000)
        return Answer([Text(FINAL)])


# ---- more than one call -------------------------------------------------------------------------------
class Parallel(Scenario):
    """Two calls whose deltas interleave upstream; Codex tracks one item at a time."""

    name = "parallel-interleaved"

    def script(self, request):
        if request.n == 1:
            calls = [Call.of(f"call_{n}", "exec_command", cmd=f"echo {n * 111} >> ran-{n}.txt; echo out-{n}") for n in (1, 2, 3)]
            return Answer([Interleaved(calls)], finish="tool_calls", slice=4)
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=2)
        output = tool_outputs(run.requests[1])
        equal(list(output), ["call_1", "call_2", "call_3"], "the answered calls, in order")
        for n in (1, 2, 3):
            expect(f"out-{n}" in output[f"call_{n}"], f"call {n} got another's output", output)
            equal((run.work / f"ran-{n}.txt").read_text(), f"{n * 111}\n", f"what call {n} wrote")
        calling = [m for m in run.requests[1].messages("assistant") if "tool_calls" in m]
        equal([len(m["tool_calls"]) for m in calling], [3], "calls in each assistant message")


class Rounds(Scenario):
    """Five tool rounds in a turn: the history grows and stays legal."""

    name = "five-rounds"
    model = "some-model"

    def script(self, request):
        if request.n <= 5:
            return Answer([Text(f"Step {request.n}."), Call.of(f"call_{request.n}", "exec_command", cmd=f"echo {request.n}")], finish="tool_calls")
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=6)
        equal(len(tool_outputs(run.requests[5])), 5, "answered calls at the end")
        equal(run.messages(), [f"Step {n}." for n in range(1, 6)] + [FINAL], "the messages")


class BadArguments(Scenario):
    """Arguments that are not JSON: the model is told, and the session lives."""

    name = "bad-arguments"

    def script(self, request):
        if request.n == 1:
            return Answer([Call("call_1", "exec_command", '{"cmd": "echo')], finish="tool_calls")
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=2)
        expect("failed to parse" in tool_outputs(run.requests[1])["call_1"], "the model is not told", tool_outputs(run.requests[1]))


class UnknownTool(Scenario):
    """The model invents a tool: Codex says so to the model, the call is still answered."""

    name = "invented-tool"

    def script(self, request):
        if request.n == 1:
            return Answer([Call.of("call_1", "summon_demon", name="Maxwell")], finish="tool_calls")
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=2)
        expect("unsupported call" in tool_outputs(run.requests[1])["call_1"], "the model is not told", tool_outputs(run.requests[1]))


# ---- MCP ----------------------------------------------------------------------------------------------
class Mcp(Scenario):
    """An MCP tool stands in a namespace; its result holds an image, which chat tool messages cannot."""

    name = "mcp-namespace"
    model = "some-model"

    def arguments(self, _run):
        server = Path(__file__).resolve().parent / "mcp_calc.py"
        return ["-c", f"mcp_servers.calc={{command={json.dumps(sys.executable)}, args=[{json.dumps(str(server))}], default_tools_approval_mode=\"approve\"}}"]

    def script(self, request):
        if request.n == 1:
            name = next((n for n in request.tools() if "calc" in n and n.endswith("add")), None)
            expect(name, "the MCP tool is not declared", list(request.tools()))
            self.tool = name
            return Answer([Call.of("call_mcp", name, a=19, b=23)], finish="tool_calls")
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=2)
        output = tool_outputs(run.requests[1])["call_mcp"]
        expect("the sum is 42" in output, "the tool's result did not come back", output)
        expect(any(PNG in url for url in images(run.requests[1])), "the image did not come back", run.requests[1].body["messages"][-2:])
        call = next(m for m in run.requests[1].messages("assistant") if "tool_calls" in m)["tool_calls"][0]
        equal(call["function"]["name"], self.tool, "the tool's name in the history")
        done = run.items("mcp_tool_call")
        equal([(d["server"], d["tool"], d["status"]) for d in done], [("calc", "add", "completed")], "the MCP calls")


class McpSearch(Mcp):
    """On catalog models MCP tools are deferred: they are found by tool_search, then called."""

    name = "mcp-tool-search"
    model = "gpt-5.5"

    def script(self, request):
        found = next((n for n in request.tools() if "calc" in n and n.endswith("add")), None)
        if found and not self.called(request, "call_mcp"):
            self.tool = found
            return Answer([Call.of("call_mcp", found, a=19, b=23)], finish="tool_calls")
        if not self.called(request, "call_mcp"):
            return Answer([Call.of("call_search", request.tool("tool_search"), query="add numbers")], finish="tool_calls")
        return Answer([Text(FINAL)])

    @staticmethod
    def called(request, id):
        return id in tool_outputs(request)

    def check(self, run):
        run.succeeded(FINAL)
        expect(len(run.requests) in (2, 3), "it took too many requests", len(run.requests))
        last = run.requests[-1]
        expect("the sum is 42" in tool_outputs(last)["call_mcp"], "the tool's result did not come back", tool_outputs(last))
        done = run.items("mcp_tool_call")
        equal([(d["server"], d["tool"], d["status"]) for d in done], [("calc", "add", "completed")], "the MCP calls")


# ---- reasoning ----------------------------------------------------------------------------------------
class ReasoningBack(Scenario):
    """Upstreams in thinking mode refuse a tool-call message without the reasoning that led to it."""

    name = "reasoning-back"
    model = "some-model"
    thought = 'First I list the files.\n\nThen "größe" \\ 👩‍👩‍👧 matters.'

    def refuse(self, request):
        return [
            f"messages[{at}]: reasoning_content is missing or changed: {m.get('reasoning_content')!r}"
            for at, m in enumerate(request.messages())
            if m["role"] == "assistant" and "tool_calls" in m and m.get("reasoning_content") != self.thought
        ]

    def script(self, request):
        if request.n <= 2:
            call = Call.of(f"call_{request.n}", "exec_command", cmd="echo x")
            return Answer([Reasoning(self.thought), call], finish="tool_calls", slice=3)
        return Answer([Reasoning("Now I know."), Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=3)
        shown = [item["text"] for item in run.items("reasoning")]
        equal(shown, [self.thought, self.thought, "Now I know."], "the reasoning that Codex shows")


# ---- what goes in -------------------------------------------------------------------------------------
class ImageIn(Scenario):
    name = "image-in"

    def prepare(self, run):
        (run.folder / "dot.png").write_bytes(base64.b64decode(PNG))

    def drive(self, run):
        run.codex(self.prompt, "-i", str(run.folder / "dot.png"))

    def script(self, request):
        return Answer([Text("A dot.")])

    def check(self, run):
        run.succeeded("A dot.", requests=1)
        seen = images(run.requests[0])
        equal(len(seen), 1, "images upstream")
        expect(seen[0].startswith("data:image/png;base64,"), "the image is not a data URL", seen[0][:60])
        expect(self.prompt in run.requests[0].text("user"), "the prompt did not arrive")


class OutputSchema(Scenario):
    name = "output-schema"
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"], "additionalProperties": False}

    def prepare(self, run):
        (run.folder / "schema.json").write_text(json.dumps(self.schema))

    def arguments(self, run):
        return ["--output-schema", str(run.folder / "schema.json")]

    def script(self, request):
        return Answer([Text('{"answer": 42}')])

    def check(self, run):
        run.succeeded('{"answer": 42}', requests=1)
        asked = run.requests[0].body.get("response_format", {})
        equal(asked.get("type"), "json_schema", "response_format.type")
        equal(asked["json_schema"]["schema"], self.schema, "the schema")


class Resume(Scenario):
    """A second process goes on with the thread: the first answer stands in the history."""

    name = "resume"
    model = "some-model"

    def drive(self, run):
        run.codex(self.prompt)
        run.succeeded("First answer.")
        run.codex("resume", "--last", "And now?")

    def script(self, request):
        return Answer([Reasoning("Hm."), Text("First answer." if request.n == 1 else FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=2)
        said = [m["content"] for m in run.requests[1].messages("assistant")]
        equal(said, ["First answer."], "the assistant's words in the history")


class Compaction(Scenario):
    """The window fills up: Codex asks for a summary as a plain prompt without tools, and goes on with it."""

    name = "compaction"

    def arguments(self, _run):
        return ["-c", "model_auto_compact_token_limit=50000"]

    def script(self, request):
        if "CONTEXT CHECKPOINT COMPACTION" in text_of_last(request):
            self.summarised = request
            return Answer([Text("The summary: nothing is left but the end.")])
        if request.n == 1:
            big = dict(USAGE, prompt_tokens=500_000, total_tokens=500_015)
            return Answer([Call.of("call_1", "exec_command", cmd="echo big")], finish="tool_calls", usage=big)
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=3)
        expect("tools" not in self.summarised.body, "the summary is asked for with tools")
        expect("The summary: nothing is left" in run.requests[2].text("user"), "the summary did not come back", run.requests[2].text("user")[-500:])


def text_of_last(request):
    content = request.messages()[-1].get("content") or ""
    return content if isinstance(content, str) else "\n".join(p.get("text", "") for p in content)


# ---- failures before the answer ----------------------------------------------------------------------
class RateLimited(Scenario):
    """429 with Retry-After reaches Codex as it is: it waits that long and comes back."""

    name = "429-retry-after"

    def script(self, request):
        if request.n == 1:
            return fail(429, "Slow down", "rate_limit_exceeded", "rate_limit_error", {"retry-after": "1"})
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=2)
        expect(any("429" in e for e in run.errors()), "Codex does not tell of the 429", run.errors())


class Quota(Scenario):
    name = "429-quota"

    def script(self, request):
        return fail(429, "You exceeded your current quota", "insufficient_quota", "insufficient_quota")

    def check(self, run):
        run.failed("uota", requests=1)


class BadRequest(Scenario):
    """A 400 is final: one request, and the user reads the upstream's own words."""

    name = "400-terminal"

    def script(self, request):
        return fail(400, "The flux capacitor is not charged", "flux_missing")

    def check(self, run):
        run.failed("The flux capacitor is not charged", requests=1)


class ContextLength(Scenario):
    name = "400-context-length"

    def script(self, request):
        return fail(400, "This model's maximum context length is 8192 tokens", "context_length_exceeded")

    def check(self, run):
        run.failed("context window", requests=1)


class UpstreamAuth(Scenario):
    """The proxy's own key is refused upstream: not the user's fault, and no reason to try 30 times."""

    name = "401-upstream"

    def script(self, request):
        return fail(401, "Incorrect API key provided", "invalid_api_key")

    def check(self, run):
        run.failed()
        expect(len(run.requests) <= 6, "a bad key costs too many requests", len(run.requests))


class Overloaded(Scenario):
    name = "503-then-ok"

    def script(self, request):
        if request.n == 1:
            return fail(503, "Overloaded, come back", "server_overloaded", "server_error")
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=2)


class HtmlError(Scenario):
    """A gateway's HTML page in place of an error: Codex gets an envelope, not the page."""

    name = "502-html"
    provider = {"request_max_retries": 0, "stream_max_retries": 0}

    def script(self, request):
        return Answer(status=502, error=b"<html><body><h1>Bad Gateway</h1></body></html>", headers={"content-type": "text/html"})

    def check(self, run):
        run.failed("502", requests=1)
        expect("<h1>" not in run.story(), "HTML reaches the user", run.story())


class Unreachable(Scenario):
    """Nobody listens upstream."""

    name = "upstream-unreachable"
    provider = {"request_max_retries": 0, "stream_max_retries": 0}

    def drive(self, run):
        run.upstream.close()
        super().drive(run)

    def script(self, request):
        raise Failed("nobody was to ask")

    def check(self, run):
        run.failed("502", requests=0)


# ---- failures in mid-stream ---------------------------------------------------------------------------
class CutInText(Scenario):
    """Cut in mid-sentence: never success. Codex tries again and the text is whole, once."""

    name = "cut-in-text"
    end = "cut"

    def script(self, request):
        if request.n == 1:
            return Answer([Text("Half a sent")], finish=None, usage=None, done=False, end=self.end)
        return Answer([Text("A whole sentence.")])

    def check(self, run):
        run.succeeded("A whole sentence.", requests=2)
        expect(any("Reconnecting" in e for e in run.errors()), "Codex does not tell of the break", run.errors())
        equal([m for m in run.messages() if "Half" in m], [], "halves shown as messages")
        equal(run.requests[1].messages("assistant"), [], "the broken half in the next request")


class ResetInText(CutInText):
    name = "reset-in-text"
    end = "reset"


class EndInText(CutInText):
    """The body ends in order, but without finish_reason and [DONE]."""

    name = "end-without-finish"
    end = "clean"


class CutAfterCall(Scenario):
    """Cut after one whole call: Codex may have run it already, so it runs exactly once."""

    name = "cut-after-call"

    def script(self, request):
        if request.n == 1:
            calls = [Call.of("call_1", "exec_command", cmd="echo ran >> ran.txt"), Text(" And now")]
            return Answer(calls, finish=None, usage=None, done=False, end="cut")
        if "call_1" not in tool_outputs(request):
            return Answer([Call.of("call_1", "exec_command", cmd="echo ran >> ran.txt")], finish="tool_calls")
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL)
        equal((run.work / "ran.txt").read_text(), "ran\n", "what the tool wrote")
        expect(len(run.requests) in (2, 3), "it took too many requests", len(run.requests))


class CutInCall(Scenario):
    """Cut in the middle of a call's arguments: the torn call must not run."""

    name = "cut-in-call"

    def script(self, request):
        if request.n == 1:
            return Answer([Call("call_1", "exec_command", '{"cmd": "echo torn >> ran.txt')], finish=None, usage=None, done=False, end="cut")
        if request.n == 2:
            return Answer([Call.of("call_2", "exec_command", cmd="echo whole >> ran.txt")], finish="tool_calls")
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=3)
        equal((run.work / "ran.txt").read_text(), "whole\n", "what the tool wrote")
        equal(list(tool_outputs(run.requests[2])), ["call_2"], "the answered calls")


class ErrorInStream(Scenario):
    """An error object in mid-stream; the second try succeeds."""

    name = "error-in-stream"

    def script(self, request):
        if request.n == 1:
            error = Raw(b'data: {"error": {"message": "The GPU fell over", "type": "server_error", "code": 500}}\n\n')
            return Answer([Text("Half a sent"), error], finish=None, usage=None, done=False)
        return Answer([Text("A whole sentence.")])

    def check(self, run):
        run.succeeded("A whole sentence.", requests=2)
        expect(any("The GPU fell over" in e for e in run.errors()), "the upstream's words are lost", run.errors())


class FatalInStream(Scenario):
    """context_length_exceeded in mid-stream is final."""

    name = "context-length-in-stream"

    def script(self, request):
        error = Raw(b'data: {"error": {"message": "Too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}\n\n')
        return Answer([error], finish=None, usage=None, done=False)

    def check(self, run):
        run.failed("context window", requests=1)


# ---- how answers end ----------------------------------------------------------------------------------
class Length(Scenario):
    """finish_reason length: what was said is shown, and the turn is not an error."""

    name = "finish-length"

    def script(self, request):
        return Answer([Text("As far as it we")], finish="length")

    def check(self, run):
        run.succeeded("As far as it we", requests=1)


class LengthInCall(Scenario):
    """finish_reason length inside a call: the torn call never runs."""

    name = "finish-length-in-call"

    def script(self, request):
        return Answer([Text("I will."), Call("call_1", "exec_command", '{"cmd": "echo torn >> ran.txt')], finish="length")

    def check(self, run):
        expect(not (run.work / "ran.txt").exists(), "a torn call ran")
        expect(len(run.requests) <= 6, "too many requests", len(run.requests))
        expect("I will." in run.messages(), "the text is lost", run.story())


class ContentFilter(Scenario):
    """finish_reason content_filter: Codex asks once more, with guidance of its own."""

    name = "finish-content-filter"

    def script(self, request):
        if request.n == 1:
            return Answer([Text("Well, ")], finish="content_filter")
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=2)


class Refused(Scenario):
    """Codex drops messages with a refusal part: the words must reach the user as text."""

    name = "refusal"

    def script(self, request):
        return Answer([Refusal("I will not do that.")])

    def check(self, run):
        run.succeeded("I will not do that.", requests=1)


class Nothing(Scenario):
    """An empty answer stays empty: no canned text."""

    name = "empty-answer"

    def script(self, request):
        return Answer([])

    def check(self, run):
        run.succeeded(requests=1)
        equal([m for m in run.messages() if m], [], "the messages")


# ---- more of what Codex can do ------------------------------------------------------------------------
class ViewImage(Scenario):
    """An image as the result of a tool: chat tool messages hold text only, so it comes behind them."""

    name = "view-image"

    def prepare(self, run):
        self.path = run.work / "dot.png"
        self.path.write_bytes(base64.b64decode(PNG))

    def script(self, request):
        if request.n == 1:
            calls = [Call.of("call_1", "view_image", path=str(self.path)), Call.of("call_2", "exec_command", cmd="echo two")]
            return Answer([*calls], finish="tool_calls")
        return Answer([Text("A dot.")])

    def check(self, run):
        run.succeeded("A dot.", requests=2)
        equal(list(tool_outputs(run.requests[1])), ["call_1", "call_2"], "the answered calls")
        equal(len(images(run.requests[1])), 1, "images upstream")
        equal(run.requests[1].messages()[-1]["role"], "user", "who shows the image")


class SubAgent(Scenario):
    """A sub-agent has a session of its own through the same proxy, at the same time."""

    name = "sub-agent"
    model = "some-model"

    def script(self, request):
        if "do the child's work" in text_of_last(request):
            return Answer([Text("The child is done.")])
        if not tool_outputs(request):
            spawn = Call.of("call_spawn", request.tool("spawn_agent"), message="do the child's work", agent_type="default")
            return Answer([spawn], finish="tool_calls")
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL)
        spawned = run.items("collab_tool_call")
        equal([(item["tool"], item["status"]) for item in spawned][:1], [("spawn_agent", "completed")], "the spawned agents")


class Effort(Scenario):
    """Settings that a chat server may not know are clamped or left out, never refused."""

    name = "effort-and-verbosity"

    def arguments(self, _run):
        settings = ['model_reasoning_effort="xhigh"', 'model_reasoning_summary="detailed"', 'model_verbosity="low"', 'service_tier="fast"', 'web_search="live"']
        return [word for setting in settings for word in ("-c", setting)]

    def script(self, request):
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=1)
        equal(run.requests[0].body.get("reasoning_effort"), "high", "reasoning_effort")


class Silence(Scenario):
    """The upstream falls silent for longer than Codex waits between events; comments would not help."""

    name = "silent-upstream"
    provider = {"stream_idle_timeout_ms": 1500, "stream_max_retries": 0}

    def config(self, upstream):
        return f"""
[timeouts]
keep_alive_ms = 400

[providers.slow]
url = "{upstream.url}"
credential = {{ kind = "key", env = "UPSTREAM_KEY" }}
"""

    def script(self, request):
        return Answer([Text("Wait"), Pause(3), Text(" for it.")])

    def check(self, run):
        run.succeeded("Wait for it.", requests=1)


class Crowd(Scenario):
    """Several sessions with tools at once through one proxy; nobody gets another's answer."""

    name = "six-at-once"

    def drive(self, run):
        def one(number):
            session = run.beside(f"session-{number}")
            return session.codex(f"I am number {number}.")

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            self.sessions = list(pool.map(one, range(6)))

    def script(self, request):
        number = re.findall(r"I am number (\d)\.", request.text("user"))[-1]
        if not tool_outputs(request):
            return Answer([Text(f"I look, {number}."), Call.of("call_1", "exec_command", cmd=f"echo {number} > who.txt")], finish="tool_calls", slice=1)
        return Answer([Text(f"You are number {number}.")], slice=1)

    def check(self, run):
        for number, session in enumerate(self.sessions):
            session.succeeded(f"You are number {number}.")
            equal((session.work / "who.txt").read_text(), f"{number}\n", "what the tool wrote")
        run.cost(12)


KEYS = """
[clients.keys]
tester = "{client}"

[providers.house]
url = "{url}"
credential = {{ kind = "key", env = "UPSTREAM_KEY" }}
"""


class ClientKey(TextClassic):
    """With client keys: the right one is let in, and goes no further."""

    name = "client-key"

    def config(self, upstream):
        return KEYS.format(client=CLIENT_KEY, url=upstream.url)


class WrongClientKey(Scenario):
    """A wrong client key is the client's own 401; the upstream hears nothing."""

    name = "client-key-wrong"
    provider = {"request_max_retries": 0, "stream_max_retries": 0}

    def config(self, upstream):
        return KEYS.format(client="sk-another-one", url=upstream.url)

    def script(self, request):
        raise Failed("nobody was to ask")

    def check(self, run):
        run.failed("401", requests=0)


LIMITED = """
[clients.keys]
tester = {{ secret = "{client}", {limits} }}

[providers.house]
url = "{url}"
credential = {{ kind = "key", env = "UPSTREAM_KEY" }}
"""


class ClientTooFast(ShellClassic):
    """The second request of a turn comes too early for the client's key: Codex waits as it is told, and goes on."""

    name = "client-key-too-fast"

    def config(self, upstream):
        return LIMITED.format(client=CLIENT_KEY, limits="per_minute = 15, burst = 1", url=upstream.url)

    def check(self, run):
        super().check(run)
        expect("rate_limit_exceeded status=429 key=tester" in run.proxy.said(), "no request was too early", run.proxy.said())


class ClientModelRefused(Scenario):
    """A model that the client's key may not use ends the turn at once, with the reason."""

    name = "client-key-model"

    def config(self, upstream):
        return LIMITED.format(client=CLIENT_KEY, limits='models = ["another-*"]', url=upstream.url)

    def script(self, request):
        raise Failed("nobody was to ask")

    def check(self, run):
        run.failed("may not ask for the model", requests=0)
        equal(run.proxy.said().count("forbidden status="), 1, "the requests that were refused")


class ChatGptLogin(Scenario):
    """Codex logged in to ChatGPT, with a provider named OpenAI: compressed bodies, and more fields."""

    name = "chatgpt-login"
    provider = {"name": "OpenAI", "requires_openai_auth": True, "env_key": None}

    def prepare(self, run):
        claims = {
            "exp": 4102444800, "email": "someone@example.com",
            "https://api.openai.com/auth": {"chatgpt_plan_type": "pro", "chatgpt_account_id": "acc-1", "chatgpt_user_id": "user-1"},
        }
        part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
        token = f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part(claims)}.c2lnbmF0dXJl"
        tokens = {"id_token": token, "access_token": token, "refresh_token": "refresh", "account_id": "acc-1"}
        today = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        auth = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": today}
        (run.home / ".codex" / "auth.json").write_text(json.dumps(auth))

    def arguments(self, run):
        return ["-c", f"chatgpt_base_url={json.dumps(f'http://127.0.0.1:{run.proxy.port}/backend-api/')}"]

    def script(self, request):
        if request.n == 1:
            return Answer([Reasoning("Hm."), Call.of("call_1", "exec_command", cmd="echo hello")], finish="tool_calls")
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=2)
        expect("hello" in tool_outputs(run.requests[1])["call_1"], "the output did not come back", tool_outputs(run.requests[1]))


# ---- an upstream that speaks Responses: the proxy is a relay ---------------------------------------------
class RelayText(Scenario):
    """Every byte as it came; the upstream's key in place of the client's, no client header beyond the proxy."""

    name = "relay-text"
    dialect = "responses"

    def script(self, request):
        return Answer([Reasoning("Hm."), Text(TRICKY)], slice=1)

    def check(self, run):
        run.succeeded(TRICKY, requests=1)
        equal(run.usage()["input_tokens"], 120, "input_tokens")
        equal([item["text"] for item in run.items("reasoning")], ["Hm."], "the reasoning that Codex shows")
        equal(run.requests[0].body["model"], "gpt-5.5", "the model upstream")


class RelayTools(Scenario):
    """A shell call and a patch through a relay, with the sealed reasoning going back as it came."""

    name = "relay-tools"
    dialect = "responses"

    def script(self, request):
        if request.n == 1:
            return Answer([Reasoning("Hm."), Call.of("call_1", "exec_command", cmd="echo hello")])
        if request.n == 2:
            return Answer([Call.of("call_2", "apply_patch", input="*** Begin Patch\n*** Add File: new.txt\n+hello\n*** End Patch\n")])
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=3)
        equal((run.work / "new.txt").read_text(), "hello\n", "the added file")
        sealed = [item["encrypted_content"] for item in run.requests[1].body["input"] if item["type"] == "reasoning"]
        equal(sealed, ["gAAAA-opaque"], "the sealed reasoning that goes back")


class RelayCut(CutInText):
    """Cut in mid-answer behind a relay: told as a failure, tried again."""

    name = "relay-cut"
    dialect = "responses"

    def check(self, run):
        run.succeeded("A whole sentence.", requests=2)
        expect(any("Reconnecting" in e for e in run.errors()), "Codex does not tell of the break", run.errors())


# ---- how Codex connects -------------------------------------------------------------------------------
class WebSocketFallback(Scenario):
    """The built-in provider tries a WebSocket first: 426 makes it fall back at once and silently."""

    name = "websocket-426"

    def env(self, run):
        return {"CODEX_API_KEY": CLIENT_KEY}

    def drive(self, run):
        run.codex(self.prompt, "-c", f"openai_base_url={json.dumps(run.proxy.base)}", provider=False)

    def script(self, request):
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=1)
        expect(not run.items("error") and not run.errors(), "Codex warns", run.story())


class RunCommand(Scenario):
    """`patchbay run -- codex exec ...`: a proxy for the lifetime of one client, which is pointed at it."""

    name = "patchbay-run"

    def env(self, run):
        from upstream import KEY

        return {"UPSTREAM_KEY": KEY, "RUST_BACKTRACE": "1", "PATH": f"{run.options.codex.parent}{os.pathsep}{os.environ['PATH']}"}

    def drive(self, run):
        run.process([
            str(run.options.patchbay), "run", "--upstream-url", run.upstream.url, "--api-key-env", "UPSTREAM_KEY", "--",
            "codex", "exec", self.prompt, "--json", "--skip-git-repo-check", "--disable", "plugins",
            "-c", "analytics.enabled=false", "-c", 'sandbox_mode="danger-full-access"', "-c", 'model="gpt-5.5"',
        ])

    def script(self, request):
        return Answer([Text(FINAL)])

    def check(self, run):
        run.succeeded(FINAL, requests=1)


class RunFails(RunCommand):
    """The client's exit code is the command's."""

    name = "patchbay-run-exit-code"

    def script(self, request):
        return fail(400, "No.")

    def check(self, run):
        run.failed("No.", requests=1)
