// Runs cells on Bun. Its transpiler makes of a cell a script whose declarations outlive it, and whose value is that of the
// last statement.

const KEPT_SOURCES = 500;

function bunEngine(language, load) {
  const transpiler = new Bun.Transpiler({
    loader: language === "typescript" ? "ts" : "js",
    replMode: true,
    target: "node", // for "bun" it would make of `require` what only a module has
    define: { __dirname: "globalThis.__dirname", __filename: "globalThis.__filename" }, // else it writes them down as ""
  });
  const { drainMicrotasks } = requireOwn("bun:jsc");
  const waitFor = waiting();
  const sources = new Map();
  const loadAgain = (specifier) => loadedOnBun(load, specifier);

  function evaluate(code, number) {
    let script;
    try {
      script = transpiler.transformSync(code);
    } catch (error) {
      throw new BadSyntax(error);
    }
    sources.set(number, { code, script, lines: undefined });
    sources.delete(number - KEPT_SOURCES);
    const outcome = vm.runInThisContext(script, {
      filename: `cell-${number}`,
      importModuleDynamically: loadAgain,
      breakOnSigint: true,
    });
    const shown = !declares(script, code);
    const valueOf = async (found) => (found && shown ? settled(found.value) : undefined);
    if (!(outcome instanceof Promise) && !(shown && util.types.isPromise(outcome?.value))) {
      return outcome && shown ? { value: outcome.value } : undefined;
    }
    const value = Promise.resolve(outcome).then(valueOf);
    value.catch(() => {}); // who called sees to it, a little later
    interruptible(() => {
      drainMicrotasks();
      if (waitFor && Bun.peek.status(value) === "pending") waitFor(value);
    });
    return value;
  }

  function sourceLine(number, row, column) {
    const source = sources.get(number);
    if (source === undefined) return undefined;
    source.lines ??= aligned(source.code, source.script);
    return source.lines(row, column ?? Infinity);
  }

  return { evaluate, sourceLine, receive: receiveOnBun, interruptible, requireFrom: requireOnBun, version: `Bun ${Bun.version}` };
}

// Loads a module; when it is not found, again: Bun remembers what lay in a folder before a package was installed there.
async function loadedOnBun(load, specifier) {
  try {
    return await load(specifier);
  } catch (error) {
    if (!lookedForAgain(error)) throw error;
    return load(specifier);
  }
}

function requireOnBun(require) {
  const again = (specifier) => {
    try {
      return require(specifier);
    } catch (error) {
      if (!lookedForAgain(error) || error.specifier !== specifier) throw error;
      return require(specifier);
    }
  };
  return Object.assign(again, { resolve: require.resolve, cache: require.cache, extensions: require.extensions, main: require.main });
}

// Whether the error is that there is no such package; it is forgotten then. A path in a folder makes Bun look at that anew.
function lookedForAgain(error) {
  const name = /^(?:@[^/]+\/)?[^./@][^/]*/.exec(error?.specifier ?? "")?.[0];
  if (name === undefined || !/MODULE_NOT_FOUND$/.test(error.code)) return false;
  for (let folder = process.cwd(); ; folder = path.dirname(folder)) {
    try {
      Bun.resolveSync(`${folder}/node_modules/${name}/nothing`, folder);
    } catch {
      // as meant
    }
    if (folder === path.dirname(folder)) return true;
  }
}

function receiveOnBun(fd, onPiece) {
  const buffer = Buffer.alloc(256 * 1024);
  const more = () =>
    fs.read(fd, buffer, 0, buffer.length, null, (error, count) => {
      if (error && (error.code === "EAGAIN" || error.code === "EINTR")) return setTimeout(more, 1);
      if (error || count === 0) return onPiece();
      const piece = Buffer.from(buffer.subarray(0, count));
      more(); // first: `onPiece` may return only when a cell is over
      onPiece(piece);
    });
  more();
}

// Runs what a SIGINT ends wherever it is. The process has no handler of its own meanwhile.
function interruptible(action) {
  let result;
  Object.defineProperty(globalThis, "__sandcove_go_on__", { value: () => { result = action(); }, configurable: true });
  try {
    vm.runInThisContext("__sandcove_go_on__()", { breakOnSigint: true });
  } finally {
    delete globalThis.__sandcove_go_on__;
  }
  return result;
}

// Lets the event loop run until a promise is settled, and only then returns: what it calls meanwhile is within
// `interruptible`. Only the assertions of Bun's tests can do that; undefined where there are none.
function waiting() {
  let expect;
  try {
    ({ expect } = Bun.jest(`${process.cwd()}/cell`));
  } catch {
    return undefined;
  }
  return (promise) => {
    const waking = setInterval(() => {}, 50); // an interrupt ends what runs: something has to
    const settled = () => clearInterval(waking) ?? true;
    try {
      expect(promise.then(settled, settled)).resolves.toBe(true);
    } finally {
      clearInterval(waking);
    }
  };
}

class BadSyntax {
  constructor(error) {
    const first = error?.errors?.[0] ?? error;
    this.error = new SyntaxError(first?.message ?? safeText(error));
    this.error.stack = `SyntaxError: ${this.error.message}`;
    this.line = first?.position?.line ?? null;
    const text = first?.position?.lineText;
    this.shown = text === undefined ? [] : [text, `${" ".repeat(Math.max(0, first.position.column - 1))}^`];
  }
}

// Whether the last statement only declares something: the script gives that as its value, a notebook shows nothing.
function declares(script, code) {
  const begin = script.lastIndexOf("\n    value: ");
  if (begin < 0) return false;
  const value = script.slice(begin + 12);
  const hoisted = new Set(script.slice(0, script.indexOf("(")).match(/[\p{ID_Start}$_][\p{ID_Continue}$]*/gu));
  const name = /^([\p{ID_Start}$_][\p{ID_Continue}$]*) = /u.exec(value)?.[1];
  if (name !== undefined) return hoisted.has(name);
  const made = /^\(\(([\p{ID_Start}$_][\p{ID_Continue}$]*)\) => /u.exec(value)?.[1]; // an enum or namespace
  if (made !== undefined) return value.includes(`)(${made} ||= {})`);
  if (/^[[{]/.test(value)) return / = $/.test(value.slice(0, closing(value) + 4).slice(-3));
  return value.startsWith("await import(") && /(^|[;\n])\s*import\s*["'][^"'\n]*["']\s*;?\s*$/.test(code);
}

// Where the bracket closes that the text begins with.
function closing(text) {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    if ("[{(".includes(text[at])) depth++;
    if ("]})".includes(text[at]) && --depth === 0) return at;
  }
  return text.length;
}
