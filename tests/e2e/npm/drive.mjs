// Drives the published client by lines of JSON: `node drive.mjs PACKAGE BASE_URL`.
//
// Each line on standard input is a call: {call, args, read, until}. Each line on standard output is its answer:
// {value | error, callbacks}. `read` says what the method returns: a stream of "events" or of a "file"; a reader of
// events leaves when one of them has the text `until`.

import { Console } from "node:console";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [, , folder, baseUrl] = process.argv;
// The client tells of every call on the console.
globalThis.console = new Console(process.stderr);

const load = (name) => import(pathToFileURL(join(folder, "dist", name)).href);
const { InterpreterClient } = await load("interpreter-client.js");
const { parseSSEStream } = await load("sse-parser.js");
const { collectFile } = await load("file-stream.js");

let callbacks = [];
const heard = (name) => (...args) => void callbacks.push([name, ...args]);
const client = new InterpreterClient({
  baseUrl,
  onCommandStart: heard("onCommandStart"),
  onOutput: heard("onOutput"),
  onCommandComplete: heard("onCommandComplete"),
  onError: heard("onError"),
});

async function events(stream, until, leave) {
  const found = [];
  for await (const event of parseSSEStream(stream)) {
    found.push(event);
    if (until !== undefined && event.data?.includes(until)) break;
  }
  if (until !== undefined) await leave(stream);
  return found;
}

const readers = {
  async events(method, args, until) {
    // Only this method takes a signal; of the others the stream that they return is given up.
    if (method !== "streamProcessLogs" || until === undefined) {
      return events(await client[method](...args), until, (stream) => stream.cancel());
    }
    const leaving = new AbortController();
    const stream = await client[method](...args, { signal: leaving.signal });
    return events(stream, until, () => leaving.abort());
  },
  async file(method, args) {
    const { content, metadata } = await collectFile(await client[method](...args));
    const bytes = content instanceof Uint8Array;
    return { content: bytes ? Buffer.from(content).toString("base64") : content, bytes, metadata };
  },
};

const special = {
  methods() {
    const named = (cls) => Object.getOwnPropertyNames(cls.prototype);
    const all = [...named(InterpreterClient), ...named(Object.getPrototypeOf(InterpreterClient))];
    return all.filter((name) => typeof client[name] === "function");
  },
};

async function answer({ call, args = [], read, until }) {
  // JSON has no `undefined`, with which a caller leaves an argument out.
  const given = args.map((value) => value ?? undefined);
  if (call in special) return special[call]();
  return read ? readers[read](call, given, until) : client[call](...given);
}

for await (const line of createInterface({ input: process.stdin })) {
  callbacks = [];
  let outcome;
  try {
    outcome = { value: (await answer(JSON.parse(line))) ?? null };
  } catch (error) {
    outcome = { error: { name: error.name, message: error.message } };
  }
  process.stdout.write(`${JSON.stringify({ ...outcome, callbacks })}\n`);
}
