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
function ascii(text) {
  const whole = text.includes("\\ud") ? text.replace(/\\(?:\\|ud[89a-f]..)/g, (found) => (found.length > 2 ? "\\ufffd" : found)) : text;
  return whole.replace(/[\u007f-\uffff]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

function tell(message) {
  tellText(JSON.stringify(message));
}

function tellText(text) {
  writeAll(CHANNEL, ascii(text) + "\n");
}

function tellAndWait(message) {
  tell(message);
  owed += 1;
  catchUp();
}

const oneByte = Buffer.alloc(1);
let owed = 0; // acknowledgements that have been asked for and not been read

function catchUp() {
  while (owed) {
    try {
      fs.readSync(ACKS, oneByte, 0, 1, null);
      owed -= 1;
    } catch (error) {
      if (error.code !== "EAGAIN" && error.code !== "EINTR") throw error;
    }
  }
}

function tellResult(result) {
  const message = { type: "result", ...result };
  let text = JSON.stringify(message);
  if (text.length > LONGEST) {
    const size = text.length.toLocaleString("en");
    const note = `<a result of ${size} characters, too large to show; write it to a file>`;
    text = JSON.stringify({ type: "result", text: note, main: message.main });
  }
  tellText(text);
  owed += 1;
  if (!message.main) catchUp(); // else it is the last that the cell does: only what is printed next waits for it
}

// What is printed to the one of standard output and error after the other keeps its place.
let lastPrinted = 0;
// Descriptors of our own for 1 and 2, which the user may close.
const printedTo = { 1: fs.openSync("/proc/self/fd/1", "w"), 2: fs.openSync("/proc/self/fd/2", "w") };

function print(fd, data) {
  if (owed) catchUp();
  else if (lastPrinted && lastPrinted !== fd) tellAndWait({ type: "sync" });
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
