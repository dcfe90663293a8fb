// Vercel's AI SDK over each of its providers that fit: `compatible`, `openai` (chat mode), `anthropic`.
// Input: provider, url, key, model, question.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, isStepCount, jsonSchema, streamObject, streamText, tool } from "ai";
import { asked, failure, main, Order, runnable } from "./case.mjs";

const template = ({ question }) => ({ chat_template_kwargs: { enable_thinking: question.enable_thinking } });

const models = {
  compatible: ({ url, key, model }) =>
    createOpenAICompatible({
      name: "millrace", baseURL: `${url}/v1`, apiKey: key, includeUsage: true, supportsStructuredOutputs: true,
    })(model),
  // This provider has no way to send fields that OpenAI's API doesn't know, so they are added on the way.
  openai: (input) =>
    createOpenAI({
      baseURL: `${input.url}/v1`,
      apiKey: input.key,
      fetch: (url, init) =>
        fetch(url, { ...init, body: JSON.stringify({ ...JSON.parse(init.body), ...template(input) }) }),
    }).chat(input.model),
  anthropic: ({ url, key, model }) => createAnthropic({ baseURL: `${url}/v1`, apiKey: key })(model),
};

const optionsOf = (input) => {
  const turns = asked(input.question);
  const system = turns.find((turn) => turn.role === "system")?.content;
  const thinking = input.question.enable_thinking ? { type: "enabled", budgetTokens: 1024 } : { type: "disabled" };
  return {
    model: models[input.provider](input),
    ...(system ? { instructions: system } : {}),
    messages: turns.filter((turn) => turn.role !== "system"),
    temperature: 0,
    maxRetries: 0,
    maxOutputTokens: input.limit ?? 300,
    providerOptions: { millrace: template(input), anthropic: { thinking } },
    ...(input.question.tools ? toolsOf(input.question) : {}),
  };
};

// Functions that answer with the known results; where none is known, the SDK stops at the call.
function toolsOf(question) {
  const calls = [];
  const known = question.messages.some((turn) => turn.role === "tool");
  const tools = runnable(question, calls).map(({ name, description, parameters, run }) => [
    name,
    tool({ description, inputSchema: jsonSchema(parameters), ...(known ? { execute: run } : {}) }),
  ]);
  return { tools: Object.fromEntries(tools), stopWhen: isStepCount(4) };
}

const shown = async (result) => ({
  text: await result.text,
  reasoning: (await result.reasoningText) ?? null,
  finish: await result.finishReason,
  steps: (await result.steps).map((step) => step.finishReason),
  calls: (await result.steps).flatMap((step) => step.toolCalls.map((call) => [call.toolName, call.input])),
  usage: await result.usage,
  warnings: (await result.warnings) ?? [],
});

const whole = async (input) => shown(await generateText(optionsOf(input)));

async function stream(input) {
  const kinds = {};
  const failures = [];
  const result = streamText({ ...optionsOf(input), onError: ({ error }) => void failures.push(String(error)) });
  for await (const part of result.fullStream) kinds[part.type] = (kinds[part.type] ?? 0) + 1;
  return { ...(await shown(result)), kinds, failures };
}

async function abort(input) {
  const controller = new AbortController();
  const ends = [];
  const result = streamText({
    ...optionsOf(input),
    abortSignal: controller.signal,
    onAbort: () => void ends.push("abort"),
    onError: ({ error }) => void ends.push(String(error)),
  });
  let pieces = 0;
  for await (const _ of result.textStream) if ((pieces += 1) === 3) controller.abort();
  return { pieces, ends };
}

async function object(input) {
  const { object: whole } = await generateObject({ ...optionsOf(input), schema: Order });
  const streamed = streamObject({ ...optionsOf(input), schema: Order });
  let pieces = 0;
  for await (const _ of streamed.partialObjectStream) pieces += 1;
  return { whole, streamed: await streamed.object, pieces };
}

const refused = (input) => failure(() => generateText(optionsOf(input)));

async function refusedStream(input) {
  const failures = [];
  const result = streamText({ ...optionsOf(input), onError: ({ error }) => void failures.push(error) });
  await result.consumeStream();
  return failure(() => Promise.reject(failures[0]));
}

await main({ whole, stream, abort, object, refused, refusedStream });
