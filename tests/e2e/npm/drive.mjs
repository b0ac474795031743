// Drives the published client by lines of JSON: `node drive.mjs PACKAGE BASE_URL`.
//
// Each line on standard input is a call: {of, call, args, read, until}. Each line on standard output is its answer:
// {value | error, callbacks}. `of` names the object: the "client", or the package's "interpreter" on it. `read` says what
// the method returns: a stream of "events", of a "file" or of "lines", or a "response"; a reader of events or lines leaves
// when one of them has the text `until`. Or it says that the method is given the four callbacks of a "cell".

import { Console } from "node:console";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [, , folder, baseUrl] = process.argv;
// The client tells of every call on the console.
globalThis.console = new Console(process.stderr);

const load = (name) => import(pathToFileURL(join(folder, "dist", name)).href);
const { InterpreterClient } = await load("interpreter-client.js");
const { CodeInterpreter } = await load("interpreter.js");
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

const targets = { client, interpreter: new CodeInterpreter({ client }) };

// What a callback of a cell is given may have functions, which JSON has not.
const plain = (value) => (value.formats ? { ...value, formats: value.formats() } : value);
const ofCell = (names = ["onStdout", "onStderr", "onResult", "onError"]) =>
  Object.fromEntries(names.map((name) => [name, (value) => heard(name)(plain(value))]));

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
  async cell(method, args, until, target) {
    const options = typeof args.at(-1) === "object" ? args.pop() : {};
    return target[method](...args, { ...options, ...ofCell() });
  },
  async lines(method, args, until, target) {
    const stream = await target[method](...args);
    const decoder = new TextDecoder();
    const found = [];
    let held = "";
    for await (const piece of stream) {
      const lines = (held + decoder.decode(piece, { stream: true })).split("\n");
      held = lines.pop();
      found.push(...lines.filter(Boolean).map((line) => JSON.parse(line)));
      // Leaving the loop gives the stream up.
      if (until !== undefined && found.some((event) => event.text?.includes(until))) break;
    }
    return found;
  },
  async events(method, args, until) {
    // Only this method takes a signal; of the others the stream that they return is given up.
    if (method !== "streamProcessLogs" || until === undefined) {
      return events(await client[method](...args), until, (stream) => stream.cancel());
    }
    const leaving = new AbortController();
    const stream = await client[method](...args, { signal: leaving.signal });
    return events(stream, until, () => leaving.abort());
  },
  async response(method, args) {
    const response = await client[method](...args);
    const body = Buffer.from(await response.arrayBuffer()).toString("base64");
    return { status: response.status, headers: Object.fromEntries(response.headers), body };
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
    const ofClient = [...named(InterpreterClient), ...named(Object.getPrototypeOf(InterpreterClient))];
    const all = { client: ofClient, interpreter: named(CodeInterpreter) };
    const callable = ([of, names]) => [of, names.filter((name) => typeof targets[of][name] === "function")];
    return Object.fromEntries(Object.entries(all).map(callable));
  },
};

async function answer({ of = "client", call, args = [], read, until }) {
  // JSON has no `undefined`, with which a caller leaves an argument out.
  const given = args.map((value) => value ?? undefined);
  if (call in special) return special[call]();
  return read ? readers[read](call, given, until, targets[of]) : targets[of][call](...given);
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
