#!/usr/bin/env python3
"""Runs the real OpenAI Python SDK through patchbay: both APIs, both kinds of upstream.

    VENV/bin/python run.py --patchbay target/release/patchbay [--only NAME]

Runs in the Python that has the SDK.
"""
import argparse
import base64
import contextlib
import json
import sys
import tempfile
from pathlib import Path

import openai
import pydantic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness  # noqa: E402
from answers import ANSWERS, TRICKY  # noqa: E402
from harness import CLIENT_KEY, equal, expect  # noqa: E402

LOOK = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"], "additionalProperties": False}
FLAT = {"type": "function", "name": "look", "description": "Looks.", "parameters": LOOK, "strict": False}
NESTED = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": LOOK}}
DOT = base64.b64encode(b"\x89PNG not really").decode()


class City(pydantic.BaseModel):
    name: str
    people: int


ERRORS = {
    "bad": openai.BadRequestError,
    "forbidden": openai.PermissionDeniedError,
    "missing": openai.NotFoundError,
    "conflict": openai.ConflictError,
    "unprocessable": openai.UnprocessableEntityError,
    "limited": openai.RateLimitError,
    "down": openai.InternalServerError,
    "overloaded": openai.InternalServerError,
}


# ---- the Responses API -----------------------------------------------------------------------------------
def responses_whole(client, _last):
    answer = client.responses.create(model="text", input="Say it.", instructions="Be brief.")
    equal(answer.output_text, TRICKY, "output_text")
    equal(answer.status, "completed", "status")
    equal(answer.usage.total_tokens, 135, "total_tokens")
    equal(answer.usage.input_tokens_details.cached_tokens, 40, "cached_tokens")
    equal([item.type for item in answer.output], ["reasoning", "message"], "the items")


def responses_stream(client, _last):
    deltas, last = "", None
    for event in client.responses.create(model="text", input="Say it.", stream=True):
        deltas += event.delta if event.type == "response.output_text.delta" else ""
        last = event
    equal(deltas, TRICKY, "the deltas")
    equal(last.type, "response.completed", "the last event")
    equal(last.response.output_text, TRICKY, "output_text at the end")


def responses_helper(client, _last):
    with client.responses.stream(model="parallel", input="Look.", tools=[FLAT]) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    calls = [(item.call_id, item.name, json.loads(item.arguments)) for item in final.output]
    equal(calls, [("call_1", "look", {"path": "a"}), ("call_2", "look", {"path": "b"})], "the calls")


def responses_tools(client, last):
    first = client.responses.create(model="call", input="Look.", tools=[FLAT], tool_choice={"type": "function", "name": "look"})
    call = next(item for item in first.output if item.type == "function_call")
    equal(json.loads(call.arguments), {"path": "größe.txt"}, "arguments")
    history = [{"role": "user", "content": "Look."}, *first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "It is big."}]
    second = client.responses.create(model="text", input=history, tools=[FLAT])
    equal(second.output_text, TRICKY, "the second answer")
    body = last().body
    if "messages" in body:
        equal([m["role"] for m in body["messages"]], ["user", "assistant", "tool"], "the roles upstream")
    else:
        equal([i.get("type", "message") for i in body["input"]][-1], "function_call_output", "the last item upstream")


def responses_parse(client, last):
    answer = client.responses.parse(model="city", input="Which?", text_format=City)
    equal(answer.output_parsed, City(name="Köln", people=1087863), "output_parsed")
    body = last().body
    form = body["response_format"]["json_schema"] if "messages" in body else body["text"]["format"]
    equal(form["name"], "City", "the schema's name upstream")


def responses_image(client, last):
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{DOT}", "detail": "low"}
    client.responses.create(model="text", input=[{"role": "user", "content": [{"type": "input_text", "text": "What?"}, image]}])
    expect(DOT in json.dumps(last().body), "the image did not arrive")


def responses_length(client, _last):
    answer = client.responses.create(model="length", input="Go on.")
    equal((answer.status, answer.incomplete_details.reason), ("incomplete", "max_output_tokens"), "status")


def responses_broken(client, _last):
    for model in ("broken", "cut"):
        seen = []
        with contextlib.suppress(openai.APIError):
            seen = [event.type for event in client.responses.create(model=model, input="Say it.", stream=True)]
            equal(seen[-1:], ["response.failed"], f"the last event of {model}")
        expect("response.completed" not in seen, f"{model} looks like success", seen)
        raises(openai.APIError, lambda model=model: client.responses.create(model=model, input="Say it.", stream=False), or_failed=True)


def responses_errors(client, _last):
    for model, kind in ERRORS.items():
        for stream in (False, True):
            error = raises(kind, lambda model=model, stream=stream: client.responses.create(model=model, input="x", stream=stream))
            same_error(error, ANSWERS[model])


# ---- Chat Completions ------------------------------------------------------------------------------------
ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say it."}]


