"""The OpenAI Python SDK on GigaChat: both APIs, streamed and whole."""
import base64
import contextlib
import json
import urllib.request

import openai
import place as at
import pydantic
from harness import equal, expect

LOOK = {"type": "object", "properties": {"path": {"type": "string", "minLength": 1}}, "required": ["path"], "additionalProperties": False}
FLAT = {"type": "function", "name": "look", "description": "Looks.", "parameters": LOOK, "strict": True}
NESTED = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": LOOK}}
PICTURE = f"data:image/png;base64,{at.DOT}"
SEEN = {"path": "größe.txt"}


class City(pydantic.BaseModel):
    name: str
    people: int


class Asked:
    """A client, and what it received."""

    def __init__(self, options, place):
        self.options, self.place = options, place
        self.client = openai.OpenAI(base_url=f"{place.url}/v1", api_key=at.KEY, max_retries=0, timeout=30)

    def conforms(self, path, body, tool, *extra):
        """Asks for a stream, and has an independent validator judge it."""
        if not self.options.validators:
            return
        request = {**body, "stream": True}
        answer, asked = self.place.folder / "stream.sse", self.place.folder / "stream.request.json"
        asked.write_text(json.dumps(request, ensure_ascii=False))
        fields = {"authorization": f"Bearer {at.KEY}", "content-type": "application/json"}
        plain = urllib.request.Request(f"{self.place.url}/v1/{path}", json.dumps(request).encode(), fields)
        with urllib.request.urlopen(plain, timeout=30) as reply:
            answer.write_bytes(reply.read())
        complaint = self.options.validators.run(tool, answer, "--request", asked, "--quiet", *extra)
        expect(complaint is None, "the validator complains", complaint or "")

    def chat_conforms(self, body, finish):
        body = {"model": at.MODEL, "stream_options": {"include_usage": True}, **body}
        self.conforms("chat/completions", body, "validate_chat_stream", "--include-usage", "yes", "--expect-finish", finish)

    def responses_conform(self, body):
        self.conforms("responses", {"model": at.MODEL, **body}, "validate_responses_stream", "--profile", "openai", "--expect", "completed")


def user(text):
    return {"role": "user", "content": text}


