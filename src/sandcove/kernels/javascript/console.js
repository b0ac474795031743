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
  const printed = { stdout: new Printed(1), stderr: new Printed(2) };
  reopening(() => {
    for (const [name, value] of Object.entries(printed)) {
      Object.defineProperty(process, name, { value, configurable: true, enumerable: true, writable: true });
    }
  });
  const own = new Console({ ...printed, colorMode: false });
  for (const name of Object.keys(console)) {
    if (typeof own[name] === "function" && name !== "Console") console[name] = own[name].bind(own);
  }
  globalThis.prompt = () => null;
  globalThis.confirm = () => false;
  globalThis.alert = (text = "") => print(1, `${text}\n`);
}

// Bun makes its own streams before it lets them be replaced, and their pipes non-blocking, for children too, which lose then
// what the pipe does not take at once. So it makes them of something else.
function reopening(action) {
  if (!process.versions.bun) return action();
  const reopen = (path) => {
    for (const fd of [1, 2]) {
      fs.closeSync(fd);
      fs.openSync(path(fd), "w"); // gets the lowest free number: this one
    }
  };
  reopen(() => "/dev/null");
  action();
  reopen((fd) => `/proc/self/fd/${printedTo[fd]}`);
}
