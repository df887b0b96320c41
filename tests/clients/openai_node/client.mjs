// The cases of the OpenAI Node SDK: node client.mjs SDK_FOLDER BASE_URL. Prints one JSON line a case.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import path from "node:path";

const [folder, baseURL] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(folder), "package.json"));
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")).href);

const client = new OpenAI({ baseURL, apiKey: process.env.PATCHBAY_CLIENT_KEY, maxRetries: 0, timeout: 30_000 });
const TRICKY = process.env.TRICKY;
const parameters = { type: "object", properties: { path: { type: "string" } }, required: ["path"], additionalProperties: false };
const flat = [{ type: "function", name: "look", description: "Looks.", parameters, strict: false }];
const nested = [{ type: "function", function: { name: "look", description: "Looks.", parameters } }];
const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: "Say it." }];
const both = [["call_1", { path: "a" }], ["call_2", { path: "b" }]];
const kinds = {
  bad: OpenAI.BadRequestError, forbidden: OpenAI.PermissionDeniedError, missing: OpenAI.NotFoundError,
  conflict: OpenAI.ConflictError, unprocessable: OpenAI.UnprocessableEntityError, limited: OpenAI.RateLimitError,
  down: OpenAI.InternalServerError, overloaded: OpenAI.InternalServerError,
};

const cases = {
  async responses_whole() {
    const answer = await client.responses.create({ model: "text", input: "Say it.", instructions: "Be brief." });
    assert.equal(answer.output_text, TRICKY);
    assert.equal(answer.usage.total_tokens, 135);
  },
  async responses_stream() {
    let text = "", last;
    for await (const event of await client.responses.create({ model: "text", input: "Say it.", stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    assert.equal(text, TRICKY);
    assert.equal(last.type, "response.completed");
  },
  async responses_helper() {
    const final = await client.responses.stream({ model: "parallel", input: "Look.", tools: flat }).finalResponse();
    assert.deepEqual(final.output.map((item) => [item.call_id, JSON.parse(item.arguments)]), both);
  },
  async responses_broken() {
    for (const model of ["broken", "cut"]) {
      const seen = [];
      try {
        for await (const event of await client.responses.create({ model, input: "Say it.", stream: true })) seen.push(event.type);
        assert.equal(seen.at(-1), "response.failed");
      } catch (error) {
        if (error instanceof assert.AssertionError) throw error;
      }
      assert.ok(!seen.includes("response.completed"), `${model}: ${seen}`);
    }
  },
  async responses_errors() {
    for (const [model, kind] of Object.entries(kinds))
      for (const stream of [false, true]) await assert.rejects(client.responses.create({ model, input: "x", stream }), kind);
  },
  async chat_whole() {
    const answer = await client.chat.completions.create({ model: "text", messages });
    assert.equal(answer.choices[0].message.content, TRICKY);
    assert.equal(answer.choices[0].finish_reason, "stop");
  },
  async chat_stream() {
    let text = "", usage;
    const stream = await client.chat.completions.create({ model: "text", messages, stream: true, stream_options: { include_usage: true } });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, TRICKY);
    assert.equal(usage.total_tokens, 135);
  },
  async chat_helper() {
    const final = await client.chat.completions.stream({ model: "call", messages, tools: nested }).finalChatCompletion();
    assert.deepEqual(JSON.parse(final.choices[0].message.tool_calls[0].function.arguments), { path: "größe.txt" });
  },
  async chat_broken() {
    for (const model of ["broken", "cut"]) {
      const run = async () => {
        for await (const _ of await client.chat.completions.create({ model, messages, stream: true }));
      };
      await assert.rejects(run);
    }
  },
  async chat_errors() {
    for (const [model, kind] of Object.entries(kinds))
      for (const stream of [false, true]) await assert.rejects(client.chat.completions.create({ model, messages, stream }), kind);
  },
};

for (const [name, run] of Object.entries(cases)) {
  let error = null;
  await run().catch((reason) => { error = String(reason?.stack ?? reason); });
  console.log(JSON.stringify({ name, error }));
}
