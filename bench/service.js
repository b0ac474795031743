// The service that benchmarks of previews reach, for Bun: `bun service.js FOLDER PORT`, on 127.0.0.1.
//
//   /page    1,000 bytes
//   /echo    a WebSocket that sends back what it gets
//   /file    the file `large` of FOLDER
//   /taken   how many bytes the request's body had
const [folder, port] = process.argv.slice(2);
const page = "x".repeat(1000);

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  maxRequestBodySize: 2 ** 40,
  async fetch(request, server) {
    if (request.url.endsWith("/page")) return new Response(page);
    if (request.url.endsWith("/file")) return new Response(Bun.file(`${folder}/large`));
    if (request.url.endsWith("/taken")) {
      let size = 0;
      for await (const piece of request.body) size += piece.length;
      return new Response(`${size}`);
    }
    if (server.upgrade(request)) return;
    return new Response("no such page", { status: 404 });
  },
  websocket: {
    message(socket, message) {
      socket.send(message);
    },
  },
});
console.log("listening");
