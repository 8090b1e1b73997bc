// The official npm client, unmodified, through the gateway. Run by test_node.py:
//   node --test node.cjs      with CLIENT (folder of node_modules), GATEWAY (base URL), KNOBS (where backends are told)
"use strict";

const assert = require("node:assert/strict");
const { createRequire } = require("node:module");
const { test } = require("node:test");

const OpenAI = createRequire(process.env.CLIENT + "/")("openai").default;
const options = { baseURL: process.env.GATEWAY, apiKey: "unused", maxRetries: 0, timeout: 10_000 };
const client = new OpenAI(options);
const model = "chat";
const messages = [{ role: "user", content: "Hello?" }];
const TEXT = "first one two three";

const tell = async (what) => {
  const answer = await fetch(process.env.KNOBS, { method: "POST", body: JSON.stringify(what) });
  return answer.json();
};

const all = async (stream) => {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
};

test.beforeEach(() => tell({}));

test("chat", async () => {
  const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
  assert.equal(data.choices[0].message.content, TEXT);
  assert.equal(data.usage.completion_tokens, 3);
  assert.equal(response.headers.get("x-pointsman-backend"), "first");
  assert.ok(data._request_id);
});

test("chat as a stream", async () => {
  const chunks = await all(await client.chat.completions.create({ model, messages, stream: true }));
  assert.equal(chunks.map((c) => c.choices[0].delta.content ?? "").join(""), TEXT);
  const counted = await client.chat.completions.create({
    model, messages, stream: true, stream_options: { include_usage: true },
  });
  assert.equal((await all(counted)).at(-1).usage.completion_tokens, 3);
});

test("chat by the stream helper, with a tool", async () => {
  const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
  const final = await client.chat.completions.stream({ model, messages, tools }).finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.arguments, '{"city":"Ulm"}');
  const { asked } = await tell({});
  assert.deepEqual(asked.at(-1).tools, tools);
});

test("completions", async () => {
  const answer = await client.completions.create({ model, prompt: "Hello?" });
  assert.equal(answer.choices[0].text, TEXT);
  const chunks = await all(await client.completions.create({ model, prompt: "Hello?", stream: true }));
  assert.equal(chunks.map((c) => c.choices[0].text).join(""), TEXT);
});

test("embeddings", async () => {
  const answer = await client.embeddings.create({ model, input: ["a", "b"] });
  assert.deepEqual(answer.data.map((row) => Array.from(row.embedding)), [[0.5, -1, 2], [0.5, -1, 2]]);
});

test("responses", async () => {
  const answer = await client.responses.create({ model, input: "Hello?" });
  assert.equal(answer.output_text, TEXT);
  const events = await all(await client.responses.create({ model, input: "Hello?", stream: true, store: false }));
  assert.equal(events[0].type, "response.created");
  assert.equal(events.at(-1).response.usage.output_tokens, 3);
  const final = await client.responses.stream({ model, input: "Hello?" }).finalResponse();
  assert.equal(final.output_text, TEXT);
});

test("models", async () => {
  const names = (await all(await client.models.list())).map((m) => m.id);
  assert.deepEqual(names, ["chat"]);
  assert.equal((await client.models.retrieve("chat")).id, "chat");
});

test("fallback is invisible but for its headers", async () => {
  await tell({ fails: { first: 500 } });
  const { data, response } = await client.chat.completions.create({ model, messages, stream: true }).withResponse();
  assert.equal(response.headers.get("x-pointsman-backend"), "second");
  const text = (await all(data)).map((c) => c.choices[0].delta.content ?? "").join("");
  assert.equal(text, "second one two three");
});

test("errors have their classes", async () => {
  const chat = (more) => client.chat.completions.create({ model, messages, ...more });
  await assert.rejects(chat({ model: "gpt-9" }), (e) =>
    e instanceof OpenAI.NotFoundError && e.code === "model_not_found" && e.requestID !== undefined);
  await assert.rejects(client.moderations.create({ input: "x" }), (e) =>
    e instanceof OpenAI.NotFoundError && e.code === "unknown_url");
  for (const [status, kind] of [[400, OpenAI.BadRequestError], [422, OpenAI.UnprocessableEntityError]]) {
    await tell({ fails: { first: status } });
    await assert.rejects(chat(), kind);
  }
  await tell({ fails: { first: 500, second: 500 } });
  await assert.rejects(chat(), (e) => e instanceof OpenAI.InternalServerError && e.status === 502);
  await tell({ fails: { first: 429, second: 429 } });
  await assert.rejects(chat(), OpenAI.RateLimitError);
});

test("a stream that breaks after content rejects", async () => {
  await tell({ breaks: true });
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  await assert.rejects(all(stream), /the answer was cut short/);
  const events = await client.responses.create({ model, input: "x", stream: true });
  await assert.rejects(all(events), /the answer was cut short/);
});

test("no retry where it is useless, two where it may help", async () => {
  const patient = new OpenAI({ ...options, maxRetries: 2 });
  await tell({ fails: { first: 401, second: 401 } });
  await assert.rejects(patient.chat.completions.create({ model, messages }), OpenAI.InternalServerError);
  assert.equal((await tell({ fails: { first: 500, second: 500 } })).requests, 1);
  await assert.rejects(patient.chat.completions.create({ model, messages }), OpenAI.InternalServerError);
  assert.equal((await tell({})).requests, 3);
});

test("an aborted stream frees its backend at once", async () => {
  await tell({ endless: true });
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  for await (const _ of stream) break;
  stream.controller.abort();
  assert.equal((await tell({ wait: "left" })).left, true);
});

test("a timeout is one, and frees the backend", async () => {
  await tell({ silent: true });
  const quick = client.withOptions({ timeout: 2000 });
  await assert.rejects(quick.chat.completions.create({ model, messages }), OpenAI.APIConnectionTimeoutError);
  assert.equal((await tell({ wait: "left" })).left, true);
});
