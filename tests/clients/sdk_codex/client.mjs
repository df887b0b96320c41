// The cases of the OpenAI Node SDK: node client.mjs SDK_FOLDER BASE_URL. Prints one JSON line a case.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import path from "node:path";

const [folder, baseURL] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(folder), "package.json"));
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")).href);

const client = new OpenAI({ baseURL, apiKey: process.env.PATCHBAY_CLIENT_KEY, maxRetries: 0, timeout: 30_000 });
const { TRICKY, MODEL: model } = process.env;
const parameters = { type: "object", properties: { path: { type: "string" } }, required: ["path"], additionalProperties: false };
const flat = [{ type: "function", name: "look", description: "Looks.", parameters, strict: false }];
const nested = [{ type: "function", function: { name: "look", description: "Looks.", parameters } }];
const ask = (word) => [{ role: "system", content: "Be brief." }, { role: "user", content: word }];
const both = [["call_1", { path: "a" }], ["call_2", { path: "b" }]];
const image = "data:image/png;base64,iVBORw==";
const schema = {
  type: "object", properties: { name: { type: "string" }, people: { type: "integer" } }, required: ["name", "people"], additionalProperties: false,
};
const city = { name: "Köln", people: 1087863 };
const kinds = {
  bad: OpenAI.BadRequestError, forbidden: OpenAI.PermissionDeniedError, missing: OpenAI.NotFoundError, limit: OpenAI.RateLimitError,
  down: OpenAI.InternalServerError, overloaded: OpenAI.InternalServerError,
};
const chat = (word, more = {}) => client.chat.completions.create({ model, messages: ask(word), ...more });
const respond = (input, more = {}) => client.responses.create({ model, input, ...more });

const cases = {
  async chat_whole() {
    const answer = await chat("text", { max_tokens: 900, temperature: 0.2 });
    assert.equal(answer.choices[0].message.content, TRICKY);
    assert.equal(answer.choices[0].message.reasoning_content, "**Hm.** Let me say it.");
    assert.equal(answer.usage.total_tokens, 135);
  },
  async chat_stream() {
    let text = "", usage;
    for await (const chunk of await chat("text", { stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, TRICKY);
    assert.equal(usage.total_tokens, 135);
  },
  async chat_parallel() {
    const final = await client.chat.completions.stream({ model, messages: ask("parallel"), tools: nested }).finalChatCompletion();
    assert.deepEqual(final.choices[0].message.tool_calls.map((call) => [call.id, JSON.parse(call.function.arguments)]), both);
  },
  async chat_parse() {
    const response_format = { type: "json_schema", json_schema: { name: "City", strict: true, schema } };
    const answer = await client.chat.completions.parse({ model, messages: ask("city"), response_format });
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), city);
  },
  async chat_image() {
    const content = [{ type: "text", text: "plain" }, { type: "image_url", image_url: { url: image } }];
    const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content }] });
    assert.equal(answer.choices[0].message.content, "Hello!");
  },
  async chat_errors() {
    for (const [word, kind] of Object.entries(kinds))
      for (const stream of [false, true]) await assert.rejects(chat(word, { stream }), kind);
  },
  async chat_broken() {
    for (const word of ["broken", "cut"]) {
      await assert.rejects(async () => {
        for await (const _ of await chat(word, { stream: true }));
      });
    }
  },
  async chat_cancel() {
    const stream = await chat("hang", { stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
  },
  async responses_whole() {
    const answer = await respond("text", { instructions: "Be brief.", temperature: 0.2 });
    assert.equal(answer.output_text, TRICKY);
    assert.equal(answer.usage.total_tokens, 135);
  },
  async responses_stream() {
    let text = "", last;
    for await (const event of await respond("text", { stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    assert.equal(text, TRICKY);
    assert.equal(last.type, "response.completed");
  },
  async responses_parallel() {
    const final = await client.responses.stream({ model, input: "parallel", tools: flat }).finalResponse();
    const calls = final.output.filter((item) => item.type === "function_call");
    assert.deepEqual(calls.map((item) => [item.call_id, JSON.parse(item.arguments)]), both);
  },
  async responses_parse() {
    const text = { format: { type: "json_schema", name: "City", strict: true, schema } };
    const answer = await client.responses.parse({ model, input: "city", text });
    assert.deepEqual(answer.output_parsed, city);
  },
  async responses_image() {
    const content = [{ type: "input_text", text: "plain" }, { type: "input_image", image_url: image, detail: "auto" }];
    assert.equal((await respond([{ role: "user", content }])).output_text, "Hello!");
  },
  async responses_errors() {
    for (const [word, kind] of Object.entries(kinds))
      for (const stream of [false, true]) await assert.rejects(respond(word, { stream }), kind);
  },
  async responses_broken() {
    for (const word of ["broken", "cut"]) {
      const seen = [];
      try {
        for await (const event of await respond(word, { stream: true })) seen.push(event.type);
        assert.equal(seen.at(-1), "response.failed");
      } catch (error) {
        if (error instanceof assert.AssertionError) throw error;
      }
      assert.ok(!seen.includes("response.completed"), `${word}: ${seen}`);
    }
  },
  async responses_cancel() {
    const stream = await respond("hang", { stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
  },
};

for (const [name, run] of Object.entries(cases)) {
  let error = null;
  await run().catch((reason) => { error = String(reason?.stack ?? reason); });
  console.log(JSON.stringify({ name, error }));
}
