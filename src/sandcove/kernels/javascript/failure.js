// What a cell threw, as an error of the wire: without the frames of this program.

const CELL = /\bcell (\d+):(\d+)/;
const CELL_FILE = /^cell-(\d+)$/;
const NOT_THE_USER_S = /^(?:node|bun|native|internal|evalmachine)|\[eval\d*\]|%5Beval%5D|^\[(?:native code|unknown)\]$/;

const WRITTEN = /^\s*at (?:(.*) \()?(.+):(\d+):(\d+)\)?$/;

let lineOf = () => undefined;

// From here on the stack of every error names cells and the user's own lines, and none of this program.
function takeOverStacks(sourceLine) {
  lineOf = sourceLine;
  Error.prepareStackTrace = (error, sites) => {
    const lines = [headline(error)];
    for (const site of sites) {
      const file = site.getFileName() || site.getScriptNameOrSourceURL?.();
      if (!file || NOT_THE_USER_S.test(file)) continue;
      const name = site.getFunctionName();
      const cell = CELL_FILE.exec(file);
      const row = site.getLineNumber(), column = site.getColumnNumber();
      const line = cell ? sourceLine(Number(cell[1]), row, column) : row;
      const place = cell ? `cell ${cell[1]}${line === undefined ? "" : `:${line}`}` : `${file}:${row}:${column}`;
      const text = name ? `    at ${name} (${place})` : `    at ${place}`;
      if (text !== lines.at(-1)) lines.push(text);
    }
    return lines.join("\n");
  };
}

function headline(error) {
  const name = nameOf(error), message = safeText(error.message ?? "");
  return message ? `${name}: ${message}` : name;
}

// The frames of a stack that are the user's. Of an error that is there when it collects garbage Bun writes the stack by
// itself, as the rest of this program is not asked.
function frames(stack) {
  const found = [];
  for (const text of stack.split("\n")) {
    if (!/^\s*at /.test(text)) continue;
    const cell = CELL.exec(text);
    const written = cell ? null : WRITTEN.exec(text);
    if (cell) {
      found.push({ text, cell: Number(cell[1]), line: Number(cell[2]) });
    } else if (!written) {
      found.push({ text });
    } else if (!NOT_THE_USER_S.test(written[2])) {
      found.push(fromCell(written) ?? { text });
    }
  }
  return found;
}

function fromCell([, name, file, row, column]) {
  const cell = CELL_FILE.exec(file);
  if (!cell) return undefined;
  const number = Number(cell[1]), line = lineOf(number, Number(row), Number(column));
  const place = `cell ${number}${line === undefined ? "" : `:${line}`}`;
  const text = name && name !== "<anonymous>" ? `    at ${name} (${place})` : `    at ${place}`;
  return { text, cell: number, line };
}

function nameOf(error) {
  const name = error?.constructor?.name;
  return typeof error.name === "string" && error.name && error.name !== "Error" ? error.name : name || "Error";
}

function described(error, number, depth = 0) {
  const name = nameOf(error);
  const message = safeText(error.message ?? "");
  const own = frames(typeof error.stack === "string" ? error.stack : "");
  const lines = [headline(error), ...Array.from(own, (frame) => frame.text)];
  for (const inner of Array.isArray(error.errors) && depth < 3 ? error.errors.slice(0, 10) : []) {
    lines.push(...below("- ", inner, number, depth));
  }
  if (error.cause !== undefined && depth < 3) lines.push(...below("[cause]: ", error.cause, number, depth));
  return { name, message, lines, line: own.find((frame) => frame.cell === number)?.line ?? null };
}

function below(mark, value, number, depth) {
  const lines = util.types.isNativeError(value) || value instanceof Error
    ? described(value, number, depth + 1).lines
    : [inspected(value)];
  return Array.from(lines, (line, at) => (at ? `    ${line}` : `  ${mark}${line}`));
}

// The message for what was thrown by cell `number`; `line` is known where it has no stack, as of a syntax error.
function failure(thrown, number, line = null) {
  try {
    if (util.types.isProxy(thrown)) thrown = `a Proxy: ${inspected(thrown)}`;
    if (thrown instanceof Error || util.types.isNativeError(thrown)) {
      const { name, message, lines, line: own } = described(thrown, number);
      return { type: "error", ename: name, evalue: message, traceback: lines, lineNumber: line ?? own };
    }
    const text = typeof thrown === "string" ? thrown : inspected(thrown);
    return { type: "error", ename: "Uncaught", evalue: text, traceback: [`Uncaught ${text}`], lineNumber: line };
  } catch (error) {
    const text = `an error that can't be shown: ${safeText(error)}`;
    return { type: "error", ename: "Error", evalue: text, traceback: [text], lineNumber: line };
  }
}
