// Runs cells of JavaScript on Node, by the inspector's evaluation as a read-eval-print loop: declarations outlive the cell,
// may be made again, and `await` works at the top.

const OLDEST_NODE = 20;
const NAME = "[\\p{ID_Start}$_][\\p{ID_Continue}$]*";
const STATIC_IMPORT = new RegExp(
  `^([ \\t]*)import\\s+(?:(?:(${NAME})\\s*,?\\s*)?(?:\\*\\s*as\\s+(${NAME})|\\{([^}]*)\\})?\\s*from\\s*)?(["'][^"'\\n]+["'])[ \\t]*;?`,
  "gmu",
);

const TOP_LEVEL = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`|[{}()[\]]|[\w$.]+/g;

function nodeEngine(load) {
  const inspector = requireOwn("node:inspector");
  const session = new inspector.Session();
  session.connect();
  const hidden = Symbol("sandcove");
  const define = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, enumerable: false });
  define("__sandcove_import__", (specifier) => load(String(specifier)));
  let taken;
  define("__sandcove_take__", (value) => { taken = value; });

  // What the inspector speaks of, as a value of this program.
  function take(remote) {
    if (remote.objectId === undefined) {
      if (remote.unserializableValue === undefined) return remote.value;
      const text = remote.unserializableValue;
      return text.endsWith("n") ? BigInt(text.slice(0, -1)) : Number(text);
    }
    taken = hidden;
    session.post("Runtime.callFunctionOn", {
      functionDeclaration: "function (value) { globalThis.__sandcove_take__(value); }",
      objectId: remote.objectId,
      arguments: [{ objectId: remote.objectId }],
    });
    session.post("Runtime.releaseObject", { objectId: remote.objectId });
    return taken;
  }

  async function outcome(error, answer) {
    if (error) throw new Error(error.message);
    const { result, exceptionDetails: details } = answer;
    if (!details) return result.type === "undefined" ? undefined : settled(take(result));
    const thrown = details.exception ? take(details.exception) : new Error(details.text);
    if (!util.types.isProxy(thrown) && thrown instanceof SyntaxError && !frames(thrown.stack ?? "").length) {
      throw Object.assign(new BadSyntax(thrown), { line: details.lineNumber + 1 });
    }
    throw thrown;
  }

  function evaluate(code, number) {
    return new Promise((resolve, reject) => {
      const answered = (error, answer) => {
        if (error?.message.endsWith("Execution was terminated")) return; // by the watcher; the event loop hears of it yet
        // Not at once: a call of the inspector within the answer to another ends newer Nodes.
        setImmediate(() => outcome(error, answer).then(resolve, reject));
      };
      const expression = `${rewritten(code)}\n//# sourceURL=cell-${number}`;
      // On a stack of its own: what ends a loop ends all that called it.
      queueMicrotask(() => session.post("Runtime.evaluate", { expression, replMode: true, awaitPromise: true }, answered));
    });
  }

  watchLoops();
  return { evaluate, sourceLine: (_, row) => row, receive: receiveOnNode, requireFrom: (own) => own, interruptible: (action) => action(), version: `Node ${process.versions.node}` };
}

// Not by `fs.read`: a thread that waits in it would hold up `process.exit`.
function receiveOnNode(fd, onPiece) {
  const { Socket } = requireOwn("node:net");
  const socket = new Socket({ fd, readable: true, writable: false });
  // A turn of the event loop later: an interrupt that came before it is not the next cell's.
  socket.on("data", (piece) => setImmediate(() => setImmediate(onPiece, piece)));
  for (const end of ["end", "error", "close"]) socket.on(end, () => onPiece());
}

// A thread that sees each SIGINT too. Where the event loop has not seen it after a moment, it ends the JavaScript that runs;
// but not what a timer calls, which Node would only call again.
function watchLoops() {
  const seen = new Int32Array(new SharedArrayBuffer(4)); // interrupts that the event loop has seen
  process.on("SIGINT", () => {
    Atomics.add(seen, 0, 1);
    Atomics.notify(seen, 0);
  });
  const { Worker } = requireOwn("node:worker_threads");
  const watcher = new Worker(`(${watch})()`, { eval: true, workerData: seen, env: {}, execArgv: ["--no-warnings"] });
  watcher.on("error", () => {}); // a Node without this: an interrupt reaches only what waits
  watcher.unref();
}

function watch() {
  const PATIENCE = 100; // ms
  const seen = require("node:worker_threads").workerData;
  const { Session } = require("node:inspector");
  const { Signal } = process.binding("signal_wrap"); // `process.on` sees no signals in a thread
  const signal = new Signal();
  let count = Atomics.load(seen, 0);
  signal.onsignal = () => {
    const heeded = Atomics.wait(seen, 0, count, PATIENCE) !== "timed-out";
    count = Atomics.load(seen, 0);
    if (heeded) return;
    const session = new Session();
    session.connectToMainThread();
    session.post("Runtime.terminateExecution", () => session.disconnect());
  };
  signal.start(require("node:os").constants.signals.SIGINT);
}

// Imports as the inspector can evaluate them, each on its own line.
function rewritten(code) {
  return redeclarable(asExpression(code))
    .replace(STATIC_IMPORT, (whole, indent, standard, all, named, specifier) => {
      const lines = "\n".repeat(whole.split("\n").length - 1);
      const load = `await __sandcove_import__(${specifier})`;
      if (all !== undefined) {
        const also = standard === undefined ? "" : `const ${standard} = ${all}.default;`;
        return `${indent}const ${all} = ${load};${also}${lines}`;
      }
      const names = (named ?? "").split(",").map((each) => each.trim().replace(/\s+as\s+/, ": ")).filter(Boolean);
      if (standard !== undefined) names.unshift(`default: ${standard}`);
      return names.length ? `${indent}const { ${names.join(", ")} } = ${load};${lines}` : `${indent}${load}; undefined;${lines}`;
    })
    .replace(/(^|[^\w$.'"`])import(\s*\()/g, "$1__sandcove_import__$2");
}

// The inspector lets `let` be declared again in a later cell, but not what was a `const`.
function redeclarable(code) {
  let depth = 0;
  return code.replace(TOP_LEVEL, (word) => {
    if ("{([".includes(word)) depth++;
    else if ("})]".includes(word)) depth--;
    return word === "const" && depth === 0 ? "let" : word;
  });
}

// What could be a block or an object is an object.
function asExpression(code) {
  if (!/^\s*\{[^]*\}\s*$/.test(code)) return code;
  try {
    new vm.Script(`(${code}\n)`);
    return `(${code}\n)`;
  } catch {
    return code;
  }
}
