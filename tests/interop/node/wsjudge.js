// A WebSocket peer on ws. See tests/support/wsjudges.py for what it is told and what it tells.

import { WebSocket, WebSocketServer } from "ws";

const PROTOCOL = "v4.channel.k8s.io";

function report(code, reason, error) {
  process.stdout.write(JSON.stringify({ code, reason, error }) + "\n");
}

// Echoes and obeys until the connection is over, and reports how it ended.
function talk(socket) {
  let error = "";
  socket.on("message", (data, binary) => {
    if (!binary && data[0] === 0x21) obey(socket, data.toString());
    else socket.send(data, { binary });
  });
  socket.on("pong", (payload) => socket.send(`pong ${payload}`));
  socket.on("error", (fault) => (error = fault.message));
  // 1006 says that no Close frame came.
  socket.on("close", (code, reason) => report(code === 1006 ? null : code, reason.toString(), error));
}

function obey(socket, text) {
  const [command, first, ...rest] = text.split(" ");
  if (command === "!ping") socket.ping(first);
  else if (command === "!fragments") {
    const [length, size] = [Number(first), Number(rest[0])];
    const bytes = Uint8Array.from({ length }, (_, i) => i % 251);
    for (let start = 0; start < length; start += size)
      socket.send(bytes.subarray(start, start + size), { binary: true, fin: start + size >= length });
  } else if (command === "!close") socket.close(Number(first), rest.join(" "));
  else if (command === "!raw") socket._socket.write(Buffer.from(first, "hex"));
  else throw new Error(`unknown command ${text}`);
}

if (process.argv[2] === "serve") {
  const choose = (asked) => (asked.has(PROTOCOL) ? PROTOCOL : false);
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, handleProtocols: choose, maxPayload: 0 });
  server.on("connection", talk);
  server.on("wsClientError", (fault) => report(null, "", fault.message));
  server.on("listening", () => process.stdout.write(JSON.stringify({ port: server.address().port }) + "\n"));
  process.stdin.resume();
  process.stdin.on("end", () => process.exit(0));
} else {
  talk(new WebSocket(`ws://127.0.0.1:${process.argv[3]}/`, [PROTOCOL], { maxPayload: 0 }));
}
