#!/usr/bin/env python3
"""Runs the real OpenAI SDKs, Python and Node, through patchbay against a scripted Codex backend over TLS.

    VENV/bin/python run.py --patchbay target/release/patchbay --sdk FOLDER
                           [--validators DIR] [--only NAME] [--keep DIR]

FOLDER holds node_modules/openai. Runs in the Python that has the SDK.
"""
import argparse
import asyncio
import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import openai
import pydantic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import codex_scenes  # noqa: E402
import harness  # noqa: E402
from answers import TRICKY  # noqa: E402
from codex_scenes import DONE, MODEL, STEPS, sealed  # noqa: E402
from harness import CLIENT_KEY, equal, expect  # noqa: E402

LOOK = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"], "additionalProperties": False}
FLAT = [{"type": "function", "name": "look", "description": "Looks.", "parameters": LOOK, "strict": False}]
NESTED = [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": LOOK}}]
BOTH = [("call_1", {"path": "a"}), ("call_2", {"path": "b"})]
DOT = base64.b64encode(b"\x89PNG not really").decode()
WHOLE = {"temperature": 0.2, "top_p": 0.9, "user": "u-1", "metadata": {"team": "x"}, "service_tier": "auto"}


class City(pydantic.BaseModel):
    name: str
    people: int


ERRORS = {
    "bad": (openai.BadRequestError, 400, "does not like this"),
    "forbidden": (openai.PermissionDeniedError, 403, "Not for this plan"),
    "missing": (openai.NotFoundError, 404, "Model not found"),
    "limit": (openai.RateLimitError, 429, "usage limit"),
    "limit429": (openai.RateLimitError, 429, "usage limit"),
    "down": (openai.InternalServerError, 500, "Oh"),
    "overloaded": (openai.InternalServerError, 503, "Busy"),
}


class Bench:
    """What a case works with."""

    def __init__(self, scene, proxy):
        self.scene, self.proxy = scene, proxy
        self.client = openai.OpenAI(base_url=proxy.base, api_key=CLIENT_KEY, max_retries=0, timeout=30)

    def last(self):
        return self.scene.backend.requests[-1].body

    def concurrent(self):
        return openai.AsyncOpenAI(base_url=self.proxy.base, api_key=CLIENT_KEY, max_retries=0, timeout=30)

    def chat(self, word, **more):
        return self.client.chat.completions.create(model=MODEL, messages=ask(word), **more)

    def response(self, word, **more):
        return self.client.responses.create(model=MODEL, input=word, **more)

    def hung_up(self, act):
        """How long after `act` the backend saw the connection of the last request end."""
        number, start = len(self.scene.backend.requests), time.monotonic()
        act()
        while number not in self.scene.backend.hangups:
            expect(time.monotonic() < start + 15, "the backend was not told that the client went away")
            time.sleep(0.005)
        return f"seen after {self.scene.backend.hangups[number] - start:.3f} s"


def ask(word):
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": word}]


# ---- Chat Completions ------------------------------------------------------------------------------------
def chat_whole(it):
    answer = it.chat("text", max_tokens=900, presence_penalty=0.1, seed=4, **WHOLE)
    choice = answer.choices[0]
    equal((choice.message.content, choice.finish_reason), (TRICKY, "stop"), "the answer")
    equal((answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens), (120, 15, 135), "usage")
    equal(answer.usage.completion_tokens_details.reasoning_tokens, 5, "reasoning_tokens")
    equal(choice.message.reasoning_content, "**Hm.** Let me say it.", "reasoning_content")
    body = it.last()
    expect("Be brief." in body["instructions"] + json.dumps(body["input"]), "the system text is lost", body)


def chat_stream(it):
    text, thought, usage, finish = "", "", None, []
    for chunk in it.chat("text", stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            thought += getattr(choice.delta, "reasoning_content", None) or ""
            finish += [choice.finish_reason] if choice.finish_reason else []
    equal((text, thought, finish), (TRICKY, "**Hm.** Let me say it.", ["stop"]), "the stream")
    equal(usage.total_tokens, 135, "total_tokens")


def chat_no_usage(it):
    chunks = list(it.chat("plain", stream=True))
    expect(all(chunk.usage is None and chunk.choices for chunk in chunks), "usage that nobody asked for", [c.model_dump() for c in chunks])


def chat_parallel(it):
    answer = it.chat("parallel", tools=NESTED, parallel_tool_calls=True)
    calls = [(call.id, json.loads(call.function.arguments)) for call in answer.choices[0].message.tool_calls]
    equal((calls, answer.choices[0].finish_reason), (BOTH, "tool_calls"), "the calls")
    with it.client.chat.completions.stream(model=MODEL, messages=ask("parallel"), tools=NESTED) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    equal([(call.id, json.loads(call.function.arguments)) for call in message.tool_calls], BOTH, "the streamed calls")


def chat_choice(it):
    it.chat("call", tools=NESTED, tool_choice={"type": "function", "function": {"name": "look"}})
    equal(it.last()["tool_choice"], {"type": "function", "name": "look"}, "tool_choice upstream")
    it.chat("call", tools=NESTED, tool_choice="required")
    equal(it.last()["tool_choice"], "required", "tool_choice upstream")


def chat_functions(it):
    answer = it.chat("call", functions=[NESTED[0]["function"]], function_call="auto")
    message = answer.choices[0].message
    equal((message.function_call.name, json.loads(message.function_call.arguments)), ("look", {"path": "größe.txt"}), "the call")
    equal(answer.choices[0].finish_reason, "function_call", "finish_reason")


def chat_parse(it):
    answer = it.client.chat.completions.parse(model=MODEL, messages=ask("city"), response_format=City)
    equal(answer.choices[0].message.parsed, City(name="Köln", people=1087863), "parsed")
    form = it.last()["text"]["format"]
    equal((form["type"], form["name"], form["strict"]), ("json_schema", "City", True), "the format upstream")
    with it.client.chat.completions.stream(model=MODEL, messages=ask("city"), response_format=City) as stream:
        parsed = stream.get_final_completion().choices[0].message.parsed
    equal(parsed, City(name="Köln", people=1087863), "parsed from the stream")


def chat_strict_tool(it):
    tool = openai.pydantic_function_tool(City, name="look")
    answer = it.client.chat.completions.parse(model=MODEL, messages=ask("plain"), tools=[tool])
    equal(answer.choices[0].message.content, "Hello!", "content")
    equal((it.last()["tools"][0]["name"], it.last()["tools"][0]["strict"]), ("look", True), "the tool upstream")


def chat_image(it):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DOT}", "detail": "low"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "plain"}, image]}]
    it.client.chat.completions.create(model=MODEL, messages=messages)
    part = next(p for item in it.last()["input"] for p in item["content"] if p["type"] == "input_image")
    equal((part["image_url"], part["detail"]), (f"data:image/png;base64,{DOT}", "low"), "the image upstream")


def chat_effort(it):
    it.chat("plain", reasoning_effort="low")
    equal(it.last()["reasoning"]["effort"], "low", "effort upstream")


def chat_length(it):
    equal(it.chat("length").choices[0].finish_reason, "length", "finish_reason")


def chat_stop(it):
    answer = it.chat("count", stop=["four"])
    equal((answer.choices[0].message.content, answer.choices[0].finish_reason), ("one two three ", "stop"), "the answer")
    chunks = list(it.chat("count", stop="four", stream=True))
    equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks), "one two three ", "the stream")


