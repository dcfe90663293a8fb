// OpenAI's package. Input: url, key, model, question (a line of models/demo/eval.jsonl).
import OpenAI, { toFile } from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { asked, failure, main, Order, runnable } from "./case.mjs";

const clientOf = ({ url, key }) => new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });

const body = ({ model, question, fields }) => ({
  model,
  messages: asked(question),
  ...(question.tools ? { tools: question.tools } : {}),
  temperature: 0,
  chat_template_kwargs: { enable_thinking: question.enable_thinking },
  ...fields,
});

const shown = (completion) => {
  const { message, finish_reason } = completion.choices[0];
  return {
    content: message.content,
    reasoning: message.reasoning_content ?? null,
    calls: (message.tool_calls ?? []).map((call) => [call.function.name, JSON.parse(call.function.arguments)]),
    finish: finish_reason,
    usage: completion.usage,
  };
};

async function whole(input) {
  const { data, request_id } = await clientOf(input).chat.completions.create(body(input)).withResponse();
  return { ...shown(data), request_id, object: data.object };
}

// Put together by hand, as programs do that show every chunk.
async function stream(input) {
  const seen = { content: "", reasoning: "", finish: null, usage: null, chunks: 0 };
  const calls = [];
  const chunks = await clientOf(input).chat.completions.create({
    ...body(input),
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of chunks) {
    seen.chunks += 1;
    seen.usage = chunk.usage ?? seen.usage;
    for (const { delta, finish_reason } of chunk.choices) {
      seen.content += delta.content ?? "";
      seen.reasoning += delta.reasoning_content ?? "";
      seen.finish = finish_reason ?? seen.finish;
      for (const { index, function: { name, arguments: text } } of delta.tool_calls ?? []) {
        calls[index] ??= [name, ""];
        calls[index][1] += text ?? "";
      }
    }
  }
  return { ...seen, calls: calls.map(([name, text]) => [name, JSON.parse(text)]) };
}

async function helper(input) {
  const events = { content: 0, "tool_calls.function.arguments.delta": 0, "tool_calls.function.arguments.done": 0 };
  const runner = clientOf(input).chat.completions.stream({
    ...body(input),
    // The helper adds up the arguments of tools that are strict.
    ...(input.question.tools ? { tools: input.question.tools.map(strict) } : {}),
    stream_options: { include_usage: true },
  });
  for (const name of Object.keys(events)) runner.on(name, () => (events[name] += 1));
  return { ...shown(await runner.finalChatCompletion()), events };
}

const strict = (tool) => ({ ...tool, function: { ...tool.function, strict: true } });

// The package calls the functions and sends their results until the model answers.
const tools = (streamed) => async (input) => {
  const calls = [];
  const runner = clientOf(input).chat.completions.runTools({
    ...body(input),
    stream: streamed,
    tools: runnable(input.question, calls).map(({ run, ...described }) => ({
      type: "function",
      function: { ...described, parse: JSON.parse, function: run },
    })),
  });
  return { content: await runner.finalContent(), calls, turns: runner.messages.map((message) => message.role) };
};

async function text(input) {
  const fields = { model: input.model, prompt: input.prompt, max_tokens: 12, temperature: 0 };
  const completion = await clientOf(input).completions.create(fields);
  let streamed = "";
  for await (const chunk of await clientOf(input).completions.create({ ...fields, stream: true })) {
    streamed += chunk.choices[0]?.text ?? "";
  }
  return { text: completion.choices[0].text, streamed };
}

async function models(input) {
  const client = clientOf(input);
  const listed = [];
  for await (const model of client.models.list()) listed.push(model);
  return { listed, one: await client.models.retrieve(input.model) };
}

// Leaves in the middle, by each of the ways the package has; the connection must close, not only go unread.
async function abort(input) {
  const signal = new AbortController();
  const create = clientOf(input).chat.completions.create({ ...body(input), stream: true }, { signal: signal.signal });
  const loop = await clientOf(input).chat.completions.create({ ...body(input), stream: true });
  const runner = clientOf(input).chat.completions.stream(body(input));
  let read = 0;
  for await (const _ of loop) if ((read += 1) === 3) break;
  for await (const _ of await create) if ((read += 1) === 6) signal.abort();
  await new Promise((resolve) => runner.once("content", resolve));
  runner.abort();
  const ended = await failure(() => runner.done());
  return { read, ended, aborted: runner.aborted };
}

// The schema of a program, the answer as its type: by each of the helpers.
async function parsed(input) {
  const client = clientOf(input);
  const chat = { ...body(input), max_tokens: 300, response_format: zodResponseFormat(Order, "order") };
  const whole = await client.chat.completions.parse(chat);
  const streamed = await client.chat.completions.stream(chat).finalChatCompletion();
  const response = {
    model: input.model, input: asked(input.question), temperature: 0, reasoning: { effort: "none" },
    max_output_tokens: 300, text: { format: zodTextFormat(Order, "order") },
  };
  const told = await client.responses.parse(response);
  const events = await client.responses.stream(response).finalResponse();
  return {
    chat: whole.choices[0].message.parsed,
    chatStream: streamed.choices[0].message.parsed,
    responses: told.output_parsed,
    responsesStream: events.output_parsed,
  };
}

// A file goes up, is ordered, waited for, fetched, and thrown away.
async function batch(input) {
  const client = clientOf(input);
  const lines = input.questions.map((question, at) => JSON.stringify({
    custom_id: `q${at}`, method: "POST", url: "/v1/chat/completions", body: body({ ...input, question }),
  }));
  const file = await client.files.create({
    file: await toFile(Buffer.from(lines.join("\n")), "in.jsonl"), purpose: "batch",
  });
  const order = { input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" };
  let batch = await client.batches.create({ ...order, metadata: { from: "node" } });
  const first = batch.status;
  while (["validating", "in_progress", "finalizing"].includes(batch.status)) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    batch = await client.batches.retrieve(batch.id);
  }
  const text = async (id) => (await client.files.content(id)).text();
  const answers = (await text(batch.output_file_id)).trim().split("\n").map((line) => JSON.parse(line));
  const listed = { files: [], batches: [] };
  for await (const each of client.files.list()) listed.files.push(each.id);
  for await (const each of client.batches.list()) listed.batches.push(each.id);
  const deleted = await client.files.delete(file.id);
  return { first, batch, answers, listed, deleted, gone: await failure(() => client.files.retrieve(file.id)) };
}

const refused = (input) => failure(() => clientOf(input).chat.completions.create(body(input)));

const refusedStream = (input) => failure(() => clientOf(input).chat.completions.stream(body(input)).done());

await main({
  whole, stream, helper, tools: tools(false), toolsStreamed: tools(true), text, models, abort, parsed, batch, refused,
  refusedStream,
});
