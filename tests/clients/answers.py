"""What the scripted model says to the SDK tests, by the name of the model that is asked."""
from upstream import Answer, Broken, Call, Interleaved, Reasoning, Text, fail

TRICKY = 'He said "hi" \\ \\n \t <b>\u2028 größe 日本語 👩‍👩‍👧 {"a": [1]} end.'
ANSWERS = {
    "text": Answer([Reasoning("Hm."), Text(TRICKY)]),
    "call": Answer([Text("Let me look."), Call.of("call_1", "look", path="größe.txt")], finish="tool_calls", slice=3),
    "parallel": Answer([Interleaved([Call.of("call_1", "look", path="a"), Call.of("call_2", "look", path="b")])], finish="tool_calls", slice=3),
    "city": Answer([Text('{"name": "Köln", "people": 1087863}')]),
    "length": Answer([Text("As far as it we")], finish="length"),
    "broken": Answer([Text("Half a sent"), Broken("The GPU fell over")], finish=None, usage=None, done=False),
    "cut": Answer([Text("Half a sent")], finish=None, usage=None, done=False, end="cut"),
    "bad": fail(400, "No such thing", "unsupported_value"),
    "forbidden": fail(403, "Not for you", "forbidden", "permission_error"),
    "missing": fail(404, "The model does not exist", "model_not_found"),
    "conflict": fail(409, "Twice", "conflict"),
    "unprocessable": fail(422, "Odd", "odd"),
    "limited": fail(429, "Slow down", "rate_limit_exceeded", "rate_limit_error", {"retry-after": "7"}),
    "down": fail(500, "Oh", None, "server_error"),
    "overloaded": fail(503, "Busy", None, "server_error"),
}
