// Anthropic's package. Input: url, key, model, body (a request of `/v1/messages`), question for the tool runner; with
// `threads` that one first asks the server to keep the conversation.
import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { failure, main, runnable } from "./case.mjs";

const clientOf = ({ url, key }) => new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });

async function whole(input) {
  const { data, request_id } = await clientOf(input).messages.create(input.body).withResponse();
  return { message: data, request_id };
}

async function stream(input) {
  const kinds = [];
  for await (const event of await clientOf(input).messages.create({ ...input.body, stream: true })) {
    kinds.push(event.type);
  }
  return { kinds };
}

async function helper(input) {
  const told = { text: "", thinking: "", inputJson: "" };
  const runner = clientOf(input).messages.stream(input.body);
  runner.on("text", (piece) => (told.text += piece));
  runner.on("thinking", (piece) => (told.thinking += piece));
  runner.on("inputJson", (piece) => (told.inputJson += piece));
  return { message: await runner.finalMessage(), told };
}

const tools = (streamed) => async (input) => {
  const calls = [];
  const runner = clientOf(input).beta.messages.toolRunner({
    ...input.body,
    ...(input.threads ? {} : { thread: false }),
    stream: streamed,
    tools: runnable(input.question, calls).map(({ parameters, ...rest }) =>
      betaTool({ ...rest, inputSchema: parameters }),
    ),
  });
  return { message: await runner.runUntilDone(), calls };
};

const count = (input) => {
  const { max_tokens, ...counted } = input.body;
  return clientOf(input).messages.countTokens(counted);
};

async function models(input) {
  const client = clientOf(input);
  const listed = [];
  for await (const model of client.models.list()) listed.push(model);
  return { listed, one: await client.models.retrieve(input.model) };
}

async function abort(input) {
  const loop = await clientOf(input).messages.create({ ...input.body, stream: true });
  const runner = clientOf(input).messages.stream(input.body);
  let read = 0;
  for await (const _ of loop) if ((read += 1) === 3) break;
  await new Promise((resolve) => runner.once("text", resolve));
  runner.abort();
  const ended = await failure(() => runner.done());
  return { read, ended, aborted: runner.aborted };
}

const refused = (input) => failure(() => clientOf(input).messages.create(input.body));

const refusedStream = (input) => failure(() => clientOf(input).messages.stream(input.body).done());

await main({
  whole, stream, helper, tools: tools(false), toolsStreamed: tools(true), count, models, abort, refused, refusedStream,
});