# ---- Chat Completions ------------------------------------------------------------------------------------
def chat_text(asked):
    create = asked.client.chat.completions.create
    messages = [{"role": "system", "content": "Be brief."}, user("Say it."), {"role": "assistant", "content": "No."}, {"role": "system", "content": "Obey."}, user("Say it.")]
    answer = create(model=at.MODEL, messages=messages, temperature=0)
    equal((answer.choices[0].message.content, answer.choices[0].finish_reason), (at.TRICKY, "stop"), "the answer")
    expect(answer.usage.total_tokens > 16, "the usage", answer.usage.model_dump())
    text, finish, usage = "", None, None
    for chunk in create(model=at.MODEL, messages=messages, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    equal((text, finish), (at.TRICKY, "stop"), "the stream")
    equal(usage.total_tokens, answer.usage.total_tokens, "the stream's usage")
    asked.chat_conforms({"messages": messages}, "stop")


def chat_tools(asked):
    create = asked.client.chat.completions.create
    for choice in ("auto", "required", {"type": "function", "function": {"name": "look"}}):
        first = create(model=at.MODEL, messages=[user("Look.")], tools=[NESTED], tool_choice=choice)
        equal(first.choices[0].finish_reason, "tool_calls", f"the end with {choice}")
        call = first.choices[0].message.tool_calls[0]
        equal((call.function.name, json.loads(call.function.arguments)), ("look", SEEN), "the call")
    with asked.client.chat.completions.stream(model=at.MODEL, messages=[user("Look.")], tools=[NESTED]) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    equal(json.loads(streamed.function.arguments), SEEN, "the streamed call")
    # Two calls at once, one of them from elsewhere: GigaChat knows one a message.
    calls = [{"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}} for call in (call, streamed)]
    calls[1]["id"] = "call_elsewhere"
    results = [{"role": "tool", "tool_call_id": one["id"], "content": f"result {n}"} for n, one in enumerate(calls)]
    history = [user("Look."), {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    second = create(model=at.MODEL, messages=history, tools=[NESTED])
    said = second.choices[0].message.content
    expect(said.startswith("It says ") and "result 0" in said and "result 1" in said, "the results did not arrive", said)
    equal(create(model=at.MODEL, messages=[user("Look.")], tools=[NESTED], tool_choice="none").choices[0].finish_reason, "stop", "the end with none")
    asked.chat_conforms({"messages": [user("Look.")], "tools": [NESTED]}, "tool_calls")
    asked.chat_conforms({"messages": history, "tools": [NESTED]}, "stop")


def chat_parse(asked):
    answer = asked.client.chat.completions.parse(model=at.MODEL, messages=[user("Which city?")], response_format=City)
    equal(answer.choices[0].message.parsed, City(**at.CITY), "what was parsed")
    equal(answer.choices[0].finish_reason, "stop", "the end")
    with asked.client.chat.completions.stream(model=at.MODEL, messages=[user("Which city?")], response_format=City) as stream:
        for _ in stream:
            pass
        equal(stream.get_final_completion().choices[0].message.parsed, City(**at.CITY), "what was parsed of a stream")


def chat_image(asked):
    parts = [{"type": "text", "text": "What is on it?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    for stream in (False, True):
        answer = asked.client.chat.completions.create(model=at.MODEL, messages=[{"role": "user", "content": parts}], stream=stream)
        text = "".join(choice.delta.content or "" for chunk in answer for choice in chunk.choices) if stream else answer.choices[0].message.content
        equal(text, "I see 1 picture.", "the answer")
    equal(asked.place.mock.counters()["uploads"], 1, "the uploads of one picture")
    equal(asked.place.mock.lose_files(), 1, "the files")
    again = asked.client.chat.completions.create(model=at.MODEL, messages=[{"role": "user", "content": parts}])
    equal(again.choices[0].message.content, "I see 1 picture.", "the answer when the file was lost")
    equal(asked.place.mock.counters()["uploads"], 2, "the uploads of a picture that was lost")


def chat_images(asked):
    """GigaChat takes one picture a message and ten a request; what it does not take is an error before anything is sent."""
    create = asked.client.chat.completions.create
    pictures = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(base64.b64decode(at.DOT) + bytes([n])).decode()}"}} for n in range(12)]
    for count, seen in ((3, 3), (12, 10)):
        parts = [{"type": "text", "text": "What is on it?"}, *pictures[:count]]
        reply = asked.client.chat.completions.with_raw_response.create(model=at.MODEL, messages=[{"role": "user", "content": parts}])
        equal(reply.parse().choices[0].message.content, f"I see {seen} picture.", f"the answer to {count} pictures")
        equal("input_image" in reply.headers.get("x-patchbay-dropped", ""), count != seen, f"whether something of {count} pictures is dropped")
    uploads = asked.place.mock.counters()["uploads"]
    for status, url in ((415, "data:image/webp;base64,UklGRiQAAABXRUJQ"), (400, "data:image/png;base64,*"), (400, "https://localhost/picture.png"), (400, "file:///etc/passwd")):
        parts = [{"type": "text", "text": "What is on it?"}, {"type": "image_url", "image_url": {"url": url}}]
        raises(openai.APIStatusError, status, lambda parts=parts: create(model=at.MODEL, messages=[{"role": "user", "content": parts}]))
    equal(asked.place.mock.counters()["uploads"], uploads, "the uploads of what is no picture")


# ---- Responses -------------------------------------------------------------------------------------------
def responses_text(asked):
    create = asked.client.responses.create
    answer = create(model=at.MODEL, input="Say it.", instructions="Be brief.", temperature=0)
    equal((answer.output_text, answer.status), (at.TRICKY, "completed"), "the answer")
    deltas, last = "", None
    for event in create(model=at.MODEL, input="Say it.", stream=True):
        deltas += event.delta if event.type == "response.output_text.delta" else ""
        last = event
    equal((deltas, last.type, last.response.output_text), (at.TRICKY, "response.completed", at.TRICKY), "the stream")
    asked.responses_conform({"input": "Say it."})


def responses_tools(asked):
    create = asked.client.responses.create
    first = create(model=at.MODEL, input="Look.", tools=[FLAT])
    call = next(item for item in first.output if item.type == "function_call")
    equal((call.name, json.loads(call.arguments)), ("look", SEEN), "the call")
    other = {"type": "function_call", "call_id": "call_elsewhere", "name": "look", "arguments": "{}"}
    results = [{"type": "function_call_output", "call_id": one, "output": f"result {n}"} for n, one in enumerate((call.call_id, "call_elsewhere"))]
    history = [user("Look."), *[item.model_dump(exclude_none=True) for item in first.output], other, *results]
    said = create(model=at.MODEL, input=history, tools=[FLAT]).output_text
    expect(said.startswith("It says ") and "result 0" in said and "result 1" in said, "the results did not arrive", said)
    with asked.client.responses.stream(model=at.MODEL, input="Look.", tools=[FLAT]) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    equal([json.loads(item.arguments) for item in final.output if item.type == "function_call"], [SEEN], "the streamed call")
    asked.responses_conform({"input": "Look.", "tools": [FLAT]})
    asked.responses_conform({"input": history, "tools": [FLAT]})


def responses_parse(asked):
    answer = asked.client.responses.parse(model=at.MODEL, input="Which city?", text_format=City)
    equal(answer.output_parsed, City(**at.CITY), "what was parsed")
    with asked.client.responses.stream(model=at.MODEL, input="Which city?", text_format=City) as stream:
        for _ in stream:
            pass
        equal(stream.get_final_response().output_parsed, City(**at.CITY), "what was parsed of a stream")


def responses_image(asked):
    parts = [{"type": "input_text", "text": "What is on it?"}, {"type": "input_image", "image_url": PICTURE, "detail": "low"}]
    equal(asked.client.responses.create(model=at.MODEL, input=[{"role": "user", "content": parts}]).output_text, "I see 1 picture.", "the answer")


# ---- what is no answer -----------------------------------------------------------------------------------
def embeddings(asked):
    create = asked.client.embeddings.create
    texts = ["Köln", "Bonn", "Köln"]
    for model in ("EmbeddingsGigaR", "text-embedding-3-small"):
        plain = create(model=model, input=texts, encoding_format="float")
        coded = create(model=model, input=texts)
        equal(len(plain.data), 3, "the vectors")
        equal([one.index for one in plain.data], [0, 1, 2], "their places")
        expect(plain.data[0].embedding == plain.data[2].embedding != plain.data[1].embedding, "the vectors are mixed up")
        far = max(abs(a - b) for one, two in zip(plain.data, coded.data) for a, b in zip(one.embedding, two.embedding))
        expect(far < 1e-6 and len(coded.data[0].embedding) == len(plain.data[0].embedding), f"base64 and numbers differ by {far}")
        expect(plain.usage.prompt_tokens > 0, "the usage", plain.usage.model_dump())
    equal(len(create(model="EmbeddingsGigaR", input="one").data), 1, "the vectors of one text")


def models(asked):
    names = [model.id for model in asked.client.models.list()]
    for name in ("GigaChat-2", "GigaChat-2-Pro", at.MODEL):
        expect(name in names, f"{name} is not listed", names)
    return f"{len(names)} models"


def errors(asked):
    chat, whole = asked.client.chat.completions.create, asked.client.responses.create
    with contextlib.closing(openai.OpenAI(base_url=f"{asked.place.url}/v1", api_key="another-key-0123456789", max_retries=0)) as stranger:
        raises(openai.AuthenticationError, 401, lambda: stranger.chat.completions.create(model=at.MODEL, messages=[user("Say it.")]))
    for stream in (False, True):
        for ask in (lambda model: chat(model=model, messages=[user("Hi.")], stream=stream), lambda model: whole(model=model, input="Hi.", stream=stream)):
            error = raises(openai.RateLimitError, 429, lambda: ask("mock:status=429"))
            equal(error.response.headers.get("retry-after"), "1", "retry-after")
            raises(openai.NotFoundError, 404, lambda: ask("GigaChat-9"))
            raises(openai.APIStatusError, 402, lambda: ask("mock:status=402"))
            raises(openai.InternalServerError, 503, lambda: ask("mock:status=503"))
    error = raises(openai.BadRequestError, 400, lambda: chat(model=at.MODEL, messages="Hi."))
    expect(error.body and error.body.get("message"), "an error without words", str(error))
    seen = asked.place.mock.counters()["refusals"]
    equal(set(seen) - {"expired_token"}, {"unknown_model"}, "what GigaChat refused")


def raises(kind, status, call):
    try:
        answer = call()
    except kind as error:
        equal(error.status_code, status, "the status")
        text = str(error)
        for secret in (at.CREDENTIALS, at.ACCOUNT, "mock-token", at.KEY):
            expect(secret not in text, "a secret is in an error")
        return error
    expect(False, f"no {kind.__name__}", repr(answer)[:500])
    return None


def native(ask):
    """The same where the schema is asked for as such."""

    def case(asked):
        return ask(asked)

    case.__name__, case.environment = f"{ask.__name__}_native", {"GPT2GIGA_STRUCTURED_OUTPUT_MODE": "native"}
    return case


CASES = [
    native(chat_parse), native(responses_parse), chat_text, chat_tools, chat_parse, chat_image, chat_images, responses_text, responses_tools, responses_parse, responses_image, embeddings, models, errors,
]


def case(one, options, folder):
    allowed = {errors: ("unknown_model",), chat_image: ("unknown_file",)}.get(one, ())
    with at.open_place(options.patchbay, folder, getattr(one, "environment", None), keep=options.keep) as place:
        asked = Asked(options, place)
        with contextlib.closing(asked.client):
            note = one(asked)
        place.mock.holds(allowed)
        return note
