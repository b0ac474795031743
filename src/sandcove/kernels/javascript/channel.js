// The kernel's descriptors; see `sandcove.kernels.messages`. All writes are done when they return, so that nothing is lost
// if the process ends.

const CHANNEL = 3, ACKS = 4;
const LONGEST = 16 * 1024 * 1024;
const retry = new Int32Array(new SharedArrayBuffer(4));

function writeAll(fd, data) {
  let bytes = typeof data === "string" ? Buffer.from(data) : data;
  while (bytes.length) {
    try {
      bytes = bytes.subarray(fs.writeSync(fd, bytes));
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      Atomics.wait(retry, 0, 0, 1); // a child has made the pipe non-blocking
    }
  }
}

// JSON as ASCII: the pieces of a line may be decoded one by one. Half a character, which no decoder takes, becomes U+FFFD.
function ascii(value) {
  const text = JSON.stringify(value);
  const whole = text.includes("\\ud") ? text.replace(/\\(?:\\|ud[89a-f]..)/g, (found) => (found.length > 2 ? "\\ufffd" : found)) : text;
  return whole.replace(/[\u007f-\uffff]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

function tell(message) {
  writeAll(CHANNEL, ascii(message) + "\n");
}

const oneByte = Buffer.alloc(1);

function tellAndWait(message) {
  tell(message);
  for (;;) {
    try {
      fs.readSync(ACKS, oneByte, 0, 1, null);
      return;
    } catch (error) {
      if (error.code !== "EAGAIN" && error.code !== "EINTR") throw error;
    }
  }
}

function tellResult(result) {
  let message = { type: "result", ...result };
  const size = JSON.stringify(message).length;
  if (size > LONGEST) {
    message = { type: "result", text: `<a result of ${size.toLocaleString("en")} characters, too large to show; write it to a file>` };
    if (result.main) message.main = true;
  }
  tellAndWait(message);
}

// What is printed to the one of standard output and error after the other keeps its place.
let lastPrinted = 0;
// Descriptors of our own for 1 and 2, which the user may close.
const printedTo = { 1: fs.openSync("/proc/self/fd/1", "w"), 2: fs.openSync("/proc/self/fd/2", "w") };

function print(fd, data) {
  if (lastPrinted && lastPrinted !== fd) tellAndWait({ type: "sync" });
  lastPrinted = fd;
  writeAll(printedTo[fd], data);
}

// Calls `onRequest` with each request; ends the process when the channel ends, also while a cell runs. `receive`, of the engine,
// calls with each piece of data, and with none at the end. That it listens meanwhile keeps the process there when the cell
// waits for nothing that the event loop knows of.
function listen(receive, onRequest) {
  let pieces = [];
  receive(CHANNEL, (piece) => {
    if (!piece) return hostExit(0);
    let begin = 0;
    for (let end; (end = piece.indexOf(10, begin)) >= 0; begin = end + 1) {
      const line = Buffer.concat([...pieces, piece.subarray(begin, end)]).toString();
      pieces = [];
      onRequest(JSON.parse(line)); // the only one: the next comes after its answer
    }
    if (begin < piece.length) pieces.push(Buffer.from(piece.subarray(begin)));
  });
}
