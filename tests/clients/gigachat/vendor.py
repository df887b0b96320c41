#!/usr/bin/env python3
"""The vendor's own SDK on the scripted GigaChat: that one is to take what is right, too.

    VENV/bin/python vendor.py HOST ROOT CREDENTIALS

Runs in a Python that has the package `gigachat`; prints what it was told as JSON.
"""
import base64
import json
import sys
import time

import gigachat
from gigachat.models import Chat, Function, FunctionParameters, Messages

MODEL = "GigaChat-2-Max"


def main(host, root, credentials):
    user, password = base64.b64decode(credentials).decode().split(":")
    common = {"base_url": f"{host}/api/v1", "auth_url": f"{host}/api/v2/oauth", "ca_bundle_file": root, "model": MODEL}
    told = {}
    with gigachat.GigaChat(credentials=credentials, scope="GIGACHAT_API_PERS", **common) as client:
        told["text"] = client.chat("Name it.").choices[0].message.content
        told["stream"] = "".join(chunk.choices[0].delta.content or "" for chunk in client.stream("Name it."))
        told["models"] = [model.id_ for model in client.get_models().data]
        parameters = FunctionParameters(type="object", properties={"path": {"type": "string", "description": "Where."}}, required=["path"])
        chat = Chat(messages=[Messages(role="user", content="Look.")], functions=[Function(name="look", description="Looks.", parameters=parameters)], function_call="auto")
        called = client.chat(chat).choices[0].message
        told["arguments"] = called.function_call.arguments
        chat.messages += [called, Messages(role="function", name="look", content='{"found": 1}')]
        told["result"] = client.chat(chat).choices[0].message.content
        told["dimensions"] = [len(one.embedding) for one in client.embeddings(["a", "b"], model="EmbeddingsGigaR").data]
        file = client.upload_file(("dot.png", b"\x89PNG not really", "image/png"))
        picture = {"role": "user", "content": "What is on it?", "attachments": [file.id_]}
        told["picture"] = client.chat({"messages": [picture]}).choices[0].message.content
        told["files"] = [one.id_ == file.id_ for one in client.get_files().data]
        told["deleted"] = client.delete_file(file.id_).deleted
        time.sleep(1.1)  # longer than a token lives
        told["later"] = client.chat("Name it.").choices[0].message.content
        for name, body in {"temperature": {"temperature": 0}, "model": {"model": "GigaChat-9"}}.items():
            try:
                client.chat({"messages": [{"role": "user", "content": "Name it."}], **body})
            except gigachat.exceptions.ResponseError as error:
                told[name] = error.status_code
    with gigachat.GigaChat(user=user, password=password, **common) as client:
        told["password"] = client.chat("Name it.").choices[0].message.content
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