def chat_whole(client, _last):
    answer = client.chat.completions.create(model="text", messages=ASK)
    equal(answer.choices[0].message.content, TRICKY, "content")
    equal(answer.choices[0].finish_reason, "stop", "finish_reason")
    equal(answer.usage.total_tokens, 135, "total_tokens")


def chat_stream(client, _last):
    text, usage, finish = "", None, None
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(model="text", messages=ASK, stream=True, stream_options=options):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    equal((text, finish), (TRICKY, "stop"), "the stream")
    equal(usage.total_tokens, 135, "total_tokens")


def chat_helper(client, _last):
    with client.chat.completions.stream(model="parallel", messages=ASK, tools=[NESTED]) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    calls = [(call.id, json.loads(call.function.arguments)) for call in message.tool_calls]
    equal(calls, [("call_1", {"path": "a"}), ("call_2", {"path": "b"})], "the calls")


def chat_tools(client, last):
    first = client.chat.completions.create(model="call", messages=ASK, tools=[NESTED], tool_choice="required")
    call = first.choices[0].message.tool_calls[0]
    equal(json.loads(call.function.arguments), {"path": "größe.txt"}, "arguments")
    mine = {"role": "assistant", "content": first.choices[0].message.content, "tool_calls": [call.model_dump(exclude_none=True)]}
    mine["tool_calls"][0].pop("index", None)
    result = {"role": "tool", "tool_call_id": call.id, "content": "It is big."}
    second = client.chat.completions.create(model="text", messages=[*ASK, mine, result], tools=[NESTED])
    equal(second.choices[0].message.content, TRICKY, "the second answer")
    expect("It is big." in json.dumps(last().body), "the tool's result did not arrive")


def chat_broken(client, _last):
    for model in ("broken", "cut"):
        finish = []
        try:
            for chunk in client.chat.completions.create(model=model, messages=ASK, stream=True):
                finish += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
        except Exception as error:  # noqa: BLE001  a break of the connection is not always the SDK's own kind
            expect("stop" not in finish, f"{model} looks like success before {error!r}")
        else:
            raise harness.Failed(f"{model} looks like success: finish {finish}")


def chat_errors(client, _last):
    for model, kind in ERRORS.items():
        for stream in (False, True):
            error = raises(kind, lambda model=model, stream=stream: client.chat.completions.create(model=model, messages=ASK, stream=stream))
            same_error(error, ANSWERS[model])


def models(client, _last):
    client.models.list()


def raises(kind, call, or_failed=False):
    """Calls, and returns the error of this kind that it must raise."""
    try:
        answer = call()
    except kind as error:
        return error
    if or_failed and getattr(answer, "status", None) == "failed":
        return None
    raise harness.Failed(f"no {kind.__name__}: {answer!r:.500}")


def same_error(error, answer):
    wanted = answer.error["error"]
    equal(error.status_code, answer.status, "the status")
    expect(wanted["message"] in error.message, "the upstream's words are lost", error.message)
    if wanted["code"]:
        equal(error.code, wanted["code"], "the code")
    if answer.headers:
        equal(error.response.headers.get("retry-after"), answer.headers["retry-after"], "retry-after")


CASES = [
    responses_whole, responses_stream, responses_helper, responses_tools, responses_parse, responses_image, responses_length,
    responses_broken, responses_errors, chat_whole, chat_stream, chat_helper, chat_tools, chat_broken, chat_errors, models,
]
# A relay hands on an upstream's answer as it is; these look at what translation adds.
NOT_RELAYED = {"chat": {chat_helper}, "responses": set()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patchbay", required=True, type=Path, help="the binary under test")
    parser.add_argument("--only", help="only cases whose name holds this")
    options = parser.parse_args()
    cases = {}
    with tempfile.TemporaryDirectory(prefix="patchbay-openai-") as folder, contextlib.ExitStack() as stack:
        for dialect in ("chat", "responses"):
            place = Path(folder) / dialect
            upstream = stack.enter_context(harness.open_upstream(lambda request: ANSWERS[request.body["model"]], place))
            url = upstream.url if dialect == "chat" else upstream.responses_url
            proxy = harness.Patchbay(options.patchbay.resolve(), url, place, args=["--upstream-dialect", dialect])
            stack.callback(proxy.close)
            client = stack.enter_context(openai.OpenAI(base_url=proxy.base, api_key=CLIENT_KEY, max_retries=0, timeout=30))
            for case in CASES:
                if case not in NOT_RELAYED[dialect]:
                    name = f"{case.__name__}/{dialect}-upstream"
                    cases[name] = lambda case=case, client=client, upstream=upstream: perform(case, client, upstream)
        return harness.run_cases(harness.only(cases, options.only), 1, f"openai-python {openai.__version__}")


def perform(case, client, upstream):
    upstream.complaints.clear()
    case(client, lambda: upstream.requests[-1])
    expect(not upstream.complaints, "a strict upstream refuses", upstream.complaints)


if __name__ == "__main__":
    sys.exit(main())