def chat_errors(it):
    for word, (kind, status, text) in ERRORS.items():
        for stream in (False, True):
            refused(kind, status, text, lambda word=word, stream=stream: it.chat(word, stream=stream))


def chat_limit(it):
    """A plan that is used up says until when."""
    try:
        it.chat("limit")
    except openai.RateLimitError as error:
        wait = error.response.headers.get("retry-after", "")
        expect(wait.isdigit() and 3000 <= int(wait) <= 3600, "retry-after is not the reset's time", wait)
        return f"{error.message}; retry-after {wait}"
    raise harness.Failed("no RateLimitError")


def chat_broken(it):
    for word in ("broken", "cut"):
        finish = []
        try:
            for chunk in it.chat(word, stream=True):
                finish += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
        except Exception as error:  # noqa: BLE001  a break of the connection is not always the SDK's own kind
            expect(not finish, f"{word} looks like success before {error!r}")
        else:
            raise harness.Failed(f"{word} looks like success: {finish}")
        refused(openai.APIStatusError, None, "", lambda word=word: it.chat(word))


def chat_cancel(it):
    stream = it.chat("hang", stream=True)
    next(iter(stream))
    return it.hung_up(stream.close)


def chat_session(it):
    """Ten turns with tools, as a coding agent does them, over streams."""
    messages = [{"role": "system", "content": "You are an agent."}, {"role": "user", "content": "session: look ten times"}]
    for turn in range(1, STEPS + 1):
        message = streamed(it.client.chat.completions.create(model=MODEL, messages=messages, tools=NESTED, stream=True))
        expect(message.get("tool_calls"), f"no calls in turn {turn}", message)
        messages.append(message)
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": "It is " + json.loads(call["function"]["arguments"])["path"]} for call in message["tool_calls"]]
    final = streamed(it.client.chat.completions.create(model=MODEL, messages=messages, tools=NESTED, stream=True))
    equal(final["content"], DONE, "the last words")
    back = [item["encrypted_content"] for item in it.last()["input"] if item.get("type") == "reasoning"]
    equal(back, [sealed(n) for n in range(1, STEPS + 1)], "the encrypted reasoning that is back")
    return f"{STEPS} encrypted states back"


