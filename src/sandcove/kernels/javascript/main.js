// The kernel: reads requests, runs cells, tells what they give.

let number = 0;
let interrupt; // rejects the cell that runs
const hostExit = process.exit.bind(process);

function begin(engineName, language, load) {
  if (engineName === "node" && Number(process.versions.node.split(".")[0]) < OLDEST_NODE) {
    fs.writeSync(2, `Node ${process.versions.node} is too old for code contexts: they need Node ${OLDEST_NODE} or newer, or Bun\n`);
    hostExit(3);
  }
  takeOverConsole();
  const engine = engineName === "bun" ? bunEngine(language, load) : nodeEngine(load);
  takeOverStacks(engine.sourceLine);
  process.on("SIGINT", () => interrupt?.(new Interrupted()));
  process.on("unhandledRejection", (thrown, promise) => {
    rejected.set(promise, thrown);
    setImmediate(tellRejected);
  });
  process.on("uncaughtException", (thrown) => uncaught(thrown, ""));
  globalThis.display = display;
  const userRequire = engine.requireFrom(createRequire(`${process.cwd()}/cell`));
  Object.assign(globalThis, {
    require: userRequire, module: { exports: {} }, __dirname: process.cwd(), __filename: `${process.cwd()}/cell`,
  });
  globalThis.exports = globalThis.module.exports;
  tell({ type: "ready", pid: process.pid, version: engine.version, notes: [] });
  listen(engine.receive, async (request) => {
    if (request.op === "fork") {
      tell({ type: "forked", lost: [], error: "only Python contexts can be copied live" });
    } else {
      await run(engine, request);
    }
  });
}

async function run(engine, { code, env }) {
  number += 1;
  const restore = withVariables(env);
  try {
    const interrupted = new Promise((_, reject) => { interrupt = reject; });
    const result = await Promise.race([shown(engine, code), interrupted]);
    interrupt = undefined;
    if (result) tellResult({ ...result, main: true });
  } catch (thrown) {
    interrupt = undefined;
    tell(explained(thrown));
  }
  restore();
  tellRejected();
  tell({ type: "done", executionCount: number });
}

// What the value of a cell's last expression looks like. That may be code of the user's, too: an interrupt ends it.
async function shown(engine, code) {
  const outcome = await engine.evaluate(code, number);
  if (!outcome || outcome.value === undefined) return undefined;
  const { value } = outcome;
  return Object(value) === value ? engine.interruptible(() => representations(value)) : representations(value);
}

// As an outcome: the value of a promise, else the value itself, also of what only has a `then`.
async function settled(value) {
  rejected.delete(value);
  return { value: util.types.isPromise(value) ? await value : value };
}

class Interrupted extends Error {
  constructor() {
    super("the cell was interrupted");
    this.name = "InterruptedError";
    this.stack = "";
  }
}

function explained(thrown) {
  if (util.types.isProxy(thrown)) return failure(thrown, number);
  if (thrown instanceof BadSyntax) {
    const message = failure(thrown.error, number, thrown.line);
    message.traceback = [...(thrown.line === null ? [] : [`cell ${number}:${thrown.line}`]), ...thrown.shown, ...message.traceback];
    return message;
  }
  if (thrown?.code === "ERR_SCRIPT_EXECUTION_INTERRUPTED") thrown = new Interrupted();
  return failure(thrown, number);
}

// What nobody caught, in a timer or a promise: it ends no kernel.
function uncaught(thrown, where) {
  if (thrown?.code === "ERR_SCRIPT_EXECUTION_INTERRUPTED") return interrupt?.(new Interrupted());
  print(2, `Uncaught${where} ${explained(thrown).traceback.join("\n")}\n`);
}

// Promises that nobody handles, with what they were rejected with. Told a little later: a cell's value may be one.
const rejected = new Map();

function tellRejected() {
  for (const [promise, thrown] of rejected) {
    rejected.delete(promise);
    uncaught(thrown, " (in promise)");
  }
}

function withVariables(env) {
  if (!env) return () => {};
  const before = Object.entries(env).map(([name]) => [name, process.env[name]]);
  Object.assign(process.env, env);
  return () => {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  };
}
