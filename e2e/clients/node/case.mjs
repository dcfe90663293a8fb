// One process is one case: `node SCRIPT.mjs CASE INPUT`, INPUT being JSON. It prints its result as one line of JSON and
// stays until its standard input ends, so that a test can look at the server while the client still lives.
import { z } from "zod";

// What a program wants to know of an order.
export const Order = z.object({
  customer: z.string().max(20),
  parts: z.array(z.object({ code: z.enum(["bolt", "nut"]), count: z.number().int().min(1).max(9) })).min(1).max(2),
  note: z.string().max(10).nullable(),
});

export async function main(cases) {
  const [name, input] = process.argv.slice(2);
  const result = await cases[name](JSON.parse(input));
  console.log(JSON.stringify(result));
  for await (const _ of process.stdin);
}

// What a call that must fail threw. Fields that it lacks are left out.
export async function failure(call) {
  try {
    await call();
  } catch (error) {
    const { status, statusCode, code, param, type, requestID, message, isRetryable } = error;
    return { kind: error.constructor.name, status, statusCode, code, param, type, requestID, message, isRetryable };
  }
  throw new Error("the call did not fail");
}

// The tools of a question that is known, as { name, description, parameters, run }: each run notes its arguments in
// `calls` and answers with the next known result.
export function runnable(question, calls) {
  const results = question.messages.filter((turn) => turn.role === "tool").map((turn) => turn.content);
  return question.tools.map((tool) => ({
    ...tool.function,
    description: tool.function.description ?? "",
    run: (input) => {
      calls.push([tool.function.name, input]);
      return results[calls.length - 1];
    },
  }));
}

// The turns before the first answer.
export function asked(question) {
  const first = question.messages.findIndex((turn) => turn.role === "assistant");
  return first < 0 ? question.messages : question.messages.slice(0, first);
}
