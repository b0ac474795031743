// What is printed: to descriptors 1 and 2, at once and in order.

class Printed extends stream.Writable {
  constructor(fd) {
    super({ decodeStrings: false });
    this.fd = fd;
  }
  write(chunk, encoding, done) {
    print(this.fd, typeof chunk === "string" ? Buffer.from(chunk, typeof encoding === "string" ? encoding : "utf8") : Buffer.from(chunk));
    const callback = typeof encoding === "function" ? encoding : done;
    if (callback) process.nextTick(callback);
    return true;
  }
  end(chunk, ...rest) {
    if (chunk && typeof chunk !== "function") this.write(chunk, ...rest);
    return this;
  }
  destroy() {
    return this;
  }
}

// Replaces the runtime's own, which write when the event loop gets to it, or each in its own way.
function takeOverConsole() {
  const stdout = new Printed(1), stderr = new Printed(2);
  for (const [name, value] of Object.entries({ stdout, stderr })) {
    Object.defineProperty(process, name, { value, configurable: true, enumerable: true, writable: true });
  }
  const own = new Console({ stdout, stderr, colorMode: false });
  for (const name of Object.keys(own)) {
    if (typeof own[name] === "function") console[name] = own[name];
  }
  for (const name of ["log", "info", "debug", "dir", "table", "group", "groupCollapsed", "groupEnd", "time", "timeEnd",
    "timeLog", "count", "countReset", "assert", "error", "warn", "trace", "dirxml"]) {
    if (typeof own[name] === "function") console[name] = own[name].bind(own);
  }
  globalThis.prompt = () => null;
  globalThis.confirm = () => false;
  globalThis.alert = (text = "") => print(1, `${text}\n`);
}
