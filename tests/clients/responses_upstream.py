"""The scripted upstream's other language: the same answers as a Responses API server gives them."""
import json
import time

import strict


def check_responses(body, _codex=False):
    """What a strict Responses server would refuse in `body`."""
    if not isinstance(body, dict):
        return ["the body is not an object"]
    bad = [f"a Chat Completions parameter: {key}" for key in body if key in CHAT_ONLY]
    if not isinstance(body.get("model"), str) or not body["model"]:
        bad.append("model is not a name")
    if isinstance(body.get("max_output_tokens"), int) and body["max_output_tokens"] < 16:
        bad.append("max_output_tokens is below 16")
    names = [tool.get("name") for tool in body.get("tools", []) if isinstance(tool, dict)]
    bad += [f"illegal tool name {name!r}" for name in names if name is not None and not strict.NAME.match(name)]
    if "tools" in body and not body["tools"]:
        bad.append("tools is empty")
    items = body.get("input")
    if isinstance(items, str) and items:
        return bad
    if not isinstance(items, list) or not items:
        return bad + ["input is empty"]
    open_ids = set()
    for at, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "message":
            bad += [f"input[{at}]: {what}" for what in check_message(item)]
        elif kind in ("function_call", "custom_tool_call"):
            if item["call_id"] in open_ids:
                bad.append(f"input[{at}]: call_id {item['call_id']!r} is used twice")
            open_ids.add(item["call_id"])
        elif kind in ("function_call_output", "custom_tool_call_output"):
            if item.get("call_id") not in open_ids:
                bad.append(f"input[{at}]: No tool call found for function call output with call_id {item.get('call_id')}")
            open_ids.discard(item.get("call_id"))
        elif kind != "reasoning":
            bad.append(f"input[{at}]: unknown type {kind!r}")
    return bad + [f"No tool output found for function call {id}" for id in sorted(open_ids)]


CHAT_ONLY = frozenset("messages max_tokens max_completion_tokens response_format reasoning_effort stop seed n functions".split())


def check_message(item):
    role, content = item.get("role"), item.get("content")
    if role not in ("user", "system", "developer", "assistant"):
        return [f"unknown role {role!r}"]
    if isinstance(content, str):
        return [] if content else ["content is empty"]
    if not isinstance(content, list) or not content:
        return ["content is empty"]
    legal = ("output_text", "refusal") if role == "assistant" else ("input_text", "input_image", "input_file")
    return [f"a part of type {part.get('type')!r} in a {role} message" for part in content if part.get("type") not in legal]


def usage_of(usage):
    """Chat usage in the words of Responses."""
    return usage and {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": usage["prompt_tokens_details"]["cached_tokens"], "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage["completion_tokens_details"]["reasoning_tokens"]},
        "total_tokens": usage["total_tokens"],
    }


class Items:
    """The output items of an answer: for each its empty form, its deltas, and its whole form."""

    def __init__(self, parts, body, broken):
        self.custom = {tool.get("name") for tool in body.get("tools", []) if tool.get("type") == "custom"}
        self.broken = broken
        self.items = []
        self.pauses = {}  # seconds of silence in front of an item
        for part in parts:
            self.add(part)

    def add(self, part):
        number = len(self.items) + 1
        kind = type(part).__name__
        if kind == "Pause":
            self.pauses[len(self.items)] = part.seconds
            return
        status = "incomplete" if self.broken else "completed"
        if kind in ("Text", "Refusal"):
            name = "text" if kind == "Text" else "refusal"
            empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []} if kind == "Text" else {"type": "refusal", "refusal": ""}
            item = {"type": "message", "id": f"msg_{number:032}", "role": "assistant", "status": status, "content": [{**empty, name: part.text}]}
            self.items.append((item, {**item, "status": "in_progress", "content": []}, part.text))
        elif kind == "Reasoning":
            item = {"type": "reasoning", "id": f"rs_{number:032}", "summary": [{"type": "summary_text", "text": part.text}], "encrypted_content": "gAAAA-opaque"}
            self.items.append((item, {**item, "summary": []}, part.text))
        elif kind == "Interleaved":
            for call in part.calls:
                self.add(call)
        elif kind == "Call":
            head = {"call_id": part.id, "name": part.name}
            if part.name in self.custom:
                text = json.loads(part.arguments)["input"]
                item = {"type": "custom_tool_call", "id": f"ctc_{number:032}", **head, "input": text, "status": status}
                self.items.append((item, {**item, "input": "", "status": "in_progress"}, text))
            else:
                item = {"type": "function_call", "id": f"fc_{number:032}", **head, "arguments": part.arguments, "status": status}
                self.items.append((item, {**item, "arguments": "", "status": "in_progress"}, part.arguments))

    def whole(self):
        return [item for item, _, _ in self.items]


ENDS = {"length": ("incomplete", "max_output_tokens"), "content_filter": ("incomplete", "content_filter")}


