const express = require("express");

const app = express();
const notes = [];

app.use(express.json());
app.get("/", (request, response) => response.json({ message: "Hello from a sandbox", host: request.headers.host }));
app.get("/notes", (request, response) => response.json(notes));
app.post("/notes", (request, response) => {
  notes.push(request.body.text);
  response.status(201).location(`/notes/${notes.length - 1}`).json({ count: notes.length });
});
app.listen(3000);