def streamed(chunks):
    """The assistant message of a stream, as clients put it together and send it back."""
    message, calls = {"role": "assistant", "content": None}, {}
    for chunk in chunks:
        for choice in chunk.choices:
            delta = choice.delta.model_dump(exclude_none=True)
            if delta.get("content"):
                message["content"] = (message["content"] or "") + delta["content"]
            message.setdefault("reasoning_details", []).extend(delta.get("reasoning_details", []))
            for part in delta.get("tool_calls", []):
                call = calls.setdefault(part["index"], {"id": part.get("id"), "type": "function", "function": {"name": "", "arguments": ""}})
                call["function"]["name"] += part["function"].get("name", "")
                call["function"]["arguments"] += part["function"].get("arguments", "")
    if calls:
        message["tool_calls"] = [calls[at] for at in sorted(calls)]
    return message


def chat_async(it):
    async def one(client, word):
        stream = await client.chat.completions.create(model=MODEL, messages=ask(word), stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them():
        async with it.concurrent() as client:
            return await asyncio.gather(*(one(client, "text") for _ in range(20)))

    equal(asyncio.run(all_of_them()), [TRICKY] * 20, "the texts")


# ---- the Responses API -----------------------------------------------------------------------------------
def responses_whole(it):
    answer = it.response("text", instructions="Be brief.", max_output_tokens=900, truncation="auto", safety_identifier="s", **WHOLE)
    equal((answer.output_text, answer.status), (TRICKY, "completed"), "the answer")
    equal([item.type for item in answer.output], ["reasoning", "message"], "the items")
    equal((answer.usage.input_tokens, answer.usage.total_tokens), (120, 135), "usage")
    equal(it.last()["instructions"], "Be brief.", "instructions upstream")


def responses_stream(it):
    text, last = "", None
    for event in it.response("text", stream=True):
        text += event.delta if event.type == "response.output_text.delta" else ""
        last = event
    equal((text, last.type), (TRICKY, "response.completed"), "the stream")
    equal(last.response.usage.total_tokens, 135, "total_tokens")


def responses_parallel(it):
    with it.client.responses.stream(model=MODEL, input="parallel", tools=FLAT) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    calls = [(item.call_id, json.loads(item.arguments)) for item in final.output if item.type == "function_call"]
    equal(calls, BOTH, "the streamed calls")
    answer = it.response("parallel", tools=FLAT)
    equal([(item.call_id, json.loads(item.arguments)) for item in answer.output if item.type == "function_call"], BOTH, "the calls")


def responses_tools(it):
    """The whole output of a turn goes back, ids and encrypted reasoning too."""
    options = {"tools": FLAT, "include": ["reasoning.encrypted_content"], "store": False}
    first = it.response("parallel", **options)
    history = [{"role": "user", "content": "text"}, *(item.model_dump(exclude_none=True) for item in first.output)]
    history += [{"type": "function_call_output", "call_id": id, "output": "big"} for id, _ in BOTH]
    second = it.client.responses.create(model=MODEL, input=history, **options)
    equal(second.output_text, TRICKY, "the second answer")
    states = [item["encrypted_content"] for item in it.last()["input"] if item.get("type") == "reasoning"]
    equal(states, ["gAAAA-two"], "the reasoning that is back")


def responses_orphan(it):
    history = [{"role": "user", "content": "plain"}, {"type": "function_call_output", "call_id": "call_gone", "output": "from long ago"}, {"role": "user", "content": "plain"}]
    it.client.responses.create(model=MODEL, input=history)
    expect("from long ago" in json.dumps(it.last()["input"]), "the orphan's text is lost", it.last())


def responses_reference(it):
    history = [{"type": "item_reference", "id": "msg_1"}, {"type": "message", "id": "msg_2", "role": "user", "content": [{"type": "input_text", "text": "plain"}]}]
    equal(it.client.responses.create(model=MODEL, input=history).output_text, "Hello!", "output_text")


def responses_parse(it):
    answer = it.client.responses.parse(model=MODEL, input="city", text_format=City)
    equal(answer.output_parsed, City(name="Köln", people=1087863), "output_parsed")
    equal(it.last()["text"]["format"]["name"], "City", "the schema's name upstream")


def responses_image(it):
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{DOT}", "detail": "low"}
    it.client.responses.create(model=MODEL, input=[{"role": "user", "content": [{"type": "input_text", "text": "plain"}, image]}])
    expect(DOT in json.dumps(it.last()), "the image did not arrive")


def responses_reasoning(it):
    answer = it.response("text", reasoning={"effort": "high", "summary": "auto"}, include=["reasoning.encrypted_content"])
    equal(it.last()["reasoning"], {"effort": "high", "summary": "auto"}, "reasoning upstream")
    equal((answer.output[0].summary[0].text, answer.output[0].encrypted_content), ("**Hm.** Let me say it.", "gAAAA-text"), "the reasoning")


def responses_length(it):
    answer = it.response("length")
    equal((answer.status, answer.incomplete_details.reason), ("incomplete", "max_output_tokens"), "status")


def responses_errors(it):
    for word, (kind, status, text) in ERRORS.items():
        for stream in (False, True):
            refused(kind, status, text, lambda word=word, stream=stream: it.response(word, stream=stream))


def responses_broken(it):
    for word in ("broken", "cut"):
        seen = []
        with contextlib.suppress(openai.APIError):
            seen = [event.type for event in it.response(word, stream=True)]
            equal(seen[-1:], ["response.failed"], f"the last event of {word}")
        expect("response.completed" not in seen, f"{word} looks like success", seen)


def responses_cancel(it):
    stream = it.response("hang", stream=True)
    next(iter(stream))
    return it.hung_up(stream.close)


def responses_cancel_whole(it):
    """A client that waits for a whole answer, which the proxy reads as a stream, goes away."""
    body = json.dumps({"model": MODEL, "input": "hang"})
    connection = http.client.HTTPConnection("127.0.0.1", it.proxy.port, timeout=30)
    before = len(it.scene.backend.requests)
    connection.request("POST", "/v1/responses", body, {"content-type": "application/json"})
    while len(it.scene.backend.requests) == before:
        time.sleep(0.005)
    return it.hung_up(connection.close)


def responses_async(it):
    async def run():
        async with it.concurrent() as client:
            async with await client.responses.create(model=MODEL, input="hang", stream=True) as stream:
                seen = [await anext(stream), await anext(stream)]
            equal([event.type for event in seen], ["response.created", "response.in_progress"], "the first events")
            whole = await asyncio.gather(*(client.responses.create(model=MODEL, input="text") for _ in range(20)))
            return [answer.output_text for answer in whole]

    equal(asyncio.run(run()), [TRICKY] * 20, "the texts")


def refused(kind, status, text, call):
    """Calls, and checks the error that it must raise."""
    try:
        answer = call()
    except kind as error:
        expect(status is None or error.status_code == status, f"the status is not {status}", error.status_code)
        expect(text in error.message, f"the message lacks {text!r}", error.message)
        return
    raise harness.Failed(f"no {kind.__name__}: {answer!r:.500}")


CASES = [value for name, value in list(globals().items()) if name.startswith(("chat_", "responses_"))]


# ---- raw streams under the validators ---------------------------------------------------------------------
def raw(it, validators, word):
    """One answer as its bytes, streamed and whole, judged by the validators."""
    options = {"tools": NESTED} if word in ("call", "parallel") else {}
    streamed_body = {"model": MODEL, "messages": ask(word), "stream": True, "stream_options": {"include_usage": True}, **options}
    whole_body = {"model": MODEL, "messages": ask(word), **options}
    broken = word == "broken"
    judge(it, validators, f"raw-{word}.sse", streamed_body, "validate_chat_stream", *(["--expect-error"] if broken else ["--include-usage", "yes"]))
    judge(it, validators, f"raw-{word}.json", whole_body, "validate_chat_json", *(["--error"] if broken else []))


def judge(it, validators, name, body, tool, *how):
    connection = http.client.HTTPConnection("127.0.0.1", it.proxy.port, timeout=30)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    place = it.scene.folder / name
    place.write_bytes(connection.getresponse().read())
    connection.close()
    asked = place.with_name(name + ".request.json")
    asked.write_text(json.dumps(body))
    given = [] if "--error" in how else ["--request", asked]
    complaint = validators.run(tool, place, *given, *how)
    expect(complaint is None, "the validator complains", complaint or "")


def upstream_bodies(it, validators):
    complaint = validators.run("validate_requests", it.scene.folder / "upstream.jsonl", "--kind", "codex", "--quiet")
    expect(complaint is None, "the request validator complains", complaint or "")
    return f"{len(it.scene.backend.requests)} requests upstream"


# ---- Node ------------------------------------------------------------------------------------------------
def node_verdicts(sdk, it):
    """Runs all cases of the Node SDK: name to what went wrong, or None."""
    env = {"PATH": os.environ["PATH"], "PATCHBAY_CLIENT_KEY": CLIENT_KEY, "TRICKY": TRICKY, "MODEL": MODEL}
    client = Path(__file__).resolve().parent / "client.mjs"
    done = subprocess.run(
        ["node", str(client), str(sdk), it.proxy.base], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )
    expect(done.returncode == 0, "node failed", done.stderr)
    return {one["name"]: one["error"] for one in (json.loads(line) for line in done.stdout.split("\n") if line)}


def perform(case, it):
    it.scene.backend.complaints.clear()
    try:
        note = case(it)
    except openai.APIError as error:
        raise harness.Failed(f"{error!r}; the backend complains: {it.scene.backend.complaints}") from None
    it.scene.holds()
    return note


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patchbay", required=True, type=Path, help="the binary under test")
    parser.add_argument("--sdk", type=Path, help="a folder with the npm package openai")
    parser.add_argument("--validators", help="the folder of the validators")
    parser.add_argument("--only", help="only cases whose name holds this")
    parser.add_argument("--keep", type=Path, help="keep every file of the run here")
    parser.add_argument("--key", action="store_true", help="a third party's endpoint with a key instead of an account's tokens")
    options = parser.parse_args()
    validators = harness.Validators(options.validators, sys.executable)
    with tempfile.TemporaryDirectory(prefix="patchbay-sdk-codex-") as temporary, contextlib.ExitStack() as stack:
        folder = (options.keep or Path(temporary)).resolve()
        scene = stack.enter_context(codex_scenes.open_scene(folder, accounts=not options.key))
        proxy = scene.served(options.patchbay.resolve())
        stack.callback(proxy.close)
        it = Bench(scene, proxy)
        stack.callback(it.client.close)
        cases = {case.__name__: (lambda case=case: perform(case, it)) for case in CASES}
        if options.sdk:
            scene.backend.complaints.clear()
            for name, error in node_verdicts(options.sdk, it).items():
                cases[f"node_{name}"] = lambda error=error: expect(error is None, error or "")
            bad = list(scene.backend.complaints)
            cases["node_requests"] = lambda: expect(not bad, "the backend complains", bad)
        if validators:
            for word in ("text", "plain", "call", "parallel", "city", "length", "broken"):
                cases[f"raw_{word}"] = lambda word=word: raw(it, validators, word)
            cases["upstream_bodies"] = lambda: upstream_bodies(it, validators)
        return harness.run_cases(harness.only(cases, options.only), 1, f"sdk-codex {openai.__version__}")


if __name__ == "__main__":
    sys.exit(main())