class Stream:
    """Turns an answer's parts into frames."""

    def __init__(self, answer, body, created):
        self.answer, self.body, self.sequence = answer, body, 0
        self.status, self.reason = ENDS.get(answer.finish, ("completed", None))
        self.output = Items(answer.parts, body, self.reason is not None)
        self.head = envelope(answer, body, created)

    def event(self, kind, **fields):
        data = {"type": kind, "sequence_number": self.sequence, **fields}
        self.sequence += 1
        end = self.answer.newline
        return f"event: {kind}{end}data: {json.dumps(data, ensure_ascii=False)}{end}{end}".encode()

    def frames(self):
        yield self.event("response.created", response=self.head)
        yield self.event("response.in_progress", response=self.head)
        for index, (item, empty, text) in enumerate(self.output.items):
            time.sleep(self.output.pauses.get(index, 0))
            torn = self.answer.finish is None and index == len(self.output.items) - 1
            yield from self.item(index, item, empty, text, torn)
        broken = next((part for part in self.answer.parts if type(part).__name__ == "Broken"), None)
        if broken:
            error = {"type": "server_error", "code": broken.code, "message": broken.message, "param": None}
            yield self.event("error", error=error, **{k: error[k] for k in ("code", "message", "param")})
            failed = {**self.head, "status": "failed", "error": {"code": broken.code, "message": broken.message}}
            yield self.event("response.failed", response=failed)
        elif self.answer.finish:
            yield self.event(f"response.{self.status}", response=self.final())

    def final(self):
        return finished(self.head, self.answer, self.status, self.reason, self.output.whole())

    def item(self, index, item, empty, text, torn):
        at = {"item_id": item["id"], "output_index": index}
        yield self.event("response.output_item.added", output_index=index, item=empty)
        kind = item["type"]
        if kind == "message":
            yield from self.message(at, item["content"][0], text, torn)
        elif kind == "reasoning":
            part = {"type": "summary_text", "text": ""}
            at["summary_index"] = 0
            yield self.event("response.reasoning_summary_part.added", **at, part=part)
            yield from self.deltas("response.reasoning_summary_text", at, text, "text", torn)
            if not torn:
                yield self.event("response.reasoning_summary_part.done", **at, part={**part, "text": text})
        else:
            name, last = ("custom_tool_call_input", "input") if kind == "custom_tool_call" else ("function_call_arguments", "arguments")
            yield from self.deltas(f"response.{name}", at, text, last, torn)
        if not torn:
            yield self.event("response.output_item.done", output_index=index, item=item)

    def message(self, at, part, text, torn):
        at["content_index"] = 0
        plain = part["type"] == "output_text"
        last = "text" if plain else "refusal"
        extra = {"logprobs": []} if plain else {}
        yield self.event("response.content_part.added", **at, part={**part, last: ""})
        yield from self.deltas("response.output_text" if plain else "response.refusal", {**at, **extra}, text, last, torn)
        if not torn:
            yield self.event("response.content_part.done", **at, part=part)

    def deltas(self, kind, at, text, last, torn):
        for start in range(0, len(text), self.answer.slice):
            yield self.event(f"{kind}.delta", **at, delta=text[start : start + self.answer.slice])
        if not torn:
            yield self.event(f"{kind}.done", **at, **{last: text})


def envelope(answer, body, created):
    """The Response object before anything was said."""
    return {
        "id": f"resp_up{created}", "object": "response", "created_at": created, "status": "in_progress", "background": False,
        "error": None, "incomplete_details": None, "instructions": body.get("instructions"), "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": None, "model": answer.model or body["model"], "output": [], "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": None, "prompt_cache_key": None, "reasoning": {"effort": None, "summary": None}, "safety_identifier": None,
        "service_tier": "default", "store": body.get("store", True), "temperature": body.get("temperature", 1.0),
        "text": body.get("text", {"format": {"type": "text"}, "verbosity": "medium"}), "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []), "top_logprobs": 0, "top_p": body.get("top_p", 1.0), "truncation": "disabled",
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "usage": None, "user": None, "metadata": body.get("metadata") or {}, "completed_at": None,
        "prompt_cache_retention": None,
    }


def finished(head, answer, status, reason, output):
    done = {**head, "status": status, "output": output, "usage": usage_of(answer.usage)}
    if status == "completed":
        done["completed_at"] = head["created_at"] + 1
    if reason:
        done["incomplete_details"] = {"reason": reason}
    return done


def document(answer, body, created):
    """The same answer as one JSON document."""
    status, reason = ENDS.get(answer.finish, ("completed", None))
    broken = next((part for part in answer.parts if type(part).__name__ == "Broken"), None)
    head = envelope(answer, body, created)
    if broken:
        return {**head, "status": "failed", "error": {"code": broken.code, "message": broken.message}}
    return finished(head, answer, status, reason, Items(answer.parts, body, reason is not None).whole())
