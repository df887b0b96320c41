"""The rules of strict Chat Completions servers, as a list of complaints about one request body.

Each rule stands for a 400 that some real server answers: unanswered tool calls, tool messages out of
place, the developer role, tool kinds other than function, empty tool lists, unknown parameters.
"""
import re

NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
ROLES = ("system", "user", "assistant", "tool")
PARAMETERS = frozenset(
    "model messages stream stream_options tools tool_choice parallel_tool_calls max_tokens "
    "temperature top_p presence_penalty frequency_penalty response_format reasoning_effort stop seed "
    "n logprobs top_logprobs user".split()
)
MESSAGE_KEYS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "reasoning_content"},
    "tool": {"role", "content", "tool_call_id"},
}
PART_KEYS = {"text": {"type", "text"}, "image_url": {"type", "image_url"}}


def check_chat(body):
    """Everything that a strict server would refuse in `body`."""
    if not isinstance(body, dict):
        return ["the body is not an object"]
    bad = [f"unknown parameter: {key}" for key in body if key not in PARAMETERS]
    bad += [f"{key} is null" for key, value in body.items() if value is None]
    if not isinstance(body.get("model"), str) or not body["model"]:
        bad.append("model is not a name")
    if "stream_options" in body and not body.get("stream"):
        bad.append("stream_options without stream")
    if "max_tokens" in body and (not isinstance(body["max_tokens"], int) or body["max_tokens"] < 1):
        bad.append("max_tokens is not a positive integer")
    bad += check_tools(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return bad + ["messages is not a list with entries"]
    for at, message in enumerate(messages):
        bad += [f"messages[{at}]: {what}" for what in check_message(message)]
    if not bad:
        bad += check_order(messages)
    return bad


def check_tools(body):
    """Tool declarations, and what only makes sense next to them."""
    if "tools" not in body:
        return [f"{key} without tools" for key in ("tool_choice", "parallel_tool_calls") if key in body]
    tools = body["tools"]
    if not isinstance(tools, list) or not tools:
        return ["tools is not a list with entries"]
    bad, names = [], set()
    for at, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            bad.append(f"tools[{at}]: type is not function: {tool!r:.80}")
            continue
        function = tool.get("function")
        if not isinstance(function, dict) or set(tool) != {"type", "function"}:
            bad.append(f"tools[{at}]: not of the form type, function: {sorted(tool)}")
            continue
        name = function.get("name")
        if not isinstance(name, str) or not NAME.match(name):
            bad.append(f"tools[{at}]: illegal name {name!r}")
        if name in names:
            bad.append(f"tools[{at}]: {name} is declared twice")
        names.add(name)
        parameters = function.get("parameters", {"type": "object"})
        if not isinstance(parameters, dict) or parameters.get("type") != "object":
            bad.append(f"tools[{at}]: parameters are not the schema of an object")
        unknown = set(function) - {"name", "description", "parameters"}
        if unknown:
            bad.append(f"tools[{at}]: unknown keys {sorted(unknown)}")
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        if choice.get("type") != "function" or choice.get("function", {}).get("name") not in names:
            bad.append(f"tool_choice names no declared tool: {choice}")
    elif choice not in ("auto", "none", "required"):
        bad.append(f"tool_choice is {choice!r}")
    return bad


def check_message(message):
    """One message by itself."""
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        role = message.get("role") if isinstance(message, dict) else message
        return [f"unknown role {role!r}"]
    role = message["role"]
    bad = [f"unknown key {key}" for key in message if key not in MESSAGE_KEYS[role]]
    content = message.get("content")
    calls = message.get("tool_calls")
    if role == "assistant":
        if "tool_calls" in message:
            bad += check_calls(calls)
        elif not content:
            bad.append("an assistant message with neither content nor tool_calls")
        if content is not None and not isinstance(content, str):
            bad.append("assistant content is not a string")
        if "reasoning_content" in message and not isinstance(message["reasoning_content"], str):
            bad.append("reasoning_content is not a string")
    elif role == "tool":
        if not isinstance(message.get("tool_call_id"), str) or not message["tool_call_id"]:
            bad.append("no tool_call_id")
        if not isinstance(content, str):
            bad.append("tool content is not a string")
    elif isinstance(content, list) and content:
        bad += [f"content[{at}]: {what}" for at, part in enumerate(content) for what in check_part(role, part)]
    elif not isinstance(content, str) or not content:
        bad.append("content is empty")
    return bad


def check_part(role, part):
    """One content part."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in PART_KEYS or set(part) != PART_KEYS[kind]:
        return [f"unknown part: {part!r:.80}"]
    if kind == "text":
        return [] if isinstance(part["text"], str) and part["text"] else ["an empty text"]
    image = part["image_url"]
    if role != "user":
        return [f"an image in a {role} message"]
    if not isinstance(image, dict) or not isinstance(image.get("url"), str):
        return ["image_url is not an object with a url"]
    if image.get("detail", "auto") not in ("auto", "low", "high") or set(image) - {"url", "detail"}:
        return [f"image_url has unknown values: {({**image, 'url': '...'})}"]
    return []


def check_calls(calls):
    """The tool calls of an assistant message."""
    if not isinstance(calls, list) or not calls:
        return ["tool_calls is not a list with entries"]
    bad = []
    for at, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or set(call) != {"id", "type", "function"}:
            bad.append(f"tool_calls[{at}]: not of the form id, type, function: {call!r:.80}")
        elif call["type"] != "function" or set(function) != {"name", "arguments"}:
            bad.append(f"tool_calls[{at}]: not a function call: {call!r:.80}")
        elif not isinstance(call["id"], str) or not 1 <= len(call["id"]) <= 40:
            bad.append(f"tool_calls[{at}]: illegal id {call['id']!r}")
        elif not isinstance(function["name"], str) or not NAME.match(function["name"]):
            bad.append(f"tool_calls[{at}]: illegal name {function['name']!r}")
        elif not isinstance(function["arguments"], str):
            bad.append(f"tool_calls[{at}]: arguments are not a string")
    return bad


def check_order(messages):
    """Who may follow whom: every call answered at once, exactly once, and no answer without a call."""
    seen, open_ids, before = set(), [], None
    for at, message in enumerate(messages):
        role = message["role"]
        if role == "tool":
            if message["tool_call_id"] not in open_ids:
                return [f"messages[{at}]: a tool message for {message['tool_call_id']!r}, which no call before it waits for"]
            open_ids.remove(message["tool_call_id"])
        elif open_ids:
            return [f"messages[{at}]: a {role} message while tool calls wait for an answer: {open_ids}"]
        if role == "assistant":
            if before == "assistant":
                return [f"messages[{at}]: two assistant messages in a row"]
            ids = [call["id"] for call in message.get("tool_calls", [])]
            if len(set(ids)) != len(ids) or seen & set(ids):
                return [f"messages[{at}]: a tool call id is used twice: {ids}"]
            seen |= set(ids)
            open_ids = ids
        before = role
    return [f"tool calls without an answer at the end: {open_ids}"] if open_ids else []
